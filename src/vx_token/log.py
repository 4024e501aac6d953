"""The daemon's log: one line an event on stderr, for a person, for systemd, or as JSON; never a secret."""

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

LEVELS = {"error": 3, "warning": 4, "notice": 5, "info": 6}
"""syslog's numbers, which sd-daemon(3) puts before a line."""


@dataclass(frozen=True)
class Log:
    """Writes events; `form` is text, systemd or json."""

    form: str = "text"

    def event(self, level: str, message: str, profile: str = "") -> None:
        """Write one line. A reader that went away is no reason to stop."""
        line = self._line(level, " ".join(message.split()), profile)
        try:
            # Past the buffer: what a reader that went away leaves in there would make a clean end look like a failure.
            os.write(sys.stderr.fileno(), f"{line}\n".encode(errors="backslashreplace"))
        except (OSError, ValueError, AttributeError):
            return

    def _line(self, level: str, message: str, profile: str) -> str:
        text = f"{profile}: {message}" if profile else message
        if self.form == "systemd":
            return f"<{LEVELS[level]}>{text}"
        instant = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.form == "json":
            return json.dumps({"time": instant, "level": level, "profile": profile, "message": message})
        return f"{instant} {level:<7} {text}"


def form(asked: str, environ: Mapping[str, str]) -> str:
    """The form to write: what was asked, else systemd's under systemd, else text."""
    return asked or ("systemd" if environ.get("JOURNAL_STREAM") or environ.get("INVOCATION_ID") else "text")
