"""Whether other users can replace a folder or anything on the way to it."""

import os
import stat


def belongs_to_us(folder: str) -> bool:
    """Whether it is a folder, or a link to one, and this user's: the hooks' `-d` and `-O`."""
    try:
        found = os.stat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def unsafe_part(folder: str) -> tuple[str, str]:
    """The first part of the way to `folder` that other users control, and why; two empty strings for none.

    Each folder from `/` down to `folder`, and each symbolic link among them, must belong to us or to root, and others
    may write to it only when it is sticky. The walk goes down from `/`: after a part has passed, no other user can
    replace it, so the check stays true for a file that is opened afterwards. A part that does not exist ends the walk.
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


_MOST_LINKS = 40  # with more the kernel opens nothing
_OVERFLOW_UID = 65534  # proc(5): what the owner of a file is shown as in a user namespace that has no number for them


def _root_is_unmapped() -> bool:
    """Whether root is only a stranger's number here, as in the sandbox of a user's systemd service."""
    try:
        with open("/proc/self/uid_map", "rb") as file:
            return all(line.split()[1] != b"0" for line in file)
    except OSError:
        return False
