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
    _Loop(profile, refresher, publisher, wake, report, chance).run()


class _Loop:
    """The loop of one keeper: check, then refresh or publish, then sleep.

    Attributes:
        state: as last read or refreshed.
        now: the time of the current check, epoch seconds.
        forced: whether this check refreshes whatever the schedule says.
        patient: whether the next attempt cannot be cancelled. Set after a cancelled one, so that frequent requests
            never prevent a refresh.
        published: fingerprint of the files as last published; None: publish at the next check.
        problems: files that could not be written, each with the reason.
    """

    def __init__(
        self,
        profile: Profile,
        refresher: Refresher,
        publisher: Publisher,
        wake: Wake,
        report: Callable[[State], None],
        chance: Callable[[], float],
    ) -> None:
        self.profile, self.refresher, self.publisher, self.wake = profile, refresher, publisher, wake
        self.clock, self.store = refresher.clock, refresher.store
        self.report, self.chance = report, chance
        self.jitter, self.state, self.now = chance(), State(), self.clock.now()
        self.forced = self.patient = False
        self.published: tuple[object, ...] | None = None
        self.problems: dict[str, str] = {}

    def run(self) -> None:
        """Repeat until `wake` is stopped."""
        while not self.wake.stopped:
            self.forced = self.wake.take() or self.forced
            self.now = self.clock.now()
            try:
                self._check()
            except Exception as error:  # noqa: BLE001 - an exception would silently end the thread
                self._fail(_failure(error, self.now))

    def _check(self) -> None:
        self.state = self.store.read(self.profile.name)
        due = next_refresh(self.now, self.state, self.jitter, self.profile.refresh_margin)
        if self.forced or due <= self.now or self.refresher.outdated(self.profile, self.state):
            self._refresh()
        else:
            self._publish(due)

    def _refresh(self) -> None:
        if 0 <= self.now - self.state.tried_at < FORCED_GAP:
            self.forced = True
            self._sleep(self.state.tried_at + FORCED_GAP)
            return
        self.jitter, self.forced, self.published = self.chance(), False, None
        attempt = _cancellable(self.refresher, self.profile, self.wake, patient=self.patient)
        attempt.cancelled()  # removes an expired token from the files before anything can fail
        attempts = self.state.attempts
        self.state = attempt.refresh(self.profile)  # kept, because the folder may be unsafe before it is read again
        self.patient = self.state.attempts == attempts
        if not self.patient:
            self.report(_with_write_error(self.state, self.refresher, self.profile))

    def _publish(self, due: float) -> None:
        """Write the files if they or the state have changed, then sleep until the next refresh is due."""
        name = self.profile.name
        self.store.save(name)
        current = _fingerprint(self.store, self.profile, self.state, self.now)
        if current != self.published:
            self.problems = self.publisher.publish(self.profile, self.state)
            self.report(_with_write_error(self.state, self.refresher, self.profile))
            self.published = current  # as before publishing, so that later changes, also our own, are checked once more
        if self.problems or self.store.unsaved(name):
            due, self.published = min(due, self.now + LONGEST_PAUSE), None
        self.forced = self._sleep(_wake_time(due, self.now, self.state, self.store.saved(name)))

    def _fail(self, failure: Failure) -> None:
        """Report a check that failed, and wait: without a known state the schedule has no due time."""
        if self.state.token is not None and not self.state.token.alive(self.now):
            self.publisher.withdraw(self.profile)
        self.report(State(failures=1, failure=failure))
        self._sleep(_wake_time(self.now + LONGEST_PAUSE, self.now, self.state))
        self.forced = True

    def _sleep(self, until: float) -> bool:
        """Sleep, and return whether the clock was set meanwhile, which makes all recorded times unreliable."""
        set_by, before = 0.0, self.now
        for _ in range(NAPS):
            set_by = self.clock.nap(until, self.wake)
            self.refresher.cancelled()  # sends the heartbeat
            if set_by < 0:
                self.refresher.set_back(self.profile, set_by)
            # The clock may also be set between two naps.
            if set_by or self.wake.pending or not before <= self.clock.now() < until:
                break
            before = self.clock.now()
        return set_by != 0


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
    paths = [*(f"{folder}/{name}" for name in ("state.json", *SINKS)), *(file.path for file in profile.files)]
    stamps = [(system_stamps.stamp(path), _mode(path)) for path in paths]
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
