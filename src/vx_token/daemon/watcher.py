"""Tells when one of a set of files has changed, whether it exists yet or not, by rename or in place, through links.

The kernel's events (watchdog) are only hints to look: what counts is a file's stamp. So our own reads, and events of
neighbours in the same folder, come to nothing, and `check` finds what a file system without events did not report.
Where the kernel refuses events (the user's inotify instances are used up), `problem` is set and `check` must be called
every `POLL` seconds.
"""

import contextlib
import errno
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Set
from pathlib import Path
from typing import TYPE_CHECKING

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from vx_token.system import stamps

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver, ObservedWatch

SETTLE = 0.05
"""Seconds of quiet that end a burst of events."""

LONGEST_BURST = 0.3
"""Seconds after which a burst that does not end is looked at all the same."""

POLL = 2.0
"""Seconds between two calls of `check` while the kernel reports no events of some folder."""

# What the kernel is asked for. Without this it tells of every read as well, and a home folder is read all day long.
_CHANGES: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileDeletedEvent,
    DirCreatedEvent,
    DirMovedEvent,
    DirDeletedEvent,
]


def _is_news(record: logging.LogRecord) -> bool:
    return "called when the thread is inactive" not in record.getMessage()


# A watch that ends while its thread is about to wait for events is told as an error, though it is none.
logging.getLogger("watchdog.observers.inotify").addFilter(_is_news)


class Watcher(FileSystemEventHandler):
    """Calls `changed(paths)` from a thread of its own.

    Attributes:
        problem: why the kernel reports no events of some folder, "" while it does.
    """

    def __init__(self, changed: Callable[[frozenset[Path]], None]) -> None:
        self._changed = changed
        self.problem = ""
        self._observer: BaseObserver | None = None
        self._stamps: dict[Path, str] = {}
        self._watches: dict[Path, tuple[ObservedWatch, str]] = {}
        self._gone: queue.SimpleQueue[Path] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._hint = threading.Event()
        self._stopping = threading.Event()
        self._settler = threading.Thread(target=self._settle, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._settler.start()

    def stop(self) -> None:
        """End both threads."""
        self._stopping.set()
        self._hint.set()
        self._settler.join()
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()

    def follow(self, files: Iterable[Path]) -> None:
        """Watch exactly these files from now on."""
        with self._lock:
            self._stamps = {path: self._stamps.get(path, stamps.stamp(path)) for path in files}
            self._arm()
        self._hint.set()  # what changed before its folder was watched

    def check(self) -> None:
        """Look now, whatever the kernel said."""
        with self._lock:
            gone = news = set(self._drain())
            for _ in range(8):  # folders come and go while the watches are set
                if not self._arm(news):
                    break
                news = set(self._drain())
                gone = gone | news
            found = {path: stamps.stamp(path) for path in self._stamps}
            # A file that came and went in one burst has the stamp it had, none, and yet somebody took it away.
            changed = frozenset(
                p for p, stamp in found.items() if stamp != self._stamps[p] or (p in gone and not stamp)
            )
            self._stamps = found
        if changed:
            self._changed(changed)

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Take a hint; called by watchdog."""
        if event.event_type == "deleted":
            self._gone.put(Path(os.fsdecode(event.src_path)))
        self._hint.set()

    def _settle(self) -> None:
        while not self._stopping.is_set():
            self._hint.wait()
            for _ in range(round(LONGEST_BURST / SETTLE)):
                self._hint.clear()
                if self._stopping.is_set() or not self._hint.wait(SETTLE):
                    break
            self._hint.clear()
            if not self._stopping.is_set():
                self.check()

    def _arm(self, gone: Set[Path] = frozenset()) -> bool:
        """Watch the folders that matter now; tells whether that was anything new.

        A folder in `gone` is watched anew: it may have got the old one's inode number, but not its watch.
        """
        wanted = {folder: stamps.stamp(folder).partition(":")[0] for path in self._stamps for folder in folders(path)}
        try:
            observer = self._observing()
        except (OSError, RuntimeError) as error:  # no inotify instance; no thread
            self.problem = _why(error)
            return False
        for folder, (watch, inode) in list(self._watches.items()):
            if wanted.get(folder) != inode or folder in gone:  # replaced, or of no interest any more
                with contextlib.suppress(KeyError, OSError):
                    observer.unschedule(watch)
                del self._watches[folder]
        problem, before = "", len(self._watches)
        for folder, inode in wanted.items():
            if folder in self._watches:
                continue
            try:
                watch = observer.schedule(self, str(folder), recursive=False, event_filter=_CHANGES)
            except (FileNotFoundError, NotADirectoryError):  # gone meanwhile: the next look finds another
                continue
            except (OSError, RuntimeError) as error:  # no inotify watch; no thread; a folder that we may not read
                problem = problem or _why(error)
            else:
                self._watches[folder] = (watch, inode)
        self.problem = problem
        return len(self._watches) > before

    def _observing(self) -> "BaseObserver":
        """Return the running observer, started at the first call that the kernel allows."""
        if self._observer is None:
            observer = Observer()
            observer.start()
            self._observer = observer
        return self._observer

    def _drain(self) -> Iterator[Path]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._gone.get_nowait()


def _why(error: OSError | RuntimeError) -> str:
    """What is wrong and what to do; watchdog reports both limits by EMFILE."""
    hint = "raise the sysctl fs.inotify.max_user_instances, or the limit of open files (ulimit -n)"
    if isinstance(error, RuntimeError):
        hint = "raise the limits of memory (ulimit -v) and processes (ulimit -u)"
    elif error.errno == errno.ENOSPC:
        hint = "raise the sysctl fs.inotify.max_user_watches"
    elif error.errno != errno.EMFILE:
        hint = f"check {error.filename}" if error.filename else ""
    return "; ".join(filter(None, ((error.strerror if isinstance(error, OSError) else "") or str(error), hint)))


def folders(path: Path) -> set[Path]:
    """The folders in which a change can change what `path` leads to: its own, those of every link on the way."""
    found: set[Path] = set()
    queue, seen = [path.absolute()], set[Path]()
    while queue and len(seen) < 64:
        current = queue.pop()
        if current in seen:
            continue
        seen.add(current)
        found.add(_existing(current.parent))
        for part in (current, *current.parents):
            target = _target(part)
            if target is not None:
                found.add(_existing(part.parent))
                queue.append(part.parent / target / current.relative_to(part))
                break
    return found


def _target(path: Path) -> Path | None:
    try:
        return path.readlink()
    except OSError:  # no link, gone, or in a folder that we may not enter
        return None


def _existing(folder: Path) -> Path:
    # Path.is_dir raises where we may not look, before Python 3.14.
    return next(candidate for candidate in (folder, *folder.parents) if os.path.isdir(candidate))  # noqa: PTH112
