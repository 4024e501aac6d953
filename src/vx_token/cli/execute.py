"""Become another program, as a shell would start it."""

import os
import signal
from collections.abc import Mapping, Sequence
from typing import NoReturn


def become(command: Sequence[str], environ: Mapping[bytes, bytes]) -> NoReturn:
    """Replace this process by `command`, which is looked for in PATH.

    Raises:
        OSError: it cannot be started.
    """
    # Python ignores these for itself, and what is ignored stays so; what was ignored when we came (nohup) does, too.
    for name in ("SIGPIPE", "SIGXFSZ"):
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_DFL)
    os.execvpe(command[0], list(command), environ)
