"""A keeper continues after any error."""

from collections.abc import Callable, Mapping
from pathlib import Path

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
