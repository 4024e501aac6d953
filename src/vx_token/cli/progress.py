"""Shows at a terminal that a command is alive while a step takes long."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

QUIET = 2.0
"""Seconds before the first sign."""


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show `what` and the seconds on one line of stderr once the block has taken 2 seconds, and clear it at the end."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    over, started = threading.Event(), time.monotonic()
    clear = "\r\x1b[K" if os.environ.get("TERM", "dumb") not in ("", "dumb") else "\r"

    def show() -> None:
        pause = QUIET
        while not over.wait(pause):
            pause = 1.0
            sys.stderr.write(f"{clear}{what} … {time.monotonic() - started:.0f} s")
            sys.stderr.flush()

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        if time.monotonic() - started > QUIET:
            sys.stderr.write("\n" if clear == "\r" else clear)
            sys.stderr.flush()
