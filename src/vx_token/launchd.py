"""The macOS launch agent: its property list, and the verbs of the systemd service through launchctl."""

import plistlib
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from vx_token.agent import LOG, Agent, Standing, leftovers, verdict
from vx_token.errors import TemporaryError
from vx_token.plan import Folder, Remove, Run, Runner, Step, Write, call, perform

LABEL = "local.vx-token"

PATIENCE = 120.0
"""Seconds for the first token; launchd itself cannot tell when a program is ready."""


def file(agent: Agent) -> Path:
    """Where the property list lies."""
    return agent.home / "Library" / "LaunchAgents" / f"{LABEL}.plist"


def plist(agent: Agent) -> str:
    """The property list; launchd.plist(5)."""
    log = str(agent.state / LOG)
    content = {
        "Label": LABEL,
        "ProgramArguments": [*agent.command, "run"],
        "EnvironmentVariables": dict(agent.environ),
        "RunAtLoad": True,
        # A stop by SIGTERM ends with status 0 and stays; anything else is started again, at most every 10 seconds.
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 10,
        "ExitTimeOut": 10,
        "ProcessType": "Background",
        "Umask": 0o077,
        "HardResourceLimits": {"Core": 0},
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    return plistlib.dumps(content, sort_keys=False).decode()


def install(agent: Agent, uid: int) -> list[Step]:
    """The steps from nothing, or from an older installation, to an agent that is started at every login."""
    away = Run(("launchctl", "bootout", f"gui/{uid}/{LABEL}"), harmless=True)
    return [
        Folder(agent.state),
        Write(file(agent), plist(agent)),
        away,
        Run(("launchctl", "enable", f"gui/{uid}/{LABEL}")),
        Run(("launchctl", "bootstrap", f"gui/{uid}", str(file(agent)))),
    ]


def uninstall(agent: Agent, uid: int) -> list[Step]:
    """The steps back to nothing."""
    away = Run(("launchctl", "bootout", f"gui/{uid}/{LABEL}"), harmless=True)
    return [away, Remove(file(agent), agent.home / "Library"), *leftovers(agent)]


def verb(name: str, uid: int) -> list[Step]:
    """`start`, `stop` or `restart`."""
    words = {"start": ("kickstart",), "stop": ("kill", "SIGTERM"), "restart": ("kickstart", "-k")}
    return [Run(("launchctl", *words[name], f"gui/{uid}/{LABEL}"))]


def standing(agent: Agent, uid: int, run: Runner) -> Standing:
    """What launchd says of the agent; its words become systemd's."""
    done = call(run, "launchctl", "print", f"gui/{uid}/{LABEL}")
    found = dict(re.findall(r"^\t(state|pid|last exit code) = (.+)$", done.stdout, re.MULTILINE))
    state = found.get("state", "not loaded")
    code = re.match(r"\d+", found.get("last exit code", ""))
    return Standing(
        file=file(agent),
        installed=done.returncode == 0,
        active="active" if state == "running" else "inactive",
        result="success" if state == "running" else state,
        code=int(code[0]) if code else 0,
        pid=int(found.get("pid", "0")),
    )


def carry_out(
    steps: Iterable[Step],
    agent: Agent,
    uid: int,
    run: Runner,
    now: Callable[[], float],
    pause: Callable[[float], None] = time.sleep,
) -> str:
    """Do the steps of `install`, `start` or `restart`; one line on an agent that runs and has a live token.

    Raises:
        VxTokenError: it does not run, or has no token; see `agent.verdict`.
    """
    perform(steps, run)
    for _ in range(int(PATIENCE)):
        try:
            return verdict(standing(agent, uid, run), agent.runtime, now())
        except TemporaryError:
            pause(1)
    return verdict(standing(agent, uid, run), agent.runtime, now())


def logs(agent: Agent, lines: int, *, follow: bool) -> list[str]:
    """The command that shows the agent's log."""
    return ["tail", "-n", str(lines), *(["-F"] if follow else []), str(agent.state / LOG)]
