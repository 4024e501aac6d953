"""How often callers may start an attempt and how long they wait, each rule to the second."""

from dataclasses import replace

import pytest

from fakes import NOON
from vx_token.credentials.token import Token
from vx_token.errors import Failure
from vx_token.tokens import pacing
from vx_token.tokens.model import CallerAttempt, Origin, State

HOUR = 3600.0
ORIGIN = Origin("settings", "/key", "1:2:3")


def having(left: float = HOUR, lifetime: float = HOUR, tried: float = 0.0) -> State:
    """A token with `left` seconds of life at NOON; the last attempt, a success, was `tried` seconds before."""
    token = Token("t", NOON + left, NOON + left - lifetime, "service_account")
    return State(token, ORIGIN, attempts=1, tried_at=NOON - tried, made_from=ORIGIN)


def failed(kind: str = "temporary", tried: float = 0.0, times: int = 1, retry_in: float | None = None) -> State:
    """No token; the last of some failed attempts was `tried` seconds before NOON."""
    failure = Failure(kind, "wrong", retry_at=None if retry_in is None else NOON + retry_in)
    return State(None, ORIGIN, attempts=times, failures=times, tried_at=NOON - tried, failure=failure)


def asked(ago: float, unanswered: int = 1, origin: str = "mine") -> CallerAttempt:
    """An attempt that a caller started `ago` seconds before NOON."""
    return CallerAttempt(NOON - ago, unanswered, origin)


@pytest.mark.parametrize(
    ("state", "same_login", "seconds"),
    [
        (State(), True, 20.0),
        (having(left=0), True, 20.0),
        (having(left=0.9), True, 20.0),
        (having(left=1), True, 2.0),
        (having(), True, 2.0),
        (having(), None, 3.0),
        (having(), False, 20.0),
    ],
)
def test_a_caller_with_a_token_that_is_good_for_now_has_little_patience(
    state: State, same_login: bool | None, seconds: float
) -> None:
    assert pacing.patience(NOON, state, same_login, 20.0) == seconds


@pytest.mark.parametrize(
    ("state", "pause"),
    [
        (State(), 0.0),
        (replace(State(), tried_at=NOON), 0.0),
        (having(), 5.0),
        (having(tried=2), 3.0),
        (having(left=40, lifetime=40), 4.0),
        (having(left=60, lifetime=60), 5.0),
        (replace(having(), unmoved=1), 5.0),
        (replace(having(), unmoved=3), 20.0),
        (replace(having(left=20, lifetime=20), unmoved=1), 5.0),
        (replace(having(left=8, lifetime=20), unmoved=1), 2.0),
        (failed(), 5.0),
        (failed(tried=3), 2.0),
        (failed(times=5), 16.0),
        (failed(retry_in=60), 60.0),
        (failed("login"), 300.0),
        (failed(tried=-0.5), 5.5),
        (failed(tried=-0.6), 0.0),  # the clock was set back, so that instant means nothing
        (having(tried=-0.5), 5.5),
        (having(tried=-0.6), 0.0),
    ],
)
def test_callers_repeat_an_attempt_after(state: State, pause: float) -> None:
    assert pacing.next_ask(NOON, state) - NOON == pytest.approx(pause, abs=1e-5)


@pytest.mark.parametrize(
    ("count", "pause"), [(1, 5.0), (3, 5.0), (4, 8.0), (5, 16.0), (6, 30.0), (1000, 30.0), (10**6, 30.0)]
)
def test_attempts_without_an_answer_are_repeated_after(count: int, pause: float) -> None:
    assert pacing.unanswered_pause(count) == pause


@pytest.mark.parametrize(
    ("state", "attempt", "current", "pause"),
    [
        (having(tried=1), None, True, 4.0),
        (having(tried=1), asked(0.5), True, 4.5),
        (having(tried=4), asked(3, unanswered=5), True, 13.0),
        (having(tried=4), asked(3, unanswered=5, origin="another"), True, 1.0),
        (having(tried=10), asked(3, unanswered=5, origin="another"), True, -2.0),
        (having(tried=4), asked(3, unanswered=0), True, 1.0),
        # Settings or the credential file have changed.
        (having(tried=0.25), None, False, 0.75),
        (having(tried=10), None, False, -9.0),
        (having(tried=-0.5), None, False, 1.5),
        (having(tried=-0.6), None, False, 0.0),
        (having(tried=10), asked(3, unanswered=5), False, 13.0),
        # These failures needed no request to Google.
        (failed("config"), None, True, 0.0),
        (failed("login"), None, True, 300.0),
        (replace(failed("login"), origin=Origin("settings", "/key", "")), None, True, 0.0),
        (replace(failed("login"), origin=None), None, True, 300.0),
        (replace(failed(), origin=Origin("settings", "/key", "")), None, True, 5.0),
    ],
)
def test_callers_are_held_off_for(state: State, attempt: CallerAttempt | None, current: bool, pause: float) -> None:
    assert pacing.held_off(NOON, state, attempt, "mine", current=current) == pytest.approx(pause, abs=1e-5)


@pytest.mark.parametrize(
    ("state", "attempt", "counted"),
    [
        (having(tried=10), None, None),
        (having(tried=10), asked(3, unanswered=0), None),
        (having(tried=10), asked(3, unanswered=2), 2),
        (having(tried=3), asked(3, unanswered=2), None),  # the last recorded outcome is its answer
        (having(tried=2), asked(3, unanswered=2), None),
        (State(), asked(-0.5, unanswered=2), 2),
        (State(), asked(-0.6, unanswered=2), None),  # the clock was set back
        # An attempt with a live token is abandoned early; once the token has expired, it counts as one.
        (having(left=-1, tried=10), asked(3, unanswered=2), 1),
        (having(left=-3, tried=10), asked(3, unanswered=2), 2),
        (having(left=0, tried=10), asked(3, unanswered=2), 1),
        (having(left=1, tried=10), asked(3, unanswered=2), 2),
        (State(), asked(3, unanswered=2), 2),
    ],
)
def test_an_attempt_is_unanswered_until_an_outcome_is_recorded(
    state: State, attempt: CallerAttempt | None, counted: int | None
) -> None:
    unanswered = pacing.unanswered(NOON, state, attempt)
    if counted is None or attempt is None:
        assert unanswered is None
    else:
        assert unanswered == replace(attempt, unanswered=counted)


@pytest.mark.parametrize(
    ("previous", "count"), [(None, 1), (asked(9, unanswered=3), 4), (asked(9, unanswered=3, origin="another"), 1)]
)
def test_attempts_of_one_origin_are_counted(previous: CallerAttempt | None, count: int) -> None:
    assert pacing.next_attempt(NOON, previous, "mine") == CallerAttempt(NOON, count, "mine")
