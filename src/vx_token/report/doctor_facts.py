"""All that doctor looks at, gathered once and without the network, so that a check is a pure function."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vx_token import __version__
from vx_token.config.model import Config, Profile
from vx_token.credentials import adc
from vx_token.credentials.credential_file import credential_file, metadata_likely
from vx_token.daemon import environment, info
from vx_token.errors import ConfigError
from vx_token.gateway import address, statusz
from vx_token.install import service, shell_startup
from vx_token.outputs.publisher import Publisher
from vx_token.report import status
from vx_token.system import atomic, paths
from vx_token.system.clock import Clock
from vx_token.tokens.model import State
from vx_token.tokens.store import Store


@dataclass(frozen=True, slots=True)
class Check:
    """What one look found.

    Attributes:
        name: what was looked at.
        ok: `ok`, `warn` or `fail`.
        detail: what was found; never a secret.
        hint: what to do, "" when there is nothing.
    """

    name: str
    ok: str
    detail: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """One profile as it stands; `login` is None where a metadata server takes the file's place, or nothing."""

    profile: Profile
    state: State
    login: adc.Facts | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Everything that the checks judge.

    Attributes:
        environ: this shell's variables, with the secrets among them.
        now: epoch seconds.
        version: this program's.
        config: the configuration, or what is wrong with it.
        patients: the profiles.
        chosen: the name of the one that this shell uses, "" for none.
        runtime: the runtime folder.
        runtime_problem: why it is not safe and what to do, None when it is.
        metadata: whether a metadata server may be expected.
        daemon: what the running daemon says of itself, None when none runs.
        standing: what the service manager says where no daemon runs, None when it was not asked.
        differs: the variables that the daemon sees otherwise than this shell.
        texts: the files of others that are looked into, by path.
        gateway_problem: what is wrong with the gateway and what to do, or "" and a remark; None when there is none.
    """

    environ: Mapping[str, str] = field(repr=False)
    now: float
    version: str
    config: Config | ConfigError
    patients: tuple[Patient, ...]
    chosen: str
    runtime: Path
    runtime_problem: ConfigError | None
    metadata: bool
    daemon: Mapping[str, object] | None
    standing: service.Standing | None
    differs: tuple[str, ...]
    texts: Mapping[Path, str] = field(repr=False)
    gateway_problem: tuple[str, str] | None

    @property
    def patient(self) -> Patient | None:
        """The profile that this shell uses."""
        return next((each for each in self.patients if each.profile.name == self.chosen), None)


def gather(
    settings: Config | ConfigError,
    store: Store,
    clock: Clock,
    publisher: Publisher | None,
    environ: Mapping[str, str],
    cwd: Path,
    wanted: str | None,
    ask: Callable[[], service.Standing | None] = lambda: None,
) -> Surroundings:
    """Look around; reads only, asks no one but this machine: its service manager by `ask`."""
    running = info.daemon(store.root)
    good = settings if isinstance(settings, Config) else None
    return Surroundings(
        environ=environ,
        now=clock.now(),
        version=__version__,
        config=settings,
        patients=tuple(_patients(good, publisher, environ, clock.now())) if good and publisher else (),
        chosen=good.profile(wanted).name if good else "",
        runtime=store.root,
        runtime_problem=_folder_problem(store.root),
        metadata=metadata_likely(environ),
        daemon=running,
        standing=ask() if running is None else None,
        differs=_differences(running, environ, cwd),
        texts=_texts([*shell_startup.files(environ), *dotenvs(environ, cwd), *llm_files(environ)]),
        gateway_problem=_gateway_problem(good, running) if good and address.is_wanted(good) else None,
    )


def _patients(config: Config, publisher: Publisher, environ: Mapping[str, str], now: float) -> list[Patient]:
    found = []
    for profile in config.profiles.values():
        state = status.known(publisher.store, profile.name, now)
        path = credential_file(profile, environ)
        problems = tuple(publisher.problems(profile, state).values())
        found.append(Patient(profile, state, adc.look(path) if path else None, problems))
    return found


def _folder_problem(folder: Path) -> ConfigError | None:
    try:
        paths.check_folder(folder)
    except FileNotFoundError:
        return None
    except ConfigError as error:
        return error
    except OSError as error:
        return ConfigError(f"{folder}: {error.strerror}", atomic.remedy(error))
    return None


def _differences(daemon: Mapping[str, object] | None, environ: Mapping[str, str], cwd: Path) -> tuple[str, ...]:
    """By the checksums that the daemon publishes."""
    theirs = (daemon or {}).get("environment")
    if not isinstance(theirs, dict):
        return ()
    ours = environment.digests(environ, cwd)
    # Each shell chooses its profile, and whoever sees the daemon shares its folder.
    names = {*theirs, *ours} - {"VX_TOKEN_PROFILE", "VX_TOKEN_RUNTIME_DIR"}
    return tuple(sorted(name for name in names if theirs.get(name) != ours.get(name)))


def dotenvs(environ: Mapping[str, str], cwd: Path) -> list[Path]:
    """The files whose settings aider prefers to the environment's: here, at the repository's root, at home."""
    root = next((folder for folder in (cwd, *cwd.parents) if (folder / ".git").exists()), cwd)
    folders = dict.fromkeys([cwd, root, shell_startup.home(environ)])
    return [folder / name for folder in folders for name in (".env", ".aider.conf.yml")]


LLM_KEYS, LLM_MODELS = "keys.json", "extra-openai-models.yaml"


def llm_files(environ: Mapping[str, str]) -> list[Path]:
    """The keys of the tool `llm`, which beat the environment's, and its models; by its own rule, click's app folder."""
    import click

    folder = Path(environ.get("LLM_USER_PATH") or click.get_app_dir("io.datasette.llm"))
    return [folder / name for name in (LLM_KEYS, LLM_MODELS)]


def _texts(files: list[Path]) -> dict[Path, str]:
    found = {}
    for path in files:
        with contextlib.suppress(OSError):
            if path.is_file():
                found[path] = path.read_text(encoding="utf-8", errors="replace")
    return found


def _gateway_problem(config: Config, daemon: Mapping[str, Any] | None) -> tuple[str, str]:
    if daemon and daemon.get("gateway_problem"):
        message, hint = daemon["gateway_problem"]
        return str(message), str(hint)
    path = config.gateway.unix_socket
    place, key = (path, "unix_socket") if path else (f"port {config.gateway.port}", "port")
    stranger = f"stop that program, or change `gateway.{key}` in the configuration"
    try:
        found, whose, uid = statusz.probe(f"unix:{path}" if path else address.base_url(config, config.default_profile))
    except OSError as error:
        hint = "see: vx-token service logs" if daemon is not None else "run: vx-token service install"
        return f"it cannot be reached: {error.strerror or 'no answer in time'}", hint
    if whose is statusz.Owner.OTHER_USER:
        return f"another user (uid {uid}) listens on {place}", stranger
    if not found:
        return f"another program listens on {place}", stranger
    return "", "not verified to be yours" if whose is statusz.Owner.UNKNOWN else ""


def on_loopback(url: str) -> bool:
    """Whether `url` stays on this machine."""
    try:
        return urlsplit(url).hostname in (*address.LOOPBACK_NAMES, "::1")
    except ValueError:
        return False
