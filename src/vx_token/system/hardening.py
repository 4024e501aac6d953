"""Core dumps and debuggers: keeps them from reading tokens in this process's memory."""

import contextlib
import resource
import sys
from collections.abc import Iterator

_PR_SET_DUMPABLE = 4  # prctl(2)


def forbid_core_dumps() -> None:
    """Set the core limit to zero for this process and its children, and make this process not dumpable.

    The limit alone is not enough, because Linux ignores it when core dumps go to a program such as systemd-coredump.
    `exec` makes a process dumpable again, so children are protected by the limit only.
    """
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _become_undumpable()


def forbid_own_core_dumps() -> tuple[int, int]:
    """Do the same, but keep the hard limit; return the limits before, which `core_limit` restores for a child."""
    limit = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, limit[1]))
    _become_undumpable()
    return limit


@contextlib.contextmanager
def core_limit(limit: tuple[int, int]) -> Iterator[None]:
    """Restore a core limit while a child is started, because a child keeps its user's limit."""
    resource.setrlimit(resource.RLIMIT_CORE, limit)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (0, limit[1]))


def _become_undumpable() -> None:
    if sys.platform == "linux":
        import ctypes  # not at the top, because it costs commands without a token 4 ms

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
