"""Memory that a burst of streams needed, given back to the system when it is over."""

import asyncio
import ctypes
import gc
from collections.abc import Callable

_INTERVAL = 40.0  # seconds between looks; after a burst, idle connections to upstream are closed by the next but one
_MIN_REQUESTS = 4  # requests at once whose memory is not worth a trim


def trim(over: bool) -> None:
    """Return freed memory; without this glibc keeps what a thousand streams took (60 MiB) to the process's end.

    Only when the work is `over` garbage is looked for too: streams under way would feel that pause.
    """
    if over:
        gc.collect()
    give = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if give is not None:
        give(0)


async def trim_periodically(
    most: Callable[[], int], pause: float = _INTERVAL, trim: Callable[[bool], None] = trim
) -> None:
    """Trim now and then while many requests are under way, and once when they are over; never ends.

    `most` tells how many were under way at once since it was asked last.
    """
    before = 0
    while True:
        await asyncio.sleep(pause)
        now = most()
        if max(before, now) >= _MIN_REQUESTS:
            trim(now < _MIN_REQUESTS)
        before = now
