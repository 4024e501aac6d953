"""File stamps: the identity of a file, which changes when its content is replaced."""

import os


def stamp(path: str | os.PathLike[str]) -> str:
    """Return the stamp of the file at `path` (links followed), which changes with its content; "" for no file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{status.st_ino}:{status.st_mtime_ns}:{status.st_size}"
