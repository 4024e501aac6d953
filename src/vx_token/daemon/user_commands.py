"""Runs the user's own commands after a refresh or when a login is needed; they are given paths, never a token."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 30.0
"""Seconds each of them may take."""


@dataclass(frozen=True, slots=True)
class Event:
    """What has happened to a profile: `refresh` or `login-needed`, with a notice for the user."""

    name: str
    profile: str
    folder: Path
    notice: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """The commands to run for an event, one after another."""

    event: Event
    commands: tuple[tuple[str, ...], ...]
    environ: Mapping[str, str]

    @property
    def kind(self) -> tuple[str, str]:
        """What its outcome is kept under: a later run's replaces an earlier one's."""
        return self.event.profile, self.event.name


def environment(environ: Mapping[str, str], event: Event, secret: Collection[str]) -> dict[str, str]:
    """What a command sees: the daemon's own environment, without the variables named in `secret`, and the paths."""
    return {
        **{name: value for name, value in environ.items() if name not in secret},
        "VX_TOKEN_EVENT": event.name,
        "VX_TOKEN_PROFILE": event.profile,
        "VX_TOKEN_TOKEN_FILE": str(event.folder / "token"),
        "VX_TOKEN_HEADER_FILE": str(event.folder / "header"),
        "VX_TOKEN_ENV_FILE": str(event.folder / "env.sh"),
        "VX_TOKEN_NOTICE": event.notice,
    }


class Runner:
    """Runs commands beside everything else, one order of a kind at a time.

    What comes while one runs waits for its end, and only the last of it: the files that it is about are the newest.
    """

    def __init__(self, ended: Callable[[Order, tuple[str, ...]], None], timeout: float = TIMEOUT) -> None:
        """`ended` hears, in another thread, why commands did not end well, if any; never what they printed."""
        self._ended = ended
        self._timeout = timeout
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], Order | None] = {}  # a key for each kind that runs

    def start(self, order: Order) -> None:
        """Run it as soon as no other of its kind runs."""
        with self._lock:
            busy = order.kind in self._waiting
            self._waiting[order.kind] = order if busy else None
        if not busy:
            name = f"{order.event.profile} {order.event.name}"
            threading.Thread(target=self._work, args=(order,), name=name, daemon=True).start()

    def _work(self, order: Order) -> None:
        following: Order | None = order
        while following is not None:
            problems = [_run(argv, following.environ, self._timeout) for argv in following.commands]
            self._ended(following, tuple(filter(None, problems)))
            with self._lock:
                following = self._waiting.pop(order.kind)
                if following is not None:
                    self._waiting[order.kind] = None


def _run(argv: tuple[str, ...], environ: Mapping[str, str], timeout: float) -> str:
    name, quiet = f"the command {argv[0]!r}", subprocess.DEVNULL
    try:
        child = subprocess.Popen(
            argv,
            env=dict(environ),
            stdin=quiet,
            stdout=quiet,  # it may print the token
            stderr=quiet,
            start_new_session=True,  # a group of its own, to end with all that it has started
        )
    except OSError as error:
        return f"{name} cannot be run: {error.strerror}"
    try:
        status = child.wait(timeout)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return f"{name} did not end within {timeout:.0f} s"
    return f"{name} ended with status {status}" if status else ""
