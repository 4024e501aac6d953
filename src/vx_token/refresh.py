"""The one path by which a token is renewed, whoever asks."""

import contextlib
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from vx_token import atomic, login, paths, peek, sinks
from vx_token.clock import Clock
from vx_token.errors import ConfigError, LoginNeededError, TemporaryError, VxTokenError
from vx_token.login import credential_file, metadata_likely
from vx_token.mint import DEADLINE
from vx_token.schedule import LONGEST_RETRY_AFTER, next_refresh
from vx_token.settings import Config, Profile
from vx_token.sinks import Facts
from vx_token.store import Store
from vx_token.tokens import Failure, Origin, State, Token

Mint = Callable[[Profile, Mapping[str, str], float, Callable[[], bool]], Token]


@dataclass(frozen=True)
class Refresher:
    """Renews and hands out tokens; the daemon, `print`, `env`, `exec`, `refresh` and the gateway share it.

    Attributes:
        store: where processes meet.
        clock: the wall clock.
        mint: fetches a token from Google, in a child.
        environ: where credentials are found.
        config: the configuration in force.
        endpoint: gives the gateway's key and URL for a profile in gateway mode.
        deadline: seconds a caller waits at most.
        cancelled: true when we were told to stop.
        attended: whether a daemon, another process, keeps the store's files.
    """

    store: Store
    clock: Clock
    mint: Mint
    environ: Mapping[str, str]
    config: Config
    endpoint: Callable[[Profile], tuple[str, str]] = lambda _: ("", "")
    deadline: float = DEADLINE
    cancelled: Callable[[], bool] = lambda: False
    attended: Callable[[], bool] = lambda: False

    def current(self, profile: Profile, min_ttl: float = peek.DEFAULT_MIN_TTL, strict: bool = False) -> Token:
        """A token with at least `min_ttl` seconds of life, refreshed first when needed.

        The last good token is served to its end when a refresh fails or brings nothing newer; with `strict` a token
        with less than `min_ttl` is a failure instead.

        Raises:
            ConfigError, LoginNeededError, TemporaryError: there is no such token, and why.
        """
        state = self.store.read(profile.name)
        if not self._enough(state, profile, min_ttl, strict) and not self._held_off(state, profile):
            state = self._renew(profile, lambda new: self._enough(new, profile, min_ttl, strict), state)
        token = state.live(self.clock.now())
        if token is None:
            raise error_of(state.failure, self.clock.now())
        if strict and token.remaining(self.clock.now()) < min_ttl:
            raise self._too_short(token, min_ttl, state)
        return token

    def refresh(self, profile: Profile, rejected: str | None = None) -> State:
        """Ask Google now, however fresh the token is; callers that wait together share one request.

        Args:
            profile: whose token.
            rejected: a token that Google refused: no request is made when another has replaced it meanwhile.
        """

        def replaced(state: State) -> bool:
            token = state.live(self.clock.now())
            other = token is not None and token.value != rejected
            return rejected is not None and other and self._same_origin(state, profile)

        return self._renew(profile, replaced, self.store.read(profile.name))

    def set_back(self, profile: Profile, by: float) -> None:
        """Move what is on record by `by` seconds, as the wall clock was, or its token would seem to live longer."""
        with (
            contextlib.suppress(OSError, ConfigError),  # nothing is on record, or cannot be: the next try tells which
            self.store.lock(profile.name, time.monotonic() + self.deadline, self.cancelled) as locked,
        ):
            if locked:
                self.store.write(profile.name, moved(self.store.read(profile.name), by))

    def publish(self, profile: Profile, state: State) -> dict[str, str]:
        """Bring the profile's files up to date with `state`; what could not be written, by file."""
        return sinks.publish(self.store.folder(profile.name), self._facts(profile, state))

    def problems(self, profile: Profile, state: State) -> dict[str, str]:
        """What is wrong with the profile's files, by file; changes nothing."""
        return sinks.problems(self.store.folder(profile.name), self._facts(profile, state))

    def outdated(self, profile: Profile, state: State) -> bool:
        """Whether `state` was made from other settings or another credential file than now."""
        return state.origin is not None and not self._same_origin(state, profile)

    def contested(self, profile: Profile) -> bool:
        """Whether our environment names another login than that of the daemon which keeps the profile's files."""
        named = self.config.overridden or (
            not profile.credentials and self.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        )
        theirs = self.store.read(profile.name).origin if named else None
        if theirs is None:
            return False
        ours = self.origin(profile)
        return (ours.settings, ours.path) != (theirs.settings, theirs.path) and self.attended()

    def _facts(self, profile: Profile, state: State) -> Facts:
        trouble, key, url = "", "", ""
        try:
            key, url = self.endpoint(profile)
        except ConfigError as error:
            trouble = error.message
        # What was made with other settings than the file's must not be taken for the file's own, nor a profile that is
        # called `default` for the default one.
        misleading = self.config.overridden or profile.name == "default" != self.config.default_profile
        config = ("", "") if misleading else (str(self.config.path), self.config.stamp)
        return Facts(profile, state, self.clock.now(), config, key, url, trouble)

    def origin(self, profile: Profile, recorded: Origin | None = None) -> Origin:
        """What a token of `profile` would be made from now.

        A reader that names no credentials itself takes the file on record where it has no login to offer, or a daemon
        has one: a cron job has not the shell's environment, nor the shell the service's.
        """
        asked = (profile.credentials, profile.impersonate, f"{profile.lifetime:.0f}", profile.quota_project)
        settings = " ".join((*asked, *profile.scopes))
        explicit = profile.credentials or self.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        found = credential_file(profile, self.environ)
        # With a metadata server alone, gcloud's file that is not there yet: when it comes, that is another login.
        path = str(found or paths.gcloud_credentials(self.environ))
        if recorded is not None and recorded.path not in ("", path) and not explicit:
            offered = found is not None or metadata_likely(self.environ)
            path = path if offered and not self.attended() else recorded.path
        return Origin(settings, path, peek.stamp(path))

    def _same_origin(self, state: State, profile: Profile) -> bool:
        return state.origin is not None and state.origin == self.origin(profile, state.origin)

    def _enough(self, state: State, profile: Profile, min_ttl: float, strict: bool) -> bool:
        token, now = state.token, self.clock.now()
        if token is None or token.issued_at > now + 60 or not self._same_origin(state, profile):
            return False
        enough = min_ttl if strict else peek.required_life(min_ttl, token.lifetime)
        return token.alive(now) and token.remaining(now) >= enough

    def _held_off(self, state: State, profile: Profile) -> bool:
        """Whether asking Google now would only hammer it: the last answer still stands."""
        now = self.clock.now()
        if not self._same_origin(state, profile) or state.tried_at > now:
            return False
        waiting = now < next_refresh(now, state, 0.0)
        failure = state.failure
        unasked = failure is not None and state.origin is not None and not state.origin.stamp
        if failure is not None and (failure.kind == "config" or (failure.kind == "login" and unasked)):
            return False  # nobody was asked, and whoever mends it tries again at once
        if failure is None:
            return waiting and state.unmoved > 0 and state.live(now) is not None
        if failure.kind == "temporary" and failure.retry_at is None:
            return waiting and state.live(now) is not None
        return waiting

    def _renew(self, profile: Profile, done: Callable[[State], bool], seen: State) -> State:
        end = time.monotonic() + self.deadline
        try:
            self.store.prepare(profile.name)
            self.store.link_default(self.config.stable)
            with self.store.lock(profile.name, end, self.cancelled) as locked:
                state = self.store.read(profile.name)
                # Somebody tried while we waited: their answer is ours, good or bad.
                tried = state.attempts > seen.attempts and self._same_origin(state, profile)
                if tried or done(state):
                    return state
                if not locked:
                    return state if state.live(self.clock.now()) else replace(state, failure=_BUSY)
                return self._attempt(profile, state, max(1.0, end - time.monotonic()))
        except OSError as error:
            folder = self.store.folder(profile.name)
            raise ConfigError(f"cannot write in {folder}: {error.strerror}", atomic.remedy(error)) from None

    def _attempt(self, profile: Profile, state: State, seconds: float) -> State:
        origin = self.origin(profile)  # before the child reads the file: a later change shows as another stamp
        try:
            token = self.mint(profile, self.environ, seconds, self.cancelled)
        except VxTokenError as error:
            if self.cancelled():
                return state
            if self._disowned(state, error, origin, profile):
                state = replace(state, token=None, made_from=None)
            new = failed(state, error, origin, self.clock.now())
        else:
            new = renewed(state, token, origin, self.clock.now())
        self.store.write(profile.name, new)
        self.publish(profile, new)
        return new

    def _disowned(self, state: State, error: VxTokenError, origin: Origin, profile: Profile) -> bool:
        """Whether the last good token speaks for somebody else than who is asked for now."""
        was, token = state.made_from, state.token
        if was is None or token is None or was == origin:
            return False
        explicit = profile.credentials or self.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        if was.settings != origin.settings or (explicit and was.path != origin.path):
            return True
        if isinstance(error, LoginNeededError) and was.stamp != peek.stamp(was.path):
            return True
        try:
            kind, account = login.identity(profile, login.find(profile, self.environ)[0])
        except VxTokenError:  # a file that cannot be read names nobody else
            return False
        return kind != token.kind or ("" not in (account, token.account) and account != token.account)

    def _too_short(self, token: Token, min_ttl: float, state: State) -> VxTokenError:
        if state.failure is not None:
            return error_of(state.failure, self.clock.now())
        message = f"no token with {min_ttl:.0f} s of life can be had: this credential's live {token.lifetime:.0f} s"
        return TemporaryError(message, "ask for less by --min-ttl")


_BUSY = Failure("temporary", "another process is still refreshing this profile", "try again in a moment")

_ERRORS: Mapping[str, type[VxTokenError]] = {"config": ConfigError, "login": LoginNeededError}


def error_of(failure: Failure | None, now: float) -> VxTokenError:
    """The error that a recorded failure stands for at `now`."""
    if failure is None:
        return TemporaryError("there is no token yet", "run: vx-token refresh")
    if failure.kind in _ERRORS:
        return _ERRORS[failure.kind](failure.message, failure.hint)
    asked = failure.retry_at - now if failure.retry_at is not None else 0.0
    return TemporaryError(failure.message, failure.hint, min(asked, LONGEST_RETRY_AFTER) if asked > 0 else None)


def failure_of(error: VxTokenError, now: float) -> Failure:
    """An error as data."""
    kinds = {ConfigError.exit_code: "config", LoginNeededError.exit_code: "login"}
    asked = error.retry_after if isinstance(error, TemporaryError) else None
    retry_at = now + asked if asked is not None else None
    return Failure(kinds.get(error.exit_code, "temporary"), error.message, error.hint, retry_at)


def renewed(state: State, token: Token, origin: Origin, now: float) -> State:
    """The state after a good answer."""
    same = state.token is not None and state.token.value == token.value
    if same and state.token is not None:
        # The same token keeps its birth, or its life would seem to shrink with every look.
        token = replace(token, issued_at=min(state.token.issued_at, token.issued_at))
    unmoved = state.unmoved + 1 if same else 0
    return State(token, origin, attempts=state.attempts + 1, unmoved=unmoved, tried_at=now, made_from=origin)


def failed(state: State, error: VxTokenError, origin: Origin, now: float) -> State:
    """The state after a failed try: the last good token stays until its end."""
    failure = failure_of(error, now)
    return replace(
        state, origin=origin, attempts=state.attempts + 1, failures=state.failures + 1, tried_at=now, failure=failure
    )


def moved(state: State, by: float) -> State:
    """The state with every instant `by` seconds later: what was known, by a clock that was set."""
    token, failure = state.token, state.failure
    if token is not None:
        token = replace(token, issued_at=token.issued_at + by, expires_at=token.expires_at + by)
    if failure is not None and failure.retry_at is not None:
        failure = replace(failure, retry_at=failure.retry_at + by)
    return replace(state, token=token, failure=failure, tried_at=state.tried_at + by)


def draw() -> float:
    """Chance in [0, 1) for the schedule."""
    return random.random()  # noqa: S311 - it spreads load, it guards nothing
