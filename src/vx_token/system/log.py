"""The log of the daemon and the gateway: one line an event on stderr, as text, for systemd, or as JSON."""

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
"""The numbers of syslog's levels, which sd-daemon(3) expects before a line."""

_NAMES = ((logging.ERROR, "error"), (logging.WARNING, "warning"), (0, "info"))


@dataclass(frozen=True)
class Log:
    """Writes events; `form` is text, systemd or json."""

    form: str = "text"
    stream: TextIO | None = None

    def event(self, level: str, message: str, profile: str = "") -> None:
        """Write one line, or nothing when stderr is closed."""
        line = self._line(level, printable(" ".join(message.split())), profile)
        try:
            # One unbuffered write, because several threads write, and because text that a closed pipe leaves in the
            # buffer would make a clean exit fail.
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
    """Logs the records of Python's `logging`, without tracebacks, because their last line may quote a secret."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        level = next(name for number, name in _NAMES if record.levelno >= number)
        self._log.event(level, record.getMessage())


@contextlib.contextmanager
def libraries(log: Log) -> Iterator[None]:
    """Log the warnings of libraries in this context."""
    lines = Lines(log)
    logging.getLogger().addHandler(lines)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(lines)


def form(asked: str, environ: Mapping[str, str], descriptor: int = 2) -> str:
    """Return the form of the log: `asked`, else systemd's when `descriptor` is its journal, else text.

    JOURNAL_STREAM counts only when it names the descriptor's file, because terminals of a desktop inherit the
    variable. Source: systemd.exec(5).
    """
    if asked:
        return asked
    try:
        file = os.fstat(descriptor)
    except OSError:
        return "text"
    return "systemd" if environ.get("JOURNAL_STREAM") == f"{file.st_dev}:{file.st_ino}" else "text"
