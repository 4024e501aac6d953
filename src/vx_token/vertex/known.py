"""The file of a profile's known endpoints and models, with the time of each answer; completion and gateway read it.

It is a cache: it may be deleted at any time, and a missing, unreadable or invalid file counts as empty. It has one JSON
object a line, so that shell completion can read it without Python.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from vx_token.system import atomic, paths, stamps
from vx_token.system.private_file import private_text
from vx_token.vertex.endpoints import DeployedModel, Endpoint
from vx_token.vertex.publishers import ListedModel

FOLDER = "known"
"""The folder of these files in the state folder."""


@dataclass(frozen=True, slots=True)
class ProbedModel:
    """The result of a probe: the model, the base URL that was asked, whether it answered, when, and the sentence."""

    id: str
    url: str
    ok: bool
    at: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a project's endpoints and models.

    Attributes:
        project: the project of the endpoints; those of another one are dropped.
        asked: when each list was read, epoch seconds; the names are from `endpoints_in`, `endpoint_of`
            and `models_of`.
        endpoints: deployed endpoints of all locations that were asked.
        listed: models that publishers list.
        probed: results of probes.
    """

    project: str = ""
    asked: Mapping[str, float] = field(default_factory=dict)
    endpoints: tuple[Endpoint, ...] = ()
    listed: tuple[ListedModel, ...] = ()
    probed: tuple[ProbedModel, ...] = ()

    def of(self, project: str) -> Self:
        """Return what is known of `project`."""
        return self if self.project == project else type(self)(project, listed=self.listed, asked=self._lists())

    def _lists(self) -> dict[str, float]:
        return {name: at for name, at in self.asked.items() if name.startswith("models of ")}

    def with_endpoints(self, location: str, endpoints: Iterable[Endpoint], at: float) -> Self:
        """Return a copy with the endpoints of a location replaced."""
        others = tuple(each for each in self.endpoints if each.location != location)
        return replace(self, endpoints=(*others, *endpoints), asked={**self.asked, endpoints_in(location): at})

    def with_endpoint(self, endpoint: Endpoint, at: float) -> Self:
        """Return a copy with one endpoint replaced."""
        others = tuple(each for each in self.endpoints if each.id != endpoint.id)
        return replace(self, endpoints=(*others, endpoint), asked={**self.asked, endpoint_of(endpoint.id): at})

    def with_listed(self, publisher: str, models: Iterable[ListedModel], at: float) -> Self:
        """Return a copy with a publisher's models replaced."""
        others = tuple(each for each in self.listed if each.id.partition("/")[0] != publisher)
        return replace(self, listed=(*others, *models), asked={**self.asked, models_of(publisher): at})

    def with_probed(self, results: Iterable[ProbedModel]) -> Self:
        """Return a copy with these results in place of older ones."""
        new = {(each.id, each.url): each for each in (*self.probed, *results)}
        return replace(self, probed=tuple(new.values()))


def endpoints_in(location: str) -> str:
    """Return the name of a location's list of endpoints."""
    return f"endpoints in {location}"


def endpoint_of(id: str) -> str:  # noqa: A002 - as Google calls it
    """Return the name of the look-up of one endpoint."""
    return f"endpoint {id}"


def models_of(publisher: str) -> str:
    """Return the name of a publisher's list of models."""
    return f"models of {publisher}"


class KnownFile:
    """The file of one profile; it is read again when it has changed."""

    def __init__(self, environ: Mapping[str, str], profile: str) -> None:
        self.path = paths.state_dir(environ) / FOLDER / f"{profile}.jsonl"
        self._stamp = ""
        self._known = Known()

    def read(self) -> Known:
        """Return the file's content."""
        stamp = stamps.stamp(self.path)
        if stamp != self._stamp:
            self._known, self._stamp = _read(self.path), stamp
        return self._known

    def update(self, change: Callable[[Known], Known]) -> Known:
        """Change the file and return its new content; a file that cannot be written stays as it is."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(self.path.parent):
                known = change(_read(self.path))
                atomic.write(self.path, "".join(map(_line, _records(known))).encode())
        except OSError:
            return change(self.read())
        return known


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record) + "\n"


def _records(known: Known) -> Iterator[dict[str, Any]]:
    """Yield the lines; the first key says what each is, and its value is an id."""
    yield {"project": known.project}
    yield from ({"asked": name, "at": at} for name, at in known.asked.items())
    for kind, items in (("endpoint", known.endpoints), ("model", known.listed), ("probed", known.probed)):
        for item in items:
            fields = asdict(item)
            yield {kind: fields.pop("id"), **fields}


def _read(path: Path) -> Known:
    try:
        records = [json.loads(line) for line in private_text(path).splitlines()]
        return Known(
            records[0]["project"],
            {each["asked"]: float(each["at"]) for each in records if "asked" in each},
            tuple(_endpoint(each) for each in records if "endpoint" in each),
            tuple(ListedModel(each.pop("model"), **each) for each in records if "model" in each),
            tuple(ProbedModel(each.pop("probed"), **each) for each in records if "probed" in each),
        )
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        return Known()


def _endpoint(record: dict[str, Any]) -> Endpoint:
    models = tuple(DeployedModel(**model) for model in record.pop("models"))
    return Endpoint(record.pop("endpoint"), models=models, **record)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder, so that no change is lost when two commands finish at once."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
