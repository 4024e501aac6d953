"""The daemon's log: one line an event on stderr, for a person, for systemd, or as JSON; never a secret."""

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TextIO

from vx_token.errors import printable

LEVELS = {"error": 3, "warning": 4, "notice": 5, "info": 6}
"""syslog's numbers, which sd-daemon(3) puts before a line."""


_NAMES = ((logging.ERROR, "error"), (logging.WARNING, "warning"), (0, "info"))


@dataclass(frozen=True)
class Log:
    """Writes events; `form` is text, systemd or json."""

    form: str = "text"
    stream: TextIO | None = None

    def event(self, level: str, message: str, profile: str = "") -> None:
        """Write one line. A reader that went away is no reason to stop."""
        line = self._line(level, printable(" ".join(message.split())), profile)
        try:
            # One write past the buffer: threads write too, and what a reader that went away leaves in the buffer would
            # make a clean end look like a failure.
            os.write((self.stream or sys.stderr).fileno(), f"{line}\n".encode(errors="backslashreplace"))
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


class Lines(logging.Handler):
    """Passes on what is told by way of `logging`, without tracebacks, whose last line may quote a secret."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        worst = [name for limit, name in _NAMES if record.levelno >= limit]
        self._log.event(worst[0], record.getMessage())


@contextlib.contextmanager
def libraries(log: Log) -> Iterator[None]:
    """While this lasts, what libraries warn of is an event like any other."""
    lines = Lines(log)
    logging.getLogger().addHandler(lines)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(lines)


def form(asked: str, environ: Mapping[str, str], descriptor: int = 2) -> str:
    """The form to write: what was asked, else systemd's when `descriptor` leads to its journal, else text.

    Shells in a desktop's terminal inherit the variable, so it counts only with the file it names: systemd.exec(5).
    """
    if asked:
        return asked
    try:
        found = os.fstat(descriptor)
    except OSError:
        return "text"
    return "systemd" if environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}" else "text"
