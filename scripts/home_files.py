"""The files of a home folder, before and after something was done to it."""

import difflib
import stat
from collections.abc import Mapping
from pathlib import Path

Files = dict[Path, tuple[bytes, int]]


def files(folder: Path) -> Files:
    """Return the content and the mode of every file below a folder."""
    return {path: (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) for path in walked(folder)}


def walked(folder: Path) -> list[Path]:
    """Return every file below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


def changes(before: Mapping[Path, tuple[bytes, int]], after: Files) -> str:
    """Return which files of `before` are not the same after, and how they differ; "" for none."""
    return "; ".join(
        f"{path}: {_difference(entry, after.get(path))}" for path, entry in before.items() if after.get(path) != entry
    )


def _difference(old: tuple[bytes, int], new: tuple[bytes, int] | None) -> str:
    if new is None:
        return "is gone"
    lines = difflib.ndiff(old[0].decode().splitlines(), new[0].decode().splitlines())
    shown = [line for line in lines if line[0] in "+-"]
    return " | ".join([*shown, *([f"mode {new[1]:o} instead of {old[1]:o}"] if old[1] != new[1] else [])])


def with_keys(folder: Path) -> list[Path]:
    """Return the files that contain a local key."""
    return [path for path in walked(folder) if b"vx-local-" in path.read_bytes()]
