"""Memory that a burst of streams needed, given back to the system when it is over."""

import asyncio
import ctypes
import gc
from collections.abc import Callable

_PAUSE = 40.0  # seconds between looks; after a burst, idle connections to upstream are closed by the next but one
_FEW = 4  # requests at once whose memory is not worth a trim


def trim() -> None:
    """Return freed memory; without this glibc keeps what a thousand streams took (60 MiB) to the process's end."""
    gc.collect()
    give = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if give is not None:
        give(0)


async def give_back(most: Callable[[], int], pause: float = _PAUSE, trim: Callable[[], None] = trim) -> None:
    """Trim when a crowd of requests has shrunk to a quarter, which a monitor's probes do not hinder; never ends.

    `most` tells how many were under way at once since it was asked last.
    """
    crowd = 0
    while True:
        await asyncio.sleep(pause)
        now = most()
        if crowd >= _FEW and now * 4 <= crowd:
            trim()
            crowd = now
        crowd = max(crowd, now)
