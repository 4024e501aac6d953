"""How often callers (`print`, `env`, `exec`, the gateway) may start a refresh attempt, and how long they wait; pure."""

from dataclasses import replace

from vx_token.tokens.model import CallerAttempt, State
from vx_token.tokens.schedule import FIRST_PAUSE, LONGEST_PAUSE, MIN_GAP, next_refresh

PATIENCE = 2.0
"""Maximum wait (seconds) for a refresh by a caller that has a live token; tools allow `print` five seconds in all."""

CHANGED_PATIENCE = 3.0
"""The same when the credential file has changed and does not name its account, so it may be another login."""

ENOUGH_FOR_NOW = 1.0
"""Minimum remaining lifetime (seconds) of a token that may be handed out instead of waiting."""

ASK_GAP = 5.0
"""Minimum time (seconds) between two attempts by callers, all callers counted together."""

CHANGED_GAP = 1.0
"""The same after the credential file or a setting has changed, so that the change takes effect quickly."""


def patience(now: float, state: State, same_login: bool | None, deadline: float) -> float:
    """Return how long (seconds) a caller that would accept any live token waits for a refresh.

    Args:
        now: the wall clock, epoch seconds.
        state: the profile's state.
        same_login: whether the token belongs to the configured login; None if unknown.
        deadline: the wait without a usable token, seconds.
    """
    token = state.live(now)
    if token is None or token.remaining(now) < ENOUGH_FOR_NOW:
        return deadline
    return {True: PATIENCE, None: CHANGED_PATIENCE, False: deadline}[same_login]


def next_ask(now: float, state: State) -> float:
    """Return when a caller may start an attempt, epoch seconds; a result of at most `now` means at once.

    No caller retries a failure within ASK_GAP, or longer where the schedule waits longer. After a success the gap is
    shorter for tokens with such a short lifetime that they must be refreshed sooner.
    """
    if state.tried_at > now + MIN_GAP:
        return now
    if state.failure is not None:
        return max(next_refresh(now, state, 0.0), state.tried_at + ASK_GAP)
    if state.token is None:
        return now
    due = state.tried_at + min(ASK_GAP, 0.1 * state.token.lifetime)
    return max(due, next_refresh(now, state, 0.0)) if state.unmoved else due


def unanswered_pause(count: int) -> float:
    """Return the pause (seconds) after `count` successive attempts by callers that received no response."""
    return max(ASK_GAP, min(FIRST_PAUSE * 2.0 ** min(count - 1, 16), LONGEST_PAUSE))


def held_off(now: float, state: State, attempt: CallerAttempt | None, origin: str, *, current: bool) -> float:
    """Return for how long (seconds) no caller may start an attempt; at most 0 means that it may start now.

    Args:
        now: the wall clock, epoch seconds.
        state: the profile's state.
        attempt: the last attempt by a caller.
        origin: fingerprint of the Origin that the new attempt would have.
        current: whether the last recorded attempt had that Origin.
    """
    if not current:
        recorded = state.tried_at + CHANGED_GAP if state.tried_at <= now + MIN_GAP else now
    else:
        recorded = now if _needed_no_request(state) else next_ask(now, state)
    attempt = unanswered(now, state, attempt)
    if attempt is None:
        return recorded - now
    pause = unanswered_pause(attempt.unanswered) if attempt.origin == origin else CHANGED_GAP
    return max(recorded, attempt.started_at + pause) - now


def unanswered(now: float, state: State, attempt: CallerAttempt | None) -> CallerAttempt | None:
    """Return `attempt` if it received no response, else None.

    Attempts with a live token are abandoned early, so they do not delay an attempt that waits longer.
    """
    if attempt is None or not attempt.unanswered:
        return None
    if attempt.started_at <= state.tried_at or attempt.started_at > now + MIN_GAP:
        return None
    token = state.token
    if token is not None and not token.alive(now) and attempt.started_at < token.expires_at:
        return replace(attempt, unanswered=1)
    return attempt


def next_attempt(now: float, previous: CallerAttempt | None, origin: str) -> CallerAttempt:
    """Return the record of an attempt that starts now; `previous` is the last unanswered one."""
    count = previous.unanswered + 1 if previous is not None and previous.origin == origin else 1
    return CallerAttempt(now, count, origin)


def _needed_no_request(state: State) -> bool:
    """Whether the last attempt failed before any request to Google, so that an immediate retry costs nothing."""
    failure, origin = state.failure, state.origin
    if failure is None:
        return False
    return failure.kind == "config" or (failure.kind == "login" and origin is not None and not origin.stamp)
