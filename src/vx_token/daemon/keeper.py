"""Keeps one profile's token fresh and its files up to date, in a thread per profile."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from vx_token.config.model import Profile
from vx_token.errors import Failure, TemporaryError, VxTokenError, failure_of, shortage
from vx_token.outputs.files import SINKS
from vx_token.outputs.publisher import Publisher
from vx_token.system import atomic
from vx_token.system import stamps as system_stamps
from vx_token.system.clock import NAP, Wake
from vx_token.tokens.model import State
from vx_token.tokens.refresh import Refresher, draw
from vx_token.tokens.schedule import LONGEST_PAUSE, next_refresh
from vx_token.tokens.store import Store

FORCED_GAP = 0.5
"""Minimum seconds between two attempts, for files that change faster than tokens are refreshed."""

PATIENCE = 1.0
"""Seconds after which a forced refresh cancels an attempt in progress."""

NAPS = 10
"""Naps between two checks of the files without a file event; a check costs as much as several naps."""

STUCK = 2 * NAP
"""Seconds without a heartbeat after which a keeper counts as stuck; it sends one at every nap."""


def keep_fresh(
    profile: Profile,
    refresher: Refresher,
    publisher: Publisher,
    wake: Wake,
    report: Callable[[State], None],
    chance: Callable[[], float] = draw,
) -> None:
    """Keep one profile's token fresh and its files up to date until `wake` is stopped."""
    clock, store, problems = refresher.clock, refresher.store, dict[str, str]()
    jitter, forced, published, now, state = chance(), False, None, clock.now(), State()
    interrupted = False

    def sleep(until: float) -> bool:
        """Sleep, and return whether the clock was set meanwhile, which makes all recorded times unreliable."""
        set_by, before = 0.0, now
        for _ in range(NAPS):
            set_by = clock.nap(until, wake)
            refresher.cancelled()  # sends the heartbeat
            if set_by < 0:
                refresher.set_back(profile, set_by)
            # The clock may also be set between two naps.
            if set_by or wake.pending or not before <= clock.now() < until:
                break
            before = clock.now()
        return set_by != 0

    while not wake.stopped:
        forced, now = wake.take() or forced, clock.now()
        try:
            state = store.read(profile.name)
            due = next_refresh(now, state, jitter, profile.refresh_margin)
            if forced or due <= now or refresher.outdated(profile, state):
                if 0 <= now - state.tried_at < FORCED_GAP:
                    forced = True
                    sleep(state.tried_at + FORCED_GAP)
                    continue
                jitter, forced, published = chance(), False, None
                # The attempt after a cancelled one cannot be cancelled, so frequent requests never prevent a refresh.
                attempt = _cancellable(refresher, profile, wake, patient=interrupted)
                attempt.cancelled()  # removes an expired token from the files before anything can fail
                attempts = state.attempts
                state = attempt.refresh(profile)  # kept, because the folder may be unsafe before it is read again
                interrupted = state.attempts == attempts
                if not interrupted:
                    report(_with_write_error(state, refresher, profile))
                continue
            store.save(profile.name)
            current = _fingerprint(store, profile, state, now)
            if current != published:
                problems = publisher.publish(profile, state)
                report(_with_write_error(state, refresher, profile))
                published = current  # as before publishing, so that later changes, also our own, are checked once more
            if problems or store.unsaved(profile.name):
                due, published = min(due, now + LONGEST_PAUSE), None  # write again
            forced = sleep(_wake_time(due, now, state, store.saved(profile.name)))
            continue
        except Exception as error:  # noqa: BLE001 - an exception would silently end the thread
            failure = _failure(error, now)
        # Wait here, because without a known state the schedule has no due time.
        if state.token is not None and not state.token.alive(now):
            publisher.withdraw(profile)
        report(State(failures=1, failure=failure))
        sleep(_wake_time(now + LONGEST_PAUSE, now, state))
        forced = True


def _failure(error: Exception, now: float) -> Failure:
    internal = TemporaryError(f"internal error: {type(error).__name__}", "please report it; vx-token retries")
    return failure_of(error if isinstance(error, VxTokenError) else shortage(error) or internal, now)


def _wake_time(due: float, now: float, *states: State) -> float:
    """Return the time to wake: `due`, or earlier when a token that may be in the files expires."""
    return min([due, *(live.expires_at for live in (state.live(now) for state in states) if live)])


def _with_write_error(state: State, refresher: Refresher, profile: Profile) -> State:
    """Return the state to report: with a failure if the state could not be written."""
    error = refresher.store.unsaved(profile.name)
    if error is None or state.failure is not None:
        return state
    folder = refresher.store.folder(profile.name)
    return replace(
        state, failure=Failure("temporary", f"cannot write in {folder}: {error.strerror}", atomic.remedy(error))
    )


def _cancellable(refresher: Refresher, profile: Profile, wake: Wake, *, patient: bool) -> Refresher:
    """Return the refresher for one attempt, with a cancellation check.

    The check removes a token from the files when it expires during the attempt. It cancels an attempt that takes
    longer than `PATIENCE` when a refresh is forced, because a new login is available then; not if `patient`.
    """
    withdrawn, overdue = False, time.monotonic() + PATIENCE

    def cancelled() -> bool:
        nonlocal withdrawn
        state, now = refresher.store.read(profile.name), refresher.clock.now()
        if not withdrawn and state.token is not None and not state.token.alive(now):
            withdrawn = True
            refresher.publish(profile, state)
        return refresher.cancelled() or (not patient and wake.forced and time.monotonic() > overdue)

    return replace(refresher, cancelled=cancelled)


def _fingerprint(store: Store, profile: Profile, state: State, now: float) -> tuple[object, ...]:
    """Return the stamps and modes of the profile's files, and whether its token has expired."""
    folder = str(store.folder(profile.name))  # strings, because this is most of an idle daemon's work
    stamps = [
        (system_stamps.stamp(path), _mode(path)) for path in (f"{folder}/{name}" for name in ("state.json", *SINKS))
    ]
    return (*stamps, state.live(now) is None)


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def _read_state(store: Store, profile: Profile) -> State:
    try:
        return store.read(profile.name)
    except VxTokenError:  # the thread will report it
        return State()


class Keeper:
    """A thread that keeps one profile's token fresh, and its heartbeat."""

    def __init__(
        self,
        profile: Profile,
        refresher: Refresher,
        publisher: Publisher,
        report: Callable[["Keeper", State], None],
        *,
        forced: bool,
    ) -> None:
        self.profile = profile
        self.state = _read_state(refresher.store, profile)
        self.tried = False
        self.wake = Wake()
        self._heartbeat_at = time.monotonic()
        if forced:
            self.wake.force()
        with_heartbeat = replace(refresher, cancelled=self._send_heartbeat)
        arguments = (profile, with_heartbeat, publisher, self.wake, lambda state: report(self, state))
        self.thread = threading.Thread(target=keep_fresh, args=arguments, name=f"keep {profile.name}", daemon=True)
        self.thread.start()

    def alive(self) -> bool:
        """Return whether the thread sent a heartbeat recently."""
        return self.thread.is_alive() and time.monotonic() - self._heartbeat_at < STUCK

    def _send_heartbeat(self) -> bool:
        self._heartbeat_at = time.monotonic()
        return self.wake.stopped
