"""File stamps: the identity of a file, which changes when its content is replaced."""

import os


def stamp(path: str | os.PathLike[str]) -> str:
    """The identity of the file behind `path` (links followed): it changes when the content is replaced; "" for none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{found.st_ino}:{found.st_mtime_ns}:{found.st_size}"
