"""Sleep, stopped processes and clocks that are set: a fresh token or a retry follows, no storm, nothing stale."""

import contextlib
import fcntl
import itertools
import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fakes import FakeClock, FakeGoogle
from sandbox import Box, until
from vx_token.config.model import Config, Profile
from vx_token.credentials.token import Token
from vx_token.daemon.keeper import keep_fresh
from vx_token.emulator import Emulator, running
from vx_token.errors import TemporaryError
from vx_token.outputs.publisher import Publisher
from vx_token.system.clock import NAP, SystemClock, Wake
from vx_token.tokens.refresh import Refresher
from vx_token.tokens.store import Store

SOON = 35.0
"""Seconds of being awake after which things must be right again."""

STEP = 2.0
"""Seconds between two looks at a laptop."""

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


# A clock that jumps, under the real keeper


class Timer(FakeClock):
    """Naps as timers do: what happens meanwhile ends none, and sleep is none of their time.

    Attributes:
        awake: seconds that have passed outside sleep.
        look: called after each step of a nap, before anybody could act on it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.awake = 0.0
        self.look: Callable[[float], None] = lambda _: None

    def nap(self, until: float, wake: Wake) -> float:
        left, set_by = max(0.0, min(until - self.now(), NAP)), 0.0
        while True:
            set_by += super().nap(self.now() + min(left, STEP), wake)
            self.awake += self.naps[-1]
            left -= self.naps[-1]
            self.look(self.naps[-1])
            if left < 1e-6 or wake.stopped:
                return set_by

    def sleep(self, seconds: float) -> None:
        """Suspend, as Linux counts it."""
        self.pass_by(seconds)

    def sleep_uncounted(self, seconds: float) -> None:
        """Suspend where the steady clock stands still meanwhile: it looks as if the wall clock had been set."""
        self.pass_by(seconds)
        self._set_by += seconds


class Google(FakeGoogle):
    """Remembers when, in waking seconds, it was asked, and when, in true seconds, each token ends."""

    def __init__(self, clock: Timer) -> None:
        super().__init__(clock)
        self.timer = clock
        self.ends: dict[str, float] = {}
        self.asked_awake: list[float] = []

    def __call__(
        self, profile: Profile, environ: Mapping[str, str], deadline: float, cancelled: Callable[[], bool]
    ) -> Token:
        self.asked_awake.append(self.timer.awake)
        token = super().__call__(profile, environ, deadline, cancelled)
        self.ends[token.value] = self.timer.elapsed + self.lifetime
        return token


@dataclass
class Laptop:
    """One profile under the real keeper, and how long, in waking seconds, it was ever wrong without a break."""

    root: Path
    timer: Timer = field(default_factory=Timer)
    wake: Wake = field(default_factory=Wake)
    stale: float = 0.0
    idle: float = 0.0
    worst_stale: float = 0.0
    worst_idle: float = 0.0

    def __post_init__(self) -> None:
        key = self.root / "key.json"
        key.write_text("{}")
        self.profile = Profile("gemini", "demo", credentials=str(key))
        self.google, self.store = Google(self.timer), Store(self.root / "run")
        config = Config(self.root / "config.toml", {"gemini": self.profile}, "gemini")
        self.publisher = Publisher(self.store, self.timer, config)
        self.refresher = Refresher(self.store, self.timer, self.google, {}, config, self.publisher.publish)
        self.timer.look = self._look

    def offline(self, away: bool) -> None:
        self.google.error = TemporaryError("Google cannot be reached") if away else None

    def live_through(self, happenings: list[tuple[float, Callable[[], object]]], seconds: float) -> None:
        """Let each happen so many waking seconds after the one before, and then so many more pass."""
        # An event's time counts sleep too, so each is set up when the one before has happened.
        due = itertools.accumulate(pause for pause, _ in happenings)
        self._plan = [(at, action) for at, (_, action) in zip(due, happenings, strict=True)]
        self._end = sum(pause for pause, _ in happenings) + seconds
        keep_fresh(self.profile, self.refresher, self.publisher, self.wake, lambda _: None, lambda: 0.5)

    def _look(self, seconds: float) -> None:
        token = self.token
        live = bool(token) and self.timer.elapsed < self.google.ends[token]
        self.stale = self.stale + seconds if token and not live else 0.0
        asked_lately = self.timer.awake - max(self.google.asked_awake, default=0.0)
        self.idle = 0.0 if live else min(self.idle + seconds, asked_lately)
        self.worst_stale, self.worst_idle = max(self.worst_stale, self.stale), max(self.worst_idle, self.idle)
        while self._plan and self._plan[0][0] <= self.timer.awake:
            self.timer.at(self.timer.elapsed, self._plan.pop(0)[1])
        if self.timer.awake >= self._end:
            self.wake.stop()

    @property
    def token(self) -> str:
        path = self.store.folder("gemini") / "token"
        return path.read_text() if path.exists() else ""

    @property
    def busiest_minute(self) -> int:
        times = self.google.asked_awake
        return max(sum(start <= at < start + MINUTE for at in times) for start in times)


KINDS = ("sleep", "sleep_uncounted", "set", "offline", "online")
spans = st.sampled_from([6.0, MINUTE, 20 * MINUTE, 50 * MINUTE, 2 * HOUR, DAY, 365 * DAY])
happenings = st.tuples(
    st.sampled_from([35.0, 3 * MINUTE, 40 * MINUTE]), st.sampled_from(KINDS), spans, st.sampled_from([-1, 1])
)


def deed(laptop: Laptop, kind: str, span: float, sign: int) -> Callable[[], object]:
    return {
        "sleep": lambda: laptop.timer.sleep(span),
        "sleep_uncounted": lambda: laptop.timer.sleep_uncounted(span),
        "set": lambda: laptop.timer.set(sign * span),
        "offline": lambda: laptop.offline(True),
        "online": lambda: laptop.offline(False),
    }[kind]


@settings(max_examples=10)
@given(st.lists(happenings, max_size=6))
@example([(40 * MINUTE, "offline", 6.0, 1), (20.0, "sleep", 3 * HOUR, 1), (40 * MINUTE, "online", 6.0, 1)])
@example([(40 * MINUTE, "offline", 6.0, 1), (20.0, "set", 20 * MINUTE, -1), (2 * HOUR, "online", 6.0, 1)])
def test_whatever_befalls_a_laptop_it_is_right_35_seconds_later(story: list[tuple[float, str, float, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        laptop = Laptop(Path(folder))
        laptop.live_through([(pause, deed(laptop, kind, span, sign)) for pause, kind, span, sign in story], 2 * MINUTE)
        assert laptop.worst_stale <= SOON, "a token was served after its end"
        assert laptop.worst_idle <= SOON, "there was neither a live token nor a try"
        assert laptop.busiest_minute <= 12, "a storm"
        assert laptop.google.error is not None or laptop.token == laptop.google.live != ""


def test_a_clock_that_went_back_lends_a_token_no_second_of_life(tmp_path: Path) -> None:
    laptop = Laptop(tmp_path)
    back = (10.0, lambda: laptop.timer.set(-20 * MINUTE))
    laptop.live_through([(24 * MINUTE, lambda: laptop.offline(True)), back], HOUR)
    assert laptop.google.live == ""
    assert laptop.token == ""
    assert laptop.worst_stale <= STEP


def test_three_hours_of_sleep_and_no_network_cost_no_storm(tmp_path: Path) -> None:
    laptop = Laptop(tmp_path)
    away, home = (lambda: laptop.offline(True)), (lambda: laptop.offline(False))
    laptop.live_through([(10.0, away), (1.0, lambda: laptop.timer.sleep(3 * HOUR)), (2 * MINUTE, home)], SOON)
    assert laptop.token == laptop.google.live != ""
    assert laptop.worst_stale <= 25 + STEP
    # The first token, six tries in the first half minute, one each 22 to 30 seconds after, and the one that works.
    assert len(laptop.google.asked) <= 1 + 6 + 5 + 1


def test_a_quiet_nap_reports_no_set_clock() -> None:
    clock = SystemClock()
    assert clock.nap(clock.now() + 0.05, Wake()) == 0


def test_a_nap_ends_at_a_wake() -> None:
    clock, wake = SystemClock(), Wake()
    wake.nudge()
    started = time.monotonic()
    clock.nap(clock.now() + 20, wake)
    assert time.monotonic() - started < 10


# A real process that stands still


@pytest.fixture
def short_lived(signed_in: Box, google: Emulator) -> Box:
    google.lifetime = 3.0
    return signed_in


def outlive(google: Emulator) -> None:
    """Wait until every token has ended."""
    until(lambda: time.time() > google.issued[-1].expires_at + 0.2, 10)


def at_rest(box: Box) -> None:
    """Wait until no refresh is under way."""
    with (box.runtime / "gemini" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def live(box: Box, google: Emulator) -> bool:
    return box.read("token") in {token.value for token in google.issued if token.expires_at > time.time()}


def test_a_process_stopped_for_longer_than_a_life_is_right_at_once_when_it_goes_on(
    short_lived: Box, google: Emulator
) -> None:
    with short_lived.daemon() as process:
        until(lambda: live(short_lived, google))
        at_rest(short_lived)
        process.send_signal(signal.SIGSTOP)
        outlive(google)
        google.lifetime = HOUR  # or the next is due in less than a second
        before = google.count("token")
        process.send_signal(signal.SIGCONT)
        until(lambda: live(short_lived, google), 5)
        assert google.count("token") - before == 1


def test_going_on_without_a_network_takes_the_dead_token_away_and_retries_calmly(
    short_lived: Box, google: Emulator
) -> None:
    with short_lived.daemon() as process:
        until(lambda: live(short_lived, google))
        at_rest(short_lived)
        process.send_signal(signal.SIGSTOP)
        outlive(google)
        google.fail("token", None, kind="reset")
        before, awake = google.count("token"), time.monotonic()
        process.send_signal(signal.SIGCONT)
        until(lambda: not short_lived.read("token") and "export" not in short_lived.read("env.sh"), 5)
        until(lambda: google.count("token") - before >= 3, SOON)
        assert time.monotonic() - awake >= 1.5  # pauses of about one and two seconds lie between three tries
        google.heal()
        until(lambda: live(short_lived, google), SOON)


def test_a_try_that_hangs_keeps_no_dead_token(signed_in: Box, google: Emulator) -> None:
    signed_in.executed = True  # the daemon leaves only a child alone
    google.lifetime = 10.0
    with signed_in.daemon() as process:
        token = until(lambda: signed_in.read("token"))
        google.fail("token", None, kind="hang")
        process.send_signal(signal.SIGHUP)
        until(lambda: google.count("token") == 2)
        end = next(issued.expires_at for issued in google.issued if issued.value == token)
        until(lambda: not signed_in.read("token"), 30)
        # The folder tells when, however late this test looks.
        assert (signed_in.runtime / "gemini").stat().st_mtime < end + 2
        statuses = [seen.status for seen in google.requests if seen.route == "token"]
        assert (len(statuses), statuses[-1]) == (2, 0)  # the try goes on


# A real process under a clock that is set (libfaketime)


def faketime() -> str:
    found = next(Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1"), None)
    if found is None and os.environ.get("VX_TOKEN_STRICT"):
        pytest.fail("libfaketime is not installed")
    if found is None:
        pytest.skip("libfaketime is not installed")
    return str(found)


# libfaketime 0.9.10 refuses clock_nanosleep(2) until an instant, by which Python 3.11 sleeps.
MEND_SLEEP = """
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


@dataclass
class Machine:
    """A user whose wall clock can be set while programs run; the steady clocks stay true."""

    box: Box
    google: Emulator
    identity: str
    offset: float = 0.0
    asked_before: int = 0
    took: float = 0.0

    @classmethod
    def make(cls, folder: Path, google: Emulator, kind: str = "authorized_user", offset: float = 0.0) -> "Machine":
        folder.mkdir()
        box = Box(folder)
        (folder / "python").mkdir()
        (folder / "python" / "sitecustomize.py").write_text(MEND_SLEEP)
        box.environ |= {
            "PYTHONPATH": f"{folder / 'python'}:{box.environ['PYTHONPATH']}",
            "LD_PRELOAD": faketime(),
            "FAKETIME_TIMESTAMP_FILE": str(folder.with_suffix(".offset")),  # not where the daemon watches
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
        identity = google.credentials(kind, box.key)
        box.profile(url=google.base_url())
        machine = cls(box, google, identity)
        machine.set_clock(offset)
        return machine

    def set_clock(self, offset: float) -> None:
        """Set the clock to so many seconds from the truth."""
        new = self.box.root.with_suffix(".new")
        new.write_text(f"{offset:+.0f}\n")
        new.replace(self.box.root.with_suffix(".offset"))
        self.offset, self.asked_before = offset, self.asked

    @property
    def asked(self) -> int:
        return sum(seen.route == "token" and seen.identity == self.identity for seen in self.google.requests)

    @property
    def expires_in(self) -> float:
        """Seconds of life that env.sh promises by the machine's own clock; 0 for no token."""
        found = re.search(r"^# expires: (\d+)$", self.box.read("env.sh"), re.MULTILINE)
        end = int(found[1]) if found else 0
        return end - (time.time() + self.offset) if end else 0.0

    @property
    def right(self) -> bool:
        """Whether the newest token is in place, with an hour to live by the machine's own clock."""
        mine = [token.value for token in self.google.issued if token.identity == self.identity]
        return bool(mine) and self.box.read("token") == mine[-1] and HOUR - 60 < self.expires_in < HOUR + 5


SET: Mapping[str, float] = {"three hours on": 3 * HOUR, "a year back": -365 * DAY, "ten minutes back": -10 * MINUTE}


def _time(machines: Mapping[str, Machine]) -> None:
    """Note how long each takes to be right, or to have no token where there can be none."""
    started, waiting = time.monotonic(), dict(machines)
    while waiting and time.monotonic() < started + 2 * SOON:
        for name, machine in list(waiting.items()):
            machine.took = time.monotonic() - started
            if machine.right or (name == "woken offline" and not machine.box.read("token")):
                del waiting[name]
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_clock_that_is_set_is_noticed_within_35_seconds_and_costs_one_refresh(tmp_path: Path) -> None:
    """Side by side: set on, set back, woken without a network, and with a clock that was wrong from the start."""
    with running() as google, running() as unreachable, contextlib.ExitStack() as stack:
        machines = {name: Machine.make(tmp_path / name, google) for name in SET}
        offline = machines["woken offline"] = Machine.make(tmp_path / "offline", unreachable)
        wrong = machines["wrong from the start"] = Machine.make(tmp_path / "wrong", google, "service_account", DAY)
        for machine in machines.values():
            stack.enter_context(machine.box.daemon())
        until(lambda: all(m.right for m in machines.values() if m is not wrong), 60)
        until(lambda: "Google finds this machine's clock wrong; set this machine's clock" in wrong.box.log, 60)
        unreachable.fail("token", None, kind="reset")
        for name, machine in machines.items():
            machine.set_clock({**SET, "woken offline": 3 * HOUR}.get(name, 0.0))
        _time(machines)
        assert {name: m.took for name, m in machines.items() if m.took > SOON} == {}
        assert [name for name, m in machines.items() if not m.right] == ["woken offline"]
        assert {name: machines[name].asked - machines[name].asked_before for name in SET} == dict.fromkeys(SET, 1)

        assert "export" not in offline.box.read("env.sh")
        assert unreachable.count("token") <= 10
        unreachable.heal()
        until(lambda: offline.right, SOON)
