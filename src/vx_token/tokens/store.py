"""The runtime folder: each profile's state file and its lock, shared by all processes."""

import contextlib
import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vx_token.system import atomic, paths, stamps
from vx_token.system.private_file import private_text
from vx_token.tokens import state_file
from vx_token.tokens.model import CallerAttempt, State

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}")
"""The names of temporary files, of this module and of `atomic.write`."""

LEFT_OVER = 60.0
"""Age (seconds) at which a temporary file is left over from a killed writer."""


@dataclass(frozen=True, slots=True)
class _Unsaved:
    """A state that could not be written, the error, and the file's stamp at that time."""

    state: State
    error: OSError
    stamp: str


class Store:
    """The runtime folder: a folder for each profile, 0600 files in 0700 folders.

    A state that cannot be written (a full disk, a folder at its path) is kept in this process.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[str, tuple[str, State]] = {}
        self._unsaved: dict[str, _Unsaved] = {}

    def folder(self, profile: str) -> Path:
        """Return the profile's folder, which may not exist."""
        return self.root / profile

    def prepare(self, profile: str) -> Path:
        """Create the profile's folder with safe permissions.

        Raises:
            ConfigError: it is not safe for secrets.
        """
        paths.secure_folder(self.root)
        folder = self.folder(profile)
        if profile == "default" and folder.is_symlink():
            folder.unlink()
        paths.secure_folder(folder)
        _sweep(self.root)
        _sweep(folder)
        return folder

    def read(self, profile: str) -> State:
        """Return the profile's state; a missing or invalid file gives an empty one.

        An unchanged file is not parsed again, because the daemon and each gateway request call this.

        Raises:
            ConfigError: the folder is not safe for secrets.
        """
        folder = self.folder(profile)
        if not paths.safe_folder(self.root) or (profile == "default" and folder.is_symlink()):
            return State()  # the link `default` leads to another profile
        if not paths.safe_folder(folder):
            return State()
        kept = self._unsaved.get(profile)
        saved = self._saved(profile)
        if kept is None:
            return saved
        if saved != State() and stamps.stamp(folder / "state.json") != kept.stamp:
            self._unsaved.pop(profile, None)  # another process has written a later state
            return saved
        return kept.state

    def saved(self, profile: str) -> State:
        """Return the state on disk, which may be older than that of `read`.

        Raises:
            ConfigError: see `read`.
        """
        return self._saved(profile) if profile in self._unsaved else self.read(profile)

    def _saved(self, profile: str) -> State:
        path = self.folder(profile) / "state.json"
        stamp = stamps.stamp(path)
        known = self._read.get(profile)
        if known is None or known[0] != stamp:
            try:
                known = self._read[profile] = (stamp, state_file.read(path))
            except OSError:  # open files or memory are exhausted; the file may be valid
                return known[1] if known else State()
        return known[1]

    def write(self, profile: str, state: State) -> None:
        """Replace the state on disk, or, if that fails, in this process only; see `unsaved`."""
        path = self.folder(profile) / "state.json"
        try:
            atomic.write(path, state_file.encode(profile, state))
        except OSError as error:
            self._unsaved[profile] = _Unsaved(state, error, stamps.stamp(path))
        else:
            self._unsaved.pop(profile, None)

    def unsaved(self, profile: str) -> OSError | None:
        """Return the error that kept the state from being written, or None."""
        kept = self._unsaved.get(profile)
        return kept.error if kept else None

    def save(self, profile: str) -> None:
        """Retry to write a state that could not be written."""
        kept = self._unsaved.get(profile)
        if kept is not None and self.read(profile) is kept.state:
            self.write(profile, kept.state)

    def obstacles(self, profile: str) -> dict[str, str]:
        """Return what prevents writing the profile's files, by file name; changes nothing."""
        folder = self.folder(profile)
        obstacles = {
            name: f"{folder / name} is no regular file: remove it"
            for name in ("lock", "state.json")
            if not _regular_or_missing(folder / name)
        }
        try:
            room = os.statvfs(folder)
        except OSError:
            return obstacles  # the folder does not exist yet
        root = os.geteuid() == 0
        if room.f_blocks and not (room.f_bfree if root else room.f_bavail):
            obstacles[""] = f"cannot write in {folder}: No space left on device"
        elif room.f_files and not (room.f_ffree if root else room.f_favail):
            obstacles[""] = f"cannot write in {folder}: No inodes left on device"
        elif not os.access(folder, os.W_OK | os.X_OK):
            obstacles[""] = f"cannot write in {folder}: it is not writable"
        return obstacles

    def link_default(self, profile: str) -> None:
        """Link `default` to `profile`, so that tool settings can contain a stable path.

        A profile named `default` needs no link; an existing link would lead to another profile's files.
        """
        link = self.root / "default"
        if profile == "default":
            if link.is_symlink():
                link.unlink(missing_ok=True)
            return
        with contextlib.suppress(OSError):  # not a link, or missing
            if str(link.readlink()) == profile:
                return
        shutil.rmtree(link, ignore_errors=True)  # left over from a profile named `default`; it refuses a link
        new = self.root / f".default.{os.urandom(6).hex()}"  # unique for each thread
        new.symlink_to(profile)
        new.replace(link)

    def forget(self, profile: str) -> None:
        """Remove the profile's folder and its files."""
        self._unsaved.pop(profile, None)
        shutil.rmtree(self.folder(profile), ignore_errors=True)

    def known(self) -> list[str]:
        """Return the names of the profiles that have a state file."""
        try:
            return sorted(f.name for f in self.root.iterdir() if not f.is_symlink() and (f / "state.json").is_file())
        except OSError:
            return []

    @contextlib.contextmanager
    def lock(self, profile: str, deadline: float, cancelled: Callable[[], bool]) -> Iterator[bool]:
        """Hold the profile's lock; yields False after `deadline` (time.monotonic), or once `cancelled()` is true.

        It is a flock on the file `lock`, so the kernel releases it when the process exits.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open(self.folder(profile) / "lock", flags, 0o600)
        try:
            os.fchmod(descriptor, 0o600)  # a process with another umask may have created it
            yield _acquire(descriptor, deadline, cancelled)
        finally:
            os.close(descriptor)

    def record_attempt(self, profile: str, attempt: CallerAttempt) -> None:
        """Record that a caller starts an attempt, beforehand, because it may be killed. Requires the lock.

        The record is written in place into the lock file, because that needs no space on a full disk.
        """
        with contextlib.suppress(OSError):
            descriptor = os.open(self.folder(profile) / "lock", os.O_WRONLY | os.O_NOFOLLOW)
            try:
                os.pwrite(descriptor, f"{attempt.unanswered:6} {attempt.origin:>8}\n".encode(), 0)
                os.utime(descriptor, (attempt.started_at, attempt.started_at))
            finally:
                os.close(descriptor)

    def last_attempt(self, profile: str) -> CallerAttempt | None:
        """Return the last attempt that a caller started, or None."""
        path = self.folder(profile) / "lock"
        try:
            count, origin = private_text(path).split()
            return CallerAttempt(path.lstat().st_mtime, min(int(count), 1000), origin)
        except (OSError, ValueError):
            return None


def _regular_or_missing(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return True


def _sweep(folder: Path) -> None:
    """Remove temporary files of killed writers; a running writer needs its file for milliseconds.

    A modification time in the future means that the clock was set back since, so that file is old as well.
    """
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _TEMPORARY.fullmatch(path.name) and abs(time.time() - path.lstat().st_mtime) > LEFT_OVER:
                path.unlink()


def _acquire(descriptor: int, deadline: float, cancelled: Callable[[], bool]) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline or cancelled():
                return False
            time.sleep(0.02)
        else:
            return True
