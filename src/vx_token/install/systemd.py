"""The systemd user service: its units, and install, start, stop and uninstall through systemctl."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vx_token.errors import ConfigError, LoginNeededError, TemporaryError, VxTokenError
from vx_token.install import no_manager
from vx_token.install.changes import (
    MakeFolder,
    ProgramRunner,
    RemoveFile,
    RunCommand,
    Step,
    WriteFile,
    perform,
    run_program,
)
from vx_token.install.service import LOG, ServiceSpec, ServiceStatus, health, leftovers, tail
from vx_token.system.shipped import shipped

UNIT = "vx-token.service"
SOCKET = "vx-token-gateway.socket"
NAMESPACES = "vx-token-namespaces.conf"
JOURNAL = Path("/run/systemd/journal/stdout")

ERRORS = {kind.exit_code: kind for kind in (ConfigError, LoginNeededError, TemporaryError)}
"""Error class by exit status: the command exits with the same status as the service."""


@dataclass(frozen=True, slots=True)
class Systemd:
    """The systemd manager of a user.

    Attributes:
        spec: what to install.
        run: runs a program.
        units: folder of the user's units.
        journal: whether there is a journal; otherwise the log is a file in the state folder.
        place: where this process runs, for the hint when no manager is running.
    """

    spec: ServiceSpec
    run: ProgramRunner
    units: Path
    journal: bool
    place: no_manager.Place = no_manager.Place.OTHER

    def check(self) -> None:
        """Check that a user manager is running.

        Raises:
            VxTokenError: none is running, or systemd is not installed.
        """
        if run_program(self.run, "systemctl", "--user", "show", "--property=Version").returncode != 0:
            raise no_manager.missing(self.place)

    def namespaces(self) -> bool:
        """Return whether the manager supports the hardening options that need a user namespace.

        Detected by a test run, because kernels, containers and AppArmor (Ubuntu 24.04) forbid it in different ways.
        """
        options = [f"--property={line}" for line in (*_namespaces(), "ProtectSystem=strict")]
        probe = ("systemd-run", "--user", "--wait", "--collect", "--quiet", *options, "true")
        return run_program(self.run, *probe).returncode == 0

    def install(self) -> list[Step]:
        """Return the steps that install or update the service and start it now and at every login.

        The last step returns once the service is READY: a refresh of every profile was attempted.
        """
        text = unit(self.spec, namespaces=self.namespaces(), journal=self.journal)
        steps: list[Step] = [MakeFolder(self.spec.state), WriteFile(self.units / UNIT, text)]
        names = [SOCKET, UNIT] if self.spec.listen else [UNIT]
        already_listening = self._already_listening()
        if self.spec.listen:
            steps.append(WriteFile(self.units / SOCKET, socket(self.spec)))
        elif (self.units / SOCKET).exists():
            steps += self._without(SOCKET)
        steps += [_systemctl("daemon-reload"), _systemctl("--quiet", "enable", *names)]
        steps += [_systemctl("reset-failed", name, ignore_failure=True) for name in names]
        if not self.spec.listen or already_listening:
            return [*steps, *self.control("restart")]
        # systemd refuses to start a socket unit while its service is already running, so stop both first.
        return [*steps, _systemctl("stop", *names), _systemctl("start", *names)]

    def _already_listening(self) -> bool:
        """Return whether the socket unit is active and unchanged; it then stays open, so that no client is refused."""
        file = self.units / SOCKET
        same = file.is_file() and file.read_text(encoding="utf-8") == socket(self.spec)
        return same and run_program(self.run, "systemctl", "--user", "is-active", SOCKET).returncode == 0

    def uninstall(self) -> list[Step]:
        """Return the steps that remove units, tokens, the local key and the log; the user's drop-ins stay."""
        present = [name for name in (SOCKET, UNIT) if (self.units / name).exists()]
        steps = [step for name in present for step in self._without(name)]
        steps.append(_systemctl("daemon-reload", ignore_failure=True))
        steps += [_systemctl("reset-failed", name, ignore_failure=True) for name in present]
        return [*steps, *leftovers(self.spec.home, self.spec.runtime, self.spec.state)]

    def _without(self, name: str) -> list[Step]:
        stop = _systemctl("--quiet", "disable", "--now", name, ignore_failure=True)
        return [stop, RemoveFile(self.units / name, self.spec.home)]

    def control(self, name: str) -> list[Step]:
        """Return the steps of `start`, `stop` or `restart`; each waits for completion."""
        return [_systemctl(name, UNIT)]

    def apply(self, steps: Iterable[Step], now: Callable[[], float]) -> str:
        """Perform the steps of `install`, `start` or `restart`; return a line when the service has a live token.

        Raises:
            VxTokenError: the service is not running or has no token; see `service.health`.
        """
        try:
            perform(steps, self.run)
        except VxTokenError:
            status = self.status()
            if status.running or not status.installed:
                raise
            reason = f"{status.result or status.active}, exit status {status.code}"
            message = self._last_error() or "it logged no error"
            error = ERRORS.get(status.code, VxTokenError)
            raise error(f"the service is not running ({reason}): {message}", "see: vx-token service logs") from None
        return health(self.status(), self.spec.runtime, now())

    def status(self) -> ServiceStatus:
        """Return the service's status."""
        properties = "LoadState,ActiveState,Result,ExecMainStatus,MainPID,StatusText"
        done = run_program(self.run, "systemctl", "--user", "show", f"--property={properties}", UNIT)
        fields = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
        return ServiceStatus(
            file=self.units / UNIT,
            installed=fields.get("LoadState") == "loaded",
            active=fields.get("ActiveState") or "unknown",
            result=fields.get("Result", ""),
            code=int(fields.get("ExecMainStatus") or 0),
            pid=int(fields.get("MainPID") or 0),
            text=fields.get("StatusText", ""),
        )

    def logs(self, lines: int, *, follow: bool) -> list[str]:
        """Return the command that shows the service's log."""
        if self.journal:
            return ["journalctl", "--user", f"--unit={UNIT}", f"--lines={lines}", *(["--follow"] if follow else [])]
        return tail(self.spec, lines, follow=follow)

    def _last_error(self) -> str:
        query = ["journalctl", "--user", f"_SYSTEMD_USER_UNIT={UNIT}", "--lines=5", "--output=cat"]
        try:
            lines = run_program(self.run, *(query if self.journal else self.logs(5, follow=False))).stdout.splitlines()
        except VxTokenError:
            return ""
        messages = [re.sub(r"^(<[0-7]>|vx-token: )", "", line) for line in lines if not line.startswith("hint: ")]
        return messages[-1] if messages else ""


def detect(spec: ServiceSpec, run: ProgramRunner, place: no_manager.Place = no_manager.Place.OTHER) -> Systemd:
    """Return the user manager with its unit folder; without a running manager the usual folder.

    The folder is read from the manager, because it may have been started without the shell's XDG_CONFIG_HOME.
    """
    searched = run_program(run, "systemctl", "--user", "show", "--value", "--property=UnitPath").stdout.split()
    configured, usual = folders(spec.home, spec.environ)
    units = next((folder for folder in (configured, usual) if str(folder) in searched), usual)
    return Systemd(spec, run, units, JOURNAL.exists(), place)


def folders(home: Path, environ: Mapping[str, str]) -> tuple[Path, Path]:
    """Return the possible unit folders: by this environment, and without XDG_CONFIG_HOME."""
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "systemd/user", home / ".config/systemd/user"


def unit(spec: ServiceSpec, *, namespaces: bool, journal: bool) -> str:
    """Return the unit for this user: the shipped one with absolute paths and environment variables.

    Raises:
        ConfigError: a path contains a control character.
    """
    text = shipped(f"systemd/{UNIT}").read_text(encoding="utf-8")
    program, *words = spec.command  # systemd does not expand variables in the program's path
    start = " ".join([_quote(program), *(_quote(word, "$") for word in words), "run"])
    text = re.sub(r"^ExecStart=.*$", lambda _: f"ExecStart={start}", _with_condition(text, program), flags=re.MULTILINE)
    text = re.sub(r"^(ReadWritePaths|ExecStartPre)=.*\n", "", text, flags=re.MULTILINE)
    settings = "\n".join(_settings(spec, namespaces=namespaces, journal=journal))
    return text.replace("\n[Install]", f"\n# Settings of this user.\n{settings}\n\n[Install]")


def socket(spec: ServiceSpec) -> str:
    """Return the gateway's socket unit for this user's addresses."""
    text = _with_condition(shipped(f"systemd/{SOCKET}").read_text(encoding="utf-8"), spec.command[0])
    lines = "\n".join(f"ListenStream={address.replace('%', '%%')}" for address in spec.listen)
    return re.sub(r"^ListenStream=.*\n(?:#.*\nListenStream=.*\n)*", lambda _: f"{lines}\n", text, flags=re.MULTILINE)


def _with_condition(text: str, program: str) -> str:
    # No quotes, because systemd would treat them as a part of the path.
    condition = f"ConditionFileIsExecutable={program.replace('%', '%%')}"
    return re.sub(r"^ConditionFileIsExecutable=.*$", lambda _: condition, text, flags=re.MULTILINE)


def _settings(spec: ServiceSpec, *, namespaces: bool, journal: bool) -> Iterator[str]:
    yield from (f"Environment={_quote(f'{name}={value}')}" for name, value in spec.environ.items())
    created, writable = [spec.state], [*map(str, spec.writable)]
    if "VX_TOKEN_RUNTIME_DIR" in spec.environ:
        yield "RuntimeDirectory="
        created.append(spec.runtime)
    for folder in dict.fromkeys(map(str, created)):
        yield f"ExecStartPre=+mkdir -p -m 0700 {_quote(folder, '$')}"
    for folder in dict.fromkeys([*map(str, created), *writable]):
        yield f"ReadWritePaths=-{_quote(folder)}"
    if any(_in_tmp(place) for place in (*spec.command, *spec.environ.values(), *map(str, created), *writable)):
        yield "PrivateTmp=no"
    if not journal:
        # No quotes, because systemd would treat them as a part of the path.
        yield f"StandardOutput=append:{str(spec.state / LOG).replace('%', '%%')}"
        yield "StandardError=inherit"
    if namespaces:
        yield from _namespaces()


def _namespaces() -> list[str]:
    text = shipped(f"systemd/{NAMESPACES}").read_text(encoding="utf-8")
    return re.findall(r"^[A-Z]\w+=.*$", text, re.MULTILINE)


def _in_tmp(place: str) -> bool:
    return place.startswith(("/tmp/", "/var/tmp/"))  # noqa: S108 - only compared: PrivateTmp= would hide the path


def _quote(text: str, doubled: str = "") -> str:
    """Quote a word of a unit file, so that its specifiers and variables are literal; see systemd.syntax(7)."""
    if not text.isprintable():
        raise ConfigError(f"{text!r} contains a control character, which a unit file cannot contain", "rename it")
    for character in ("\\", '"'):
        text = text.replace(character, f"\\{character}")
    for character in f"%{doubled}":
        text = text.replace(character, character * 2)
    return text if re.fullmatch(r"[\w@%+=:,./$-]+", text) else f'"{text}"'


def _systemctl(*words: str, ignore_failure: bool = False) -> RunCommand:
    return RunCommand(("systemctl", "--user", *words), ignore_failure)
