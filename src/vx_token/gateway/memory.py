"""Memory that a burst of streams needed, given back to the system when it is over."""

import asyncio
import ctypes
import gc
from collections.abc import Callable

from vx_token.gateway.metrics import Snapshot

_PAUSE = 60.0  # seconds of quiet; by then idle connections to upstream are closed too


def trim() -> None:
    """Return freed memory; without this glibc keeps what a thousand streams took (60 MiB) to the process's end."""
    gc.collect()
    give = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if give is not None:
        give(0)


async def give_back(snapshot: Callable[[], Snapshot], pause: float = _PAUSE, trim: Callable[[], None] = trim) -> None:
    """Trim once after each time of work, when `pause` seconds went by without a request; never ends."""
    last = trimmed = 0
    while True:
        await asyncio.sleep(pause)
        found = snapshot()
        if found.in_flight == 0 and found.requests == last != trimmed:
            trim()
            trimmed = last
        last = found.requests
