"""Watches a set of files, existing or not, for changes by rename or in place, also through symbolic links.

An event from the kernel (watchdog) only triggers a comparison of file stamps. Therefore reads are not reported, and a
change to another file in the same folder is reported with no path. `check` also detects changes on file systems without
events. If the kernel refuses events because of a limit such as max_user_instances, `problem` is set and `check_if_due`
polls.
"""

import contextlib
import errno
import logging
import os
import queue
import threading
import time
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
from vx_token.system.clock import NAP

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver, ObservedWatch

SETTLE = 0.05
"""Seconds without an event after which a burst of events counts as complete."""

MAX_BURST = 0.3
"""Seconds after which files are checked although more events arrive."""

CHECK = 10 * NAP
"""Seconds between two checks of all files, for file systems that report no events."""

POLL = 2.0
"""Seconds between two checks while the kernel reports no events for some folder."""

# The kernel would otherwise report reads too, and programs read the home folder constantly.
_CHANGES: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileDeletedEvent,
    DirCreatedEvent,
    DirMovedEvent,
    DirDeletedEvent,
]


def _is_error(record: logging.LogRecord) -> bool:
    return "called when the thread is inactive" not in record.getMessage()


# watchdog logs an error when a watch is removed while its thread starts to wait, which is harmless.
logging.getLogger("watchdog.observers.inotify").addFilter(_is_error)


class Watcher(FileSystemEventHandler):
    """Calls `changed(paths)` from its own thread after each burst of events, and after a `check` that found a change.

    `paths` are the files with other stamps than at the last check. It is empty when only other files have changed, or
    when a file came and went between two checks: whoever keeps files in place looks at them then, too.

    Attributes:
        problem: why the kernel reports no events for some folder, "" without a problem.
    """

    def __init__(self, changed: Callable[[frozenset[Path]], None]) -> None:
        self._changed = changed
        self.problem = ""
        self._checked_at = 0.0
        self._observer: BaseObserver | None = None
        self._stamps: dict[Path, str] = {}
        self._watches: dict[Path, tuple[ObservedWatch, str]] = {}
        self._deleted: queue.SimpleQueue[Path] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._hint = threading.Event()
        self._stopping = threading.Event()
        self._settler = threading.Thread(target=self._settle, name="watch", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._settler.start()

    def stop(self) -> None:
        """Stop both threads."""
        self._stopping.set()
        self._hint.set()
        self._settler.join()
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()

    def follow(self, files: Iterable[Path]) -> None:
        """Replace the set of watched files."""
        with self._lock:
            self._stamps = {path: self._stamps.get(path, stamps.stamp(path)) for path in files}
            self._arm()
        self._hint.set()  # because a file may have changed before its folder was watched

    def check(self, *, after_event: bool = False) -> None:
        """Compare all stamps now, with or without events."""
        with self._lock:
            deleted = new = set(self._drain())
            for _ in range(8):  # because folders may appear and disappear while watches are added
                if not self._arm(new):
                    break
                new = set(self._drain())
                deleted = deleted | new
            current = {path: stamps.stamp(path) for path in self._stamps}
            # A file that was created and deleted within one burst has no stamp before and after, but counts as changed.
            changed = frozenset(
                p for p, stamp in current.items() if stamp != self._stamps[p] or (p in deleted and not stamp)
            )
            self._stamps = current
        if changed or after_event:
            self._changed(changed)

    @property
    def interval(self) -> float:
        """Seconds between two checks of all files."""
        return POLL if self.problem else CHECK

    def check_if_due(self) -> None:
        """Check all files if the previous call did so at least `interval` seconds ago."""
        if time.monotonic() >= self._checked_at + self.interval:
            self._checked_at = time.monotonic()
            self.check()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Wake the thread; called by watchdog."""
        if event.event_type == "deleted":
            self._deleted.put(Path(os.fsdecode(event.src_path)))
        self._hint.set()

    def _settle(self) -> None:
        while not self._stopping.is_set():
            self._hint.wait()
            for _ in range(round(MAX_BURST / SETTLE)):
                self._hint.clear()
                if self._stopping.is_set() or not self._hint.wait(SETTLE):
                    break
            self._hint.clear()
            if not self._stopping.is_set():
                self.check(after_event=True)

    def _arm(self, deleted: Set[Path] = frozenset()) -> bool:
        """Watch exactly the folders that `folders` returns now, and return whether a watch was added.

        A folder in `deleted` gets a new watch, because a new folder may reuse the inode number without the watch.
        """
        wanted = {folder: stamps.stamp(folder).partition(":")[0] for path in self._stamps for folder in folders(path)}
        try:
            observer = self._observing()
        except (OSError, RuntimeError) as error:  # no inotify instance or no thread
            self.problem = _why(error)
            return False
        for folder, (watch, inode) in list(self._watches.items()):
            if wanted.get(folder) != inode or folder in deleted:  # replaced, or no longer needed
                with contextlib.suppress(KeyError, OSError):
                    observer.unschedule(watch)
                del self._watches[folder]
        problem, before = "", len(self._watches)
        for folder, inode in wanted.items():
            if folder in self._watches:
                continue
            try:
                watch = observer.schedule(self, str(folder), recursive=False, event_filter=_CHANGES)
            except (FileNotFoundError, NotADirectoryError):  # deleted meanwhile: the next check finds its parent
                continue
            except (OSError, RuntimeError) as error:  # no inotify watch, no thread, or an unreadable folder
                problem = problem or _why(error)
            else:
                self._watches[folder] = (watch, inode)
        self.problem = problem
        return len(self._watches) > before

    def _observing(self) -> "BaseObserver":
        """Return the observer; each call starts it until the kernel allows it."""
        if self._observer is None:
            observer = Observer()
            observer.start()
            self._observer = observer
        return self._observer

    def _drain(self) -> Iterator[Path]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._deleted.get_nowait()


def _why(error: OSError | RuntimeError) -> str:
    """Return message and hint; watchdog reports both the instance limit and the file limit as EMFILE."""
    hint = "raise the sysctl fs.inotify.max_user_instances, or the limit of open files (ulimit -n)"
    if isinstance(error, RuntimeError):
        hint = "raise the limits of memory (ulimit -v) and processes (ulimit -u)"
    elif error.errno == errno.ENOSPC:
        hint = "raise the sysctl fs.inotify.max_user_watches"
    elif error.errno != errno.EMFILE:
        hint = f"check {error.filename}" if error.filename else ""
    return "; ".join(filter(None, ((error.strerror if isinstance(error, OSError) else "") or str(error), hint)))


def folders(path: Path) -> set[Path]:
    """Return the folders to watch for `path`: its own and those of every symbolic link on the way."""
    result: set[Path] = set()
    pending, seen = [path.absolute()], set[Path]()
    while pending and len(seen) < 64:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        result.add(_existing(current.parent))
        for part in (current, *current.parents):
            target = _target(part)
            if target is not None:
                result.add(_existing(part.parent))
                pending.append(part.parent / target / current.relative_to(part))
                break
    return result


def _target(path: Path) -> Path | None:
    try:
        return path.readlink()
    except OSError:  # not a link, deleted, or in an inaccessible folder
        return None


def _existing(folder: Path) -> Path:
    # Not Path.is_dir, which raises for an inaccessible folder before Python 3.14.
    return next(candidate for candidate in (folder, *folder.parents) if os.path.isdir(candidate))  # noqa: PTH112
