"""One daemon for one runtime folder."""

import fcntl
import os
import time
from pathlib import Path

from vx_token.errors import ConfigError, TemporaryError
from vx_token.system import paths


class Claim:
    """The kernel's lock that makes one daemon of a runtime folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def take(self) -> None:
        """Take the lock on the file that is there now.

        Raises:
            ConfigError: the folder is not safe, or nothing can be written there.
            TemporaryError: another daemon has it.
        """
        self.close()
        paths.secure_folder(self._path.parent)
        try:
            self._descriptor = _open(self._path)
        except OSError as error:
            hint = "choose another runtime folder by VX_TOKEN_RUNTIME_DIR"
            raise ConfigError(f"cannot write {self._path}: {error.strerror}", hint) from None
        for patience in range(20, -1, -1):  # a restart overlaps for a moment, and `status` tries the lock too
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if not patience:
                    self.close()
                    hint = "stop it first: vx-token service stop, or see: vx-token status"
                    raise TemporaryError(f"another vx-token daemon serves {self._path.parent}", hint) from None
                time.sleep(0.05)

    def held(self) -> bool:
        """Whether the lock is ours and the file that we locked is still the one that others find."""
        try:
            return self._descriptor >= 0 and os.path.samestat(os.fstat(self._descriptor), self._path.lstat())
        except OSError:
            return False

    def close(self) -> None:
        """Let go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
    except PermissionError:
        if path.is_symlink():
            raise
        path.chmod(0o600)  # made under a umask that takes rights from its owner, too
        descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor
