"""Runs the user's own commands after a refresh or when a login is needed; they are given paths, never a token."""

import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

TIMEOUT = 30.0
"""Seconds such a command may take."""


def environment(environ: Mapping[str, str], event: str, profile: str, folder: Path, notice: str) -> dict[str, str]:
    """What a command sees besides the daemon's own environment."""
    return {
        **environ,
        "VX_TOKEN_EVENT": event,
        "VX_TOKEN_PROFILE": profile,
        "VX_TOKEN_TOKEN_FILE": str(folder / "token"),
        "VX_TOKEN_HEADER_FILE": str(folder / "header"),
        "VX_TOKEN_ENV_FILE": str(folder / "env.sh"),
        "VX_TOKEN_NOTICE": notice,
    }


def start(command: Sequence[str], environ: Mapping[str, str], failed: Callable[[str], None]) -> None:
    """Run `command` beside everything else; `failed` hears why it did not end well, without what it printed."""

    def work() -> None:
        problem = _run(command, environ)
        if problem:
            failed(f"the command {command[0]!r} {problem}")

    threading.Thread(target=work, name=f"command {command[0]}", daemon=True).start()


def _run(command: Sequence[str], environ: Mapping[str, str]) -> str:
    quiet = subprocess.DEVNULL
    try:
        done = subprocess.run(
            command, env=dict(environ), stdin=quiet, stdout=quiet, stderr=quiet, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {TIMEOUT:.0f} s"
    except OSError as error:
        return f"cannot be run: {error.strerror}"
    return f"ended with status {done.returncode}" if done.returncode else ""
