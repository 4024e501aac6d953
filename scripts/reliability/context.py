"""What every group needs: the options, progress, cases side by side, and a mount namespace of its own."""

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sandbox import Box

Case = TypeVar("Case")
Result = TypeVar("Result")

ISOLATED = "VX_TOKEN_RELIABILITY_ISOLATED"


@dataclass(frozen=True)
class Context:
    """How the groups run.

    Attributes:
        quick: whether only a part of each group runs.
        jobs: how many cases run side by side.
        only: part of the names of the cases to run.
    """

    quick: bool
    jobs: int
    only: str = ""
    started: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Print progress."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def chosen(self, name: str) -> bool:
        """Whether the case of that name runs."""
        return self.only in name

    def side_by_side(self, run: Callable[[Case], Result], cases: Iterable[Case]) -> list[Result]:
        """Run the cases, a few at a time; results in the order of the cases."""
        with ThreadPoolExecutor(self.jobs) as pool:
            return list(pool.map(run, cases))


def isolate() -> None:
    """As root, go on in a mount namespace of this run's own: name servers and small disks change nothing outside."""
    if os.geteuid() == 0 and shutil.which("unshare") and not os.environ.get(ISOLATED):
        os.environ[ISOLATED] = "1"
        again = [sys.executable, "-m", "reliability", *sys.argv[1:]]
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", *again])


def isolated() -> bool:
    """Whether this run may mount."""
    return bool(os.environ.get(ISOLATED))


def room() -> str | None:
    """Return the folder for temporary files: in memory where possible, because much is synced to disk."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - each makes a private folder below it


@contextmanager
def boxed(executed: bool = True) -> Iterator[Box]:
    """A user with an empty home, for one case."""
    with tempfile.TemporaryDirectory(prefix="vx-", dir=room()) as folder:
        root = Path(folder) / "user"
        root.mkdir()
        yield Box(root, executed=executed)


@contextmanager
def repeated(action: Callable[[], object], pause: float) -> Iterator[None]:
    """Do something on and on in a thread, with a pause in between."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            action()
            over.wait(pause)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
