"""The systemd user service: its unit, and every verb from install to uninstall."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vx_token.agent import LOG, Agent, Standing, leftovers, verdict
from vx_token.errors import ConfigError, VxTokenError
from vx_token.plan import Folder, Remove, Run, Runner, Step, Write, call, perform
from vx_token.shell import shipped

UNIT = "vx-token.service"
SOCKET = "vx-token-gateway.socket"
NAMESPACES = "vx-token-namespaces.conf"
JOURNAL = Path("/run/systemd/journal/stdout")


@dataclass(frozen=True, slots=True)
class Host:
    """What differs between machines: where units lie, and whether there is a journal."""

    units: Path
    journal: bool


def look(agent: Agent, run: Runner) -> Host:
    """Look at this machine; where no manager answers, the usual is assumed.

    The manager is asked for its folders: it may have been started without the shell's XDG_CONFIG_HOME.
    """
    searched = call(run, "systemctl", "--user", "show", "--value", "--property=UnitPath").stdout.split()
    usual = agent.home / ".config/systemd/user"
    named = Path(agent.environ.get("XDG_CONFIG_HOME") or agent.home / ".config") / "systemd/user"
    return Host(next((folder for folder in (named, usual) if str(folder) in searched), usual), JOURNAL.exists())


def check(run: Runner) -> None:
    """Make sure that a user manager answers.

    Raises:
        VxTokenError: none does; the hint says what to do.
    """
    done = call(run, "systemctl", "--user", "show", "--property=Version")
    if done.returncode == 127:
        raise VxTokenError("this machine has no systemd", "docs/service.md has recipes for other supervisors")
    if done.returncode != 0:
        hint = "log in anew instead of by su or sudo, or: export XDG_RUNTIME_DIR=/run/user/$(id -u)"
        raise VxTokenError("no systemd user manager answers here", hint)


def namespaces(run: Runner) -> bool:
    """Whether this user manager can start a program under the hardening that needs a user namespace.

    It is tried, not guessed: kernels, containers and AppArmor (Ubuntu 24.04) each refuse in their own way.
    """
    options = [f"--property={line}" for line in _namespaces()]
    probe = ("systemd-run", "--user", "--wait", "--collect", "--quiet", *options, "--property=ProtectSystem=strict")
    return call(run, *probe, "true").returncode == 0


def _namespaces() -> list[str]:
    text = shipped(f"systemd/{NAMESPACES}").read_text(encoding="utf-8")
    return re.findall(r"^[A-Z]\w+=.*$", text, re.MULTILINE)


def unit(agent: Agent, host: Host, *, namespaces: bool) -> str:
    """The unit for this user: the shipped one with absolute paths, and what it needs of the environment.

    Args:
        agent: what to run.
        host: where; without a journal the output goes to a file in the state folder.
        namespaces: whether to add the hardening that needs a user namespace.
    """
    text = shipped(f"systemd/{UNIT}").read_text(encoding="utf-8")
    start = " ".join([*(_word(word, "$") for word in agent.command), "run"])
    text = re.sub(r"^ExecStart=.*$", lambda _: f"ExecStart={start}", text, flags=re.MULTILINE)
    text = re.sub(r"^(ReadWritePaths|ExecStartPre)=.*\n", "", text, flags=re.MULTILINE)
    own = "\n".join(_own(agent, host, namespaces=namespaces))
    return text.replace("\n[Install]", f"\n# This user's own.\n{own}\n\n[Install]")


def _own(agent: Agent, host: Host, *, namespaces: bool) -> Iterator[str]:
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
    if not host.journal:
        # One word to the end of the line, whatever it holds; only specifiers are special.
        yield f"StandardOutput=append:{str(agent.state / LOG).replace('%', '%%')}"
        yield "StandardError=inherit"
    if namespaces:
        yield from _namespaces()


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


def socket(agent: Agent) -> str:
    """The gateway's socket unit, on the address that the configuration names."""
    text = shipped(f"systemd/{SOCKET}").read_text(encoding="utf-8")
    return re.sub(r"^ListenStream=.*$", f"ListenStream={agent.gateway}", text, flags=re.MULTILINE)


def install(agent: Agent, host: Host, *, namespaces: bool) -> list[Step]:
    """The steps from nothing, or from an older installation, to a service that is started at every login.

    The last one returns when the service is READY, which means that every profile was tried once.
    """
    steps: list[Step] = [Folder(agent.state), Write(host.units / UNIT, unit(agent, host, namespaces=namespaces))]
    if agent.gateway:
        steps.append(Write(host.units / SOCKET, socket(agent)))
    elif (host.units / SOCKET).exists():
        steps += _without_socket(agent, host)
    names = [SOCKET, UNIT] if agent.gateway else [UNIT]
    steps += [_systemctl("daemon-reload"), _systemctl("--quiet", "enable", *names)]
    steps += [_systemctl("reset-failed", name, harmless=True) for name in names]
    if agent.gateway:
        # A socket does not start while its service runs without it.
        steps += [_systemctl("stop", UNIT), _systemctl("restart", SOCKET)]
    return [*steps, _systemctl("restart", UNIT)]


def uninstall(agent: Agent, host: Host) -> list[Step]:
    """The steps back to nothing: units, tokens, the local key and our log; drop-ins of the user's own stay."""
    steps = _without_socket(agent, host) if (host.units / SOCKET).exists() else []
    if (host.units / UNIT).exists():
        steps += [_systemctl("--quiet", "disable", "--now", UNIT, harmless=True), Remove(host.units / UNIT, agent.home)]
    steps.append(_systemctl("daemon-reload", harmless=True))
    steps += [_systemctl("reset-failed", name, harmless=True) for name in (SOCKET, UNIT)]
    return [*steps, *leftovers(agent)]


def _without_socket(agent: Agent, host: Host) -> list[Step]:
    return [
        _systemctl("--quiet", "disable", "--now", SOCKET, harmless=True),
        Remove(host.units / SOCKET, agent.home),
    ]


def carry_out(steps: Iterable[Step], agent: Agent, host: Host, run: Runner, now: Callable[[], float]) -> str:
    """Do the steps of `install`, `start` or `restart`; one line on a service that runs and has a live token.

    Raises:
        VxTokenError: it does not run, or has no token; see `agent.verdict`.
    """
    try:
        perform(steps, run)
    except VxTokenError as error:
        found = standing(host, run)
        if found.running or found.active == "unknown":
            raise
        said = _last_words(agent, host, run) or error.message
        why = f"{found.result or found.active}, exit status {found.code}"
        raise VxTokenError(f"the service does not run ({why}): {said}", "see: vx-token service logs") from None
    return verdict(standing(host, run), agent.runtime, now())


def _last_words(agent: Agent, host: Host, run: Runner) -> str:
    lines = call(run, *logs(agent, host, 5, follow=False)).stdout.splitlines()
    told = [match[1] for line in lines if (match := re.search(r"(?:<[0-7]>|vx-token(?:\[\d+\])?: )(.+)", line))]
    return told[-1] if told else ""


def verb(name: str) -> list[Step]:
    """`start`, `stop` or `restart`; returns when it is done."""
    return [_systemctl(name, UNIT)]


def standing(host: Host, run: Runner) -> Standing:
    """What the user manager says of the service."""
    wanted = "LoadState,ActiveState,Result,ExecMainStatus,MainPID,StatusText"
    done = call(run, "systemctl", "--user", "show", f"--property={wanted}", UNIT)
    found = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    return Standing(
        file=host.units / UNIT,
        installed=found.get("LoadState") == "loaded",
        active=found.get("ActiveState") or "unknown",
        result=found.get("Result", ""),
        code=int(found.get("ExecMainStatus") or 0),
        pid=int(found.get("MainPID") or 0),
        text=found.get("StatusText", ""),
    )


def logs(agent: Agent, host: Host, lines: int, *, follow: bool) -> list[str]:
    """The command that shows the service's log."""
    if host.journal:
        return ["journalctl", "--user", f"--unit={UNIT}", f"--lines={lines}", *(["--follow"] if follow else [])]
    return ["tail", "-n", str(lines), *(["-F"] if follow else []), str(agent.state / LOG)]


def _systemctl(*words: str, harmless: bool = False) -> Run:
    return Run(("systemctl", "--user", *words), harmless)
