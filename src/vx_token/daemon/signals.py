"""Delivers SIGTERM, SIGINT and SIGHUP to a callback in a thread, through a wakeup pipe."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def delivered(callback: Callable[[int], None]) -> Iterator[None]:
    """Call `callback` with the number of each signal while the context is open.

    A pipe instead of Python signal handlers, because those run only once the main thread wakes, which may be late.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    listener = threading.Thread(target=_listen, args=(reader, callback), name="signals", daemon=True)
    listener.start()
    previous_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    previous_handlers = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous_fd)
        os.close(writer)
        listener.join()


def _listen(reader: int, callback: Callable[[int], None]) -> None:
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            if number[0] in SIGNALS:
                callback(number[0])
