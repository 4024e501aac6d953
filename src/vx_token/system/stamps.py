"""File stamps: the identity of a file, which changes when its content is replaced."""

import os
from _collections_abc import Iterable  # as os does: collections.abc would load all of collections


def stamp(path: str | os.PathLike[str]) -> str:
    """Return the stamp of the file at `path` (links followed), which changes with its content; "" for no file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{status.st_ino}:{status.st_mtime_ns}:{status.st_size}"


def joined(paths: Iterable[str | os.PathLike[str]]) -> str:
    """Return the stamps of several files, separated by spaces; "" if none exists."""
    return " ".join(map(stamp, paths)).strip()
