"""Keeps one profile's token fresh and its files right, in a thread of its own."""

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
"""Seconds between two tries when files change faster than tokens can be fetched."""

PATIENCE = 1.0
"""Seconds that a try may take before another, forced one ends it."""

NAPS = 10
"""Naps between two looks at the files while the watcher tells nothing; a look costs as much as several naps."""

STUCK = 2 * NAP
"""Seconds without a sign of life after which a keeper counts as stuck; they show one at every nap."""


def keep_fresh(
    profile: Profile,
    refresher: Refresher,
    publisher: Publisher,
    wake: Wake,
    report: Callable[[State], None],
    chance: Callable[[], float] = draw,
) -> None:
    """Keep one profile's token fresh and its files right until `wake` says stop."""
    clock, store, problems = refresher.clock, refresher.store, dict[str, str]()
    jitter, asked, seen, now, state = chance(), False, None, clock.now(), State()
    interrupted = False

    def sleep(until: float) -> bool:
        """Whether the clock was set meanwhile: then no instant on record can be trusted."""
        set_by, before = 0.0, now
        for _ in range(NAPS):
            set_by = clock.nap(until, wake)
            refresher.cancelled()  # a sign of life
            if set_by < 0:
                refresher.set_back(profile, set_by)
            if set_by or wake.pending or not before <= clock.now() < until:  # it may be set between two naps as well
                break
            before = clock.now()
        return set_by != 0

    while not wake.stopped:
        asked, now = wake.take() or asked, clock.now()
        try:
            state = store.read(profile.name)
            due = next_refresh(now, state, jitter, profile.refresh_margin)
            if asked or due <= now or refresher.outdated(profile, state):
                if 0 <= now - state.tried_at < FORCED_GAP:
                    asked = True
                    sleep(state.tried_at + FORCED_GAP)
                    continue
                jitter, asked, seen = chance(), False, None
                # The try after one that was cut short is not: however often it is asked for, a refresh must come about.
                attentive = _attentive(refresher, profile, wake, patient=interrupted)
                attentive.cancelled()  # a token that has ended leaves the files before anything can fail
                tried = attentive.refresh(profile)
                interrupted = tried.attempts == state.attempts
                if not interrupted:
                    report(_troubled(tried, refresher, profile))  # also when the next try is asked for already
                continue
            store.save(profile.name)
            look = _look(store, profile, state, now)
            if look != seen:
                problems = publisher.publish(profile, state)
                report(_troubled(state, refresher, profile))
                seen = look  # as it was before: what somebody did meanwhile, or we ourselves, is looked at once more
            if problems or store.unsaved(profile.name):
                due, seen = min(due, now + LONGEST_PAUSE), None  # try again to write
            asked = sleep(_until(due, now, state, store.saved(profile.name)))
            continue
        except Exception as error:  # noqa: BLE001 - a thread that ends keeps nothing fresh, and nobody would see it
            failure = _failure(error, now)
        # Nothing is known for certain: the schedule has nothing to go by, so wait here.
        if state.token is not None and not state.token.alive(now):
            publisher.withdraw(profile)
        report(State(failures=1, failure=failure))
        sleep(_until(now + LONGEST_PAUSE, now, state))
        asked = True


def _failure(error: Exception, now: float) -> Failure:
    internal = TemporaryError(f"internal error: {type(error).__name__}", "please report it; trying again")
    return failure_of(error if isinstance(error, VxTokenError) else shortage(error) or internal, now)


def _until(due: float, now: float, *states: State) -> float:
    """When to wake: never later than the end of a token that may be in the files, written or kept from before."""
    return min([due, *(live.expires_at for live in (state.live(now) for state in states) if live)])


def _troubled(state: State, refresher: Refresher, profile: Profile) -> State:
    """The state as it is reported: with a failure when it could not be written."""
    error = refresher.store.unsaved(profile.name)
    if error is None or state.failure is not None:
        return state
    folder = refresher.store.folder(profile.name)
    return replace(
        state, failure=Failure("temporary", f"cannot write in {folder}: {error.strerror}", atomic.remedy(error))
    )


def _attentive(refresher: Refresher, profile: Profile, wake: Wake, *, patient: bool) -> Refresher:
    """The same refresher for one try that may drag on.

    It takes a token that has ended out of the files meanwhile, and gives up for a new login: what hangs is the old one.
    A `patient` one does not give up.
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


def _look(store: Store, profile: Profile, state: State, now: float) -> tuple[object, ...]:
    folder = str(store.folder(profile.name))  # joined as text: this is most of what an idle daemon does
    stamps = [
        (system_stamps.stamp(path), _mode(path)) for path in (f"{folder}/{name}" for name in ("state.json", *SINKS))
    ]
    return (*stamps, state.live(now) is None)


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def _known(store: Store, profile: Profile) -> State:
    try:
        return store.read(profile.name)
    except VxTokenError:  # the thread tells of it
        return State()


class Keeper:
    """A thread that keeps one profile fresh, and its signs of life."""

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
        self.state = _known(refresher.store, profile)
        self.tried = False
        self.wake = Wake()
        self._beat = time.monotonic()
        if forced:
            self.wake.force()
        own = replace(refresher, cancelled=self._sign)
        arguments = (profile, own, publisher, self.wake, lambda state: report(self, state))
        self.thread = threading.Thread(target=keep_fresh, args=arguments, name=f"keep {profile.name}", daemon=True)
        self.thread.start()

    def alive(self) -> bool:
        """Whether it showed a sign of life lately."""
        return self.thread.is_alive() and time.monotonic() - self._beat < STUCK

    def _sign(self) -> bool:
        self._beat = time.monotonic()
        return self.wake.stopped
