"""Reads files that must belong to this user."""

import os
import stat
from pathlib import Path


def private_text(path: Path) -> str:
    """Return the text of a regular file of this user.

    Raises:
        OSError: it is missing, a symbolic link, not a regular file, or belongs to another user.
        ValueError: it is not UTF-8.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to another user")
        if not stat.S_ISREG(status.st_mode):
            raise IsADirectoryError(f"{path} is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read().decode()
    finally:
        os.close(descriptor)
