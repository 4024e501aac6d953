"""Replaces this process by another program, started as a shell starts it."""

import os
import signal
from collections.abc import Mapping, Sequence
from typing import NoReturn


def become(command: Sequence[str], environ: Mapping[bytes, bytes]) -> NoReturn:
    """Replace this process by `command`, which is searched in PATH.

    Raises:
        OSError: it cannot be started.
    """
    # Python ignores these signals, and ignored signals stay ignored across exec, so they are reset.
    for name in ("SIGPIPE", "SIGXFSZ"):
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_DFL)
    os.execvpe(command[0], list(command), environ)
