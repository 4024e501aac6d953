"""The program that a service manager keeps running, and what it needs of the user's world."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vx_token.daemon.environment import chosen
from vx_token.errors import ConfigError, LoginNeededError, TemporaryError, VxTokenError
from vx_token.install.changes import Remove, Runner, Step
from vx_token.system.paths import ASIDE

_LONGEST_SOCKET = 107  # bytes: unix(7), less the zero at the end

LOG = "service.log"
"""In the state folder: the service's output where nothing else keeps it."""

OF_A_PROFILE = ("token", "header", "env.sh", "env.fish", "peek", "state.json", "lock", "told")
OF_THE_STATE = (LOG, "gateway.key", "gateway.key.previous")
OF_THE_DAEMON = (".daemon.json", ".daemon.lock")


@dataclass(frozen=True, slots=True)
class Agent:
    """What is installed as a service.

    Attributes:
        command: the absolute argv of `vx-token`, without its subcommand.
        home: the user's home.
        environ: the variables that matter, as `environment` picks them.
        runtime: the runtime folder.
        state: the folder of what survives a reboot.
        writable: further folders that it writes to.
        listen: the gateway's addresses in systemd's words, none when there is no gateway.
    """

    command: tuple[str, ...]
    home: Path
    environ: Mapping[str, str] = field(repr=False)
    runtime: Path
    state: Path
    writable: tuple[Path, ...] = ()
    listen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """What the service manager says of the service.

    Attributes:
        file: the unit or plist, whether it is there or not.
        installed: whether the manager knows it.
        active: the manager's word: active, reloading, inactive, failed, activating …
        result: why it ended, in the manager's word; `success` while all is well.
        code: the exit status of the last end, 0 when there was none.
        pid: the process, 0 when there is none.
        text: the service's own line.
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
        """Whether it is at work."""
        return self.active in ("active", "reloading")


class Manager(Protocol):
    """What the command line asks of any service manager; `service.Systemd` and `launchd.Launchd` answer."""

    @property
    def run(self) -> Runner:
        """How it runs programs."""

    def check(self) -> None:
        """Raise VxTokenError when there is no such manager here."""

    def install(self) -> list[Step]:
        """The steps to a running service."""

    def uninstall(self) -> list[Step]:
        """The steps back to nothing."""

    def verb(self, name: str) -> list[Step]:
        """The steps of start, stop or restart."""

    def carry_out(self, steps: Iterable[Step], now: Callable[[], float]) -> str:
        """Do steps that start it; say that it has a live token, or raise what is wrong."""

    def standing(self) -> Standing:
        """How it is."""

    def logs(self, lines: int, *, follow: bool) -> list[str]:
        """The command that shows its log; VxTokenError when there is none."""


def environment(environ: Mapping[str, str], cwd: Path) -> dict[str, str]:
    """The variables that decide what a token is made from and how Google is reached, places made absolute.

    Raises:
        ConfigError: a value has a line break or another control character, which no service file can hold.
    """
    found = chosen(environ, cwd)
    for name, value in found.items():
        if not value.isprintable():
            raise ConfigError(f"{name} holds a control character", f"set it anew: export {name}=…")
    return found


GATEWAY_SOCKET = ".gateway.sock"
"""In the runtime folder: the gateway's Unix socket where the configuration names no other."""


def listen(host: str, port: int, unix_socket: str, runtime: Path) -> tuple[str, ...]:
    """The gateway's addresses as ListenStream= takes them; systemd.socket(5) wants numbers, not names."""
    number = {"localhost": "127.0.0.1", "::1": "[::1]"}.get(host, host)
    path = unix_socket or str(runtime / GATEWAY_SOCKET)
    return (f"{number}:{port}", *([path] if len(os.fsencode(path)) <= _LONGEST_SOCKET else []))


def command(argv0: str, executable: str) -> tuple[str, ...]:
    """The absolute argv by which this very program is started again.

    A link such as pipx makes is kept as it is: it outlives an upgrade, what it leads to may not.
    """
    program = Path(argv0)
    if program.name == "vx-token" and os.access(program, os.X_OK):
        return (os.path.normpath(program.absolute()),)
    return (executable, "-m", "vx_token")


def verdict(standing: Standing, runtime: Path, now: float) -> str:
    """One line on a service that runs and has a live token.

    Args:
        standing: what the manager says, after the start is complete.
        runtime: the runtime folder, where its default profile's `env.sh` tells how things are.
        now: epoch seconds.

    Raises:
        VxTokenError: it does not run.
        LoginNeededError: it runs, and a human must log in.
        TemporaryError: it runs, has no token yet, and goes on trying.
    """
    running(standing)
    known = facts(runtime / "default" / "env.sh")
    if float(known.get("expires", "0")) > now:
        return f"the service runs: {standing.text}" if standing.text else "the service runs"
    if known.get("status") == "login":
        notice, _, hint = known.get("notice", "a login is needed").rpartition("; ")
        raise LoginNeededError(f"the service runs, but has no token: {notice or hint}", hint if notice else "")
    raise TemporaryError(
        f"the service runs, but has no token yet: {standing.text or 'no answer so far'}", "see: vx-token status"
    )


def installed(standing: Standing) -> None:
    """Raise VxTokenError unless the service is installed."""
    if not standing.installed:
        raise VxTokenError("the service is not installed", "run: vx-token service install")


def running(standing: Standing) -> None:
    """Raise VxTokenError unless the service is installed and runs."""
    installed(standing)
    if not standing.running:
        ended = standing.result not in ("", "success")
        why = f" ({standing.result}, exit status {standing.code})" if ended else ""
        raise VxTokenError(
            f"the service does not run{why}", "run: vx-token service start, or see: vx-token service logs"
        )


def tail(agent: Agent, lines: int, *, follow: bool) -> list[str]:
    """The command that shows the log where it is a file of ours.

    Raises:
        VxTokenError: there is none yet.
    """
    log = agent.state / LOG
    if not follow and not log.exists():
        raise VxTokenError(f"the service has written nothing to {log}", "run: vx-token service status")
    return ["tail", "-n", str(lines), *(["-F"] if follow else []), str(log)]


def facts(snippet: Path) -> dict[str, str]:
    """The comment lines of an `env.sh`, by name; empty when there is no such file."""
    try:
        lines = snippet.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.removeprefix("# ").partition(": ") for line in lines if line.startswith("# "))
    return {name: value for name, colon, value in pairs if colon}


def leftovers(home: Path, runtime: Path, state: Path) -> list[Step]:
    """The steps that take away what was written in the runtime folder and the state folder.

    Only what is known to be ours: a folder that the user named may hold other things.
    """
    steps: list[Step] = [Remove(state / name, home) for name in OF_THE_STATE]
    if runtime.name == "vx-token":
        return [*steps, Remove(runtime, runtime.parent, tree=True)]
    profiles = sorted(path.parent for path in runtime.glob("*/state.json") if not path.parent.is_symlink())
    files = [folder / name for folder in profiles for name in OF_A_PROFILE]
    links = [path for path in (runtime / "default",) if path.is_symlink()]
    ours = [*links, *files, *(runtime / name for name in OF_THE_DAEMON)]
    aside = [Remove(runtime / ASIDE, runtime.parent, tree=True)] if (runtime / ASIDE).is_dir() else []
    return [*steps, *aside, *(Remove(path, runtime.parent) for path in ours)]
