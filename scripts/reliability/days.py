"""A thousand days of the daemon's own schedule, with random faults and a clock that jumps, by Hypothesis."""

import collections
import contextlib
import functools
import itertools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from fakes import FakeClock, FakeGoogle
from reliability.context import room
from vx_token.config.model import Config, Profile
from vx_token.credentials.token import Token
from vx_token.daemon.keeper import keep_fresh
from vx_token.errors import LoginNeededError, TemporaryError
from vx_token.outputs.publisher import Publisher
from vx_token.system.clock import JUMP, Wake
from vx_token.tokens.refresh import Refresher
from vx_token.tokens.store import Store

HOUR, DAY = 3600.0, 86400.0

SOON = 35.0
"""Seconds of being awake after a jump or a suspend within which a dead token leaves the files."""

LONGEST_OUTAGE = 2 * HOUR
"""Seconds; longer ones show nothing new, because the pauses do not grow any more after a minute."""

GRACE = 1.0
"""Seconds by the daemon's clock for which an expired token may be in the files: a refresh may be under way."""

RECOVERY = 65.0
"""Seconds of being awake with Google in reach after which a live token is there, whatever came before."""

REQUESTS = 200
"""Most requests in any hour of being awake."""

SPANS = (1.0, 6.0, 60.0, 1200.0, 2 * HOUR, DAY, 365 * DAY)
KINDS = ("suspend", "set", "smear", "outage", "outage with Retry-After", "login needed", "reachable", "new credentials")


@dataclass
class Tally:
    """What all machines did.

    Attributes:
        days: simulated days, suspends not counted.
        happenings: how often what happened.
        requests: requests in all.
        busiest: requests in the busiest hour.
        stale: worst seconds for which a file held a dead token, awake.
        late: worst seconds after its expiry at which a file held a token, while the clock was right and no suspend had
            just ended.
    """

    days: float = 0.0
    happenings: collections.Counter[str] = field(default_factory=collections.Counter)
    requests: int = 0
    busiest: int = 0
    stale: float = 0.0
    late: float = 0.0


class Watched(FakeClock):
    """A clock that counts the time awake, and calls `look` after each nap.

    Attributes:
        awake: seconds, suspends not counted.
        slow: seconds by which the clock was set back in steps that are too small to be noticed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.awake = self.slow = 0.0
        self.disturbed_at = 0.0
        self.look: Callable[[float], None] = lambda _: None

    def nap(self, until: float, wake: Wake) -> float:
        """Nap as FakeClock does, and look."""
        set_by = super().nap(until, wake)
        self.awake += self.naps[-1]
        self.look(self.naps[-1])
        del self.naps[:-1]
        return set_by

    def set(self, seconds: float, *, noticed: bool = True) -> None:
        """Set the clock; small steps go unnoticed, as with the real one."""
        noticed = abs(seconds) > JUMP
        super().set(seconds, noticed=noticed)
        self.slow -= 0.0 if noticed else seconds


class Google(FakeGoogle):
    """Records when each token truly expires, how slow the clock was when it came, and when requests were made."""

    def __init__(self, clock: Watched) -> None:
        super().__init__(clock)
        self.watched = clock
        self.ends: dict[str, float] = {}
        self.slow: dict[str, float] = {}
        self.times: list[float] = []

    def __call__(
        self, profile: Profile, environ: Mapping[str, str], deadline: float, cancelled: Callable[[], bool]
    ) -> Token:
        """Answer a refresh."""
        self.times.append(self.watched.awake)
        self.asked.clear()  # the busiest hour is judged here
        token = super().__call__(profile, environ, deadline, cancelled)
        self.ends[token.value] = self.watched.elapsed + self.lifetime if self.late is None else self._end
        self.slow[token.value] = self.watched.slow
        return token


class Days(RuleBasedStateMachine):
    """One profile under the real keeper, for as many days as Hypothesis likes."""

    tally = Tally()

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=room())
        root = Path(self.folder.name)
        self.key = root / "key.json"
        self.key.write_text("{}")
        self.profile = Profile("gemini", "demo", credentials=str(self.key))
        self.clock, self.store = Watched(), Store(root / "run")
        self.google = Google(self.clock)
        self.config = Config(root / "config.toml", {"gemini": self.profile}, "gemini")
        self.clock.look = self._look
        self.reachable_since = 0.0
        self.stale = 0.0
        self.wake = Wake()
        self.keys = itertools.count()
        self.problems: list[str] = []  # judged after each rule, because the keeper outlives exceptions

    def teardown(self) -> None:
        """Judge the busiest hour, and add up."""
        times, tally = self.google.times, self.tally
        tally.days += self.clock.awake / DAY
        tally.requests += len(times)
        start = 0
        for end, time in enumerate(times):
            while times[start] <= time - HOUR:
                start += 1
            tally.busiest = max(tally.busiest, end - start + 1)
        self.folder.cleanup()
        assert tally.busiest <= REQUESTS, f"{tally.busiest} requests in an hour"

    @rule(lifetime=st.sampled_from([600.0, HOUR, HOUR, 12 * HOUR]), late=st.sampled_from([None, None, 240.0]))
    def another_lifetime(self, lifetime: float, late: float | None) -> None:
        """Google gives tokens of another lifetime from now on, or repeats one until shortly before its end."""
        self.google.lifetime, self.google.late = lifetime, late

    @rule(
        hours=st.floats(1, 24),
        happenings=st.lists(
            st.tuples(st.floats(0, 1), st.sampled_from(KINDS), st.sampled_from(SPANS), st.sampled_from([-1, 1])),
            max_size=6,
        ),
    )
    def live(self, hours: float, happenings: list[tuple[float, str, float, int]]) -> None:
        """A daemon runs for some hours, while this and that happens; it is a new process each time."""
        self.wake = wake = Wake()
        begin = self.clock.elapsed
        for share, kind, span, sign in happenings:
            self.tally.happenings[kind] += 1
            happen = functools.partial(self._happen, kind, span, sign)
            self.clock.at(begin + share * hours * HOUR, happen)
        self.clock.at(begin + hours * HOUR, wake.stop)
        publisher = Publisher(self.store, self.clock, self.config)
        refresher = Refresher(self.store, self.clock, self.google, {}, self.config, publisher.publish)
        keep_fresh(self.profile, refresher, publisher, wake, lambda _: None)
        self.clock.disturbed_at = self.clock.awake  # the next process has not looked yet
        assert not self.problems, self.problems[0]

    def _happen(self, kind: str, span: float, sign: int) -> None:
        error: dict[str, TemporaryError | LoginNeededError] = {
            "outage": TemporaryError("Google cannot be reached"),
            "outage with Retry-After": TemporaryError("later", retry_after=min(span, HOUR)),
            "login needed": LoginNeededError("log in again"),
        }
        if kind in {"suspend", "set", "smear"}:
            self.clock.disturbed_at = self.clock.awake
            self.reachable_since = max(self.reachable_since, self.clock.awake)
        if kind == "suspend":
            self.clock.pass_by(span)
        elif kind == "set":
            self.clock.set(sign * span)
        elif kind == "smear":
            self.clock.set(sign * min(span, 1.0))
        elif kind in error:
            self.google.error = error[kind]
            end = functools.partial(self._happen, "reachable", span, sign)
            self.clock.at(self.clock.elapsed + min(span, LONGEST_OUTAGE), end)
        else:
            if self.google.error is not None:
                self.reachable_since = self.clock.awake
            self.google.error = None
            new = self.key.with_name("new.json")
            new.write_text(f'{{"number": {next(self.keys)}}}')
            new.replace(self.key)
            self.wake.nudge()  # as the watcher does

    def _look(self, seconds: float) -> None:
        path, tally = self.store.folder("gemini") / "token", self.tally
        token = path.read_text() if path.exists() else ""
        age = self.clock.elapsed - self.google.ends[token] if token else 0.0
        slow = max(0.0, self.clock.slow - self.google.slow[token]) if token else 0.0
        dead = age > GRACE + slow
        self.stale = self.stale + seconds if dead else 0.0
        tally.stale = max(tally.stale, self.stale)
        calm = self.clock.awake - self.clock.disturbed_at > SOON
        if self.stale > SOON:
            self.problems.append("a dead token stayed in the files")
        if calm:
            tally.late = max(tally.late, age - slow)
            if dead:
                self.problems.append(
                    f"a token in the files {age:.1f} s after its expiry, although nothing had happened"
                )
            reachable = self.google.error is None and self.clock.awake - self.reachable_since > RECOVERY
            if reachable and (dead or not token):
                self.problems.append("no live token although Google was in reach")


def simulate(days: float) -> tuple[Tally, str]:
    """Run machines until so many days have passed; return what they did, and what was wrong."""
    Days.tally = Tally()
    settings = hypothesis.settings(
        max_examples=5,
        stateful_step_count=6,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],  # to shrink a failure would take minutes
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    problem = ""
    with contextlib.suppress(KeyboardInterrupt):
        while Days.tally.days < days and not problem:
            try:
                run_state_machine_as_test(Days, settings=settings)
            except AssertionError as error:
                problem = f"{error}"
    return Days.tally, problem
