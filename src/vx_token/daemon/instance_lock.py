"""A flock that allows one daemon per runtime folder."""

import fcntl
import os
import time
from pathlib import Path

from vx_token.errors import ConfigError, TemporaryError
from vx_token.system import paths

ATTEMPTS = 21
"""Attempts, 50 ms apart: a restart briefly overlaps the old daemon, and `status` tests the lock too."""


class InstanceLock:
    """An exclusive lock on a file in the runtime folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self) -> None:
        """Lock the file that is at the path now.

        Raises:
            ConfigError: the folder is not safe, or not writable.
            TemporaryError: another daemon holds the lock.
        """
        self.close()
        paths.secure_folder(self._path.parent)
        try:
            self._descriptor = _open(self._path)
        except OSError as error:
            hint = "choose another runtime folder by VX_TOKEN_RUNTIME_DIR"
            raise ConfigError(f"cannot write {self._path}: {error.strerror}", hint) from None
        for remaining in reversed(range(ATTEMPTS)):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if not remaining:
                    self.close()
                    hint = "stop it first: vx-token service stop, or see: vx-token status"
                    raise TemporaryError(f"another vx-token daemon serves {self._path.parent}", hint) from None
                time.sleep(0.05)

    def held(self) -> bool:
        """Return whether this process holds the lock and the path still leads to the locked file."""
        try:
            return self._descriptor >= 0 and os.path.samestat(os.fstat(self._descriptor), self._path.lstat())
        except OSError:
            return False

    def close(self) -> None:
        """Release the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
    except PermissionError:
        if path.is_symlink():
            raise
        path.chmod(0o600)  # because the umask at its creation may have removed the owner's rights
        descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor
