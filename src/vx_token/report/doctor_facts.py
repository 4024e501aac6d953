"""The facts that doctor's checks use, gathered once and without the network, so that each check is a pure function."""

import contextlib
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vx_token import __version__
from vx_token.config.listen import is_loopback
from vx_token.config.model import Config, Profile
from vx_token.credentials import gcloud
from vx_token.credentials.credential_file import CredentialFile, describe_login, metadata_likely
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
from vx_token.tools import connection, record


@dataclass(frozen=True, slots=True)
class Check:
    """The result of a check.

    Attributes:
        name: the subject.
        ok: `ok`, `warn` or `fail`.
        detail: the result as a sentence, without secrets.
        hint: what to do, or "".
        fix: the command that can safely be run to solve it, as argv; empty for none.
    """

    name: str
    ok: str
    detail: str
    hint: str = ""
    fix: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProfileFacts:
    """The facts of a profile; `login` is None when no credential file exists."""

    profile: Profile
    state: State
    login: CredentialFile | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DoctorFacts:
    """The facts that the checks use.

    Attributes:
        environ: this shell's variables, including secrets.
        now: epoch seconds.
        version: this program's version.
        config: the configuration, or its error.
        profiles: the profiles.
        chosen: the name of the profile that this shell uses, "" for none.
        runtime: the runtime folder.
        runtime_problem: the error of an unsafe runtime folder, or None.
        metadata: whether a metadata server is likely to exist.
        daemon: the running daemon's description of itself, None when no daemon is running.
        standing: the service manager's answer when no daemon of this version is running, None when it was not asked.
        differs: the variables whose values differ between the daemon and this shell.
        cursor: whether this user has Cursor's settings.
        texts: contents of start-up files and of other tools' settings, by path.
        connections: the connected tools, each with what has broken its connection, or "".
        gateway_problem: the gateway's problem and a hint, or "" and a remark; None when it is not enabled.
        gateway_addresses: the gateway's addresses beyond loopback, each as `ip:port`, and whether this machine has it.
    """

    environ: Mapping[str, str] = field(repr=False)
    now: float
    version: str
    config: Config | ConfigError
    profiles: tuple[ProfileFacts, ...]
    chosen: str
    runtime: Path
    runtime_problem: ConfigError | None
    metadata: bool
    daemon: Mapping[str, object] | None
    standing: service.ServiceStatus | None
    differs: tuple[str, ...]
    cursor: bool
    texts: Mapping[Path, str] = field(repr=False)
    connections: Mapping[str, str]
    gateway_problem: tuple[str, str] | None
    gateway_addresses: Mapping[str, bool]

    @property
    def profile_in_use(self) -> ProfileFacts | None:
        """The profile that this shell uses."""
        return next((each for each in self.profiles if each.profile.name == self.chosen), None)


def gather(
    settings: Config | ConfigError,
    store: Store,
    clock: Clock,
    publisher: Publisher | None,
    environ: Mapping[str, str],
    cwd: Path,
    wanted: str | None,
    ask: Callable[[], service.ServiceStatus | None] = lambda: None,
) -> DoctorFacts:
    """Gather the facts on this machine, without changes and requests; `ask` asks the service manager."""
    running = info.read(store.root)
    good = settings if isinstance(settings, Config) else None
    return DoctorFacts(
        environ=environ,
        now=clock.now(),
        version=__version__,
        config=settings,
        profiles=tuple(_profiles(good, publisher, environ, clock.now())) if good and publisher else (),
        chosen=good.profile(wanted).name if good else "",
        runtime=store.root,
        runtime_problem=_folder_problem(store.root),
        metadata=metadata_likely(environ),
        daemon=running,
        standing=ask() if running is None or running.get("version") != __version__ else None,
        differs=_differences(running, environ, cwd, _irrelevant(good)),
        cursor=any((paths.home_dir(environ) / place / "Cursor").is_dir() for place in _APPLICATIONS),
        texts=_texts([*shell_startup.files(environ), *dotenvs(environ, cwd), *llm_files(environ)]),
        connections=_connections(environ),
        gateway_problem=_gateway_problem(good, running) if good and address.is_wanted(good) else None,
        gateway_addresses=_gateway_addresses(good) if good and address.is_wanted(good) else {},
    )


_APPLICATIONS = (".config", "Library/Application Support")
"""Folders of desktop programs' settings on Linux and on macOS."""


def _profiles(config: Config, publisher: Publisher, environ: Mapping[str, str], now: float) -> list[ProfileFacts]:
    profiles = []
    for profile in config.profiles.values():
        state = status.known(publisher.store, profile.name, now)
        problems = tuple(publisher.problems(profile, state).values())
        profiles.append(ProfileFacts(profile, state, describe_login(profile, environ), problems))
    return profiles


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


def _irrelevant(config: Config | None) -> set[str]:
    """Return the variables of gcloud that no profile depends on."""
    follows = config is not None and any(each.account == gcloud.ACTIVE for each in config.profiles.values())
    return set() if follows else {*gcloud.ACTIVE_VARIABLES, gcloud.UNIVERSE_VARIABLE}


def _differences(
    daemon: Mapping[str, object] | None, environ: Mapping[str, str], cwd: Path, irrelevant: set[str]
) -> tuple[str, ...]:
    """Return the names of the variables that differ, by the checksums that the daemon publishes."""
    theirs = (daemon or {}).get("environment")
    if not isinstance(theirs, dict):
        return ()
    ours = environment.checksums(environ, cwd)
    # Not the profile, which each shell chooses, nor the runtime folder, because the daemon's was found in it.
    names = {*theirs, *ours} - {"VX_TOKEN_PROFILE", "VX_TOKEN_RUNTIME_DIR"} - irrelevant
    return tuple(sorted(name for name in names if theirs.get(name) != ours.get(name)))


def dotenvs(environ: Mapping[str, str], cwd: Path) -> list[Path]:
    """Return the files that aider prefers to the environment: in the working folder, the repository's root and home."""
    root = next((folder for folder in (cwd, *cwd.parents) if (folder / ".git").exists()), cwd)
    folders = dict.fromkeys([cwd, root, paths.home_dir(environ)])
    return [folder / name for folder in folders for name in (".env", ".aider.conf.yml")]


LLM_KEYS, LLM_MODELS = "keys.json", "extra-openai-models.yaml"


def llm_files(environ: Mapping[str, str]) -> list[Path]:
    """Return the files of the tool `llm` with keys and models, which it prefers to the environment.

    They are in LLM_USER_PATH or click's application folder, as in llm's own source.
    """
    import click

    folder = Path(environ.get("LLM_USER_PATH") or click.get_app_dir("io.datasette.llm"))
    return [folder / name for name in (LLM_KEYS, LLM_MODELS)]


def _texts(files: list[Path]) -> dict[Path, str]:
    texts = {}
    for path in files:
        with contextlib.suppress(OSError):
            if path.is_file():
                texts[path] = path.read_text(encoding="utf-8", errors="replace")
    return texts


def _connections(environ: Mapping[str, str]) -> dict[str, str]:
    names = record.connected(environ)
    try:
        keys = {key.name for key in address.key_owners(environ)} if names else set[str]()
        made = [record.read(environ, name) for name in names]
    except ConfigError as error:
        return {"": error.message}
    return {each.tool: connection.problem(each, keys) for each in made if each}


def _gateway_problem(config: Config, daemon: Mapping[str, Any] | None) -> tuple[str, str]:
    if daemon and daemon.get("gateway_problem"):
        message, hint = daemon["gateway_problem"]
        return str(message), str(hint)
    path = config.gateway.unix_socket
    place, key = (path, "unix_socket") if path else (f"port {config.gateway.port}", "port")
    stranger = f"stop that program, or change `gateway.{key}` in the configuration"
    try:
        is_gateway, whose, uid = statusz.probe(
            f"unix:{path}" if path else address.base_url(config, config.default_profile)
        )
    except OSError as error:
        hint = "see: vx-token service logs" if daemon is not None else "run: vx-token service install"
        return f"the gateway is unreachable: {error.strerror or 'timeout'}", hint
    if whose is statusz.Owner.OTHER_USER:
        return f"another user (uid {uid}) listens on {place}", stranger
    if not is_gateway:
        return f"another program listens on {place}", stranger
    return "", "not verified to be yours" if whose is statusz.Owner.UNKNOWN else ""


def _gateway_addresses(config: Config) -> Mapping[str, bool]:
    beyond = [place for place in config.gateway.listen if not is_loopback(place[0])]
    return {f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}": _has_address(ip) for ip, port in beyond}


def _has_address(ip: str) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((ip, 0))
        except OSError:
            return False
    return True


def on_loopback(url: str) -> bool:
    """Whether the host of `url` is this machine."""
    try:
        return urlsplit(url).hostname in (*address.LOOPBACK_NAMES, "::1")
    except ValueError:
        return False
