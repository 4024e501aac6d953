"""Streams: each chunk is relayed at once, truncation is visible, and memory is bounded."""

import asyncio
import contextlib
import gzip
import http.client
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psutil
import pytest
from aiohttp import web

from sandbox import until
from upstreams import BRISK, KEY, Front, Purse, Upstream, connection_to, front, read_all
from vx_token.gateway.settings import Route


@pytest.fixture
def proxy(server: Upstream) -> Iterator[Front]:
    limits = replace(BRISK, buffer=1 << 20, body=64 << 20, pause=1.0, silence=5.0)
    with front(Purse(), Route("p", server.url, publisher="google"), limits=limits) as running:
        yield running


class Steps:
    """A stream that continues when the test releases it."""

    def __init__(self, *chunks: bytes, end: bool = True, headers: dict[str, str] | None = None) -> None:
        self.chunks = chunks
        self.end = end
        self.headers = headers or {"Content-Type": "text/event-stream"}
        self.go: list[threading.Event] = [threading.Event() for _ in chunks]

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers=self.headers)
        await response.prepare(request)
        for chunk, go in zip(self.chunks, self.go, strict=True):
            await asyncio.to_thread(go.wait, 20)
            await response.write(chunk)
        if not self.end:
            assert request.transport is not None
            request.transport.abort()
        return response


def start(proxy: Front, body: bytes = b"{}") -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = proxy.connect()
    connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {KEY}"})
    return connection, connection.getresponse()


def test_head_and_chunks_arrive_before_the_next_is_made(proxy: Front, server: Upstream) -> None:
    steps = server.handler = Steps(b"data: 1\n\n", b"data: 2\n\n", b"data: [DONE]\n\n")
    connection, response = start(proxy)  # the head is here though no chunk is
    for chunk, go in zip(steps.chunks, steps.go, strict=True):
        go.set()
        assert response.read1() == chunk
    assert response.read() == b""
    connection.close()


def test_the_access_log_has_the_length_of_a_stream(server: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "vx_token")
    steps = server.handler = Steps(b"data: 1\n\n", b"data: [DONE]\n\n")
    with front(Purse(), Route("p", server.url), access_log=True) as logging:
        connection, response = start(logging)
        for go in steps.go:
            go.set()
        assert len(response.read()) == 23
        connection.close()
    assert [record.getMessage().split(" bytes ")[0] for record in caplog.records if record.name.startswith("vx")] == [
        "POST p/chat/completions 200 23"
    ]


def test_a_client_that_leaves_ends_the_request_upstream(proxy: Front, server: Upstream) -> None:
    steps = server.handler = Steps(b"data: 1\n\n", b"data: 2\n\n")
    connection, response = start(proxy)
    steps.go[0].set()
    response.read1()
    assert server.open == 1
    response.close()
    connection.close()
    until(lambda: server.cancelled == 1)
    steps.go[1].set()


def test_a_client_that_leaves_while_upstream_thinks_ends_the_request_too(proxy: Front, server: Upstream) -> None:
    thinking = threading.Event()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        thinking.set()
        await asyncio.sleep(60)
        raise AssertionError

    server.handler = handler
    connection = proxy.connect()
    connection.request("POST", "/v1/x", b"{}", {"Authorization": f"Bearer {KEY}"})
    assert thinking.wait(10)
    connection.close()
    until(lambda: server.cancelled == 1)
    assert 'status="499"} 1.0' in proxy.ask("GET", "/metrics").body.decode()


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "100"}])
def test_an_upstream_that_breaks_off_never_looks_finished(
    proxy: Front, server: Upstream, headers: dict[str, str]
) -> None:
    steps = server.handler = Steps(b"data: 1\n\n", b"", end=False, headers=headers)
    connection, response = start(proxy)
    steps.go[0].set()
    assert response.read1() == b"data: 1\n\n"
    steps.go[1].set()
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        response.read()
    connection.close()
    assert 'status="502"} 1.0' in proxy.ask("GET", "/metrics").body.decode()


@contextlib.contextmanager
def speaking(begun: bytes, rest: bytes = b"") -> Iterator[tuple[str, threading.Event]]:
    """An upstream for one connection: it sends `begun`, waits for the event, then sends `rest` or resets."""
    go_on, done = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:

        def speak() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(begun)
                go_on.wait(30)
                if rest:
                    connection.sendall(rest)
                    done.wait(30)
                else:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        spoken = pool.submit(speak)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/base", go_on
        finally:
            go_on.set()
            done.set()
        spoken.result(10)


def test_malformed_chunks_end_the_answer_visibly() -> None:
    begun = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    with speaking(begun, b"zz\r\nbroken\r\n") as (url, go_on), front(Purse(), Route("p", url)) as proxy:
        connection, response = start(proxy)
        with contextlib.closing(connection):
            assert response.read1() == b"hello"
            go_on.set()
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                response.read()


def test_a_reset_is_not_the_end_of_an_answer_without_length() -> None:
    begun = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"
    with speaking(begun) as (url, go_on), front(Purse(), Route("p", url)) as proxy:
        connection, response = start(proxy)
        with contextlib.closing(connection):
            assert response.read1() == b"hello"
            go_on.set()
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                response.read()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 000 None\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 600 More\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 999 Most\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX Y: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\x1b[0mb\r\nContent-Length: 2\r\n\r\nok",
        b"SSH-2.0-OpenSSH\r\n",
    ],
)
def test_a_malformed_response_is_a_502(answer: bytes) -> None:
    with speaking(answer) as (url, _), front(Purse(), Route("p", url)) as proxy:
        got = proxy.ask()
        assert (got.status, got.error["code"]) == (502, "upstream_gone")


def test_bytes_beyond_ascii_in_an_answers_head_cost_no_request() -> None:
    answer = b"HTTP/1.1 200 Tr\xe8s bien\r\nX: caf\xe9\r\nContent-Length: 2\r\n\r\nok"
    with speaking(answer) as (url, _), front(Purse(), Route("p", url)) as proxy:
        got = proxy.ask()
        assert (got.status, got.body) == (200, b"ok")


def test_a_broken_stream_resets_a_client_that_knows_no_chunks(proxy: Front, server: Upstream) -> None:
    steps = server.handler = Steps(b"data: 1\n\n", b"", end=False)
    steps.go[0].set()
    with connection_to(proxy) as raw:
        raw.sendall(f"POST /v1/x HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
        got = b""
        while not got.endswith(b"data: 1\n\n"):
            got += raw.recv(4096)
        assert b"chunked" not in got
        steps.go[1].set()
        with pytest.raises(ConnectionResetError):
            read_all(raw)


@pytest.fixture
def impatient(server: Upstream) -> Iterator[Front]:
    with front(Purse(), Route("p", server.url), limits=replace(BRISK, silence=2.0)) as running:
        yield running


def test_a_silent_upstream_is_a_504(impatient: Front, server: Upstream) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    server.handler = handler
    answer = impatient.ask()
    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
    until(lambda: server.open == 0)


def test_a_stream_that_falls_silent_is_broken_off(impatient: Front, server: Upstream) -> None:
    steps = server.handler = Steps(b"data: 1\n\n", b"never")
    steps.go[0].set()
    connection, response = start(impatient)
    with pytest.raises(http.client.IncompleteRead) as broken:
        response.read()
    assert broken.value.partial == b"data: 1\n\n"
    steps.go[1].set()
    connection.close()


def test_the_silence_that_a_slow_reader_causes_breaks_nothing(impatient: Front, server: Upstream) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=bytes(32 << 20))

    server.handler = handler
    connection, response = start(impatient)
    threading.Event().wait(5.0)
    assert len(response.read()) == 32 << 20
    connection.close()


def test_an_upstream_that_answers_nothing_is_a_502(proxy: Front, server: Upstream) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    server.handler = handler
    answer = proxy.ask()
    assert (answer.status, answer.error["code"]) == (502, "upstream_gone")


def test_compressed_answers_stay_compressed_and_their_usage_is_counted(proxy: Front, server: Upstream) -> None:
    body = gzip.compress(b'{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7}}')

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=body, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})

    server.handler = handler
    answer = proxy.ask(Accept_Encoding="gzip")
    assert (answer.body, answer.headers["Content-Encoding"]) == (body, "gzip")
    assert server.seen[0].headers["Accept-Encoding"] == "gzip"
    until(lambda: proxy.gateway.snapshot().tokens_per_minute == 12)


def test_nothing_asks_for_compression_on_the_clients_behalf(proxy: Front, server: Upstream) -> None:
    with connection_to(proxy) as raw:
        head = "GET /v1/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        raw.sendall(f"{head}Authorization: Bearer {KEY}\r\n\r\n".encode())
        assert read_all(raw).startswith(b"HTTP/1.1 200 ")
    assert set(server.seen[0].headers) == {"Host", "Authorization", "User-Agent"}


@pytest.mark.parametrize("size", [0, 1, 300_000, 3_000_000, 20_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_uploads_of_any_size_arrive_whole(proxy: Front, server: Upstream, size: int, chunked: bool) -> None:
    body = os.urandom(1 << 16) * (size >> 16) + b"x" * (size & 0xFFFF)
    with_length = {} if chunked else {"Content-Length": str(size)}
    connection = proxy.connect()
    pieces = (body[at : at + 100_000] for at in range(0, size, 100_000))
    headers = {"Authorization": f"Bearer {KEY}", **with_length}
    connection.request("POST", "/v1/x", pieces if chunked else body, headers, encode_chunked=chunked)
    assert connection.getresponse().status == 200
    connection.close()
    assert server.seen[0].body == body


def test_a_body_of_countless_small_values_holds_up_no_other_request(server: Upstream) -> None:
    body = b'{"messages":[' + b"[]," * 10_000_000 + b'0],"model":"gemini"}'
    memory, before, slowest, most = psutil.Process(), psutil.Process().memory_info().rss, 0.0, 0
    route = Route("p", server.url, publisher="google")
    with front(Purse(), route, limits=BRISK) as proxy, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(proxy.ask, body=body, Content_Type="application/json")
        while not answer.done():
            started = time.monotonic()
            assert proxy.ask("GET", "/healthz").status == 200
            slowest = max(slowest, time.monotonic() - started)
            most = max(most, memory.memory_info().rss - before)
    assert answer.result().status == 200
    assert server.seen[0].body == body
    assert slowest < 1.0
    assert most < 400 << 20, "the upstream of the test holds the body, too"


def test_a_model_id_at_the_start_of_a_large_upload_is_resolved(proxy: Front, server: Upstream) -> None:
    tail = b'","image":"' + b"A" * 3_000_000 + b'"}'
    assert proxy.ask(body=b'{"model":"gemini' + tail, Content_Type="application/json").status == 200
    assert server.seen[0].body == b'{"model":"google/gemini' + tail


def test_a_body_over_the_limit_is_a_413(proxy: Front, server: Upstream) -> None:
    with connection_to(proxy) as raw:
        raw.sendall(f"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n".encode())
        raw.sendall(b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 413 ")
    assert server.seen == []


def test_expect_continue_is_answered_before_the_body_comes(proxy: Front, server: Upstream) -> None:
    with connection_to(proxy) as raw:
        head = f"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
        raw.sendall(f"{head}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n".encode())
        assert raw.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(b"hello")
        assert raw.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
    assert server.seen[0].body == b"hello"
    assert "Expect" not in server.seen[0].headers


def test_a_body_that_stops_coming_is_a_408(proxy: Front, server: Upstream) -> None:
    with connection_to(proxy) as raw:
        raw.sendall(f"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n".encode())
        raw.sendall(b"Content-Length: 10\r\n\r\nabc")
        assert raw.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_pipelined_requests_are_answered_in_order(proxy: Front, server: Upstream) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=request.query_string)

    server.handler = handler
    one = "GET /v1/x?{} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + KEY + "\r\n\r\n"
    with connection_to(proxy) as raw:
        raw.sendall("".join(one.format(f"<{number}>") for number in range(50)).encode())
        got = b""
        while got.count(b">") < 50:
            got += raw.recv(65536)
    assert re.findall(rb"<(\d+)>", got) == [b"%d" % number for number in range(50)]


def test_a_connection_is_kept_for_the_next_request(proxy: Front, server: Upstream) -> None:
    connection = proxy.connect()
    for _ in range(3):
        connection.request("POST", "/v1/x", b"{}", {"Authorization": f"Bearer {KEY}"})
        assert connection.getresponse().read() == b'{"ok": true}'
    assert connection.sock is not None
    connection.close()


def test_a_slow_reader_holds_upstream_back_and_no_memory(proxy: Front, server: Upstream) -> None:
    sent = 0
    piece = b"x" * (1 << 20)

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(200):
            await response.write(piece)
            sent += len(piece)
        return response

    server.handler = handler
    before = psutil.Process().memory_info().rss
    connection, response = start(proxy)
    last = -1

    def still() -> bool:
        nonlocal last
        held, last = sent == last, sent
        threading.Event().wait(0.3)
        return held and sent > 0

    until(still)
    assert sent < 40 << 20, "upstream was not held back"
    assert psutil.Process().memory_info().rss - before < 60 << 20
    assert len(response.read()) == 200 << 20
    connection.close()
