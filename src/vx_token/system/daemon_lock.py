"""The lock by which another process detects that a daemon is running."""

import os

DAEMON_LOCK = ".daemon.lock"


def attended(root: str | os.PathLike[str]) -> bool:
    """Whether a daemon serves the runtime folder `root`; this process may be that daemon."""
    import fcntl

    try:
        descriptor = os.open(f"{os.fspath(root)}/{DAEMON_LOCK}", os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
