"""Refreshes a profile's token: the one path for the daemon, the commands and the gateway."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from vx_token.config.model import Config, Profile
from vx_token.credentials.fetch import DEADLINE
from vx_token.credentials.token import Token
from vx_token.errors import ConfigError, Failure, TemporaryError, VxTokenError, error_of
from vx_token.system import atomic
from vx_token.system.clock import Clock
from vx_token.tokens import lifetime, pacing
from vx_token.tokens.model import CallerAttempt, Origin, State
from vx_token.tokens.ownership import Ownership, fingerprint
from vx_token.tokens.pacing import ASK_GAP, PATIENCE
from vx_token.tokens.store import Store

FetchToken = Callable[[Profile, Mapping[str, str], float, Callable[[], bool]], Token]
"""Fetches a token: profile, environment, deadline (seconds), and whether to cancel. Raises VxTokenError."""

Publish = Callable[[Profile, State], object]
"""Updates the profile's output files after an attempt."""

_NO_RESPONSE = Failure(
    "temporary", "the last attempt to refresh this profile brought no answer", "run: vx-token refresh, to ask again now"
)

_BUSY = Failure("temporary", "another process is still refreshing this profile", "try again in a moment")


@dataclass(frozen=True)
class Refresher:
    """Refreshes and returns tokens; shared by the daemon, `print`, `env`, `exec`, `refresh` and the gateway.

    Attributes:
        store: the runtime folder, shared with other processes.
        clock: the wall clock.
        fetch: fetches a token from Google, in a child process.
        environ: the environment in which credentials are searched.
        config: the configuration in force.
        publish: updates the output files after each attempt.
        deadline: maximum wait of a caller, seconds.
        cancelled: whether the caller must stop waiting.
        attended: whether a daemon in another process keeps the store's files.
        lockless: refresh even if the profile's lock cannot be opened; only for the one daemon of a runtime folder.
    """

    store: Store
    clock: Clock
    fetch: FetchToken
    environ: Mapping[str, str]
    config: Config
    publish: Publish = lambda *_: None
    deadline: float = DEADLINE
    cancelled: Callable[[], bool] = lambda: False
    attended: Callable[[], bool] = lambda: False
    lockless: bool = False

    @property
    def ownership(self) -> Ownership:
        """What decides whether a recorded token belongs to the configured login."""
        return Ownership(self.environ, self.config, self.attended)

    def current(self, profile: Profile, min_ttl: float = lifetime.DEFAULT_MIN_TTL, strict: bool = False) -> Token:
        """Return a token with at least `min_ttl` seconds of remaining lifetime, refreshed first if necessary.

        A live token of the right login is returned after PATIENCE seconds at most, and at once while another process
        refreshes or while the last attempt stands (see `pacing.next_ask`). With `strict`, the call waits for up to
        `deadline` seconds, and a remaining lifetime below `min_ttl` is an error. Without a live token it waits equally
        long, because a shorter wait could never succeed with a slow Google, proxy or program.

        Raises:
            ConfigError, LoginNeededError, TemporaryError: there is no such token.
        """
        state = self.store.read(profile.name)
        if not self._enough(state, profile, min_ttl, strict):
            state = self._refresh_for_caller(profile, state, min_ttl, strict)
        elif state.attempts:
            self._link_default()  # the configuration may name another profile since the last attempt
        now = self.clock.now()
        token = state.live(now)
        if token is None or self.ownership.same_login(state, profile) is False:
            raise error_of(state.failure or _NO_RESPONSE, now)
        if strict and token.remaining(now) < min_ttl:
            raise self._too_short(token, min_ttl, state)
        return token

    def refresh(self, profile: Profile, rejected: str | None = None) -> State:
        """Refresh the token now, whatever its remaining lifetime; callers that wait together share one request.

        Args:
            profile: the profile to refresh.
            rejected: a token that Google rejected; if another token has replaced it, no request is made.

        Raises:
            ConfigError: the profile's folder is unsafe or not writable.
        """

        def replaced(state: State) -> bool:
            token = state.live(self.clock.now())
            other = token is not None and token.value != rejected
            return rejected is not None and other and self.ownership.is_current(state, profile)

        seen, end = self.store.read(profile.name), time.monotonic() + self.deadline
        try:
            self._prepare(profile)
            with self._lock(profile, end) as locked:
                state = self.store.read(profile.name)
                if self._answered(state, seen, profile) or replaced(state):
                    return state
                if not locked:
                    return state if state.live(self.clock.now()) else replace(state, failure=_BUSY)
                return self._attempt(profile, state, max(1.0, end - time.monotonic()), self.cancelled)
        except OSError as error:
            raise self.unwritable(profile, error) from None

    def set_back(self, profile: Profile, by: float) -> None:
        """Move the recorded instants by `by` seconds, because the wall clock was set by as much.

        Otherwise the token would seem to expire later than it does.
        """
        with (
            contextlib.suppress(OSError, ConfigError),  # the next attempt reports the error
            self._lock(profile, time.monotonic() + self.deadline) as locked,
        ):
            if locked:
                self.store.write(profile.name, self.store.read(profile.name).shifted(by))

    def outdated(self, profile: Profile, state: State) -> bool:
        """Whether settings or credential file have changed since the last attempt."""
        return self.ownership.outdated(state, profile)

    def _enough(self, state: State, profile: Profile, min_ttl: float, strict: bool) -> bool:
        token, now = state.token, self.clock.now()
        if token is None or token.issued_at > now + 60 or not self.ownership.is_current(state, profile):
            return False
        if state.made_from is not None and state.made_from != state.origin:
            return False  # the credential file has changed, and the attempt with the new file failed
        enough = min_ttl if strict else lifetime.required_life(min_ttl, token.lifetime)
        return token.alive(now) and token.remaining(now) >= enough

    def _refresh_for_caller(self, profile: Profile, seen: State, min_ttl: float, strict: bool) -> State:
        """Return the state after a refresh, or as it is when the pacing allows no attempt now."""
        same = self.ownership.same_login(seen, profile)
        patience = self.deadline if strict else pacing.patience(self.clock.now(), seen, same, self.deadline)
        start = time.monotonic()
        end, hurried, brief = start + patience, patience < self.deadline, patience <= PATIENCE

        def cancelled() -> bool:
            return self.cancelled() or (hurried and time.monotonic() >= end)

        if brief and self._held_off(seen, profile) > 0:
            return seen
        try:
            self._prepare(profile)
            with self._lock(profile, start if brief else end, cancelled) as locked:
                state = self.store.read(profile.name)
                if self._answered(state, seen, profile) or self._enough(state, profile, min_ttl, strict):
                    return state
                if not locked:
                    return state if hurried else replace(state, failure=_BUSY)
                if not self._wait_for_turn(state, profile, 0.0 if brief else end - time.monotonic(), cancelled):
                    return state
                recorded = self._record_attempt(state, profile)
                after = self._attempt(profile, state, max(1.0, end - time.monotonic()), cancelled)
                if after is not state:  # the response is in the state, unless that could not be written
                    unanswered = 1 if self.store.unsaved(profile.name) else 0
                    self.store.record_attempt(profile.name, replace(recorded, unanswered=unanswered))
                return after
        except OSError as error:
            if hurried:
                return seen
            raise self.unwritable(profile, error) from None

    def _held_off(self, state: State, profile: Profile) -> float:
        """Return for how long (seconds) no caller may start an attempt; see `pacing.held_off`."""
        origin, attempt = self._origin(state, profile), self.store.last_attempt(profile.name)
        return pacing.held_off(self.clock.now(), state, attempt, fingerprint(origin), current=state.origin == origin)

    def _record_attempt(self, state: State, profile: Profile) -> CallerAttempt:
        now = self.clock.now()
        previous = pacing.unanswered(now, state, self.store.last_attempt(profile.name))
        attempt = pacing.next_attempt(now, previous, fingerprint(self._origin(state, profile)))
        self.store.record_attempt(profile.name, attempt)
        return attempt

    def _origin(self, state: State, profile: Profile) -> Origin:
        return self.ownership.origin(profile, state.origin)

    def _wait_for_turn(self, state: State, profile: Profile, limit: float, cancelled: Callable[[], bool]) -> bool:
        """Wait until an attempt may start, if that is soon; return False if the recorded state must do."""
        pause = self._held_off(state, profile)
        if pause <= 0:
            return True
        stands = state.failure is not None and self.ownership.is_current(state, profile)
        if stands or pause > min(ASK_GAP, limit):
            return False
        end = time.monotonic() + pause
        while time.monotonic() < end and not cancelled():
            time.sleep(min(0.1, max(0.0, end - time.monotonic())))
        return not cancelled()

    def _prepare(self, profile: Profile) -> None:
        self.store.prepare(profile.name)
        self._link_default()

    def _link_default(self) -> None:
        with contextlib.suppress(OSError):  # only the link `default` would be missing
            self.store.link_default(self.config.stable)

    @contextlib.contextmanager
    def _lock(self, profile: Profile, end: float, cancelled: Callable[[], bool] | None = None) -> Iterator[bool]:
        with contextlib.ExitStack() as stack:
            try:
                locked = stack.enter_context(self.store.lock(profile.name, end, cancelled or self.cancelled))
            except OSError:
                if not self.lockless:
                    raise
                locked = True
            yield locked

    def unwritable(self, profile: Profile, error: OSError) -> ConfigError:
        """Return the error for a runtime folder that cannot be written."""
        folder = self.store.folder(profile.name)
        return ConfigError(f"cannot write in {folder}: {error.strerror}", atomic.remedy(error))

    def _answered(self, state: State, seen: State, profile: Profile) -> bool:
        """Whether another process completed an attempt meanwhile; its result, success or failure, is reused."""
        return state.attempts > seen.attempts and self.ownership.is_current(state, profile)

    def _attempt(self, profile: Profile, state: State, seconds: float, cancelled: Callable[[], bool]) -> State:
        # Computed before the child reads the file, so that a later change shows as another stamp.
        origin = self.ownership.attempt_origin(profile)
        try:
            token = self.fetch(profile, self.environ, seconds, cancelled)
        except VxTokenError as error:
            if cancelled():
                return state
            if self.ownership.rejects(state, error, profile, origin):
                state = replace(state, token=None)
            after = state.after_failure(error, origin, self.clock.now())
        else:
            after = state.after_success(token, origin, self.clock.now())
        self.store.write(profile.name, after)
        self.publish(profile, after)
        if self.store.unsaved(profile.name):
            self.store.save(profile.name)  # publishing may have removed files and so made space
        return after

    def _too_short(self, token: Token, min_ttl: float, state: State) -> VxTokenError:
        if state.failure is not None:
            return error_of(state.failure, self.clock.now())
        message = f"no token is valid for {min_ttl:.0f} s: this login's tokens last {token.lifetime:.0f} s"
        return TemporaryError(message, "use a shorter --min-ttl")


def draw() -> float:
    """Return a random number in [0, 1) for the schedule."""
    return random.random()  # noqa: S311 - it spreads load and protects nothing
