"""A keeper continues after any error."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox import until
from vx_token.config.model import Config, Profile
from vx_token.credentials.token import Token
from vx_token.daemon.keeper import Keeper
from vx_token.errors import Failure, TemporaryError, VxTokenError
from vx_token.outputs.publisher import Publisher
from vx_token.system.clock import SystemClock
from vx_token.tokens.model import State
from vx_token.tokens.refresh import FetchToken, Refresher
from vx_token.tokens.store import Store


def parts(folder: Path, fetch: FetchToken) -> tuple[Profile, Refresher, Publisher]:
    """What a keeper of one profile needs, with real files and clock."""
    profile = Profile("p", project="demo")
    config = Config(folder, {"p": profile}, "p")
    publisher = Publisher(Store(folder / "run"), SystemClock(), config)
    return profile, Refresher(publisher.store, publisher.clock, fetch, {}, config, publisher.publish), publisher


def test_an_error_of_our_own_is_told_without_its_text_and_ends_no_keeper(tmp_path: Path) -> None:
    tries: list[str] = []
    told: list[State] = []

    def mint(profile: Profile, environ: Mapping[str, str], deadline: float, cancelled: Callable[[], bool]) -> Token:
        tries.append(profile.name)
        raise RuntimeError("ya29.secret")

    keeper = Keeper(*parts(tmp_path, mint), lambda _, state: told.append(state), forced=False)
    try:
        until(lambda: told)
        failure = Failure("temporary", "internal error: RuntimeError", "please report it; vx-token retries")
        assert told[0] == State(failures=1, failure=failure)
        keeper.wake.force()
        until(lambda: len(tries) == 2)
        assert keeper.alive()
    finally:
        keeper.wake.stop()
        keeper.thread.join()


class Beating:
    """A keeper whose Google answers when it may, and the monotonic clock by which it is judged."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.later = self.started = 0.0
        self.may_answer = threading.Event()
        self.asked = threading.Event()
        self.attempts: list[Callable[[], bool]] = []
        self.error: VxTokenError | None = None
        self.told: list[State] = []
        real = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: real() + self.later)
        self.keeper = Keeper(*parts(folder, self._fetch), lambda _, state: self.told.append(state), forced=False)

    def _fetch(self, _: Profile, environ: Mapping[str, str], deadline: float, cancelled: Callable[[], bool]) -> Token:
        self.attempts.append(cancelled)
        self.started = time.monotonic()
        self.asked.set()
        self.may_answer.wait(60)
        if self.error is not None:
            raise self.error
        return Token("ya29.new", time.time() + 3600, time.time())

    def nudged_alive(self) -> bool:
        """Whether it is alive, after a nudge that ends a nap of half a minute."""
        self.keeper.wake.nudge()
        return self.keeper.alive()

    def stop(self) -> None:
        self.may_answer.set()
        self.keeper.wake.stop()
        self.keeper.thread.join()


@pytest.mark.parametrize("forced", [False, True])
def test_a_keeper_asks_at_once_when_it_is_forced_and_else_when_the_token_is_old(tmp_path: Path, forced: bool) -> None:
    def fetch(*_: object) -> Token:
        asked.append(time.time())
        return Token("ya29.new", time.time() + 3600, time.time())

    asked: list[float] = []
    told: list[State] = []
    profile, refresher, publisher = parts(tmp_path, fetch)
    fresh = refresher.refresh(profile)
    fresh = replace(fresh, tried_at=fresh.tried_at - 60)
    publisher.store.write("p", fresh)
    keeper = Keeper(profile, refresher, publisher, lambda _, state: told.append(state), forced=forced)
    assert (keeper.state, keeper.tried) == (fresh, False)
    assert (keeper.thread.name, keeper.thread.daemon) == ("keep p", True)  # so that it never holds up the end
    until(lambda: told)
    keeper.wake.stop()
    keeper.thread.join()
    assert len(asked) == 1 + forced


def test_a_keeper_of_an_unsafe_folder_starts_without_a_state_and_reports_it(tmp_path: Path) -> None:
    told: list[State] = []
    profile, refresher, publisher = parts(tmp_path, lambda *_: Token("ya29.new", time.time() + 3600, time.time()))
    refresher.refresh(profile)
    publisher.store.folder("p").chmod(0o777)
    keeper = Keeper(profile, refresher, publisher, lambda _, state: told.append(state), forced=False)
    assert keeper.state == State()
    until(lambda: told)
    keeper.wake.stop()
    keeper.thread.join()
    assert told[0].failure is not None
    assert told[0].failure.kind == "config"


@pytest.fixture
def beating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Beating]:
    running = Beating(tmp_path, monkeypatch)
    yield running
    running.stop()


def test_a_keeper_counts_as_stuck_once_it_has_missed_two_naps_and_no_longer_when_it_goes_on(beating: Beating) -> None:
    assert beating.asked.wait(30)
    assert beating.keeper.alive()
    beating.later = 20.0
    assert beating.keeper.alive()  # one nap without a heartbeat is not stuck
    beating.later = 51.0
    assert not beating.keeper.alive()
    beating.may_answer.set()
    until(beating.nudged_alive, what="the next heartbeat")


def test_a_forced_refresh_cancels_an_attempt_that_takes_a_second_but_not_the_next_one(
    beating: Beating, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert beating.asked.wait(30)
    [first] = beating.attempts
    started = beating.started
    monkeypatch.setattr(time, "monotonic", lambda: started + beating.later)
    beating.later = 5.0
    assert not first()
    beating.keeper.wake.force()
    beating.later = 0.0
    assert not first()
    beating.later = 1.01
    assert first()
    beating.error = TemporaryError("cancelled")
    beating.may_answer.set()
    while len(beating.attempts) < 2:
        time.sleep(0.01)
    assert beating.keeper.state.failures == 0
    beating.keeper.wake.force()
    beating.later = 60.0
    assert not beating.attempts[1]()
    beating.keeper.wake.stop()
    assert beating.attempts[1]()


def test_a_keeper_that_naps_sends_a_heartbeat_at_each_nap(beating: Beating) -> None:
    beating.may_answer.set()
    until(lambda: beating.told)
    for _ in range(3):
        beating.later += 51.0
        assert not beating.keeper.alive()
        beating.keeper.wake.nudge()
        until(beating.keeper.alive, what="the next heartbeat")
    beating.keeper.wake.stop()
    beating.keeper.thread.join()
    assert not beating.keeper.alive()  # its last heartbeat is recent, but it has ended
