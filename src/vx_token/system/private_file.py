"""Read a file that must belong to this user."""

import os
import stat
from pathlib import Path


def private_text(path: Path) -> str:
    """The text of a regular file that belongs to us.

    Raises:
        OSError: it is missing, a link, no regular file or somebody else's.
        ValueError: it is not UTF-8.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to another user")
        if not stat.S_ISREG(found.st_mode):
            raise IsADirectoryError(f"{path} is no regular file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read().decode()
    finally:
        os.close(descriptor)
