"""A keeper continues after any error."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from sandbox import until
from vx_token.config.model import Config, Profile
from vx_token.credentials.token import Token
from vx_token.daemon.keeper import Keeper
from vx_token.outputs.publisher import Publisher
from vx_token.system.clock import SystemClock
from vx_token.tokens.model import State  # noqa: TC001
from vx_token.tokens.refresh import Refresher
from vx_token.tokens.store import Store


def test_an_error_of_our_own_is_told_without_its_text_and_ends_no_keeper(tmp_path: Path) -> None:
    tries: list[str] = []
    told: list[State] = []

    def mint(profile: Profile, environ: Mapping[str, str], deadline: float, cancelled: Callable[[], bool]) -> Token:
        tries.append(profile.name)
        raise RuntimeError("ya29.secret")

    profile = Profile("p", project="demo")
    config = Config(tmp_path, {"p": profile}, "p")
    publisher = Publisher(Store(tmp_path / "run"), SystemClock(), config)
    refresher = Refresher(publisher.store, publisher.clock, mint, {}, config, publisher.publish)
    keeper = Keeper(profile, refresher, publisher, lambda _, state: told.append(state), forced=False)
    try:
        until(lambda: told)
        assert told[0].failure is not None
        assert told[0].failure.message == "internal error: RuntimeError"
        keeper.wake.force()
        until(lambda: len(tries) == 2)
        assert keeper.alive()
    finally:
        keeper.wake.stop()
        keeper.thread.join()


class Beating:
    """A keeper whose Google answers when it may, and the monotonic clock by which it is judged."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.later = 0.0
        self.may_answer = threading.Event()
        self.asked = threading.Event()
        self.told: list[State] = []
        real = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: real() + self.later)
        profile = Profile("p", project="demo")
        config = Config(folder, {"p": profile}, "p")
        publisher = Publisher(Store(folder / "run"), SystemClock(), config)
        refresher = Refresher(publisher.store, publisher.clock, self._fetch, {}, config, publisher.publish)
        self.keeper = Keeper(profile, refresher, publisher, lambda _, state: self.told.append(state), forced=False)

    def _fetch(self, *_: object) -> Token:
        self.asked.set()
        self.may_answer.wait(60)
        return Token("ya29.new", time.time() + 3600, time.time())

    def nudged_alive(self) -> bool:
        """Whether it is alive, after a nudge that ends a nap of half a minute."""
        self.keeper.wake.nudge()
        return self.keeper.alive()

    def stop(self) -> None:
        self.may_answer.set()
        self.keeper.wake.stop()
        self.keeper.thread.join()


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
