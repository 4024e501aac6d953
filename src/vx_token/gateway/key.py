"""The local key: 256 bits in a private file, stable until it is rotated."""

import contextlib
import fcntl
import hmac
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vx_token.errors import ConfigError
from vx_token.gateway import key_file
from vx_token.system import atomic

KEY_FILE = key_file.LOCAL_KEY
PREVIOUS_FILE = "gateway.key.previous"
PREFIX = key_file.LOCAL_KEY_PREFIX
_MAX_BYTES = 8192  # bytes; anything longer is not a file of ours
_MAX_PREVIOUS = 50  # previous keys; each takes some 75 bytes
_Stamp = tuple[int, int, int]


def load_or_create_key(folder: Path) -> str:
    """The key of `folder`, made at the first call.

    Raises:
        ConfigError: the file is not ours, readable by others, or not a key.
        OSError: the folder cannot be written.
    """
    with _locked(folder):
        if not (folder / KEY_FILE).exists():
            atomic.write(folder / KEY_FILE, _generate())
        return _read(folder / KEY_FILE)


def rotate_key(folder: Path, grace: float, now: float | None = None) -> str:
    """Make a new key; the old one counts for `grace` more seconds, and older ones to their own ends.

    Without any grace none but the new one counts.

    Raises:
        OSError: the folder cannot be written.
    """
    now = time.time() if now is None else now
    with _locked(folder):
        kept = [(key, expires_at) for key, expires_at in _read_previous(folder) if expires_at > now and grace > 0]
        with contextlib.suppress(ConfigError, FileNotFoundError):
            kept.append((_read(folder / KEY_FILE), now + grace))
        # The old keys go first: a crash between the two writes then leaves one valid twice, never lost.
        atomic.write(
            folder / PREVIOUS_FILE,
            "\n".join(f"{key} {expires_at}" for key, expires_at in kept[-_MAX_PREVIOUS:]).encode(),
        )
        atomic.write(folder / KEY_FILE, _generate())
        return _read(folder / KEY_FILE)


class LocalKeys:
    """Says whether a text is a local key now; sees a rotation by the files' stamps, without a restart."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._now = now
        self._stamps: tuple[_Stamp, _Stamp] | None = None
        self._keys: list[tuple[bytes, float]] = []

    def __call__(self, candidate: str) -> bool:
        """Compare in constant time with each key that counts."""
        self._reload()
        given = candidate.encode("utf-8", "surrogateescape")
        now = self._now()
        matches = [hmac.compare_digest(given, key) for key, expires_at in self._keys if now < expires_at]
        return any(matches)

    def _reload(self) -> None:
        stamps = (_stamp(self._folder / KEY_FILE), _stamp(self._folder / PREVIOUS_FILE))
        if stamps != self._stamps:
            # A file that is gone or broken changes nothing: clients keep the key they were given.
            with contextlib.suppress(ConfigError, OSError):
                self._keys = list(_load(self._folder))
            self._stamps = stamps


def _load(folder: Path) -> Iterator[tuple[bytes, float]]:
    yield _read(folder / KEY_FILE).encode(), float("inf")
    yield from ((key.encode(), expires_at) for key, expires_at in _read_previous(folder))


def _read_previous(folder: Path) -> list[tuple[str, float]]:
    """The keys before, each with its expires_at; none from a file that others may have read."""
    with contextlib.suppress(ConfigError, OSError, ValueError):
        pairs = [line.partition(" ") for line in _read(folder / PREVIOUS_FILE).splitlines()]
        return [(key, float(expires_at)) for key, _, expires_at in pairs]
    return []


def _read(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        file_status = os.fstat(file.fileno())
        if not stat.S_ISREG(file_status.st_mode):
            raise ConfigError(f"{path} is not a regular file", "remove it")
        if file_status.st_uid != os.geteuid() or stat.S_IMODE(file_status.st_mode) & 0o077:
            raise ConfigError(f"others may read the gateway's key in {path}", "run: vx-token gateway rotate-key")
        text = file.read(_MAX_BYTES).decode("ascii", "replace").strip()
    if not text.startswith(PREFIX):
        raise ConfigError(f"{path} does not hold a gateway key", "run: vx-token gateway rotate-key")
    return text


def _generate() -> bytes:
    return f"{PREFIX}{secrets.token_urlsafe(32)}".encode()


def _stamp(path: Path) -> _Stamp:
    try:
        file_status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (file_status.st_ino, file_status.st_mtime_ns, file_status.st_size)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two first starts at once must agree on one key."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
