"""Makes many requests at once, in daemon threads, so that Ctrl-C never waits for one of them."""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from vx_token.errors import VxTokenError

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 16
"""Maximum number of requests at the same time."""


def ask_each(
    ask: Callable[[T], R], items: Sequence[T], progress: Callable[[int, int], object] = lambda _done, _all: None
) -> list[R | VxTokenError]:
    """Return what `ask` returns for each item, or the error that it raises, in the order of the items.

    Args:
        ask: called in other threads.
        items: the items.
        progress: called in this thread with the number of finished items and of all items.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    finished: queue.SimpleQueue[tuple[int, R | BaseException]] = queue.SimpleQueue()
    for number in range(len(items)):
        waiting.put(number)

    def work() -> None:
        while True:
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                finished.put((number, ask(items[number])))
            except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
                finished.put((number, error))

    for _ in range(min(AT_ONCE, len(items))):
        threading.Thread(target=work, daemon=True).start()
    results: dict[int, R | VxTokenError] = {}
    while len(results) < len(items):
        number, result = finished.get()
        if isinstance(result, BaseException) and not isinstance(result, VxTokenError):
            raise result
        results[number] = result
        progress(len(results), len(items))
    return [results[number] for number in range(len(items))]
