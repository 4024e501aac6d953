"""The only function that writes a file."""

import contextlib
import os
from pathlib import Path


def write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` by `data` so that a reader sees the old content or the new, never a part.

    Promises: the file is created with `mode` (never wider, whatever the umask), in the same folder under a name
    that starts with a dot; it is on disk before it gets its name; on any error the old file is untouched and the
    new one is gone. The folder's own entry is not synced: after a power cut the old content is as good as the new.

    Raises:
        OSError: the folder is not there, not writable, or full.
    """
    # Not `secrets`: it loads OpenSSL, 3.6 MiB that the daemon would carry for ever.
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
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
