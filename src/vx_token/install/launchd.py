"""The macOS launch agent: its property list, and install, start, stop and uninstall through launchctl."""

import plistlib
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from vx_token.errors import TemporaryError, VxTokenError
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

LABEL = "local.vx-token"

IF_INSTALLED = '[ -x "$0" ] || exit 0; exec "$0" "$@"'
"""Shell script that becomes the program, or exits with status 0 if the program was removed.

launchd has no condition for this. With its `PathState`, a stopped agent would start again while the program is there,
because launchd.plist(5) joins the conditions of `KeepAlive` by OR.
"""

START_TIMEOUT = 120.0
"""Seconds to wait for the first token, because launchd has no readiness notification."""


@dataclass(frozen=True, slots=True)
class Launchd:
    """The launchd of a login session.

    Attributes:
        spec: what to install.
        run: runs a program.
        uid: user ID of the session.
        pause: sleeps for a number of seconds.
    """

    spec: ServiceSpec
    run: ProgramRunner
    uid: int
    pause: Callable[[float], None] = time.sleep

    @property
    def file(self) -> Path:
        """Path of the property list."""
        return property_list(self.spec.home)

    @property
    def target(self) -> str:
        """The agent's service target, see launchctl(1)."""
        return f"gui/{self.uid}/{LABEL}"

    def check(self) -> None:
        """Check that launchd has a session of this user.

        Raises:
            VxTokenError: there is none, as over ssh without a graphical login.
        """
        if run_program(self.run, "launchctl", "print", f"gui/{self.uid}").returncode != 0:
            hint = f"run: {no_manager.RUN} (or log in once in the graphical session)"
            raise VxTokenError("launchd has no session of this user", hint)

    def install(self) -> list[Step]:
        """Return the steps that install or update the agent and start it now and at every login."""
        return [
            MakeFolder(self.spec.state),
            WriteFile(self.file, plist(self.spec)),
            RunCommand(("launchctl", "bootout", self.target), ignore_failure=True),
            RunCommand(("launchctl", "enable", self.target)),
            RunCommand(("launchctl", "bootstrap", f"gui/{self.uid}", str(self.file))),
        ]

    def uninstall(self) -> list[Step]:
        """Return the steps that stop and remove the agent."""
        stop = RunCommand(("launchctl", "bootout", self.target), ignore_failure=True)
        left = leftovers(self.spec.home, self.spec.runtime, self.spec.state)
        return [stop, RemoveFile(self.file, self.spec.home / "Library"), *left]

    def control(self, name: str) -> list[Step]:
        """Return the steps of `start`, `stop` or `restart`."""
        words = {"start": ("kickstart",), "stop": ("kill", "SIGTERM"), "restart": ("kickstart", "-k")}
        return [RunCommand(("launchctl", *words[name], self.target))]

    def apply(self, steps: Iterable[Step], now: Callable[[], float]) -> str:
        """Perform the steps of `install`, `start` or `restart`; return a line when the agent has a live token.

        Raises:
            VxTokenError: the agent is not running or has no token; see `service.health`.
        """
        perform(steps, self.run)
        for _ in range(int(START_TIMEOUT)):
            try:
                return health(self.status(), self.spec.runtime, now())
            except TemporaryError:
                self.pause(1)
        return health(self.status(), self.spec.runtime, now())

    def status(self) -> ServiceStatus:
        """Return the agent's status, translated into systemd's terms."""
        done = run_program(self.run, "launchctl", "print", self.target)
        fields = dict(re.findall(r"^\t(state|pid|last exit code) = (.+)$", done.stdout, re.MULTILINE))
        state = fields.get("state", "not loaded")
        code = re.match(r"\d+", fields.get("last exit code", ""))
        return ServiceStatus(
            file=self.file,
            installed=done.returncode == 0,
            active="active" if state == "running" else "inactive",
            result="success" if state == "running" else state,
            code=int(code[0]) if code else 0,
            pid=int(fields.get("pid", "0")),
        )

    def logs(self, lines: int, *, follow: bool) -> list[str]:
        """Return the command that shows the agent's log."""
        return tail(self.spec, lines, follow=follow)


def property_list(home: Path) -> Path:
    """Return the path of a user's property list."""
    return home / "Library" / "LaunchAgents" / f"{LABEL}.plist"


def plist(spec: ServiceSpec) -> str:
    """Return the property list; see launchd.plist(5)."""
    log = str(spec.state / LOG)
    content = {
        "Label": LABEL,
        "ProgramArguments": ["/bin/sh", "-c", IF_INSTALLED, *spec.command, "run"],
        "EnvironmentVariables": dict(spec.environ),
        "RunAtLoad": True,
        # SIGTERM and a removed program give exit status 0: launchd restarts the agent after any other exit only.
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
