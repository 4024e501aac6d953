"""Tokens: waiting requests share a refresh, a 401 is retried once, and errors name the remedy."""

import asyncio
import contextlib
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from sandbox import until
from upstreams import BRISK, KEY, Purse, Upstream, connection_to, front, upstream
from vx_token.config.load import parse_config
from vx_token.config.model import Profile
from vx_token.credentials.token import Token
from vx_token.errors import ConfigError, LoginNeededError, TemporaryError
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
        assert 1 <= len(purse.asked) <= 2 + (time.monotonic() - started)


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
