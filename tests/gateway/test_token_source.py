"""Tokens: waiting requests share a refresh, a 401 is retried once, and errors name the remedy."""

import asyncio
import contextlib
import itertools
import selectors
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sandbox import until
from upstreams import BRISK, KEY, Purse, Upstream, connection_to, front, upstream
from vx_token.config.load import parse_config
from vx_token.config.model import Profile
from vx_token.credentials.token import Token
from vx_token.errors import ConfigError, LoginNeededError, TemporaryError, VxTokenError
from vx_token.gateway.runner import StoredTokens
from vx_token.gateway.settings import Route
from vx_token.gateway.token_source import TokenSource
from vx_token.system.clock import SystemClock
from vx_token.tokens.refresh import Refresher
from vx_token.tokens.store import Store


def refusing(server: Upstream, purse: Purse) -> None:
    """Make upstream accept only the purse's newest token, and reject others with Google's error array."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers["Authorization"] != f"Bearer ya29.token-{purse.minted}":
            refusal = [{"error": {"code": 401, "message": "Expected a valid token.", "status": "UNAUTHENTICATED"}}]
            return web.json_response(refusal, status=401)
        return web.json_response({"ok": True})

    server.handler = handler


def test_a_refused_token_is_replaced_and_the_client_sees_nothing() -> None:
    purse = Purse()
    with upstream() as server, front(purse, Route("p", server.url)) as proxy:
        refusing(server, purse)
        purse.mint()
        body = b"y" * 3_000_000
        assert proxy.ask(body=body).json == {"ok": True}
    assert purse.asked == ["ya29.token-1"]
    assert [seen.body == body for seen in server.seen] == [True, True]


def test_many_refused_requests_share_one_refresh() -> None:
    purse = Purse()
    purse.delay = 0.3
    with upstream() as server, front(purse, Route("p", server.url)) as proxy, ThreadPoolExecutor(32) as pool:
        refusing(server, purse)
        purse.mint()
        answers = [pool.submit(proxy.ask) for _ in range(32)]
        assert {answer.result().status for answer in answers} == {200}
    assert purse.asked == ["ya29.token-1"]


def test_a_refused_body_too_large_to_keep_gets_the_401_but_the_next_one_passes() -> None:
    purse = Purse()
    limits = replace(BRISK, buffer=1000)
    with upstream() as server, front(purse, Route("p", server.url), limits=limits) as proxy:
        refusing(server, purse)
        purse.mint()
        answer = proxy.ask(body=b"y" * 1_000_000)
        assert (answer.status, answer.error["message"]) == (401, "Expected a valid token.")
        assert proxy.ask(body=b"y" * 1_000_000).status == 200


def test_a_small_body_is_held_however_much_others_upload() -> None:
    purse = Purse()
    limits = replace(BRISK, buffer_total=1 << 20)
    route = Route("p", "", aliases={"gpt-4o": "google/gemini-2.5-pro"})
    with (
        upstream() as server,
        front(purse, replace(route, base_url=server.url), limits=limits) as proxy,
        contextlib.ExitStack() as uploads,
    ):
        for _ in range(4):
            raw = uploads.enter_context(connection_to(proxy))
            head = f"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
            raw.sendall(f"{head}Content-Length: {8 << 20}\r\n\r\n".encode() + b"y" * (4 << 20))
        until(lambda: server.open == 4)  # so the gateway holds no more of them
        refusing(server, purse)
        purse.mint()
        body = b'{"messages":[],"model":"gpt-4o"}'
        assert proxy.ask(body=body, Content_Type="application/json").json == {"ok": True}
    small = [seen.body for seen in server.seen if len(seen.body) < 100]
    assert small == [b'{"messages":[],"model":"google/gemini-2.5-pro"}'] * 2


def test_a_token_that_cannot_be_replaced_causes_one_refresh() -> None:
    purse = Purse()
    purse.stuck = True
    with upstream() as server, front(purse, Route("p", server.url)) as proxy:
        refusing(server, purse)
        purse.minted += 1
        started = time.monotonic()
        assert {proxy.ask().status for _ in range(20)} == {401}
    # The next refresh is allowed after a second, which twenty requests take on a busy machine only.
    assert 1 <= len(purse.asked) <= 1 + time.monotonic() - started


def test_an_upstream_that_refuses_every_token_does_not_cause_a_storm() -> None:
    purse = Purse()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no"}}, status=401)

    with upstream(handler) as server, front(purse, Route("p", server.url)) as proxy:
        started = time.monotonic()
        assert {proxy.ask().status for _ in range(50)} == {401}
        assert len(purse.asked) <= 2 + (time.monotonic() - started)


def test_requests_without_a_token_wait_for_the_refresh_under_way() -> None:
    purse = Purse()
    purse.token = None
    purse.delay = 0.3
    with upstream() as server, front(purse, Route("p", server.url)) as proxy, ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(proxy.ask) for _ in range(16)]
        assert {answer.result().status for answer in answers} == {200}
    assert purse.asked == [None]


def test_an_expired_token_is_never_sent() -> None:
    purse = Purse()
    purse.token = Token("ya29.old", time.time() - 1, time.time() - 3600)
    with upstream() as server, front(purse, Route("p", server.url)) as proxy:
        assert proxy.ask().status == 200
    assert [seen.bearer for seen in server.seen] == ["ya29.token-2"]


def test_a_temporary_failure_is_retried() -> None:
    purse = Purse()
    purse.token = None
    purse.failures = [TemporaryError("the token endpoint answered 503")]
    with upstream() as server, front(purse, Route("p", server.url)) as proxy:
        assert proxy.ask().status == 200
        text = proxy.ask("GET", "/metrics").body.decode()
    assert 'refreshes_total{profile="p",result="TemporaryError"} 1.0' in text
    assert 'refreshes_total{profile="p",result="ok"} 1.0' in text


def test_a_lasting_failure_is_a_503_with_retry_after() -> None:
    purse = Purse()
    purse.token = None
    purse.failures = [TemporaryError("the token endpoint answered 503", "wait", 6.5)] * 9
    with upstream() as server, front(purse, Route("p", server.url), wait=2.0) as proxy:
        answer = proxy.ask()
    assert (answer.status, answer.headers["Retry-After"], answer.error["type"]) == (503, "7", "server_error")
    assert "the token endpoint answered 503; wait" in answer.error["message"]


def test_a_refresh_that_takes_too_long_is_a_503() -> None:
    purse = Purse()
    purse.token = None
    purse.delay = 3.0
    with upstream() as server, front(purse, Route("p", server.url), wait=0.2) as proxy:
        assert proxy.ask().status == 503


@pytest.mark.parametrize("first", ["no token", "refused token"])
def test_a_login_problem_is_a_401_with_the_command(first: str) -> None:
    purse = Purse()
    purse.failures = [LoginNeededError("Google wants a new login", "run: gcloud auth application-default login")]
    with upstream() as server, front(purse, Route("p", server.url)) as proxy:
        refusing(server, purse)
        purse.minted += 1
        if first == "no token":
            purse.token = None
        answer = proxy.ask()
    assert (answer.status, answer.error["code"]) == (401, "login_needed")
    assert answer.error["message"].endswith("Google wants a new login; run: gcloud auth application-default login")


def test_a_configuration_problem_is_a_500() -> None:
    purse = Purse()
    purse.token = None
    purse.failures = [ConfigError("no such file")]
    with upstream() as server, front(purse, Route("p", server.url)) as proxy:
        assert proxy.ask().status == 500


def test_a_failed_refresh_after_a_refusal_invites_a_retry() -> None:
    purse = Purse()
    purse.failures = [TemporaryError("down", retry_after=3.0)] * 9
    with upstream() as server, front(purse, Route("p", server.url), wait=2.0) as proxy:
        refusing(server, purse)
        purse.minted += 1
        answer = proxy.ask()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "3")


def test_a_revoked_token_is_a_503_for_as_long_as_none_can_be_had() -> None:
    purse = Purse()
    purse.failures = [TemporaryError("down", retry_after=0.3)] * 3
    with upstream() as server, front(purse, Route("p", server.url), wait=0.2) as proxy:
        refusing(server, purse)
        purse.minted += 1
        answers = [proxy.ask()]
        while answers[-1].status != 200:
            assert (answers[-1].status, answers[-1].headers["Retry-After"]) == (503, "1")
            answers.append(proxy.ask())
    assert len(answers) > 4
    assert len(purse.asked) == 4


class Metadata:
    """A refresh.Mint like a metadata server: the same token until its last minutes, or an error."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: TemporaryError | None = None

    def __call__(self, *_: object) -> Token:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return Token("ya29.same", time.time() + 1800, time.time(), "metadata")


@pytest.fixture
def google() -> Metadata:
    return Metadata()


@pytest.fixture
def stored(tmp_path: Path, google: Metadata) -> StoredTokens:
    config = parse_config("[profiles.p]\nproject = 'demo'\n", tmp_path / "config.toml", {}, {}, tmp_path)
    environ = {"HOME": str(tmp_path)}
    return StoredTokens(config, Refresher(Store(tmp_path / "run"), SystemClock(), google, environ, config))


def test_a_refused_token_of_a_metadata_server_is_asked_for_once_more_and_the_401_passes(
    stored: StoredTokens, google: Metadata
) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no"}}, status=401)

    with upstream(handler) as server, front(stored, Route("p", server.url), wait=60.0) as proxy:
        started = time.monotonic()
        answer = proxy.ask()
        assert (answer.status, answer.error["message"]) == (401, "no")
        assert time.monotonic() - started < 1.0
    assert google.asked == 2
    assert len(server.seen) == 1


def test_a_refused_token_is_not_replaced_by_another_logins(tmp_path: Path) -> None:
    numbers = itertools.count()

    def google(profile: Profile, *_: object) -> Token:
        return Token(f"{Path(profile.credentials).name} {next(numbers)}", time.time() + 1800, time.time())

    def login(name: str) -> StoredTokens:
        text = f"[profiles.p]\nproject = 'demo'\ncredentials = '{name}'\n"
        config = parse_config(text, tmp_path / "config.toml", {}, {}, tmp_path)
        return StoredTokens(config, Refresher(Store(tmp_path / "run"), SystemClock(), google, {}, config))

    mine, theirs = login("mine"), login("theirs")
    refused = asyncio.run(mine.fresh("p", None)).value
    assert asyncio.run(theirs.fresh("p", None)).value == "theirs 1"
    assert asyncio.run(mine.fresh("p", refused)).value.startswith("mine ")


@pytest.mark.parametrize("first", ["no token", "refused token"])
def test_the_pause_that_google_asks_for_reaches_the_client(stored: StoredTokens, google: Metadata, first: str) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        google.error = TemporaryError("busy", "wait", 45.0)
        return web.json_response({}, status=401)

    if first == "no token":
        google.error = TemporaryError("busy", "wait", 45.0)
    with upstream(handler) as server, front(stored, Route("p", server.url)) as proxy:
        for answer in (proxy.ask(), proxy.ask()):
            assert (answer.status, answer.headers["Retry-After"]) in {(503, "45"), (503, "44")}
    assert google.asked == (1 if first == "no token" else 2)


def test_waiters_that_leave_do_not_stop_the_refresh_for_the_others() -> None:
    purse = Purse()
    purse.token = None
    purse.delay = 0.2
    counted: list[tuple[str, str]] = []

    async def run() -> Token:
        source = TokenSource(purse, 5.0, lambda profile, result: counted.append((profile, result)))
        first = asyncio.create_task(source.token("p"))
        second = asyncio.create_task(source.token("p"))
        await asyncio.sleep(0.05)
        first.cancel()
        return await second

    assert asyncio.run(run()).value == "ya29.token-2"
    assert counted == [("p", "ok")]


def test_a_stop_lets_a_stream_end(request: pytest.FixtureRequest) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(10):
            await response.write(b"x")
            await asyncio.sleep(0.05)
        return response

    with upstream(handler) as server, ThreadPoolExecutor(1) as pool:
        with front(Purse(), Route("p", server.url), limits=replace(BRISK, drain=5.0)) as proxy:
            answer = pool.submit(proxy.ask)
            until(lambda: server.open)
        assert answer.result().body == b"x" * 10


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
