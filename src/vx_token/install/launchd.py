"""The macOS launch agent: its property list, and the verbs of the systemd service through launchctl."""

import plistlib
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from vx_token.errors import TemporaryError, VxTokenError
from vx_token.install.changes import Folder, Remove, Run, Runner, Step, Write, call, perform
from vx_token.install.service import LOG, Agent, Standing, leftovers, tail, verdict

LABEL = "local.vx-token"

PATIENCE = 120.0
"""Seconds for the first token; launchd itself cannot tell when a program is ready."""


@dataclass(frozen=True, slots=True)
class Launchd:
    """A login session's launchd that shall run our agent.

    Attributes:
        agent: what to run.
        run: how programs are run.
        uid: whose session.
        pause: sleeps so many seconds.
    """

    agent: Agent
    run: Runner
    uid: int
    pause: Callable[[float], None] = time.sleep

    @property
    def file(self) -> Path:
        """Where the property list lies."""
        return property_list(self.agent.home)

    @property
    def target(self) -> str:
        """The agent's name in launchd's words."""
        return f"gui/{self.uid}/{LABEL}"

    def check(self) -> None:
        """Make sure that launchd answers for this session.

        Raises:
            VxTokenError: it does not, as in a session by ssh without a login at the screen.
        """
        if call(self.run, "launchctl", "print", f"gui/{self.uid}").returncode != 0:
            raise VxTokenError("launchd has no session of this user", "log in at the screen once")

    def install(self) -> list[Step]:
        """The steps from nothing, or from an older installation, to an agent that is started at every login."""
        return [
            Folder(self.agent.state),
            Write(self.file, plist(self.agent)),
            Run(("launchctl", "bootout", self.target), harmless=True),
            Run(("launchctl", "enable", self.target)),
            Run(("launchctl", "bootstrap", f"gui/{self.uid}", str(self.file))),
        ]

    def uninstall(self) -> list[Step]:
        """The steps back to nothing."""
        away = Run(("launchctl", "bootout", self.target), harmless=True)
        left = leftovers(self.agent.home, self.agent.runtime, self.agent.state)
        return [away, Remove(self.file, self.agent.home / "Library"), *left]

    def verb(self, name: str) -> list[Step]:
        """`start`, `stop` or `restart`."""
        words = {"start": ("kickstart",), "stop": ("kill", "SIGTERM"), "restart": ("kickstart", "-k")}
        return [Run(("launchctl", *words[name], self.target))]

    def carry_out(self, steps: Iterable[Step], now: Callable[[], float]) -> str:
        """Do the steps of `install`, `start` or `restart`; one line on an agent that runs and has a live token.

        Raises:
            VxTokenError: it does not run, or has no token; see `agent.verdict`.
        """
        perform(steps, self.run)
        for _ in range(int(PATIENCE)):
            try:
                return verdict(self.standing(), self.agent.runtime, now())
            except TemporaryError:
                self.pause(1)
        return verdict(self.standing(), self.agent.runtime, now())

    def standing(self) -> Standing:
        """What launchd says of the agent; its words become systemd's."""
        done = call(self.run, "launchctl", "print", self.target)
        found = dict(re.findall(r"^\t(state|pid|last exit code) = (.+)$", done.stdout, re.MULTILINE))
        state = found.get("state", "not loaded")
        code = re.match(r"\d+", found.get("last exit code", ""))
        return Standing(
            file=self.file,
            installed=done.returncode == 0,
            active="active" if state == "running" else "inactive",
            result="success" if state == "running" else state,
            code=int(code[0]) if code else 0,
            pid=int(found.get("pid", "0")),
        )

    def logs(self, lines: int, *, follow: bool) -> list[str]:
        """The command that shows the agent's log."""
        return tail(self.agent, lines, follow=follow)


def property_list(home: Path) -> Path:
    """Where the property list of a user lies."""
    return home / "Library" / "LaunchAgents" / f"{LABEL}.plist"


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
