"""The google-auth worker's own limits: time, memory and core dumps."""

import contextlib
import math
import resource
import signal

from vx_token.system import hardening

MEMORY = 384 * 2**20
"""Maximum address space (bytes) of the worker; google-auth with its transport takes 55 MiB."""


def confine(deadline: float) -> None:
    """Limit this process to `deadline` seconds and MEMORY bytes, without core dumps.

    The alarm ends the worker if its parent has died; while the parent lives, the parent's deadline comes first.
    """
    signal.alarm(math.ceil(deadline) + 1)
    hardening.forbid_core_dumps()
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def cramped() -> bool:
    """Whether the system's memory limit is lower than MEMORY."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return limit != resource.RLIM_INFINITY and limit < MEMORY
