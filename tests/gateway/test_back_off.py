"""Pauses, back-offs and shared refreshes of the gateway's tokens, to the second and without a connection."""

import asyncio
import contextlib
import gc
import selectors
from collections.abc import Coroutine
from typing import Any

import pytest

from vx_token.credentials.token import Token
from vx_token.errors import ConfigError, LoginNeededError, TemporaryError, VxTokenError
from vx_token.gateway.token_source import TokenSource


class QuickLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers take no real time, so that back-offs can be read to the second."""

    def __init__(self) -> None:
        self.passed = 0.0
        selector = selectors.DefaultSelector()
        super().__init__(selector)
        ready = selector.select

        def select(timeout: float | None = None) -> Any:
            if timeout is None:
                return ready(None)
            self.passed += timeout
            return ready(0)

        vars(selector)["select"] = select

    def time(self) -> float:
        return 1000.0 + self.passed


class Till:
    """A provider whose `fresh` takes the next of `results`: an error, or the value and remaining life of a token."""

    def __init__(self, *results: Exception | tuple[str, float]) -> None:
        self.results = list(results)
        self.asked: list[tuple[float, str | None]] = []
        self.token: Token | None = None
        self.took = 0.0

    def current(self, profile: str) -> Token | None:
        return self.token

    async def fresh(self, profile: str, rejected: str | None) -> Token:
        self.asked.append((asyncio.get_running_loop().time() - 1000.0, rejected))
        await asyncio.sleep(self.took)
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        self.token = Token(result[0], 5000.0 + result[1], 5000.0)
        return self.token


def quickly(story: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=QuickLoop) as runner:
        runner.run(story)


def source_of(till: Till, wait: float = 30.0, results: list[tuple[str, str]] | None = None) -> TokenSource:
    def keep(profile: str, result: str) -> None:
        if results is not None:
            results.append((profile, result))

    return TokenSource(till, wait, keep, lambda: 5000.0)


def test_the_back_off_after_rejected_replacements_doubles_from_one_second_to_a_minute() -> None:
    pauses = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0)
    till = Till(*((f"t{number}", 60.0) for number in range(len(pauses) + 1)))

    async def story() -> None:
        source = source_of(till)
        for number, pause in enumerate(pauses):
            rejected = f"t{number - 1}"
            if pause:
                await asyncio.sleep(pause - 0.01)
                assert await source.replacement("p", rejected) is None
                await asyncio.sleep(0.02)
            token = await source.replacement("p", rejected)
            assert token is not None
            assert token.value == f"t{number}"
        source.token_accepted("p")
        assert await source.replacement("p", "t8") is till.token is not None

    quickly(story())


def test_a_401_as_the_token_expires_is_answered_by_a_new_token() -> None:
    async def story() -> None:
        till = Till(("new", 60.0), ("newer", 60.0))
        till.token = Token("old", 5000.0, 4000.0)
        source = source_of(till)
        assert source.current("p") is None
        token = await source.replacement("p", "old")
        assert token is not None
        assert token.value == "new"
        assert await source.replacement("p", "old") is token  # as it is another one already
        assert await source.token("p") is token
        assert till.asked == [(0.0, "old")]
        till.token = None
        token = await source.token("p")
        assert token.value == "newer"
        assert till.asked[1:] == [(0.0, None)]

    quickly(story())


def test_a_refresh_that_returns_the_rejected_token_is_no_replacement() -> None:
    async def story() -> None:
        assert await source_of(Till(("same", 60.0))).replacement("p", "same") is None

    quickly(story())


def test_temporary_failures_are_retried_in_growing_pauses_while_the_caller_has_time() -> None:
    async def story() -> None:
        results: list[tuple[str, str]] = []
        till = Till(*[TemporaryError("down")] * 6, ("new", 60.0))
        assert (await source_of(till, 30.0, results).token("p")).value == "new"
        assert [at for at, _ in till.asked] == [0.0, 0.25, 0.75, 1.75, 3.75, 7.75, 15.75]
        assert results == [("p", "TemporaryError")] * 6 + [("p", "ok")]

    quickly(story())


@pytest.mark.parametrize(("wait", "asked"), [(3.7, 4), (3.75, 4), (3.8, 5)])
def test_no_retry_is_begun_at_or_after_the_callers_deadline(wait: float, asked: int) -> None:
    async def story() -> None:
        till = Till(*[TemporaryError("down")] * 7)
        with pytest.raises(TemporaryError, match="down"):
            await source_of(till, wait).token("p")
        assert len(till.asked) == asked

    quickly(story())


def test_a_retry_waits_as_long_as_the_server_asks() -> None:
    async def story() -> None:
        till = Till(TemporaryError("busy", retry_after=5.0), ("new", 60.0))
        assert (await source_of(till, 10.0).token("p")).value == "new"
        assert [at for at, _ in till.asked] == [0.0, 5.0]

    quickly(story())


def test_a_token_that_has_expired_on_arrival_is_a_temporary_failure() -> None:
    async def story() -> None:
        results: list[tuple[str, str]] = []
        till = Till(("late", 0.0), ("new", 1.0))
        assert (await source_of(till, 30.0, results).token("p")).value == "new"
        assert results == [("p", "TemporaryError"), ("p", "ok")]

    quickly(story())


@pytest.mark.parametrize(
    ("error", "pause"),
    [
        (LoginNeededError("log in", "run: x"), 60.0),
        (ConfigError("no file", "make it"), 60.0),
        (TemporaryError("down", "wait"), 2.0),
        (TemporaryError("busy", "wait", 45.0), 45.0),
    ],
)
def test_an_error_of_a_forced_refresh_is_the_answer_until_its_pause_is_over(error: VxTokenError, pause: float) -> None:
    async def story() -> None:
        till, loop = Till(error, ("new", 60.0)), asyncio.get_running_loop()
        source = source_of(till, 0.1)
        with pytest.raises(type(error)) as first:
            await source.replacement("p", "old")
        start = loop.time()
        assert first.value is error
        await asyncio.sleep(pause - 1.5)
        with pytest.raises(type(error)) as again:
            await source.replacement("p", "old")
        assert again.value is not error
        assert (again.value.message, again.value.hint) == (error.message, error.hint)
        left = again.value.retry_after if isinstance(again.value, TemporaryError) else 1.5
        assert left == pytest.approx(pause - (loop.time() - start))
        await asyncio.sleep(1.5)
        assert await source.replacement("p", "old") is till.token is not None
        till.token, till.results = None, [("newer", 60.0)]
        assert await source.replacement("p", "new") is None  # a success: no error, and its own back-off
        assert len(till.asked) == 2

    quickly(story())


def test_waiters_share_one_refresh_and_get_its_error_or_their_own_timeout() -> None:
    async def story() -> None:
        till = Till(("one", 60.0), ("two", 60.0))
        till.took = 5.0
        source = source_of(till)
        tokens = await asyncio.gather(*(source.token("p") for _ in range(3)), source.token("q"))
        assert [token.value for token in tokens] == ["one"] * 3 + ["two"]
        assert len(till.asked) == 2
        till.token, till.results, till.took = None, [("three", 60.0)], 3.0
        hasty = source_of(till, 2.0)
        with pytest.raises(TemporaryError, match="taking long") as raised:
            await hasty.token("p")
        assert (raised.value.hint, raised.value.retry_after) == ("run: vx-token status", 2.0)
        assert (await hasty.token("p")).value == "three"  # the refresh went on
        await asyncio.sleep(10)
        assert len(till.asked) == 3
        till.token, till.results = None, [("four", 60.0)]
        hasty.reset()
        with pytest.raises(TemporaryError, match="taking long"):
            await hasty.token("p")
        assert len(till.asked) == 4

    quickly(story())


def test_a_reset_forgets_the_back_off_and_the_refresh_under_way() -> None:
    async def story() -> None:
        till = Till(("one", 60.0), ("two", 60.0), ("three", 60.0))
        source = source_of(till)
        assert await source.replacement("p", "zero") is not None
        assert await source.replacement("p", "one") is None
        source.reset()
        token = await source.replacement("p", "one")
        assert token is not None
        assert token.value == "two"

    quickly(story())


@pytest.mark.parametrize("ending", ["fails", "is cancelled"])
def test_a_refresh_whose_waiters_have_left_ends_silently(ending: str) -> None:
    problems: list[dict[str, Any]] = []

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        till = Till(LoginNeededError("log in"))
        till.took = 1.0
        waiter = asyncio.create_task(source_of(till).token("p"))
        await asyncio.sleep(0.5)
        refreshes = asyncio.all_tasks() - {waiter, asyncio.current_task()}
        (waiter if ending == "fails" else refreshes.pop()).cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiter
        await asyncio.sleep(1)

    quickly(story())
    gc.collect()  # asyncio reports an exception that nothing has read when its task is collected
    assert problems == []
