"""The laws of the schedule, and whole days of refreshing under a clock that jumps."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import NOON, FakeClock, FakeGoogle
from vx_token.config.model import Config, Profile
from vx_token.credentials.token import Token
from vx_token.daemon.keeper import keep_fresh
from vx_token.errors import Failure, LoginNeededError, TemporaryError
from vx_token.outputs.publisher import Publisher
from vx_token.system.clock import Wake
from vx_token.tokens.model import Origin, State
from vx_token.tokens.pacing import next_ask, unanswered_pause
from vx_token.tokens.refresh import Refresher
from vx_token.tokens.schedule import next_refresh
from vx_token.tokens.store import Store

HOUR, DAY = 3600.0, 86400.0
# The promises, in seconds. They are written out, because the module's own constants would follow any change of them.
MIN_GAP, FORCED_GAP, FIRST_PAUSE, ASK_GAP, LONGEST_PAUSE = 0.5, 0.5, 1.0, 5.0, 30.0
LATE_WINDOW, LOGIN_PAUSE, LONGEST_RETRY_AFTER = 240.0, 300.0, 3600.0
ORIGIN = Origin("settings")

chances = st.floats(0, 1, exclude_max=True)
ages = st.floats(0, 2 * DAY)
lifetimes = st.floats(2, 12 * HOUR)
kinds = st.sampled_from(["service_account", "authorized_user", "impersonated", "metadata"])
margins = st.none() | st.floats(1, 12 * HOUR)


def fresh(lifetime: float = HOUR, kind: str = "service_account", issued_at: float = NOON) -> State:
    """A profile just after a good answer."""
    return State().after_success(Token("t", issued_at + lifetime, issued_at, kind), ORIGIN, issued_at)


def offline(state: State, now: float, times: int = 1, retry_at: float | None = None) -> State:
    """The same profile after some failed tries, the last of them at `now`."""
    failure = Failure("temporary", "Google cannot be reached", retry_at=retry_at)
    return replace(state, failures=times, attempts=state.attempts + times, tried_at=now, failure=failure)


@st.composite
def states(draw: st.DrawFn) -> State:
    """Anything that may be known at NOON, written by a clock that may have been wrong."""
    tried_at = NOON + draw(st.floats(-2 * DAY, 2 * DAY))
    state = fresh(draw(lifetimes), draw(kinds), tried_at)
    if draw(st.booleans()):
        state = replace(state, token=None, failures=1)
    if draw(st.booleans()):
        return replace(state, failures=0, unmoved=draw(st.integers(0, 1000))) if state.token else State()
    retry_at = draw(st.none() | st.floats(-DAY, DAY).map(lambda asked: tried_at + asked))
    state = offline(state, tried_at, draw(st.integers(1, 10_000)), retry_at)
    kind = draw(st.sampled_from(["temporary", "login", "config"]))
    return replace(state, failure=Failure(kind, "wrong", retry_at=retry_at))


@given(chances)
def test_a_token_of_an_hour_is_renewed_with_25_to_29_minutes_left(jitter: float) -> None:
    left = NOON + HOUR - next_refresh(NOON, fresh(), jitter)
    assert 25 * 60 <= left <= 29 * 60


@given(lifetimes, chances, margins)
def test_a_token_is_renewed_within_its_life_and_not_at_its_birth(
    lifetime: float, jitter: float, margin: float | None
) -> None:
    due = next_refresh(NOON, fresh(lifetime), jitter, margin)
    assert NOON + MIN_GAP <= due < NOON + lifetime


@given(st.floats(2, 12 * HOUR), chances)
def test_a_token_is_renewed_before_its_last_whole_second(lifetime: float, jitter: float) -> None:
    # Shells know its end in whole seconds, so to them it may end a second early.
    assert NOON + lifetime - next_refresh(NOON, fresh(lifetime), jitter) >= 1.5


@given(st.floats(600, 12 * HOUR), chances, st.floats(0, HOUR))
def test_a_metadata_server_is_not_asked_before_it_can_have_another_token(
    lifetime: float, jitter: float, age: float
) -> None:
    due = next_refresh(NOON, fresh(lifetime, "metadata"), jitter)
    assert NOON + lifetime - LATE_WINDOW <= due <= NOON + lifetime - 200


@given(st.floats(600, HOUR), chances, st.floats(0, HOUR), margins)
def test_a_metadata_server_that_repeats_its_token_is_not_asked_before_it_can_have_another_one(
    lifetime: float, jitter: float, age: float, margin: float | None
) -> None:
    tried = NOON + min(age, lifetime - 300)  # by SIGHUP, after a refused request, or by a refresh_margin
    state = replace(fresh(lifetime, "metadata"), tried_at=tried, unmoved=1)
    due = next_refresh(tried, state, jitter, margin)
    assert NOON + lifetime - LATE_WINDOW <= due <= NOON + lifetime - 200


@given(states(), chances, margins)
def test_two_tries_are_never_closer_than_the_least_gap(state: State, jitter: float, margin: float | None) -> None:
    if not state.attempts:
        return
    gap = FIRST_PAUSE if state.failures or state.unmoved else MIN_GAP
    assert next_refresh(state.tried_at, state, jitter, margin) >= state.tried_at + gap


@given(states(), chances, margins)
def test_whatever_the_clock_did_the_next_try_is_within_the_tokens_life_or_the_longest_pause(
    state: State, jitter: float, margin: float | None
) -> None:
    due = next_refresh(NOON, state, jitter, margin)
    if state.failures and state.failure is not None:
        asked = LONGEST_RETRY_AFTER if state.failure.retry_at is not None else LONGEST_PAUSE
        longest = asked if state.failure.kind == "temporary" else 1.2 * LOGIN_PAUSE
    else:
        longest = state.token.lifetime if state.token else 0
    assert due <= NOON + longest + 60


@given(states(), chances, margins)
def test_a_try_made_in_the_future_puts_nothing_off(state: State, jitter: float, margin: float | None) -> None:
    before = state.tried_at - MIN_GAP - 1
    assert next_refresh(before, state, jitter, margin) <= before


@given(st.integers(1, 10_000), st.floats(0, DAY))
def test_callers_ask_at_most_each_five_seconds_and_later_each_thirty(times: int, age: float) -> None:
    state = offline(fresh(), NOON, times)
    pause = next_ask(NOON + age, state) - NOON
    assert ASK_GAP <= pause <= LONGEST_PAUSE
    assert pause == LONGEST_PAUSE or times < 6
    assert unanswered_pause(times) == pause


@given(lifetimes, kinds)
def test_callers_may_ask_again_before_a_short_token_ends(lifetime: float, kind: str) -> None:
    state = fresh(lifetime, kind)
    assert 0 < next_ask(NOON, state) - NOON <= min(ASK_GAP, 0.1 * lifetime + 1)
    assert next_ask(NOON - HOUR, state) <= NOON  # the clock went back: nothing can be counted


@given(chances, st.integers(1, 10_000))
def test_offline_is_asked_again_within_half_a_minute_however_long_it_lasts(jitter: float, times: int) -> None:
    pause = next_refresh(NOON, offline(State(), NOON, times), jitter) - NOON
    assert FIRST_PAUSE <= pause <= LONGEST_PAUSE


@pytest.mark.parametrize("lifetime", [60.0, 300.0, HOUR])
@given(jitter=chances)
def test_after_a_failure_several_tries_fit_before_the_end(lifetime: float, jitter: float) -> None:
    state = fresh(lifetime)
    now, tries = next_refresh(NOON, state, jitter), 0
    while now < NOON + lifetime:
        tries += 1
        state = offline(state, now, tries)
        now = next_refresh(now, state, jitter)
    assert tries >= 4


@given(chances, st.floats(0, 2 * HOUR), st.integers(1, 100))
def test_a_retry_after_is_kept_up_to_an_hour(jitter: float, asked: float, times: int) -> None:
    state = offline(fresh(), NOON, times, retry_at=NOON + asked)
    pause = next_refresh(NOON, state, jitter) - NOON
    believed = min(asked, LONGEST_RETRY_AFTER)
    assert believed - 0.001 <= pause <= max(believed, LONGEST_PAUSE) + 0.001


@given(chances, st.integers(1, 1000))
def test_only_a_human_can_help_means_a_try_every_five_to_six_minutes(jitter: float, times: int) -> None:
    state = fresh().after_failure(LoginNeededError("log in"), ORIGIN, NOON)
    pause = next_refresh(NOON, replace(state, failures=times), jitter) - NOON
    assert LOGIN_PAUSE <= pause <= 1.2 * LOGIN_PAUSE


@given(lifetimes, ages, st.integers(1, 1000), chances)
def test_a_token_that_does_not_move_is_asked_for_in_growing_pauses(
    lifetime: float, age: float, unmoved: int, jitter: float
) -> None:
    now = NOON + age
    state = replace(fresh(lifetime), unmoved=unmoved, tried_at=now)
    assert FIRST_PAUSE <= next_refresh(now, state, jitter) - now <= LONGEST_PAUSE


def unmoved(times: int, left: float) -> State:
    """A metadata server's token that came back `times` times, the last time at NOON with so many seconds left."""
    return replace(fresh(HOUR, "metadata", NOON + left - HOUR), unmoved=times, tried_at=NOON)


@pytest.mark.parametrize(
    ("state", "jitter", "pause"),
    [
        (State(), 0.0, 0.0),
        (fresh(), 0.0, HOUR * 0.58),
        (fresh(), 0.5, HOUR * 0.55),
        (fresh(10.0), 0.0, 5.8),
        (fresh(5.0), 0.0, 2.5),
        (fresh(4.0), 0.0, 1.5),
        (fresh(2.0), 0.0, 0.5),
        (fresh(1.0), 0.0, 0.5),
        (fresh(kind="metadata"), 0.0, HOUR - 240),
        (fresh(kind="metadata"), 0.8, HOUR - 228),
        (fresh(400.0, kind="metadata"), 0.0, 208.0),
        *((offline(fresh(), NOON, 1 + times), 0.0, 2.0**times) for times in range(5)),
        (offline(fresh(), NOON, 6), 0.0, 30.0),
        (offline(fresh(), NOON, 10**6), 0.0, 30.0),
        (offline(State(), NOON, 1), 0.8, 1.0),
        (offline(State(), NOON, 5), 0.8, 12.8),
        (offline(fresh(), NOON, 1, NOON + 45), 0.0, 45.0),
        (offline(fresh(), NOON, 6, NOON + 10), 0.0, 30.0),
        (offline(fresh(), NOON, 1, NOON + 2 * HOUR), 0.8, HOUR),
        (replace(offline(fresh(), NOON), failure=None), 0.0, 1.0),
        (fresh().after_failure(LoginNeededError("log in"), ORIGIN, NOON), 0.0, 300.0),
        (fresh().after_failure(LoginNeededError("log in"), ORIGIN, NOON), 0.5, 330.0),
        (unmoved(1, 1000), 0.0, 5.0),
        (unmoved(2, 1000), 0.0, 10.0),
        (unmoved(2, 1000), 0.8, 8.0),
        (unmoved(3, 1000), 0.0, 20.0),
        (unmoved(4, 1000), 0.0, 30.0),
        (unmoved(10**6, 1000), 0.0, 30.0),
        (unmoved(4, 60), 0.0, 15.0),
        (unmoved(4, 2), 0.0, 1.0),
    ],
)
def test_each_case_has_its_pause(state: State, jitter: float, pause: float) -> None:
    assert next_refresh(NOON, state, jitter) - NOON == pytest.approx(pause, abs=1e-5)


@pytest.mark.parametrize(("margin", "left"), [(60.0, 60.0), (1800.0, 1800.0), (3000.0, 3000.0), (5000.0, 3240.0)])
@pytest.mark.parametrize("kind", ["service_account", "metadata"])
def test_a_refresh_margin_is_kept_to_the_second_up_to_nine_tenths_of_the_life(
    margin: float, left: float, kind: str
) -> None:
    assert NOON + HOUR - next_refresh(NOON, fresh(kind=kind), 0.7, margin) == pytest.approx(left, abs=1e-5)


@pytest.mark.parametrize("state", [offline(fresh(), NOON, 3), unmoved(2, 1000), replace(fresh(0.6), tried_at=NOON)])
def test_an_attempt_half_a_second_ahead_counts_as_made_now_and_one_further_ahead_as_never_made(state: State) -> None:
    pause = next_refresh(NOON, state, 0.0) - NOON
    ahead = replace(state, tried_at=NOON + 0.5)
    assert next_refresh(NOON, ahead, 0.0) - NOON == pytest.approx(pause, abs=1e-5)
    assert next_refresh(NOON, replace(state, tried_at=NOON + 0.51), 0.0) == NOON


def test_a_token_issued_more_than_a_minute_ahead_is_refreshed_at_once() -> None:
    ahead = [replace(fresh(issued_at=NOON + by), tried_at=NOON) for by in (60, 61)]
    assert next_refresh(NOON, ahead[0], 0.0) == pytest.approx(NOON + 60 + HOUR * 0.58)
    assert next_refresh(NOON, ahead[1], 0.0) == NOON


def test_machines_that_started_together_drift_apart() -> None:
    dues = {next_refresh(NOON, fresh(), chance / 100) for chance in range(100)}
    assert len(dues) == 100
    assert max(dues) - min(dues) > 180


class House:
    """One profile kept fresh by the real keeper, with the clock and Google faked."""

    def __init__(self, root: Path, lifetime: float = HOUR, late: float | None = None) -> None:
        key = root / "key.json"
        key.write_text("{}")
        self.profile = Profile("gemini", "demo", credentials=str(key))
        self.clock, self.wake, self.store = FakeClock(), Wake(), Store(root / "run")
        self.google = FakeGoogle(self.clock, lifetime, late)
        config = Config(root / "config.toml", {"gemini": self.profile}, "gemini")
        self.publisher = Publisher(self.store, self.clock, config)
        self.refresher = Refresher(self.store, self.clock, self.google, {}, config, self.publisher.publish)
        self.dead = 0.0

    def keep(self, seconds: float, chance: float = 0.5) -> None:
        """Let so much time pass, watching for how much of it the token on disk was no good."""
        self.clock.at(self.clock.elapsed + seconds, self.wake.stop)
        for second in range(0, int(seconds), 30):
            self.clock.at(self.clock.elapsed + second, self._look)
        keep_fresh(self.profile, self.refresher, self.publisher, self.wake, lambda _: None, lambda: chance)

    def _look(self) -> None:
        if self.store.read("gemini").live(self.clock.now()) is None or self.token != self.google.live:
            self.dead += 30

    @property
    def token(self) -> str:
        path = self.store.folder("gemini") / "token"
        return path.read_text() if path.exists() else ""

    def fail(self, second: float, seconds: float, error: TemporaryError | LoginNeededError) -> None:
        """Let Google fail for a while."""
        self.clock.at(second, lambda: setattr(self.google, "error", error))
        self.clock.at(second + seconds, lambda: setattr(self.google, "error", None))


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder that no disk slows down, where there is one: a day writes thousands of files."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


@pytest.fixture
def house(memory: Path) -> House:
    return House(memory)


@pytest.mark.parametrize(
    ("lifetime", "late", "least", "most"),
    [
        (HOUR, None, 40, 47),
        (900.0, None, 160, 190),
        (12 * HOUR, None, 3, 4),
        (HOUR, 300.0, 26, 28),  # a metadata server that renews five minutes before the end
        (HOUR, 240.0, 26, 28),
        # One that is late: two attempts a life. Each costs two requests, see test_a_metadata_server_gives_a_token.
        (HOUR, 200.0, 26, 27 * 2),
    ],
)
@pytest.mark.parametrize("chance", [0.0, 0.99])
def test_a_day_of_refreshing(
    memory: Path, lifetime: float, late: float | None, least: int, most: int, chance: float
) -> None:
    house = House(memory, lifetime, late)
    house.keep(DAY, chance)
    assert least <= len(house.google.asked) <= most
    assert house.dead <= 30  # before the first token


def test_a_token_of_two_seconds_is_renewed_at_most_twice_a_second(memory: Path) -> None:
    house = House(memory, lifetime=2.0)
    house.keep(60)
    assert 60 <= len(house.google.asked) <= 121
    assert min(house.google.gaps) >= MIN_GAP


def test_six_hours_offline_are_bounded_and_end_with_the_network(house: House) -> None:
    house.google.error = TemporaryError("Google cannot be reached")
    house.fail(0, 6 * HOUR, house.google.error)
    house.keep(6 * HOUR + 60)
    assert 720 <= len(house.google.asked) <= 980
    assert min(house.google.gaps) >= MIN_GAP
    assert house.token == house.google.live != ""


def test_an_outage_shorter_than_half_a_life_costs_no_second(house: House) -> None:
    house.fail(HOUR / 2, 25 * 60, TemporaryError("HTTP 503"))
    house.keep(2 * HOUR)
    assert house.dead <= 30


def test_the_last_good_token_is_gone_at_its_end(house: House) -> None:
    house.fail(60, 2 * HOUR, TemporaryError("HTTP 503"))
    house.keep(HOUR - 60)
    assert house.token == "ya29.token-1"
    house.wake = Wake()
    house.keep(120)
    assert house.token == ""


def test_retry_after_is_honoured_by_the_keeper(house: House) -> None:
    house.google.error = TemporaryError("HTTP 429", retry_after=500)
    house.keep(HOUR)
    assert 7 <= len(house.google.asked) <= 8
    assert min(house.google.gaps) >= 500


def test_a_day_without_a_login_asks_every_five_minutes(house: House) -> None:
    house.google.error = LoginNeededError("Google wants you to log in again", "run: gcloud …")
    house.keep(DAY)
    assert 240 <= len(house.google.asked) <= 290


@pytest.mark.parametrize("by", [-DAY, -HOUR, -10 * 60, 10 * 60, HOUR, DAY, 365 * DAY, -365 * DAY])
def test_a_clock_that_is_set_costs_one_refresh_at_once(house: House, by: float) -> None:
    house.clock.at(600, lambda: house.clock.set(by))
    house.keep(700)
    assert len(house.google.asked) == 2
    assert house.google.asked[1] == pytest.approx(600, abs=1)
    assert house.token == house.google.live != ""


@pytest.mark.parametrize("by", [-DAY, -HOUR, HOUR, DAY])
@pytest.mark.parametrize("failing", [False, True])
def test_a_clock_that_was_set_unnoticed_puts_nothing_off(house: House, by: float, failing: bool) -> None:
    if failing:
        house.fail(0, 590, TemporaryError("Google cannot be reached"))
        house.google.error = TemporaryError("Google cannot be reached")
    house.clock.at(601, lambda: house.clock.set(by, noticed=False))
    house.keep(700)
    assert any(600 < asked < 640 for asked in house.google.asked)
    assert min(house.google.gaps) >= MIN_GAP
    assert house.token == house.google.live != ""


def test_after_three_hours_of_suspend_the_first_nap_brings_a_fresh_token(house: House) -> None:
    house.clock.at(600, lambda: house.clock.pass_by(3 * HOUR))
    house.keep(3 * HOUR + 700)
    assert house.google.asked[1] == pytest.approx(600 + 3 * HOUR, abs=1)
    assert house.token == house.google.live != ""


def test_a_forced_refresh_replaces_a_token_that_is_still_fresh(house: House) -> None:
    house.clock.at(100, house.wake.force)
    house.keep(200)
    assert len(house.google.asked) == 2


def test_a_nudge_asks_google_nothing(house: House) -> None:
    for second in range(10, 100):
        house.clock.at(second, house.wake.nudge)
    house.keep(200)
    assert len(house.google.asked) == 1


def test_a_storm_of_changes_is_bounded(house: House) -> None:
    house.google.duration = 0.0
    for tenth in range(600):
        house.clock.at(10 + tenth / 10, house.wake.force)
    house.keep(100)
    assert len(house.google.asked) <= 2 + 60 / FORCED_GAP


def test_no_nap_is_longer_than_half_a_minute(house: House) -> None:
    house.keep(HOUR)
    assert max(house.clock.naps) <= 30


def test_a_file_that_vanishes_is_back_after_the_next_nap(house: House) -> None:
    house.clock.at(100, (house.store.folder("gemini") / "token").unlink)
    house.keep(200)
    assert house.token == house.google.live != ""


def test_a_new_credential_file_is_used_at_once(house: House) -> None:
    other = house.store.root.parent / "other.json"
    other.write_text('{"type": "another"}')
    house.clock.at(100, lambda: shutil.move(other, house.profile.credentials))
    house.keep(200)
    assert len(house.google.asked) == 2
