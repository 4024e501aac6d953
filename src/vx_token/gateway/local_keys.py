"""Finds the local key of a request; reads the key files again when they change, so that no change needs a restart."""

import contextlib
import hmac
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vx_token.errors import ConfigError
from vx_token.gateway.key import KEY_FILE, PREVIOUS_FILE, read_key_file, read_previous_keys
from vx_token.gateway.named_keys import FOLDER, NamedKey, folder_stamp, named_keys
from vx_token.gateway.settings import DEFAULT_KEY, LocalKey


class LocalKeys:
    """The default key, its predecessors within their grace period, and the keys with a name.

    Args:
        folder: contains the key files.
        temporary: further keys, which are not stored.
        now: returns epoch seconds.
    """

    def __init__(
        self, folder: Path, temporary: tuple[NamedKey, ...] = (), now: Callable[[], float] = time.time
    ) -> None:
        self._folder = folder
        self._files = (folder / KEY_FILE, folder / PREVIOUS_FILE)  # joined once, not for each request
        self._named_folder = folder / FOLDER
        self._temporary = [(key.value.encode(), float("inf"), key.owner) for key in temporary]
        self._now = now
        self._stamps: tuple[tuple[int, ...], ...] | None = None
        self._default: list[tuple[bytes, float, LocalKey]] = []
        self._named: list[tuple[bytes, float, LocalKey]] = []

    def __call__(self, candidate: str) -> LocalKey | None:
        """Return the valid key with this value; compares in constant time."""
        self._reload()
        encoded = candidate.encode("utf-8", "surrogateescape")
        now, found = self._now(), None
        for value, expires_at, key in (*self._default, *self._named, *self._temporary):
            if hmac.compare_digest(encoded, value) and now < expires_at:
                found = key
        return found

    def _reload(self) -> None:
        stamps = (*map(_stamp, self._files), folder_stamp(self._named_folder))
        if stamps == self._stamps:
            return
        # If a file is missing or invalid, the default keys already loaded stay valid.
        with contextlib.suppress(ConfigError, OSError):
            self._default = list(_default_keys(self._folder))
        self._named = [(key.value.encode(), float("inf"), key.owner) for key in named_keys(self._folder)]
        self._stamps = stamps


def _default_keys(folder: Path) -> Iterator[tuple[bytes, float, LocalKey]]:
    owner = LocalKey(DEFAULT_KEY)
    yield read_key_file(folder / KEY_FILE).encode(), float("inf"), owner
    yield from ((key.encode(), expires_at, owner) for key, expires_at in read_previous_keys(folder))


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        file_status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (file_status.st_ino, file_status.st_mtime_ns, file_status.st_size)
