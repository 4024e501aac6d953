"""The wall clock, and a sleep that stays correct across suspend and a set clock."""

import threading
import time
from typing import Protocol

NAP = 25.0
"""The longest nap, seconds: timers stop during suspend, so the wall clock is checked this often."""

JUMP = 5.0
"""Seconds by which the wall clock may differ from the monotonic clock after a nap before it counts as set."""


class Wake:
    """An event that interrupts a nap, with a request to refresh or to stop; set from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._forced = threading.Event()
        self._stopped = threading.Event()

    def force(self) -> None:
        """Request a refresh even though the token is still fresh."""
        self._forced.set()
        self._event.set()

    def nudge(self) -> None:
        """End the nap so that the schedule is computed again."""
        self._event.set()

    def stop(self) -> None:
        """Request a stop."""
        self._stopped.set()
        self._event.set()

    @property
    def stopped(self) -> bool:
        """Whether a stop was requested."""
        return self._stopped.is_set()

    @property
    def forced(self) -> bool:
        """Whether a refresh was requested since the last `take`."""
        return self._forced.is_set()

    @property
    def pending(self) -> bool:
        """Whether anything was requested since the last `take`."""
        return self._event.is_set()

    def take(self) -> bool:
        """Clear the event; return whether a refresh was requested since the last call."""
        self._event.clear()
        forced = self._forced.is_set()
        self._forced.clear()
        return forced

    def wait(self, seconds: float) -> None:
        """Wait for an event, at most `seconds`."""
        self._event.wait(seconds)


class Clock(Protocol):
    """The clock as an argument, so that tests can set it."""

    def now(self) -> float:
        """Return the wall clock, epoch seconds."""

    def nap(self, until: float, wake: Wake) -> float:
        """Sleep until `until` (epoch seconds), an event of `wake`, or for NAP seconds, whichever comes first.

        Returns:
            The seconds by which the wall clock was set meanwhile, 0 when it was not.
        """


class SystemClock:
    """The system's clock."""

    def now(self) -> float:
        """Return the wall clock, epoch seconds."""
        return time.time()

    def nap(self, until: float, wake: Wake) -> float:
        """Sleep as `Clock.nap` describes."""
        wall, monotonic = time.time(), _monotonic()
        wake.wait(max(0.0, min(until - wall, NAP)))
        set_by = (time.time() - wall) - (_monotonic() - monotonic)
        return set_by if abs(set_by) > JUMP else 0.0


def _monotonic() -> float:
    # CLOCK_BOOTTIME counts the time in suspend, as the wall clock does, so suspend is not taken for a set clock. macOS
    # lacks it, so there each wake-up costs one refresh, which is due then anyway.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
