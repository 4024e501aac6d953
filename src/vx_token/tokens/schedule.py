"""Computes the time of the next refresh from a profile's state; pure.

tests/tokens/test_schedule.py states these properties with Hypothesis:

* A token of 3600 s is refreshed with 25 to 29 minutes left, any token before its last whole second.
* Two attempts are at least MIN_GAP apart, or FIRST_PAUSE if the first returned no new token.
* The next attempt is due before the token expires or, after failures, within LONGEST_PAUSE.
* Setting the clock forward or back causes no longer delay.
"""

from vx_token.credentials.token import Token
from vx_token.errors import LONGEST_RETRY_AFTER
from vx_token.tokens.model import State

MIN_GAP = 0.5
"""Minimum time (seconds) between two attempts in all cases."""

FIRST_PAUSE = 1.0
"""Minimum pause (seconds) after an attempt that returned no new token; it doubles with each such attempt."""

SLACK = 2.5
"""Minimum remaining lifetime (seconds) at a refresh, for tokens that live that long.

Shells know the expiry in whole seconds, which costs up to one; the fetch may take one on a busy machine."""

LONGEST_PAUSE = 30.0
"""Maximum pause (seconds) after temporary failures, so that a refresh after suspend is not late."""

LOGIN_PAUSE = 300.0
"""Pause (seconds) between attempts while the user must log in; a change of the credential file ends it."""

LATE_WINDOW = 240.0
"""Remaining lifetime (seconds) below which metadata servers return a new token; before, they repeat the same one."""

LATE_PAUSE = 60.0
"""Pause (seconds) after a metadata server repeated its token, so that a server that renews 200 s before the expiry gets
two attempts in a token's life. An attempt costs two requests."""

_METADATA = "metadata"


def next_refresh(now: float, state: State, jitter: float, margin: float | None = None) -> float:
    """Return the time of the next attempt, epoch seconds; a result of at most `now` means at once.

    Args:
        now: the wall clock, epoch seconds.
        state: the profile's state.
        jitter: a random number in [0, 1), drawn once per attempt, so that many machines do not refresh together.
        margin: the profile's `refresh_margin`, seconds before the expiry; None derives it from the token's lifetime.
    """
    if state.tried_at > now + MIN_GAP:
        return now  # the clock was set back after that attempt, so its time is meaningless
    tried = min(state.tried_at, now)
    if state.failures:
        return tried + _pause(now, state, jitter)
    token = state.token
    if token is None:
        return now
    if token.issued_at > now + 60:
        return now  # the clock was set back to before the token's issue, so its expiry is unknown
    if state.unmoved:
        pause = _unmoved_pause(token, token.remaining(now), state.unmoved, jitter)
        earliest = token.expires_at - _margin(token, jitter, None) if token.kind == _METADATA else now
        return max(tried + pause, earliest)
    due = token.expires_at - _margin(token, jitter, margin)
    return max(due, tried + MIN_GAP)


def _margin(token: Token, jitter: float, margin: float | None) -> float:
    lifetime = token.lifetime
    if margin is not None:
        return min(margin, 0.9 * lifetime)
    if token.kind == _METADATA:
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


def _unmoved_pause(token: Token, remaining: float, unmoved: int, jitter: float) -> float:
    # Shorter pauses near the expiry, so that several attempts fit, but no busy loop.
    slower = LATE_PAUSE if token.kind == _METADATA else min(5.0 * 2.0 ** min(unmoved - 1, 16), LONGEST_PAUSE)
    return max(FIRST_PAUSE, min(slower * (1 - 0.25 * jitter), remaining / 4))
