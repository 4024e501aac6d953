"""Asks Vertex AI for endpoints and models, several lists at once, and records the answers in the known file."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vx_token.config.locations import REGIONS
from vx_token.config.model import Profile
from vx_token.errors import VxTokenError
from vx_token.vertex.diagnosis import Diagnosis
from vx_token.vertex.endpoints import Endpoint, get_endpoint, list_endpoints, with_routes
from vx_token.vertex.known import Known, KnownFile, ProbedModel, endpoint_of, endpoints_in, models_of
from vx_token.vertex.lists import Account, place_of
from vx_token.vertex.models import Model, own_endpoint, upstream_id
from vx_token.vertex.parallel import ask_each
from vx_token.vertex.probe import MAX_TOKENS, probe
from vx_token.vertex.publishers import list_models

FRESH = 3600.0
"""Seconds for which the answer to a list is used again."""

PROBE_TOKENS = MAX_TOKENS + 8
"""Tokens that one probe costs at most: its output and its short question."""

_FINAL = (200, 400, 403, 404, 429)
"""Statuses of a probe that say something about the model; 429 says that it is there."""

Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Problem:
    """A list that could not be read: what was asked, and the error."""

    subject: str
    error: VxTokenError


def default_locations(location: str) -> tuple[str, ...]:
    """Return the locations to ask for endpoints: a profile's region, else all, because endpoints are regional."""
    return REGIONS if location in ("global", "us", "eu") else (location,)


def find_endpoints(
    account: Account, file: KnownFile, locations: Sequence[str], progress: Progress = lambda _done, _all: None
) -> tuple[list[Endpoint], list[Problem]]:
    """Read the endpoints of several locations; return them, and the locations that gave an error."""
    answers = ask_each(lambda location: list_endpoints(account, location), locations, progress)
    problems = [
        Problem(location, answer)
        for location, answer in zip(locations, answers, strict=True)
        if isinstance(answer, VxTokenError)
    ]
    without_routes = [each for answer in answers if not isinstance(answer, VxTokenError) for each in answer]
    endpoints = [
        each
        for each in ask_each(lambda endpoint: with_routes(account, endpoint), without_routes)
        if not isinstance(each, VxTokenError)
    ]
    now, failed = time.time(), {problem.subject for problem in problems}

    def change(known: Known) -> Known:
        known = known.of(account.place.project)
        for location in locations:
            if location not in failed:
                known = known.with_endpoints(location, [each for each in endpoints if each.location == location], now)
        return known

    file.update(change)
    return endpoints, problems


def find_endpoint(account: Account, file: KnownFile, location: str, name: str) -> Endpoint | None:
    """Look up one endpoint by its id and record it.

    Raises:
        ConfigError, LoginNeededError, TemporaryError: see `lists.read`.
    """
    endpoint = get_endpoint(account, location, name)
    if endpoint is None:
        return None
    routed = with_routes(account, endpoint)
    file.update(lambda known: known.of(account.place.project).with_endpoint(routed, time.time()))
    return routed


def _lists(profile: Profile, publishers: Sequence[str]) -> dict[str, str]:
    """Return the lists that a profile's models are from: their names, each with its publisher or location.

    At a deployed endpoint it is the endpoint itself, because it serves its own models only.
    """
    place = place_of(profile)
    if own_endpoint(profile):
        return {endpoint_of(place.endpoint): place.endpoint}
    regional = {endpoints_in(place.location): place.location} if place.location in REGIONS else {}
    return {models_of(publisher): publisher for publisher in publishers} | regional


def due(profile: Profile, known: Known, publishers: Sequence[str], now: float) -> list[str]:
    """Return the names of the lists that a profile's models are from, and that are missing or no longer fresh."""
    return [name for name in _lists(profile, publishers) if not 0 <= now - known.asked.get(name, 0.0) < FRESH]


def ages(profile: Profile, known: Known, publishers: Sequence[str], now: float) -> dict[str, float]:
    """Return the seconds since each list was read that a profile's models are from."""
    return {name: now - known.asked[name] for name in _lists(profile, publishers) if name in known.asked}


def find_models(
    account: Account, file: KnownFile, publishers: Sequence[str], progress: Progress, *, again: bool
) -> list[Problem]:
    """Read the lists that are no longer fresh, or all with `again`; return those that gave an error."""
    place = account.place
    lists = _lists(account.profile, publishers)
    names = list(lists) if again else due(account.profile, file.read().of(place.project), publishers, time.time())

    def ask(name: str) -> None:
        if name == endpoint_of(lists[name]):
            find_endpoint(account, file, place.location, lists[name])
        elif name == endpoints_in(lists[name]):
            _, problems = find_endpoints(account, file, [lists[name]])
            if problems:
                raise problems[0].error
        else:
            models = list_models(account, lists[name])
            file.update(lambda known: known.of(place.project).with_listed(lists[name], models, time.time()))

    answers = ask_each(ask, names, progress)
    pairs = zip(names, answers, strict=True)
    return [Problem(name, answer) for name, answer in pairs if isinstance(answer, VxTokenError)]


def probe_models(
    account: Account, file: KnownFile, models: Sequence[Model], progress: Progress
) -> list[tuple[str, Diagnosis]]:
    """Send a tiny completion to each model and record what the answers say; return those that say nothing about it."""

    def ask(model: Model) -> Diagnosis:
        profile = replace(account.profile, model=upstream_id(account.profile, model))
        return probe(account.environ, profile, account.token, account.login)

    answers = [answer for answer in ask_each(ask, models, progress) if isinstance(answer, Diagnosis)]
    pairs = [(model.id, answer) for model, answer in zip(models, answers, strict=True)]
    now, url = time.time(), account.profile.url
    results = [
        ProbedModel(name, url, answer.ok or answer.status == 429, now, answer.detail)
        for name, answer in pairs
        if answer.status in _FINAL
    ]
    file.update(lambda known: known.of(account.place.project).with_probed(results))
    return [pair for pair in pairs if pair[1].status not in _FINAL]
