"""Local keys with a name, one for each tool: created, listed and revoked one by one.

Each is a private file `gateway.keys/NAME` beside the default key. A second line limits it to some profiles.
"""

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vx_token.errors import ConfigError
from vx_token.gateway.key import generate_key, locked, read_key_file
from vx_token.gateway.settings import DEFAULT_KEY, LocalKey
from vx_token.system import atomic

FOLDER = "gateway.keys"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_RACE = 0.1  # seconds; two changes of a folder within this time can have one modification time


@dataclass(frozen=True, slots=True)
class NamedKey:
    """A stored key with its owner."""

    owner: LocalKey
    value: str = field(repr=False)


def load_or_create_named_key(folder: Path, name: str, profiles: frozenset[str] | None = None) -> str:
    """Return the key `name`; create it if it does not exist.

    Args:
        folder: the folder of the default key.
        name: letters, digits, - and _.
        profiles: the profiles that it may use; None for all of them, or for those of the existing key.

    Raises:
        ConfigError: the name is invalid, or the existing key is limited to other profiles.
        OSError: the folder is not writable.
    """
    path = _path(folder, name)
    with locked(folder):
        if path.exists():
            stored = _read(path)
            if profiles is not None and profiles != stored.owner.profiles:
                hint = f"revoke it first (vx-token gateway revoke {name}), or choose another name"
                raise ConfigError(f"the key {name} exists and is limited to {limits(stored.owner)}", hint)
            return stored.value
        path.parent.mkdir(mode=0o700, exist_ok=True)
        key = generate_key()
        restriction = f"\nprofiles {' '.join(sorted(profiles))}\n" if profiles is not None else ""
        atomic.write(path, f"{key}{restriction}".encode())
        return key


def revoke_key(folder: Path, name: str) -> None:
    """Delete a key, and the folder after the last one; the next request with the key is refused.

    Raises:
        ConfigError: there is no key with this name.
        OSError: the folder is not writable.
    """
    with locked(folder):
        path = _path(folder, name)
        try:
            path.unlink()
        except FileNotFoundError:
            raise ConfigError(f"there is no key with the name {name!r}", "see: vx-token gateway keys") from None
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def named_keys(folder: Path) -> list[NamedKey]:
    """Return the keys by name, without files that other users can read or that contain no key."""
    keys = []
    for path in sorted((folder / FOLDER).glob("*")):
        with contextlib.suppress(ConfigError, OSError):
            if _NAME.fullmatch(path.name):
                keys.append(_read(path))
    return keys


def limits(key: LocalKey) -> str:
    """Return the profiles that a key may use."""
    return "all profiles" if key.profiles is None else ", ".join(sorted(key.profiles))


def folder_stamp(folder: Path) -> tuple[int, ...]:
    """Return a value that changes with each key created in or revoked from `folder`; a unique one after a change."""
    try:
        status = folder.stat()
    except OSError:
        return ()
    stamp = (status.st_ino, status.st_mtime_ns)
    is_settled = abs(time.time() - status.st_mtime) > _RACE
    return stamp if is_settled else (*stamp, time.monotonic_ns())


def _path(folder: Path, name: str) -> Path:
    if not _NAME.fullmatch(name) or name == DEFAULT_KEY:
        hint = f"use up to 32 letters, digits, - and _, and not {DEFAULT_KEY!r}"
        raise ConfigError(f"{name!r} cannot be the name of a key", hint)
    return folder / FOLDER / name


def _read(path: Path) -> NamedKey:
    key, *rest = read_key_file(path, f"run: vx-token gateway revoke {path.name}").splitlines()
    profiles = next(_profiles(rest), None)
    return NamedKey(LocalKey(path.name, profiles), key.strip())


def _profiles(lines: list[str]) -> Iterator[frozenset[str]]:
    for line in lines:
        word, *names = line.split() or [""]
        if word == "profiles":
            yield frozenset(names)
