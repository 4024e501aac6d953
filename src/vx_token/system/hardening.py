"""Keeps tokens out of core dumps, and this process's memory from other processes of the same user."""

import contextlib
import resource
import sys
from collections.abc import Iterator

_PR_SET_DUMPABLE = 4  # prctl(2)


def forbid_core_dumps() -> None:
    """Set the core limit to zero for this process and all that it starts, and make this process not dumpable.

    The limit alone is not enough: Linux does not apply it when core dumps go to a program, such as systemd-coredump.
    `exec` makes a process dumpable again, so this holds for no program that is started later.
    """
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _become_undumpable()


def forbid_own_core_dumps() -> tuple[int, int]:
    """Do the same, but leave a way back; return the limit for `core_limit`."""
    limit = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, limit[1]))
    _become_undumpable()
    return limit


@contextlib.contextmanager
def core_limit(limit: tuple[int, int]) -> Iterator[None]:
    """Restore a core limit while a program is started that shall have its own."""
    resource.setrlimit(resource.RLIMIT_CORE, limit)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (0, limit[1]))


def _become_undumpable() -> None:
    if sys.platform == "linux":
        import ctypes  # not at the top: it costs a command that holds no token 4 ms

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
