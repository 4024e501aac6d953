"""A clock that jumps and a Google without a network: a day of refreshing in milliseconds."""

import heapq
import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from vx_token.config.model import Profile
from vx_token.credentials.token import Token
from vx_token.system.clock import NAP, Wake

if TYPE_CHECKING:
    from vx_token.errors import VxTokenError

NOON = 1_800_000_000.0
"""An instant to begin at, epoch seconds."""


class FakeClock:
    """A clock.Clock whose naps take no time; what happens at which second is told beforehand by `at`.

    Attributes:
        elapsed: seconds that have truly passed since the start.
        naps: how long each nap was, seconds.
    """

    def __init__(self, start: float = NOON) -> None:
        self.elapsed = 0.0
        self.naps: list[float] = []
        self._offset = start
        self._set_by = 0.0
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        """The wall clock, which may be wrong."""
        return self.elapsed + self._offset

    def nap(self, until: float, wake: Wake) -> float:
        """Move time to `until`, to the next event or by NAP; by how many seconds an event set the wall clock."""
        length = max(0.0, min(until - self.now(), NAP))
        if self._events:
            length = min(length, max(0.0, self._events[0][0] - self.elapsed))
        self.naps.append(length)
        self.elapsed += length
        self._set_by = 0.0
        while self._events and self._events[0][0] <= self.elapsed:
            heapq.heappop(self._events)[2]()
        return self._set_by

    def at(self, second: float, action: Callable[[], object]) -> None:
        """Do something in the first nap that reaches this second."""
        heapq.heappush(self._events, (second, next(self._numbers), action))

    def set(self, seconds: float, *, noticed: bool = True) -> None:
        """Somebody sets the wall clock by so much; `noticed` by the nap in which it happens."""
        self._offset += seconds
        self._set_by += seconds if noticed else 0.0

    def pass_by(self, seconds: float) -> None:
        """Time that nobody notices passing: work, or suspend."""
        self.elapsed += seconds


class FakeGoogle:
    """A refresh.Mint: answers with numbered tokens, or with the error it was told to raise.

    Attributes:
        asked: when it was asked, in true seconds since the start.
        error: what it raises while set.
        late: it answers with the same token until so many seconds before its end, as metadata servers do.
        duration: seconds an answer takes.
    """

    def __init__(self, clock: FakeClock, lifetime: float = 3600.0, late: float | None = None) -> None:
        self.clock = clock
        self.lifetime = lifetime
        self.late = late
        self.duration = 0.2
        self.error: VxTokenError | None = None
        self.asked: list[float] = []
        self._end = float("-inf")
        self._number = 0

    def __call__(
        self, profile: Profile, environ: Mapping[str, str], deadline: float, cancelled: Callable[[], bool]
    ) -> Token:
        """Answer a refresh."""
        assert len(self.asked) < 10_000, "a hot loop"
        self.asked.append(self.clock.elapsed)
        started = self.clock.now()
        self.clock.pass_by(self.duration)
        if self.error is not None:
            raise self.error
        left = self._end - self.clock.elapsed
        if self.late is None or left <= self.late:
            self._number += 1
            self._end = self.clock.elapsed + self.lifetime
            left = self.lifetime
        kind = "service_account" if self.late is None else "metadata"
        return Token(f"ya29.token-{self._number}", self.clock.now() + left, started, kind)

    @property
    def live(self) -> str:
        """The newest token while it truly lives, else ""."""
        return f"ya29.token-{self._number}" if self.clock.elapsed < self._end else ""

    @property
    def gaps(self) -> list[float]:
        """Seconds between each question and the next."""
        return [after - before for before, after in itertools.pairwise(self.asked)]
