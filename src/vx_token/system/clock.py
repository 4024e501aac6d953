"""The wall clock, and naps that neither suspend nor a set clock can fool."""

import threading
import time
from typing import Protocol

NAP = 25.0
"""The longest nap, seconds: timers stand still in suspend, so the wall clock is looked at this often."""

JUMP = 5.0
"""Seconds by which the wall clock may drift from the steady one during a nap before it counts as set."""


class Wake:
    """One bit, "something changed", and the order to stop; set from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._forced = threading.Event()
        self._stopped = threading.Event()

    def force(self) -> None:
        """Ask for a refresh even though the token is still fresh."""
        self._forced.set()
        self._event.set()

    def nudge(self) -> None:
        """Ask only for a fresh look at things."""
        self._event.set()

    def stop(self) -> None:
        """Ask for the end."""
        self._stopped.set()
        self._event.set()

    @property
    def stopped(self) -> bool:
        """Whether the end was asked for."""
        return self._stopped.is_set()

    @property
    def forced(self) -> bool:
        """Whether a refresh was forced since the last `take`."""
        return self._forced.is_set()

    @property
    def pending(self) -> bool:
        """Whether anything was asked for since the last `take`."""
        return self._event.is_set()

    def take(self) -> bool:
        """Whether a refresh was forced since the last time; clears it."""
        self._event.clear()
        forced = self._forced.is_set()
        self._forced.clear()
        return forced

    def wait(self, seconds: float) -> None:
        """Return at the next call of the others, or after `seconds`."""
        self._event.wait(seconds)


class Clock(Protocol):
    """Time as an argument, so that tests can make it jump."""

    def now(self) -> float:
        """The wall clock, epoch seconds."""

    def nap(self, until: float, wake: Wake) -> float:
        """Sleep until the instant `until`, a wake, or NAP seconds; by how many seconds the wall clock was set then."""


class SystemClock:
    """The real one."""

    def now(self) -> float:
        """The wall clock, epoch seconds."""
        return time.time()

    def nap(self, until: float, wake: Wake) -> float:
        """Sleep until `until`, a wake, or NAP seconds; by how many seconds the wall clock was set then, mostly 0."""
        wall, steady = time.time(), _steady()
        wake.wait(max(0.0, min(until - wall, NAP)))
        set_by = (time.time() - wall) - (_steady() - steady)
        return set_by if abs(set_by) > JUMP else 0.0


def _steady() -> float:
    # CLOCK_BOOTTIME counts suspend as the wall clock does, so a laptop's sleep is no jump. Where it is missing (macOS),
    # waking looks like a jump and costs one refresh, which is due then anyway.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
