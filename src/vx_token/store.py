"""One profile's State on disk, under one lock: the only meeting place of processes."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from vx_token import atomic, paths, peek
from vx_token.tokens import Failure, Origin, State, Token

VERSION = 1

_BEARER = re.compile(r"[!-~]+")

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}")
"""The names of temporary files, here and in `atomic.write`."""

LEFT_OVER = 60.0
"""Seconds after which a temporary file has no writer any more."""

LATEST = 253402300799.0
"""Epoch seconds of the last instant of the year 9999, behind which no date can be written."""


class Store:
    """The runtime folder: a folder for each profile, 0600 files in 0700 folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[str, tuple[str, State]] = {}

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
        path = folder / "state.json"
        stamp = peek.stamp(path)
        known = self._read.get(profile)
        if known is None or known[0] != stamp:
            known = self._read[profile] = (stamp, _parse(path))
        return known[1]

    def write(self, profile: str, state: State) -> None:
        """Replace what is known. The profile's folder must be prepared."""
        content = {"version": VERSION, "profile": profile, **asdict(state)}
        atomic.write(self.folder(profile) / "state.json", json.dumps(content, indent=1).encode())

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


def private_text(path: Path) -> str:
    """The text of a regular file that belongs to us.

    Raises:
        OSError: it is missing, a link, no regular file or somebody else's.
        ValueError: it is not UTF-8.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with os.fdopen(os.open(path, flags), "rb") as file:
        if os.fstat(file.fileno()).st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to another user")
        return file.read().decode()


def _parse(path: Path) -> State:
    try:
        return _decode(json.loads(private_text(path)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return State()


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


def _decode(content: dict[str, Any]) -> State:
    if content.pop("version") != VERSION:
        raise ValueError("another version's file")
    content.pop("profile")
    for key, kind in (("token", Token), ("origin", Origin), ("failure", Failure), ("made_from", Origin)):
        if content[key] is not None:
            content[key] = kind(**content[key])
            _check_types(content[key])
    state = State(**content)
    _check_types(state)
    if state.token is not None and not _BEARER.fullmatch(state.token.value):
        raise ValueError("that is no token")
    return state


def _check_types(made: Token | Origin | Failure | State) -> None:
    """Refuse a value with a field of another type than it is declared with, or outside what others can work with."""
    for each in fields(made):
        value: object = getattr(made, each.name)
        kind: Any = each.type
        whole = type(value) is int and isinstance(0.0, kind)  # JSON has one kind of number
        if not (whole or isinstance(value, kind)):
            raise TypeError(each.name)
        if isinstance(value, int | float) and not -LATEST <= value <= LATEST:  # false for NaN, too
            raise ValueError(each.name)
        if isinstance(value, str):
            value.encode("utf-8", "surrogateescape")  # a path may be no UTF-8, but nothing prints other surrogates
