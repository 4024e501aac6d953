"""Shows that a command is alive while a step takes long."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from vx_token.cli import output

QUIET = 2.0
"""Seconds before the first sign."""

REPEAT = 10.0
"""Seconds between two signs where a line cannot be replaced."""


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show `what` and the seconds on stderr while the block runs, once it has taken 2 seconds.

    A terminal shows one line, which counts and disappears at the end; a file or a pipe gets a line every 10 seconds.
    """
    over, started = threading.Event(), time.monotonic()
    replaces = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def show() -> None:
        pause = QUIET
        while not over.wait(pause):
            pause = 1.0 if replaces else REPEAT
            line = f"{what} … {time.monotonic() - started:.0f} s"
            if replaces:
                sys.stderr.write(f"\r{line}\x1b[K")
                sys.stderr.flush()
            else:
                output.show(line, err=True)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        if replaces and time.monotonic() - started > QUIET:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
