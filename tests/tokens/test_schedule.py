"""The laws of the schedule; tests/daemon/test_days.py shows whole days of it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import NOON
from vx_token.credentials.token import Token
from vx_token.errors import Failure, LoginNeededError
from vx_token.tokens.model import Origin, State
from vx_token.tokens.pacing import next_ask, unanswered_pause
from vx_token.tokens.schedule import next_refresh

HOUR, DAY = 3600.0, 86400.0
# The promises, in seconds. They are written out, because the module's own constants would follow any change of them.
MIN_GAP, FIRST_PAUSE, ASK_GAP, LONGEST_PAUSE = 0.5, 1.0, 5.0, 30.0
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


def unmoved(times: int, left: float, kind: str = "service_account") -> State:
    """A token that came back `times` times, the last time at NOON with so many seconds left."""
    return replace(fresh(HOUR, kind, NOON + left - HOUR), unmoved=times, tried_at=NOON)


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
        (unmoved(1, 1000, "metadata"), 0.0, 760.0),
        (unmoved(1, 1000, "metadata"), 0.8, 772.0),
        (unmoved(1, 240, "metadata"), 0.0, 60.0),
        (unmoved(4, 240, "metadata"), 0.0, 60.0),
        (unmoved(4, 240, "metadata"), 0.8, 48.0),
        (unmoved(4, 40, "metadata"), 0.0, 10.0),
        (unmoved(4, 2, "metadata"), 0.0, 1.0),
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


def test_a_retry_after_counts_from_the_answer_however_late_it_is_looked_at() -> None:
    state = offline(fresh(), NOON, retry_at=NOON + 100)
    assert next_refresh(NOON + 60, state, 0.0) == NOON + 100


def test_a_short_life_is_used_for_a_quarter_before_the_refresh() -> None:
    assert next_refresh(NOON, fresh(3.0), 0.0) == NOON + 0.75
