"""The local key: 256 random bits in a private file, valid until it is rotated."""

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from vx_token.errors import ConfigError
from vx_token.gateway import key_file
from vx_token.system import atomic

KEY_FILE = key_file.LOCAL_KEY
PREVIOUS_FILE = "gateway.key.previous"
PREFIX = key_file.LOCAL_KEY_PREFIX
_MAX_PREVIOUS = 50  # previous keys kept, about 75 bytes each


def load_or_create_key(folder: Path) -> str:
    """Return the key in `folder`; create it if it does not exist.

    Raises:
        ConfigError: other users own or can read the file, or it does not contain a key.
        OSError: the folder is not writable.
    """
    with locked(folder):
        if not (folder / KEY_FILE).exists():
            atomic.write(folder / KEY_FILE, generate_key().encode())
        return read_key_file(folder / KEY_FILE)


def rotate_key(folder: Path, grace: float, now: float | None = None) -> str:
    """Create a new key; the old one stays valid for `grace` seconds, older ones until their own expiry.

    With `grace` 0 only the new key is valid, and keys with a name stay valid.

    Raises:
        OSError: the folder is not writable.
    """
    now = time.time() if now is None else now
    with locked(folder):
        kept = [(key, expires_at) for key, expires_at in read_previous_keys(folder) if expires_at > now and grace > 0]
        with contextlib.suppress(ConfigError, FileNotFoundError):
            kept.append((read_key_file(folder / KEY_FILE), now + grace))
        # Write the old keys first, so that a crash between the two writes loses no key.
        atomic.write(
            folder / PREVIOUS_FILE,
            "\n".join(f"{key} {expires_at}" for key, expires_at in kept[-_MAX_PREVIOUS:]).encode(),
        )
        atomic.write(folder / KEY_FILE, generate_key().encode())
        return read_key_file(folder / KEY_FILE)


def read_previous_keys(folder: Path) -> list[tuple[str, float]]:
    """Return the previous keys with their expiry (epoch seconds); none if other users can read the file."""
    with contextlib.suppress(ConfigError, OSError, ValueError):
        pairs = [line.partition(" ") for line in read_key_file(folder / PREVIOUS_FILE).splitlines()]
        return [(key, float(expires_at)) for key, _, expires_at in pairs]
    return []


def read_key_file(path: Path, hint: str = "run: vx-token gateway rotate-key") -> str:
    """Return the content of a key file.

    Raises:
        ConfigError: other users own or can read the file, or it does not contain a key.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        file_status = os.fstat(file.fileno())
        if not stat.S_ISREG(file_status.st_mode):
            raise ConfigError(f"{path} is not a regular file", "remove it")
        if file_status.st_uid != os.geteuid() or stat.S_IMODE(file_status.st_mode) & 0o077:
            raise ConfigError(f"other users can read the gateway key in {path}", hint)
        text = file.read(key_file.MAX_BYTES).decode("ascii", "replace").strip()
    if not text.startswith(PREFIX):
        raise ConfigError(f"{path} does not contain a gateway key", hint)
    return text


def generate_key() -> str:
    """Return a new key."""
    import secrets  # loads OpenSSL, 3.5 MiB, which the daemon does not need

    return f"{PREFIX}{secrets.token_urlsafe(32)}"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder, so that two processes started at once create only one key."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
