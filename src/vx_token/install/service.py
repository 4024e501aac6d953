"""The service independent of its manager: its command, environment, status and leftover files."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vx_token.config.model import Config, Gateway
from vx_token.daemon.environment import relevant
from vx_token.errors import ConfigError, LoginNeededError, TemporaryError, VxTokenError
from vx_token.install.changes import ProgramRunner, RemoveFile, Step
from vx_token.outputs.template_files import FOLDER as FILES_FOLDER
from vx_token.outputs.template_files import written_files
from vx_token.system.paths import ASIDE

_MAX_SOCKET_PATH = 107  # bytes: the limit in unix(7) without the terminating zero

LOG = "service.log"
"""Name of the log file in the state folder, used where there is no journal."""

PROFILE_FILES = ("token", "header", "env.sh", "env.fish", "peek", "state.json", "lock", "events.json")
STATE_FILES = (LOG, "gateway.key", "gateway.key.previous")
DAEMON_FILES = (".daemon.json", ".daemon.lock")


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """What to install as a service.

    Attributes:
        command: the absolute argv of `vx-token` without a subcommand.
        home: the user's home folder.
        environ: the variables that `environment` returns.
        runtime: the runtime folder.
        state: the state folder, which survives a reboot.
        writable: folders of the user's to which the service writes; it does not create them.
        listen: the gateway's addresses as ListenStream= values, empty without a gateway.
    """

    command: tuple[str, ...]
    home: Path
    environ: Mapping[str, str] = field(repr=False)
    runtime: Path
    state: Path
    writable: tuple[Path, ...] = ()
    listen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """The service's status as its manager reports it.

    Attributes:
        file: path of the unit or property list, which may not exist.
        installed: whether the manager has loaded it.
        active: the manager's state: active, reloading, inactive, failed, activating …
        result: the manager's reason for the last exit; `success` without an error.
        code: the last exit status, 0 if there was none.
        pid: the process ID, 0 if there is none.
        text: the line that the daemon sent by sd_notify.
    """

    file: Path
    installed: bool
    active: str
    result: str = ""
    code: int = 0
    pid: int = 0
    text: str = ""

    @property
    def running(self) -> bool:
        """Whether the service is running."""
        return self.active in ("active", "reloading")


class ServiceManager(Protocol):
    """The interface of a service manager, implemented by `systemd.Systemd` and `launchd.Launchd`."""

    @property
    def run(self) -> ProgramRunner:
        """Runs a program."""

    def check(self) -> None:
        """Raise VxTokenError when this service manager is not available."""

    def install(self) -> list[Step]:
        """Return the steps that install and start the service."""

    def uninstall(self) -> list[Step]:
        """Return the steps that stop and remove the service."""

    def control(self, name: str) -> list[Step]:
        """Return the steps of `start`, `stop` or `restart`."""

    def apply(self, steps: Iterable[Step], now: Callable[[], float]) -> str:
        """Perform steps that start the service; return a line, or raise VxTokenError without a live token."""

    def status(self) -> ServiceStatus:
        """Return the service's status."""

    def logs(self, lines: int, *, follow: bool) -> list[str]:
        """Return the command that shows the log; raises VxTokenError when there is no log."""


def environment(environ: Mapping[str, str], cwd: Path) -> dict[str, str]:
    """Return the variables for the service, with absolute paths.

    Raises:
        ConfigError: a value contains a control character, which a unit file cannot contain.
    """
    variables = relevant(environ, cwd)
    for name, value in variables.items():
        if not value.isprintable():
            raise ConfigError(f"{name} contains a control character", f"set it again: export {name}=…")
    return variables


def writable(config: Config) -> tuple[Path, ...]:
    """Return the folders of the profiles' `files`, which the service's sandbox must let it write."""
    folders = (Path(file.path).parent for profile in config.profiles.values() for file in profile.files)
    return tuple(dict.fromkeys(folders))


GATEWAY_SOCKET = ".gateway.sock"
"""Default name of the gateway's Unix socket, in the runtime folder."""


def listen(gateway: Gateway, runtime: Path) -> tuple[str, ...]:
    """Return the gateway's addresses for ListenStream=; systemd.socket(5) requires numeric addresses."""
    tcp = ((gateway.ip, gateway.port), *gateway.listen)
    path = gateway.unix_socket or str(runtime / GATEWAY_SOCKET)
    tcp_addresses = (f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip, port in tcp)
    return (*tcp_addresses, *([path] if len(os.fsencode(path)) <= _MAX_SOCKET_PATH else []))


def command(argv0: str, executable: str) -> tuple[str, ...]:
    """Return the absolute argv that starts this program again.

    Symbolic links, such as those of pipx, are not resolved, because their targets may change in an upgrade.
    """
    program = Path(argv0)
    if program.name == "vx-token" and os.access(program, os.X_OK):
        return (os.path.normpath(program.absolute()),)
    return (executable, "-m", "vx_token")


def health(status: ServiceStatus, runtime: Path, now: float) -> str:
    """Return a line for a service that is running and has a live token.

    Args:
        status: the status after the start is complete.
        runtime: the runtime folder, whose default profile's `env.sh` contains the token's status.
        now: epoch seconds.

    Raises:
        VxTokenError: the service is not running.
        LoginNeededError: the service is running, and the user must log in.
        TemporaryError: the service is running without a token and retries.
    """
    require_running(status)
    comments = env_file_comments(runtime / "default" / "env.sh")
    if float(comments.get("expires", "0")) > now:
        return f"the service is running: {status.text}" if status.text else "the service is running"
    if comments.get("status") == "login":
        notice, _, hint = comments.get("notice", "a login is needed").rpartition("; ")
        raise LoginNeededError(f"the service is running, but has no token: {notice or hint}", hint if notice else "")
    raise TemporaryError(
        f"the service is running, but has no token yet: {status.text or 'no response so far'}", "see: vx-token status"
    )


def require_installed(status: ServiceStatus) -> None:
    """Raise VxTokenError unless the service is installed."""
    if not status.installed:
        raise VxTokenError("the service is not installed", "run: vx-token service install")


def require_running(status: ServiceStatus) -> None:
    """Raise VxTokenError unless the service is installed and running."""
    require_installed(status)
    if not status.running:
        failed = status.result not in ("", "success")
        why = f" ({status.result}, exit status {status.code})" if failed else ""
        raise VxTokenError(
            f"the service is not running{why}", "run: vx-token service start, or see: vx-token service logs"
        )


def tail(spec: ServiceSpec, lines: int, *, follow: bool) -> list[str]:
    """Return the command that shows the log file.

    Raises:
        VxTokenError: the log file does not exist yet.
    """
    log = spec.state / LOG
    if not follow and not log.exists():
        raise VxTokenError(f"the service has written nothing to {log}", "to see its errors here, run: vx-token run")
    return ["tail", "-n", str(lines), *(["-F"] if follow else []), str(log)]


def env_file_comments(env_file: Path) -> dict[str, str]:
    """Return the `# name: value` comments of an `env.sh`; empty when the file does not exist."""
    try:
        lines = env_file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.removeprefix("# ").partition(": ") for line in lines if line.startswith("# "))
    return {name: value for name, colon, value in pairs if colon}


def leftovers(home: Path, runtime: Path, state: Path) -> list[Step]:
    """Return the steps that remove files from the runtime and the state folder, and those of the setting `files`.

    Only files of vx-token are removed, because a folder that the user chose may contain other files.
    """
    steps: list[Step] = [RemoveFile(path, path.parent) for path in written_files(state)]
    steps += [RemoveFile(state / name, home) for name in STATE_FILES]
    steps += [RemoveFile(state / FILES_FOLDER, home, tree=True)] if (state / FILES_FOLDER).is_dir() else []
    if runtime.name == "vx-token":
        return [*steps, RemoveFile(runtime, runtime.parent, tree=True)]
    profiles = sorted(path.parent for path in runtime.glob("*/state.json") if not path.parent.is_symlink())
    files = [folder / name for folder in profiles for name in PROFILE_FILES]
    links = [path for path in (runtime / "default",) if path.is_symlink()]
    paths = [*links, *files, *(runtime / name for name in DAEMON_FILES)]
    aside = [RemoveFile(runtime / ASIDE, runtime.parent, tree=True)] if (runtime / ASIDE).is_dir() else []
    return [*steps, *aside, *(RemoveFile(path, runtime.parent) for path in paths)]
