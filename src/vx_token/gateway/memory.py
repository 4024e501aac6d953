"""Returns freed memory to the operating system after many concurrent streams."""

import asyncio
import ctypes
import gc
from collections.abc import Callable

_INTERVAL = 40.0  # seconds between two checks; two of them exceed the idle time of a connection
_MIN_REQUESTS = 4  # concurrent requests below which a trim is not worth its time


def trim(collect: bool) -> None:
    """Return freed memory to the system; otherwise glibc keeps the 60 MiB that a thousand streams needed.

    Args:
        collect: run the garbage collector first; its pause would delay streams, so only when none is running.
    """
    if collect:
        gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
    if malloc_trim is not None:
        malloc_trim(0)


async def trim_periodically(
    take_peak: Callable[[], int], pause: float = _INTERVAL, trim: Callable[[bool], None] = trim
) -> None:
    """Trim at intervals while many requests run, and once with a garbage collection afterwards; never returns.

    Args:
        take_peak: returns the maximum number of concurrent requests since its last call.
        pause: seconds between two checks.
        trim: replaced in tests.
    """
    previous = 0
    while True:
        await asyncio.sleep(pause)
        current = take_peak()
        if max(previous, current) >= _MIN_REQUESTS:
            trim(current < _MIN_REQUESTS)
        previous = current
