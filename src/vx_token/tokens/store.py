"""One profile's State on disk, under one lock: the only meeting place of processes."""

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
"""The names of temporary files, here and in `atomic.write`."""

LEFT_OVER = 60.0
"""Seconds after which a temporary file has no writer any more."""


@dataclass(frozen=True, slots=True)
class _Unsaved:
    """A state that could not be written, why, and the stamp that its file had then."""

    state: State
    error: OSError
    stamp: str


class Store:
    """The runtime folder: a folder for each profile, 0600 files in 0700 folders.

    A state that cannot be written (the disk is full, something stands in its place) stays known to this process.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[str, tuple[str, State]] = {}
        self._unsaved: dict[str, _Unsaved] = {}

    def folder(self, profile: str) -> Path:
        """Where the profile's files are; it need not exist."""
        return self.root / profile

    def prepare(self, profile: str) -> Path:
        """Make the profile's folder, safe and ours.

        Raises:
            ConfigError: it is not safe to keep a secret in.
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
        """What is known; a missing, foreign, torn or future file counts as nothing known.

        Asked at every nap of the daemon and every request of the gateway, so an unchanged file is not parsed again.

        Raises:
            ConfigError: the folder is not safe to keep a secret in, nor to take one from.
        """
        folder = self.folder(profile)
        if not paths.safe_folder(self.root) or (profile == "default" and folder.is_symlink()):
            return State()  # `default` led to another profile until the configuration got one of that name
        if not paths.safe_folder(folder):
            return State()
        kept = self._unsaved.get(profile)
        saved = self._saved(profile)
        if kept is None:
            return saved
        if saved != State() and stamps.stamp(folder / "state.json") != kept.stamp:
            self._unsaved.pop(profile, None)  # another process could write, later than we
            return saved
        return kept.state

    def saved(self, profile: str) -> State:
        """What is on disk, which may be older than what `read` gives.

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
            except OSError:  # no descriptor, no memory: that says nothing of the file
                return known[1] if known else State()
        return known[1]

    def write(self, profile: str, state: State) -> None:
        """Replace what is known, here and, when that is possible, on disk; see `unsaved`."""
        path = self.folder(profile) / "state.json"
        try:
            atomic.write(path, state_file.encode(profile, state))
        except OSError as error:
            self._unsaved[profile] = _Unsaved(state, error, stamps.stamp(path))
        else:
            self._unsaved.pop(profile, None)

    def unsaved(self, profile: str) -> OSError | None:
        """Why what this process knows is not on disk; None when it is."""
        kept = self._unsaved.get(profile)
        return kept.error if kept else None

    def save(self, profile: str) -> None:
        """Try again to write what could not be written."""
        kept = self._unsaved.get(profile)
        if kept is not None and self.read(profile) is kept.state:
            self.write(profile, kept.state)

    def obstacles(self, profile: str) -> dict[str, str]:
        """What keeps the profile's files from being written, by file; changes nothing."""
        folder = self.folder(profile)
        found = {
            name: f"{folder / name} is no regular file: remove it"
            for name in ("lock", "state.json")
            if not _regular_or_missing(folder / name)
        }
        try:
            room = os.statvfs(folder)
        except OSError:
            return found  # it is not there yet
        root = os.geteuid() == 0
        if room.f_blocks and not (room.f_bfree if root else room.f_bavail):
            found[""] = f"cannot write in {folder}: No space left on device"
        elif room.f_files and not (room.f_ffree if root else room.f_favail):
            found[""] = f"cannot write in {folder}: No inodes left on device"
        elif not os.access(folder, os.W_OK | os.X_OK):
            found[""] = f"cannot write in {folder}: it is not writable"
        return found

    def link_default(self, profile: str) -> None:
        """Make `default` lead to `profile`, so that a stable path can be written into a tool's settings.

        The profile that is called `default` itself needs no link, and must not find another's files under its name.
        """
        link = self.root / "default"
        if profile == "default":
            if link.is_symlink():
                link.unlink(missing_ok=True)
            return
        with contextlib.suppress(OSError):  # it is no link, or not there
            if str(link.readlink()) == profile:
                return
        if link.is_dir() and not link.is_symlink():
            shutil.rmtree(link, ignore_errors=True)  # left from before the configuration named another default
        new = self.root / f".default.{os.urandom(6).hex()}"  # each thread its own
        new.symlink_to(profile)
        new.replace(link)

    def forget(self, profile: str) -> None:
        """Remove the profile's folder with all that it holds."""
        self._unsaved.pop(profile, None)
        shutil.rmtree(self.folder(profile), ignore_errors=True)

    def known(self) -> list[str]:
        """The profiles that have files here."""
        try:
            return sorted(f.name for f in self.root.iterdir() if not f.is_symlink() and (f / "state.json").is_file())
        except OSError:
            return []

    @contextlib.contextmanager
    def lock(self, profile: str, deadline: float, cancelled: Callable[[], bool]) -> Iterator[bool]:
        """Hold the profile's lock; gives False when `deadline` (time.monotonic) passed or `cancelled()` came true.

        A lock of the kernel's on a file of its own: it ends with its holder, however that dies.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.folder(profile) / "lock", flags, 0o600)
        try:
            os.fchmod(descriptor, 0o600)  # whatever the umask: nobody else's umask may lock us out
            yield _acquire(descriptor, deadline, cancelled)
        finally:
            os.close(descriptor)

    def record_attempt(self, profile: str, attempt: CallerAttempt) -> None:
        """Record that a caller starts an attempt, beforehand, because it may be killed. Requires the lock.

        The record is written in place into the lock file, because that needs no space on a full disk.
        """
        with contextlib.suppress(OSError):
            descriptor = os.open(self.folder(profile) / "lock", os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
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
    """Remove temporary files of killed writers; a running writer needs its own for milliseconds.

    A time in the future comes from a clock that was set back since, so that file is old, too.
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
