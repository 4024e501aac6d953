"""The systemd user service: its unit, and every verb from install to uninstall."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vx_token.errors import ConfigError, LoginNeededError, TemporaryError, VxTokenError
from vx_token.install.changes import Folder, Remove, Run, Runner, Step, Write, call, perform
from vx_token.install.service import LOG, Agent, Standing, leftovers, tail, verdict
from vx_token.system.shipped import shipped

UNIT = "vx-token.service"
SOCKET = "vx-token-gateway.socket"
NAMESPACES = "vx-token-namespaces.conf"
JOURNAL = Path("/run/systemd/journal/stdout")

KINDS = {kind.exit_code: kind for kind in (ConfigError, LoginNeededError, TemporaryError)}
"""What the service ended with is what we end with."""


@dataclass(frozen=True, slots=True)
class Systemd:
    """A user manager that shall run our agent.

    Attributes:
        agent: what to run.
        run: how programs are run.
        units: the folder of the user's units.
        journal: whether there is a journal; a file in the state folder takes the output otherwise.
    """

    agent: Agent
    run: Runner
    units: Path
    journal: bool

    def check(self) -> None:
        """Make sure that a user manager answers.

        Raises:
            VxTokenError: none does; the hint says what to do.
        """
        done = call(self.run, "systemctl", "--user", "show", "--property=Version")
        if done.returncode == 127:
            raise VxTokenError("this machine has no systemd", "docs/service.md has recipes for other supervisors")
        if done.returncode != 0:
            hint = "log in anew instead of by su or sudo, or: export XDG_RUNTIME_DIR=/run/user/$(id -u)"
            raise VxTokenError("no systemd user manager answers here", hint)

    def namespaces(self) -> bool:
        """Whether this manager can start a program under the hardening that needs a user namespace.

        It is tried, not guessed: kernels, containers and AppArmor (Ubuntu 24.04) each refuse in their own way.
        """
        options = [f"--property={line}" for line in (*_namespaces(), "ProtectSystem=strict")]
        probe = ("systemd-run", "--user", "--wait", "--collect", "--quiet", *options, "true")
        return call(self.run, *probe).returncode == 0

    def install(self) -> list[Step]:
        """The steps from nothing, or from an older installation, to a service that is started at every login.

        The last one returns when the service is READY, which means that every profile was tried once.
        """
        text = unit(self.agent, namespaces=self.namespaces(), journal=self.journal)
        steps: list[Step] = [Folder(self.agent.state), Write(self.units / UNIT, text)]
        names = [SOCKET, UNIT] if self.agent.listen else [UNIT]
        open_already = self._open_already()
        if self.agent.listen:
            steps.append(Write(self.units / SOCKET, socket(self.agent.listen)))
        elif (self.units / SOCKET).exists():
            steps += self._without(SOCKET)
        steps += [_systemctl("daemon-reload"), _systemctl("--quiet", "enable", *names)]
        steps += [_systemctl("reset-failed", name, harmless=True) for name in names]
        if not self.agent.listen or open_already:
            return [*steps, *self.verb("restart")]
        # A socket does not start while its service runs without it.
        return [*steps, _systemctl("stop", *names), _systemctl("start", *names)]

    def _open_already(self) -> bool:
        """Whether the socket listens where it shall: then it stays open, and no client is refused."""
        file = self.units / SOCKET
        same = file.is_file() and file.read_text(encoding="utf-8") == socket(self.agent.listen)
        return same and call(self.run, "systemctl", "--user", "is-active", SOCKET).returncode == 0

    def uninstall(self) -> list[Step]:
        """The steps back to nothing: units, tokens, the local key and our log; drop-ins of the user's own stay."""
        there = [name for name in (SOCKET, UNIT) if (self.units / name).exists()]
        steps = [step for name in there for step in self._without(name)]
        steps.append(_systemctl("daemon-reload", harmless=True))
        steps += [_systemctl("reset-failed", name, harmless=True) for name in there]
        return [*steps, *leftovers(self.agent.home, self.agent.runtime, self.agent.state)]

    def _without(self, name: str) -> list[Step]:
        stop = _systemctl("--quiet", "disable", "--now", name, harmless=True)
        return [stop, Remove(self.units / name, self.agent.home)]

    def verb(self, name: str) -> list[Step]:
        """`start`, `stop` or `restart`; returns when it is done."""
        return [_systemctl(name, UNIT)]

    def carry_out(self, steps: Iterable[Step], now: Callable[[], float]) -> str:
        """Do the steps of `install`, `start` or `restart`; one line on a service that runs and has a live token.

        Raises:
            VxTokenError: it does not run, or has no token; see `agent.verdict`.
        """
        try:
            perform(steps, self.run)
        except VxTokenError:
            found = self.standing()
            if found.running or not found.installed:
                raise
            why = f"{found.result or found.active}, exit status {found.code}"
            said = self._last_words() or "it said nothing"
            kind = KINDS.get(found.code, VxTokenError)
            raise kind(f"the service does not run ({why}): {said}", "see: vx-token service logs") from None
        return verdict(self.standing(), self.agent.runtime, now())

    def standing(self) -> Standing:
        """What the manager says of the service."""
        wanted = "LoadState,ActiveState,Result,ExecMainStatus,MainPID,StatusText"
        done = call(self.run, "systemctl", "--user", "show", f"--property={wanted}", UNIT)
        found = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
        return Standing(
            file=self.units / UNIT,
            installed=found.get("LoadState") == "loaded",
            active=found.get("ActiveState") or "unknown",
            result=found.get("Result", ""),
            code=int(found.get("ExecMainStatus") or 0),
            pid=int(found.get("MainPID") or 0),
            text=found.get("StatusText", ""),
        )

    def logs(self, lines: int, *, follow: bool) -> list[str]:
        """The command that shows the service's log."""
        if self.journal:
            return ["journalctl", "--user", f"--unit={UNIT}", f"--lines={lines}", *(["--follow"] if follow else [])]
        return tail(self.agent, lines, follow=follow)

    def _last_words(self) -> str:
        own = ["journalctl", "--user", f"_SYSTEMD_USER_UNIT={UNIT}", "--lines=5", "--output=cat"]
        try:
            said = call(self.run, *(own if self.journal else self.logs(5, follow=False))).stdout.splitlines()
        except VxTokenError:
            return ""
        told = [re.sub(r"^(<[0-7]>|vx-token: )", "", line) for line in said if not line.startswith("hint: ")]
        return told[-1] if told else ""


def here(agent: Agent, run: Runner) -> Systemd:
    """This machine's user manager; where none answers, the usual folder is assumed.

    The manager is asked for its folders: it may have been started without the shell's XDG_CONFIG_HOME.
    """
    searched = call(run, "systemctl", "--user", "show", "--value", "--property=UnitPath").stdout.split()
    named, usual = folders(agent.home, agent.environ)
    units = next((folder for folder in (named, usual) if str(folder) in searched), usual)
    return Systemd(agent, run, units, JOURNAL.exists())


def folders(home: Path, environ: Mapping[str, str]) -> tuple[Path, Path]:
    """Where a user's units may lie: by this environment, and by a manager that was started without it."""
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "systemd/user", home / ".config/systemd/user"


def unit(agent: Agent, *, namespaces: bool, journal: bool) -> str:
    """The unit for this user: the shipped one with absolute paths, and what it needs of the environment.

    Raises:
        ConfigError: a path holds a control character.
    """
    text = shipped(f"systemd/{UNIT}").read_text(encoding="utf-8")
    program, *words = agent.command  # the program's path is the one word of a command without variables
    start = " ".join([_word(program), *(_word(word, "$") for word in words), "run"])
    text = re.sub(r"^ExecStart=.*$", lambda _: f"ExecStart={start}", text, flags=re.MULTILINE)
    text = re.sub(r"^(ReadWritePaths|ExecStartPre)=.*\n", "", text, flags=re.MULTILINE)
    own = "\n".join(_own(agent, namespaces=namespaces, journal=journal))
    return text.replace("\n[Install]", f"\n# This user's own.\n{own}\n\n[Install]")


def socket(addresses: Iterable[str]) -> str:
    """The gateway's socket unit on these addresses."""
    text = shipped(f"systemd/{SOCKET}").read_text(encoding="utf-8")
    lines = "\n".join(f"ListenStream={address.replace('%', '%%')}" for address in addresses)
    return re.sub(r"^ListenStream=.*\n(?:#.*\nListenStream=.*\n)*", lambda _: f"{lines}\n", text, flags=re.MULTILINE)


def _own(agent: Agent, *, namespaces: bool, journal: bool) -> Iterator[str]:
    yield from (f"Environment={_word(f'{name}={value}')}" for name, value in agent.environ.items())
    writable = [agent.state, *agent.writable]
    if "VX_TOKEN_RUNTIME_DIR" in agent.environ:
        yield "RuntimeDirectory="
        writable.append(agent.runtime)
    for folder in dict.fromkeys(map(str, writable)):
        yield f"ExecStartPre=+mkdir -p -m 0700 {_word(folder, '$')}"
        yield f"ReadWritePaths=-{_word(folder)}"
    if any(_in_tmp(place) for place in (*agent.command, *agent.environ.values(), *map(str, writable))):
        yield "PrivateTmp=no"
    if not journal:
        # All of the line is the path, quotes would be a part of it.
        yield f"StandardOutput=append:{str(agent.state / LOG).replace('%', '%%')}"
        yield "StandardError=inherit"
    if namespaces:
        yield from _namespaces()


def _namespaces() -> list[str]:
    text = shipped(f"systemd/{NAMESPACES}").read_text(encoding="utf-8")
    return re.findall(r"^[A-Z]\w+=.*$", text, re.MULTILINE)


def _in_tmp(place: str) -> bool:
    return place.startswith(("/tmp/", "/var/tmp/"))  # noqa: S108 - only compared: a private /tmp would hide it


def _word(text: str, doubled: str = "") -> str:
    """One word of a unit file, its specifiers and, in commands, its variables taken literally; systemd.syntax(7)."""
    if not text.isprintable():
        raise ConfigError(f"{text!r} holds a control character, which a unit file cannot hold", "rename it")
    for character in ("\\", '"'):
        text = text.replace(character, f"\\{character}")
    for character in f"%{doubled}":
        text = text.replace(character, character * 2)
    return text if re.fullmatch(r"[\w@%+=:,./$-]+", text) else f'"{text}"'


def _systemctl(*words: str, harmless: bool = False) -> Run:
    return Run(("systemctl", "--user", *words), harmless)
