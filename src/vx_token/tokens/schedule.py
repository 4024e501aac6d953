"""When to refresh next: pure, from what is known of the profile.

The laws (stated with Hypothesis in tests/tokens/test_schedule.py): a 3600 s
token is renewed with 25 to 29 minutes left, any
token before its last whole second; no two tries are less than `MIN_GAP` apart nor, when the first brought nothing new,
less than `FIRST_PAUSE`; no answer lies further ahead than the token's own life allows or, after failures, than
`LONGEST_PAUSE`; a clock that jumps either way delays nothing beyond that.
"""

from vx_token.credentials.token import Token
from vx_token.errors import LONGEST_RETRY_AFTER
from vx_token.tokens.model import State

MIN_GAP = 0.5
"""Seconds between two tries at the least, whatever else says."""

FIRST_PAUSE = 1.0
"""Seconds after a try that brought nothing new, at the least; later pauses are longer."""

SLACK = 2.5
"""Seconds before its end at which a token is renewed at the latest, if it lives that long: shells know its end in whole
seconds, which may take one from it, and fetching another may take one on a busy machine."""

LONGEST_PAUSE = 30.0
"""Seconds between tries while only time can help: waking from suspend must not wait longer."""

LOGIN_PAUSE = 300.0
"""Seconds between tries while only a human can help; the credential file is watched meanwhile."""

LATE_WINDOW = 240.0
"""Metadata servers give the same token until its last four to five minutes."""


def next_refresh(now: float, state: State, jitter: float, margin: float | None = None) -> float:
    """The instant of the next try, epoch seconds; at most `now` means at once.

    Args:
        now: the wall clock, epoch seconds.
        state: what is known.
        jitter: chance in [0, 1), drawn once per try, so that many machines do not refresh together.
        margin: `refresh_margin` of the profile, seconds before the end; None leaves it to the token's own life.
    """
    if state.tried_at > now + MIN_GAP:
        return now  # that try was made before the clock went back: nothing can be counted from it
    tried = min(state.tried_at, now)
    if state.failures:
        return tried + _pause(now, state, jitter)
    token = state.token
    if token is None:
        return now
    if token.issued_at > now + 60:
        return now  # the clock went back behind the token's birth: its end cannot be trusted
    if state.unmoved:
        return tried + _moveless_pause(token.remaining(now), state.unmoved, jitter)
    due = token.expires_at - _margin(token, jitter, margin)
    return max(due, tried + MIN_GAP)


def _margin(token: Token, jitter: float, margin: float | None) -> float:
    lifetime = token.lifetime
    if margin is not None:
        return min(margin, 0.9 * lifetime)
    if token.kind == "metadata":
        return min(LATE_WINDOW - 15 * jitter, 0.48 * lifetime)
    return max(lifetime * (0.42 + 0.06 * jitter), min(SLACK, 0.75 * lifetime))


def _pause(now: float, state: State, jitter: float) -> float:
    failure = state.failure
    if failure is not None and failure.kind != "temporary":
        return LOGIN_PAUSE * (1 + 0.2 * jitter)
    pause = min(FIRST_PAUSE * 2.0 ** min(state.failures - 1, 16), LONGEST_PAUSE)
    pause = max(FIRST_PAUSE, pause * (1 - 0.25 * jitter))
    if failure is not None and failure.retry_at is not None:
        asked = failure.retry_at - min(state.tried_at, now)
        pause = max(pause, min(asked, LONGEST_RETRY_AFTER))
    return pause


def _moveless_pause(remaining: float, unmoved: int, jitter: float) -> float:
    # Ask more often as the end comes near, so that several asks fit, yet never in a hot loop.
    slower = min(5.0 * 2.0 ** min(unmoved - 1, 16), LONGEST_PAUSE)
    return max(FIRST_PAUSE, min(slower * (1 - 0.25 * jitter), remaining / 4))
