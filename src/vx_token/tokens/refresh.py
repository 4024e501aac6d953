"""The one path by which a token is renewed, whoever asks."""

import contextlib
import random
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from vx_token.config.model import Config, Profile
from vx_token.credentials import credential_file as credentials_credential_file
from vx_token.credentials.credential_file import credential_file, metadata_likely
from vx_token.credentials.fetch import DEADLINE
from vx_token.credentials.token import Token
from vx_token.errors import ConfigError, LoginNeededError, TemporaryError, VxTokenError
from vx_token.outputs import files
from vx_token.outputs.files import Facts
from vx_token.system import atomic, paths, safe_path, stamps
from vx_token.system.clock import Clock
from vx_token.tokens import lifetime
from vx_token.tokens.model import Failure, Origin, State
from vx_token.tokens.schedule import ASK_GAP, CHANGED_GAP, LONGEST_RETRY_AFTER, MIN_GAP, next_ask, unanswered_pause
from vx_token.tokens.store import Mark, Store

Mint = Callable[[Profile, Mapping[str, str], float, Callable[[], bool]], Token]

PATIENCE = 2.0
"""Seconds that a caller with a live token waits for a newer one; tools give `print` five seconds in all."""

CHANGED_PATIENCE = 4.0
"""The same when the credential file's content has changed and does not name the account: it may be another one."""

ENOUGH_FOR_NOW = 1.0
"""Seconds of life of a token that can be handed out instead of waiting."""


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
        lockless: refresh even where the profile's lock cannot be opened; for the only daemon of a runtime folder.
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
    lockless: bool = False

    def current(self, profile: Profile, min_ttl: float = lifetime.DEFAULT_MIN_TTL, strict: bool = False) -> Token:
        """A token with at least `min_ttl` seconds of life, refreshed first when needed.

        A live token of the right login is returned after PATIENCE seconds at most; at once while another process
        refreshes, and while the last attempt stands (see `schedule.next_ask`). With `strict`, the call waits for up to
        `deadline` seconds, and a token with less than `min_ttl` is a failure. Without a live token it waits as long:
        a shorter wait could never succeed where Google, a proxy or a program is slow.

        Raises:
            ConfigError, LoginNeededError, TemporaryError: there is no such token, and why.
        """
        state = self.store.read(profile.name)
        if not self._enough(state, profile, min_ttl, strict):
            state = self._ask(profile, state, min_ttl, strict)
        now = self.clock.now()
        token = state.live(now)
        if token is None or self._same_login(state, profile, self.origin(profile, state.origin)) is False:
            raise error_of(state.failure or _UNANSWERED, now)
        if strict and token.remaining(now) < min_ttl:
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
            self._lock(profile, time.monotonic() + self.deadline) as locked,
        ):
            if locked:
                self.store.write(profile.name, moved(self.store.read(profile.name), by))

    def publish(self, profile: Profile, state: State) -> dict[str, str]:
        """Bring the profile's files up to date with `state`; what could not be written, by file.

        They are those of the profile as it is configured, whatever options one command was given.
        """
        return files.publish(self.store.folder(profile.name), self._facts(profile, state))

    def problems(self, profile: Profile, state: State) -> dict[str, str]:
        """What is wrong with the profile's files, by file; changes nothing."""
        found = self.store.obstacles(profile.name)
        if state.attempts:
            found |= files.problems(self.store.folder(profile.name), self._facts(profile, state))
        return found

    def withdraw(self, profile: Profile) -> None:
        """Take the secrets out of a folder of ours that has become unsafe, so that it cannot be published to."""
        with contextlib.suppress(OSError, ConfigError):
            paths.check_folder(self.store.root)
            folder = self.store.folder(profile.name)
            if safe_path.belongs_to_us(str(folder)) and not folder.is_symlink():
                files.withdraw(folder)

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
        profile = self.config.profiles.get(profile.name, profile)
        trouble, key, url, former = "", "", "", None
        try:
            key, url = self.endpoint(profile)
        except ConfigError as error:
            trouble = error.message
        # What was made with other settings than the file's must not be taken for the file's own, nor a profile that is
        # called `default` for the default one.
        misleading = self.config.overridden or profile.name == "default" != self.config.default_profile
        config = ("", "") if misleading else (str(self.config.path), self.config.stamp)
        if self.store.unsaved(profile.name):
            former = self.store.saved(profile.name).token
        return Facts(profile, state, self.clock.now(), config, key, url, trouble, former)

    def origin(self, profile: Profile, recorded: Origin | None = None) -> Origin:
        """What a token of `profile` would be made from now.

        A reader that names no credentials itself takes the file on record where it has no login to offer, or a daemon
        has one: a cron job has not the shell's environment, nor the shell the service's.
        """
        asked = (profile.credentials, profile.impersonate, f"{profile.lifetime:.0f}", profile.quota_project)
        settings = " ".join((*asked, *profile.scopes, *self._audience(profile)))
        explicit = profile.credentials or self.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        found = credential_file(profile, self.environ)
        # With a metadata server alone, gcloud's file that is not there yet: when it comes, that is another login.
        path = str(found or paths.gcloud_credentials(self.environ))
        if recorded is not None and recorded.path not in ("", path) and not explicit:
            offered = found is not None or metadata_likely(self.environ)
            path = path if offered and not self.attended() else recorded.path
        return Origin(settings, path, stamps.stamp(path))

    def _audience(self, profile: Profile) -> list[str]:
        """The base URL's host where it shapes the token: for Google Distributed Cloud's logins alone."""
        host = urlsplit(profile.url).netloc
        with contextlib.suppress(VxTokenError):
            if (
                not host.endswith(".googleapis.com")
                and credentials_credential_file.find(profile, self.environ)[0].kind == GDCH
            ):
                return [host]
        return []

    def _same_origin(self, state: State, profile: Profile) -> bool:
        return state.origin is not None and state.origin == self.origin(profile, state.origin)

    def _same_login(self, state: State, profile: Profile, origin: Origin) -> bool | None:
        """Whether the last good token speaks for the login of `origin`; None when that cannot be known."""
        was, token = state.made_from or state.origin, state.token
        if was is None or token is None or was == origin:
            return True
        if was.settings != origin.settings:
            return False
        if was.checksum and was.checksum == _checksum(origin.path):
            return True
        explicit = profile.credentials or self.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        if explicit and was.path != origin.path:
            return False
        try:
            kind, account = credentials_credential_file.identity(
                profile, credentials_credential_file.find(profile, self.environ)[0]
            )
        except VxTokenError:  # a file that cannot be read names nobody else
            return None
        if kind != token.kind:
            return False
        return account == token.account if account and token.account else None

    def _enough(self, state: State, profile: Profile, min_ttl: float, strict: bool) -> bool:
        token, now = state.token, self.clock.now()
        if token is None or token.issued_at > now + 60 or not self._same_origin(state, profile):
            return False
        if state.made_from is not None and state.made_from != state.origin:
            return False  # the credential file has changed, and the attempt with the new one failed
        enough = min_ttl if strict else lifetime.required_life(min_ttl, token.lifetime)
        return token.alive(now) and token.remaining(now) >= enough

    def _ask(self, profile: Profile, seen: State, min_ttl: float, strict: bool) -> State:
        """Have the token refreshed for a caller, unless that would hammer Google; the state that there is then."""
        patience = self._patience(profile, seen, strict)
        start = time.monotonic()
        end = start + patience
        hurried = patience < self.deadline

        def cancelled() -> bool:
            return self.cancelled() or (hurried and time.monotonic() >= end)

        def done(state: State) -> bool:
            return self._enough(state, profile, min_ttl, strict)

        if patience <= PATIENCE and self._held_off(seen, profile) > 0:
            return seen
        try:
            self._prepare(profile)
            with self._lock(profile, end if patience > PATIENCE else start, cancelled) as locked:
                state = self.store.read(profile.name)
                if self._answered(state, seen, profile) or done(state):
                    return state
                if not locked:
                    return state if hurried else replace(state, failure=_BUSY)
                if not self._rested(state, profile, 0.0 if patience <= PATIENCE else end - time.monotonic(), cancelled):
                    return state
                mark = self._mark(state, profile)
                new = self._attempt(profile, state, max(1.0, end - time.monotonic()), cancelled)
                if new is not state:  # from here on the state tells, if it could be written
                    self.store.mark(profile.name, replace(mark, count=1 if self.store.unsaved(profile.name) else 0))
                return new
        except OSError as error:
            if hurried:
                return seen
            raise self._unwritable(profile, error) from None

    def _patience(self, profile: Profile, state: State, strict: bool) -> float:
        """Seconds that a caller waits for a refresh."""
        now = self.clock.now()
        token = state.live(now)
        if strict or token is None or token.remaining(now) < ENOUGH_FOR_NOW:
            return self.deadline
        same = self._same_login(state, profile, self.origin(profile, state.origin))
        return {True: PATIENCE, None: CHANGED_PATIENCE, False: self.deadline}[same]

    def _held_off(self, state: State, profile: Profile) -> float:
        """Seconds for which no caller may start an attempt; at most 0: it may."""
        now, origin = self.clock.now(), self.origin(profile, state.origin)
        if state.origin != origin:
            recorded = state.tried_at + CHANGED_GAP if state.tried_at <= now + MIN_GAP else now
        else:
            recorded = now if _unasked(state) else next_ask(now, state)
        mark = self._valid_mark(state, profile)
        if mark is None:
            return recorded - now
        same = mark.origin == _key(origin)
        return max(recorded, mark.at + (unanswered_pause(mark.count) if same else CHANGED_GAP)) - now

    def _valid_mark(self, state: State, profile: Profile) -> Mark | None:
        """The last attempt by a caller, if it has had no answer.

        While the token was alive, attempts were given up early: they do not delay one that waits longer.
        """
        mark, now = self.store.marked(profile.name), self.clock.now()
        if mark is None or not mark.count or mark.at <= state.tried_at or mark.at > now + MIN_GAP:
            return None
        token = state.token
        if token is not None and not token.alive(now) and mark.at < token.expires_at:
            return replace(mark, count=1)
        return mark

    def _mark(self, state: State, profile: Profile) -> Mark:
        before, key = self._valid_mark(state, profile), _key(self.origin(profile, state.origin))
        count = before.count + 1 if before is not None and before.origin == key else 1
        mark = Mark(self.clock.now(), count, key)
        self.store.mark(profile.name, mark)
        return mark

    def _rested(self, state: State, profile: Profile, limit: float, cancelled: Callable[[], bool]) -> bool:
        """Wait until an attempt may start, where that is soon; False when what is known has to do."""
        pause = self._held_off(state, profile)
        if pause <= 0:
            return True
        stands = state.failure is not None and self._same_origin(state, profile)
        if stands or pause > min(ASK_GAP, limit):
            return False
        over = time.monotonic() + pause
        while time.monotonic() < over and not cancelled():
            time.sleep(min(0.1, max(0.0, over - time.monotonic())))
        return not cancelled()

    def _renew(self, profile: Profile, done: Callable[[State], bool], seen: State) -> State:
        end = time.monotonic() + self.deadline
        try:
            self._prepare(profile)
            with self._lock(profile, end) as locked:
                state = self.store.read(profile.name)
                if self._answered(state, seen, profile) or done(state):
                    return state
                if not locked:
                    return state if state.live(self.clock.now()) else replace(state, failure=_BUSY)
                return self._attempt(profile, state, max(1.0, end - time.monotonic()), self.cancelled)
        except OSError as error:
            raise self._unwritable(profile, error) from None

    def _prepare(self, profile: Profile) -> None:
        self.store.prepare(profile.name)
        with contextlib.suppress(OSError):  # without it only the folder `default` is missing
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

    def _unwritable(self, profile: Profile, error: OSError) -> ConfigError:
        folder = self.store.folder(profile.name)
        return ConfigError(f"cannot write in {folder}: {error.strerror}", atomic.remedy(error))

    def _answered(self, state: State, seen: State, profile: Profile) -> bool:
        """Whether another process made an attempt meanwhile: its answer is ours, good or bad."""
        return state.attempts > seen.attempts and self._same_origin(state, profile)

    def _attempt(self, profile: Profile, state: State, seconds: float, cancelled: Callable[[], bool]) -> State:
        origin = self.origin(profile)  # before the child reads the file: a later change shows as another stamp
        origin = replace(origin, checksum=_checksum(origin.path))
        try:
            token = self.mint(profile, self.environ, seconds, cancelled)
        except VxTokenError as error:
            if cancelled():
                return state
            if self._disowned(state, error, origin, profile):
                state = replace(state, token=None, made_from=None)
            new = failed(state, error, origin, self.clock.now())
        else:
            new = renewed(state, token, origin, self.clock.now())
        self.store.write(profile.name, new)
        self.publish(profile, new)
        if self.store.unsaved(profile.name):
            self.store.save(profile.name)  # what was taken out of the files may have made room
        return new

    def _disowned(self, state: State, error: VxTokenError, origin: Origin, profile: Profile) -> bool:
        """Whether the last good token speaks for another login than the one asked for now."""
        was = state.made_from
        if was is None or state.token is None or was == origin:
            return False
        if isinstance(error, LoginNeededError) and was.stamp != stamps.stamp(was.path):
            return True
        return self._same_login(state, profile, origin) is False

    def _too_short(self, token: Token, min_ttl: float, state: State) -> VxTokenError:
        if state.failure is not None:
            return error_of(state.failure, self.clock.now())
        message = f"no token with {min_ttl:.0f} s of life can be had: this credential's live {token.lifetime:.0f} s"
        return TemporaryError(message, "ask for less by --min-ttl")


GDCH = "gdch_service_account"

_UNANSWERED = Failure(
    "temporary", "the last attempt to refresh this profile brought no answer", "run: vx-token refresh, to ask again now"
)

_BUSY = Failure("temporary", "another process is still refreshing this profile", "try again in a moment")

_ERRORS: Mapping[str, type[VxTokenError]] = {"config": ConfigError, "login": LoginNeededError}


def _unasked(state: State) -> bool:
    """Whether the last attempt failed before any request, so that a retry at once asks too much of nobody."""
    failure, origin = state.failure, state.origin
    if failure is None:
        return False
    return failure.kind == "config" or (failure.kind == "login" and origin is not None and not origin.stamp)


def _checksum(path: str) -> str:
    """Tells one login from another; of a file that can be read, else ""."""
    try:
        return f"{zlib.crc32(paths.content(Path(path))):08x}" if path else ""
    except OSError:
        return ""


def _key(origin: Origin) -> str:
    """Tells one origin from another."""
    content = f"{origin.settings}\0{origin.path}\0{origin.stamp}"
    return f"{zlib.crc32(content.encode(errors='surrogateescape')):08x}"


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
    if not isinstance(asked, int | float) or not 0 <= asked < float("inf"):  # not a NaN either
        asked = None
    retry_at = now + min(asked, LONGEST_RETRY_AFTER) if asked is not None else None
    return Failure(kinds.get(error.exit_code, "temporary"), _text(error.message), _text(error.hint), retry_at)


def _text(content: str) -> str:
    """What a file can hold: a path may have bytes that are no UTF-8."""
    return content.encode(errors="replace").decode()


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
