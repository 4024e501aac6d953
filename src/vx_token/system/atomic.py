"""Atomic file writes, and the hint for each reason why one fails."""

import contextlib
import errno
import os
import re
from pathlib import Path


def write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` by `data` so that a reader sees the old content or the new, never a part.

    The file is created with `mode` (never wider, whatever the umask), in the same folder under a name that starts
    with a dot. It is synced to disk before it is renamed. On any error the old file is untouched and the new one is
    removed. The folder is not synced, because after a power cut the old content is as good as the new.

    Raises:
        OSError: the folder is missing, not writable, or full.
    """
    # Not `secrets`, because it loads OpenSSL, which would cost the daemon 3.6 MiB.
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def leftovers(path: Path) -> list[Path]:
    """Return the temporary files of writers of `path` that were killed, and of those that write it now."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{12}}")
    try:
        return sorted(each for each in path.parent.iterdir() if name.fullmatch(each.name))
    except OSError:
        return []


def remedy(error: OSError) -> str:
    """Return the hint for an error of `write` in the runtime folder."""
    other = "set VX_TOKEN_RUNTIME_DIR to another folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"free some space there, or {other}"
    if error.errno == errno.EROFS:
        return f"the folder is on a read-only file system: {other}"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "raise the limit of open files: ulimit -n"
    if error.errno in (errno.EISDIR, errno.ENOTDIR):
        # After a failed rename, `filename2` is the file to be replaced.
        obstacle = error.filename2 or error.filename
        return f"another file or folder is in the way{f': remove {obstacle}' if obstacle else ''}, or {other}"
    return f"make it writable, or {other}"
