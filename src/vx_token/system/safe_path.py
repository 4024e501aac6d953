"""The check that no other user can replace a folder or a part of its path."""

import os
import stat


def belongs_to_us(folder: str) -> bool:
    """Whether it is a folder, or a link to one, and belongs to this user: `-d` and `-O` of the shells."""
    try:
        status = os.stat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def unsafe_part(folder: str) -> tuple[str, str]:
    """Return the first part of the path `folder` that other users control, and the reason; two empty strings for none.

    Each folder from `/` down to `folder`, and each symbolic link among them, must belong to this user or to root, and
    others may write to it only when it is sticky. The check goes down from `/`: no other user can replace a part that
    has passed, so the result holds for a file that is opened afterwards. A part that does not exist ends the check.
    """
    parts, path, links = folder.split("/")[::-1], "", 0
    while True:
        try:
            part = os.lstat(path or "/")
            target = os.readlink(path) if stat.S_ISLNK(part.st_mode) else None
        except OSError:
            return "", ""
        if part.st_uid not in (0, os.geteuid()) and not (part.st_uid == _OVERFLOW_UID and _root_is_unmapped()):
            return path or "/", "belongs to another user"
        if target is not None:
            links += 1
            parts += target.split("/")[::-1]
            path = "" if target.startswith("/") else path.rpartition("/")[0]
        elif part.st_mode & 0o022 and not part.st_mode & stat.S_ISVTX:
            return path or "/", "can be written by others"
        while parts and parts[-1] in ("", ".", ".."):
            if parts.pop() == "..":
                path = path.rpartition("/")[0]
        if not parts or links > _MOST_LINKS:
            return "", ""
        path += f"/{parts.pop()}"


_MOST_LINKS = 40  # the kernel's limit, path_resolution(7)
_OVERFLOW_UID = 65534  # the owner that a user namespace shows for each user it does not map, user_namespaces(7)


def _root_is_unmapped() -> bool:
    """Whether this user namespace does not map root, as in the sandbox of a user's systemd service."""
    try:
        with open("/proc/self/uid_map", "rb") as file:
            return all(line.split()[1] != b"0" for line in file)
    except OSError:
        return False
