"""What the gateway refuses, drops, adds and changes between a client and upstream; everything else passes unchanged.

The table in docs/gateway.md is made from the lists in this file: `python tests/gateway/test_transparency.py` prints it.
"""

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import openai
import pytest
from aiohttp import web

from sandbox import until
from upstreams import KEY, Front, LoopThread, Purse, Upstream, connection_to, front, read_all
from vx_token import __version__
from vx_token.gateway.guard import METHODS
from vx_token.gateway.half_closed import present_peers
from vx_token.gateway.settings import Limits, Route

DOCS = Path(__file__).parents[2] / "docs" / "gateway.md"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class RawUpstream:
    """An upstream that records the bytes of each request, and answers with the bytes of `answer`."""

    answer: bytes = OK
    url: str = ""
    seen: list[bytes] = field(default_factory=list)

    @property
    def headers(self) -> list[bytes]:
        """The header lines of the last request."""
        return self.seen[-1].partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]

    def serve(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            read = b""
            while chunk := connection.recv(65536):
                read += chunk
                head, separator, body = read.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
                if separator and len(body) >= (int(length[1]) if length else 0):
                    self.seen.append(read)
                    read = b""
                    connection.sendall(self.answer)


@pytest.fixture
def raw() -> Iterator[RawUpstream]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = RawUpstream(url=f"http://localhost:{listening.getsockname()[1]}/v1/projects/p/endpoints/openapi")
        threading.Thread(target=server.serve, args=(listening,), daemon=True).start()
        yield server
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(raw: RawUpstream) -> Iterator[Front]:
    purse = Purse()
    purse.quota_project = "billing"
    purse.token = purse.mint()
    with front(purse, Route("p", raw.url, {"X-Team": "blue"}), Route("other", raw.url)) as running:
        yield running


def send(proxy: Front, request: bytes) -> bytes:
    """Send bytes on a new connection, and read until the gateway closes it."""
    with connection_to(proxy) as connection:
        connection.sendall(request)
        return read_all(connection)


def request(
    first: str = "POST /v1/x HTTP/1.1", *headers: str, body: str = "", host: str = "localhost", key: str = KEY
) -> bytes:
    lines = [first, *([f"Host: {host}"] if host else []), *([f"Authorization: Bearer {key}"] if key else [])]
    length = [f"Content-Length: {len(body)}"] if body and not any("chunked" in line for line in headers) else []
    return "\r\n".join([*lines, "Connection: close", *length, *headers, "", body]).encode("latin-1")


LIMITS = Limits()
KIB, MIB = 1 << 10, 1 << 20

REFUSED: list[tuple[str, int, list[bytes]]] = [
    (
        f"methods other than {', '.join(sorted(METHODS))}",
        405,
        [request("TRACE /v1/x HTTP/1.1"), request("PROPFIND /v1/x HTTP/1.1")],
    ),
    ("HTTP versions other than 1.1 and 1.0", 505, [request("GET /v1/x HTTP/2.0")]),
    (
        "transfer codings other than `chunked`",
        501,
        [request(*("POST /v1/x HTTP/1.1", "Transfer-Encoding: gzip, chunked"))],
    ),
    ("expectations other than `100-continue`", 417, [request("POST /v1/x HTTP/1.1", "Expect: 200-ok")]),
    ("no Host header, or several", 400, [request(host=""), request("GET /v1/x HTTP/1.1", "Host: localhost")]),
    ("a Host header that is neither a loopback name nor in `allowed_hosts`", 403, [request(host="evil.example")]),
    (
        "web pages (`Origin`, `Sec-Fetch-Site`) that are not in `allowed_origins`",
        403,
        [
            request("GET /v1/x HTTP/1.1", "Origin: https://evil.example"),
            request("GET /v1/x HTTP/1.1", "Sec-Fetch-Site: cross-site"),
        ],
    ),
    (
        "no local key, a wrong one, or several `Authorization` headers",
        401,
        [request(key=""), request(key="wrong"), request("GET /v1/x HTTP/1.1", f"Authorization: Bearer {KEY}")],
    ),
    (
        "a path with `.`, `..`, `%2F%2F`, `\\`, `%25`, control or non-ASCII characters, or an absolute URL",
        400,
        [
            request(f"GET {path} HTTP/1.1")
            for path in (
                "/v1/../x",
                "/v1/%2e%2e/x",
                "/v1/a%2f..%2fb",
                "/v1/a%2f%2fb",
                "/v1/a%5cb",
                "/v1/%252e",
                "/v1/%00",
                "/v1/\xe9",
                "http://localhost/v1/x",
            )
        ],
    ),
    ("an unknown profile", 404, [request("GET /missing/v1/x HTTP/1.1")]),
    (f"a request line over {LIMITS.line} bytes", 400, [request(f"GET /v1/{'a' * LIMITS.line} HTTP/1.1")]),
    (
        f"a header over {LIMITS.field // KIB} KiB, or more than 128 headers",
        400,
        [
            request("GET /v1/x HTTP/1.1", f"X-Long: {'a' * (LIMITS.field + 1)}"),
            request("GET /v1/x HTTP/1.1", *(f"X-{number}: 1" for number in range(130))),
        ],
    ),
    (
        f"a body over {LIMITS.body // MIB} MiB",
        413,
        [request("POST /v1/x HTTP/1.1", f"Content-Length: {LIMITS.body + 1}")],
    ),
    (
        "a malformed request, `Content-Length` with `Transfer-Encoding`, or either twice",
        400,
        [
            request("POST /v1/x HTTP/1.1", "Bad Header: x"),
            request("POST /v1/x HTTP/1.1", "Content-Length: 3", "Transfer-Encoding: chunked", body="0\r\n\r\n"),
            request("POST /v1/x HTTP/1.1", "Content-Length: 3", "Content-Length: 3", body="abc"),
        ],
    ),
]
"""What, the status of the answer, and requests that show it."""

KEY_HEADERS = ["Authorization", "Api-Key", "X-Api-Key", "X-Goog-Api-Key", "Proxy-Authorization"]
OTHER_HEADERS = ["Cookie", "OpenAI-Organization", "OpenAI-Project", "Origin", "Referer", "Expect"]
HOP_HEADERS = ["Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Upgrade"]
KEY_PARAMETERS = ["key", "api_key", "api-key", "access_token", "oauth_token"]
HIDDEN_HEADERS = ["Set-Cookie", "Alt-Svc", "Strict-Transport-Security"]


def code(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def table() -> str:
    """The table in docs/gateway.md."""
    seconds = {
        name: f"{getattr(LIMITS, name):.0f} s" for name in ("head", "idle", "pause", "connect", "silence", "unread")
    }
    rows = [(f"request: {what}", f"refused: {status}") for what, status, _ in REFUSED]
    rows += [
        (f"request: {code(KEY_HEADERS)}", "dropped; the Google token is added as `Authorization`"),
        (f"request: the query parameters {code(KEY_PARAMETERS)}", "dropped"),
        (f"request: {code(OTHER_HEADERS)}", "dropped"),
        (
            f"request: {code(HOP_HEADERS)}, and headers that `Connection` lists",
            "dropped: they are about one connection",
        ),
        ("request: trailers", "dropped; each chunked request is the last of its connection"),
        ("request: `User-Agent`", "` vx-token/VERSION` is added at its end"),
        (
            "request: `X-Goog-User-Project`, and `headers` of the profile",
            "set by the gateway; they replace the client's",
        ),
        ("request: the model id", "aliases and the publisher are resolved"),
        (
            "request: tool calls that came back without their thought signature",
            "get it as `extra_content`; no other byte of a body changes",
        ),
        ("request with tools: `Accept-Encoding`", "only codings that the gateway can read stay: gzip, deflate"),
        (f"answer: {code(HIDDEN_HEADERS)}, `Access-Control-*`", "dropped: they are about upstream's host"),
        ("answer: trailers, and interim answers such as 103", "dropped"),
        ("answer: `Location`", "becomes a path of the same profile, or an absolute URL"),
        ("answer: Google's error array", "becomes OpenAI's error object if it arrives within 2 s and 256 KiB"),
        ("answer: `Date`", "added if upstream sends none"),
        ("answer of a redirect", "returned to the client; never followed"),
        ("time until the first request is complete", f"{seconds['head']}, then the connection is closed"),
        ("time between two requests of a connection", f"{seconds['idle']}, then the connection is closed"),
        ("time between two parts of a request body", f"{seconds['pause']}, then 408"),
        ("time until a connection to upstream is open", f"{seconds['connect']}, then 502"),
        ("time between two parts of an answer", f"{seconds['silence']}, then 504, or the connection is closed"),
        ("time in which a client reads nothing", f"{seconds['unread']}, then the connection is closed"),
    ]
    cells = [("request or answer", "what the gateway does"), ("---", "---"), *rows]
    return "\n".join(f"| {left} | {right} |" for left, right in cells)


def test_the_table_in_the_docs_is_made_from_these_tests() -> None:
    assert table() in DOCS.read_text(), "update it: python tests/gateway/test_transparency.py prints the new one"


@pytest.mark.parametrize(
    ("status", "request_"),
    [(status, each) for _, status, requests in REFUSED for each in requests],
    ids=[f"{what[:40]}-{number}" for what, _, requests in REFUSED for number, _ in enumerate(requests)],
)
def test_refused_requests_do_not_reach_upstream(proxy: Front, raw: RawUpstream, status: int, request_: bytes) -> None:
    with connection_to(proxy) as connection:
        connection.sendall(request_)
        assert connection.recv(65536).split(b" ")[1] == str(status).encode()
    assert raw.seen == []


@pytest.mark.parametrize(
    "name", sorted({*KEY_HEADERS, *OTHER_HEADERS, *HOP_HEADERS} - {"Authorization", "Origin", "Expect"})
)
def test_headers_for_the_gateway_itself_are_dropped(proxy: Front, raw: RawUpstream, name: str) -> None:
    assert b" 200 " in send(proxy, request("GET /v1/x HTTP/1.1", f"{name}: value-of-client"))
    assert b"value-of-client" not in raw.seen[0]
    assert raw.headers.count(b"Authorization: Bearer ya29.token-2") == 1
    assert KEY.encode() not in raw.seen[0]


@pytest.mark.parametrize("name", KEY_PARAMETERS)
def test_keys_in_the_query_are_dropped(proxy: Front, raw: RawUpstream, name: str) -> None:
    send(proxy, request(f"GET /v1/x?a=1&{name}=secret HTTP/1.1"))
    assert raw.seen[0].startswith(b"GET /v1/projects/p/endpoints/openapi/x?a=1 HTTP/1.1\r\n")


def test_every_other_header_and_the_body_pass_unchanged(proxy: Front, raw: RawUpstream) -> None:
    theirs = [
        "X-Empty:",
        "x-Odd_Case.~: a  b",
        "Accept-Encoding: br;q=0.1",
        'Content-Type: text/x; a="b"',
        "X-Goog-User-Project: x",
    ]
    send(proxy, request("POST /v1/x?%41=%2F&&a HTTP/1.1", "User-Agent: me", *theirs, body='{"model": "x"}\r\n'))
    head, _, body = raw.seen[0].partition(b"\r\n\r\n")
    assert body == b'{"model": "x"}\r\n'
    assert [line.decode() for line in head.split(b"\r\n")] == [
        "POST /v1/projects/p/endpoints/openapi/x?%41=%2F&&a HTTP/1.1",
        f"Host: {raw.url.split('/')[2]}",
        "X-Empty: ",
        *theirs[1:-1],
        "Authorization: Bearer ya29.token-2",
        "X-Goog-User-Project: billing",
        "X-Team: blue",
        f"User-Agent: me vx-token/{__version__}",
        "Content-Length: 16",
    ]


def test_an_answer_passes_with_its_headers_and_no_others(proxy: Front, raw: RawUpstream) -> None:
    dropped = "".join(f"{name}: x\r\n" for name in [*HIDDEN_HEADERS, "Access-Control-Allow-Origin", "Keep-Alive"])
    raw.answer = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        b"HTTP/1.1 299 Odd Reason\r\nX-A: 1\r\nx-a: 2\r\nTransfer-Encoding: chunked\r\nTrailer: X-Late\r\n"
        + dropped.encode()
        + b"\r\n2\r\nok\r\n0\r\nX-Late: 1\r\n\r\n"
    )
    head, _, body = send(proxy, request("GET /v1/x HTTP/1.1")).partition(b"\r\n\r\n")
    first, *headers = head.split(b"\r\n")
    assert first == b"HTTP/1.1 299 Odd Reason"
    framing = (b"Date: ", b"Content-Length: 2", b"Transfer-Encoding: chunked", b"Connection: close")
    assert [line for line in headers if not line.startswith(framing)] == [b"X-A: 1", b"X-A: 2"]
    assert body in {b"ok", b"2\r\nok\r\n0\r\n\r\n"}
    assert any(line.startswith(b"Date: ") for line in headers)


def test_a_server_header_is_that_of_upstream_or_our_own(proxy: Front, raw: RawUpstream) -> None:
    assert b"\r\nServer:" not in send(proxy, request("GET /v1/x HTTP/1.1"))
    raw.answer = OK.replace(b"\r\n\r\n", b"\r\nServer: ESF\r\n\r\n")
    assert re.findall(rb"\r\nServer: (.*)\r\n", send(proxy, request("GET /v1/x HTTP/1.1"))) == [b"ESF"]
    assert re.findall(rb"\r\nServer: (.*)\r\n", send(proxy, request(key="wrong"))) == [b"vx-token"]
    raw.answer = b'HTTP/1.1 400 Bad Request\r\nContent-Length: 22\r\n\r\n[{"error":{"code":1}}]'
    assert b"aiohttp" not in send(proxy, request("GET /v1/x HTTP/1.1"))


def test_header_bytes_above_0x7f_pass_both_ways(proxy: Front, raw: RawUpstream) -> None:
    values = [b"caf\xe9 \x80\xff", "café €".encode()]
    raw.answer = b"HTTP/1.1 200 D'accord \xe9\r\nX-Latin: %b\r\nX-Utf: %b\r\nContent-Length: 0\r\n\r\n" % (*values,)
    sent = request("GET /v1/x HTTP/1.1", "X-Latin: LATIN", "X-Utf: UTF")
    answer = send(proxy, sent.replace(b"LATIN", values[0]).replace(b"UTF", values[1]))
    for lines in (raw.headers, answer.split(b"\r\n")):
        assert b"X-Latin: " + values[0] in lines
        assert b"X-Utf: " + values[1] in lines
    assert answer.startswith(b"HTTP/1.1 200 D'accord \xe9\r\n")


def test_headers_of_one_name_in_two_spellings_all_pass(proxy: Front, raw: RawUpstream) -> None:
    send(proxy, request("GET /v1/x HTTP/1.1", "X-Two: 1", "x-two: 2", "X-Other: 0", "X-TWO: 3"))
    values = [line.partition(b": ")[2] for line in raw.headers if line.lower().startswith(b"x-two:")]
    assert values == [b"1", b"2", b"3"]


BASE = "/v1/projects/p/endpoints/openapi"


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("{base}/jobs/1?x=%2F", "/other/v1/jobs/1?x=%2F"),
        (BASE + "/jobs/1", "/other/v1/jobs/1"),
        ("2#part", "/other/v1/jobs/2#part"),
        ("?page=2", "/other/v1/jobs/x?page=2"),
        ("/x", "{host}/x"),
        (BASE + "/../x", "{host}/v1/projects/p/endpoints/x"),
        (BASE + "-other/x", "{host}" + BASE + "-other/x"),
        ("//elsewhere.example/x", "http://elsewhere.example/x"),
        ("https://elsewhere.example/x", "https://elsewhere.example/x"),
    ],
)
def test_a_redirect_stays_at_its_profile_or_leaves_the_gateway(
    proxy: Front, raw: RawUpstream, location: str, expected: str
) -> None:
    fill = {"base": raw.url, "host": raw.url.removesuffix(BASE)}
    raw.answer = f"HTTP/1.1 307 Go\r\nLocation: {location.format(**fill)}\r\nContent-Length: 0\r\n\r\n".encode()
    assert proxy.ask(path="/other/v1/jobs/x").headers["Location"] == expected.format(**fill)
    assert len(raw.seen) == 1


CHUNKED = "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nTransfer-Encoding: chunked\r\n\r\n"
TRAILED = (CHUNKED + "2\r\n{{}}\r\n0\r\nX-First: 1\r\n{trailer}\r\n\r\n").format
NEXT = f"GET /v1/next HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\r\n"
TRAILERS = [
    "X-Goog-User-Project: theirs",
    "Authorization: Bearer other",
    "Origin: https://evil.example",
    "Content-Length: 5",
]


def test_aiohttp_alone_makes_a_trailer_a_header_of_the_next_request() -> None:
    """If this fails, aiohttp is fixed: `_Request.keep_alive` in gateway/server.py can allow chunked requests."""
    seen: list[list[str]] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        seen.append(request.headers.getall("X-Late", []))
        return web.Response()

    async def start() -> web.ServerRunner:
        runner = web.ServerRunner(web.Server(handler))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    with contextlib.closing(LoopThread()) as thread:
        runner = thread.run(start())
        with socket.create_connection(runner.addresses[0], 10) as connection:
            connection.sendall(TRAILED(key=KEY, trailer="X-Late: 1").encode())
            connection.recv(65536)
            connection.sendall(NEXT.encode())
            connection.recv(65536)
        thread.run(runner.cleanup())
    assert seen == [[], ["1"]]


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("key", [KEY, "wrong"])
def test_no_trailer_reaches_the_next_request(
    proxy: Front, raw: RawUpstream, trailer: str, pipelined: bool, key: str
) -> None:
    # `raw` reads no chunked body, and needs none to answer.
    with connection_to(proxy) as connection:
        connection.sendall((TRAILED(key=key, trailer=trailer) + (NEXT if pipelined else "")).encode())
        answer = read_all(connection) if pipelined else connection.recv(65536)
        assert b"\r\nConnection: close\r\n" in answer or answer.startswith(b"HTTP/1.0 400 ")  # Content-Length
        assert answer.count(b"HTTP/1.") == 1
        with contextlib.suppress(OSError):
            connection.sendall(NEXT.encode())
            assert connection.recv(65536) == b""
    assert not any(b"/next" in each or trailer.encode() in each for each in raw.seen)
    assert proxy.ask("GET", "/v1/after").status == 200


def test_a_client_without_chunks_keeps_its_connection(proxy: Front) -> None:
    with contextlib.closing(proxy.connect()) as connection:
        connection.auto_open = 0
        connection.connect()
        for _ in range(3):
            connection.request("POST", "/v1/x", b"{}", {"Authorization": f"Bearer {KEY}"})
            assert connection.getresponse().read() == b"ok"


class Slow:
    """An upstream that sends the chunks of its answer when the test says so."""

    def __init__(self, *chunks: bytes, **options: object) -> None:
        self.chunks, self.options = chunks, options
        self.go = [threading.Event() for _ in chunks]
        self.asked = threading.Event()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.set()
        response = web.StreamResponse(**self.options)  # type: ignore[arg-type]
        for number, (chunk, go) in enumerate(zip(self.chunks, self.go, strict=True)):
            if number == 0:
                await response.prepare(request)
            await asyncio.to_thread(go.wait, 20)
            await response.write(chunk)
        return response


@pytest.mark.parametrize("first", [b"<html>", b'{"error":', b'[{"error": {"message": "m'])
def test_a_slow_error_is_passed_on_as_it_comes(server: Upstream, first: bytes) -> None:
    slow = server.handler = Slow(first, b" end", status=503)
    with front(Purse(), Route("p", server.url)) as proxy, contextlib.closing(proxy.connect(15)) as connection:
        slow.go[0].set()
        connection.request("POST", "/v1/x", b"{}", {"Authorization": f"Bearer {KEY}"})
        response = connection.getresponse()
        assert (response.status, response.read1()) == (503, first)
        slow.go[1].set()
        assert response.read() == b" end"


def test_a_long_error_is_passed_on_whole(server: Upstream) -> None:
    body = b'[{"error": {"message": "' + b"x" * (2 << 20) + b'"}}]'

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=500, body=body)

    server.handler = handler
    with front(Purse(), Route("p", server.url)) as proxy:
        assert proxy.ask().body == body


@contextlib.contextmanager
def client_socket(proxy: Front, path: Path | None) -> Iterator[socket.socket]:
    if path is None:
        with connection_to(proxy) as connection:
            yield connection
        return
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.settimeout(10)
        yield connection


@pytest.mark.parametrize("unix", [False, True])
def test_a_client_that_closes_its_sending_side_gets_its_answers(server: Upstream, tmp_path: Path, unix: bool) -> None:
    slow = server.handler = Slow(b"data: 1\n\n", b"data: 2\n\n")
    path = tmp_path / "gateway.sock"
    with front(Purse(), Route("p", server.url), unix_socket=path) as proxy:
        with client_socket(proxy, path if unix else None) as connection:
            connection.sendall(NEXT.encode() * 2)
            connection.shutdown(socket.SHUT_WR)
            assert slow.asked.wait(10)
            assert not threading.Event().wait(0.6)  # two checks for clients that have left
            for go in slow.go:
                go.set()
            answer = read_all(connection)
        assert answer.count(b"data: 1\n\n") == answer.count(b"data: 2\n\n") == 2
        assert answer.count(b"Connection: close") == 1


@pytest.mark.parametrize("unix", [False, True])
def test_a_client_that_half_closes_and_then_leaves_ends_its_request(
    server: Upstream, tmp_path: Path, unix: bool
) -> None:
    slow = server.handler = Slow(b"data: 1\n\n")
    path = tmp_path / "gateway.sock"
    with front(Purse(), Route("p", server.url), unix_socket=path) as proxy:
        with client_socket(proxy, path if unix else None) as connection:
            connection.sendall(NEXT.encode())
            connection.shutdown(socket.SHUT_WR)
            assert slow.asked.wait(10)
        until(lambda: server.cancelled == 1)
        slow.go[0].set()


def test_an_incomplete_request_of_a_half_closed_client_ends(proxy: Front, raw: RawUpstream) -> None:
    with connection_to(proxy) as connection:
        connection.sendall(
            request("POST /v1/x HTTP/1.1", "Content-Length: 10", body="").replace(b"close", b"keep-alive") + b"abc"
        )
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b""
    assert raw.seen == []


def test_an_ipv6_socket_of_an_ipv4_client_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket(socket.AF_INET6) as client:
        client.connect(("::ffff:127.0.0.1", listening.getsockname()[1]))
        accepted, _ = listening.accept()
        with accepted:
            client.shutdown(socket.SHUT_WR)
            assert present_peers([accepted]) == {accepted}
            client.close()
            assert present_peers([accepted]) == set()


ENCODED = [
    ("/v1/engines/google%2Fgemini/embeddings", "/engines/google%2Fgemini/embeddings"),
    ("/other/v1/tunings/a%2fb%2Fc?x=%2F", "/tunings/a%2fb%2Fc?x=%2F"),
    ("/v1/files/a%2F.hidden", "/files/a%2F.hidden"),
]


@pytest.mark.parametrize(("path", "below"), ENCODED)
def test_an_encoded_slash_reaches_upstream_as_it_is(proxy: Front, raw: RawUpstream, path: str, below: str) -> None:
    assert proxy.ask("GET", path).status == 200
    assert raw.seen[0].split(b" ")[1] == (BASE + below).encode()


def test_the_sdk_retrieves_a_model_whose_id_has_a_slash(raw: RawUpstream) -> None:
    route = Route("p", raw.url, models=("google/gemini-2.5-flash",))
    with front(Purse(), route) as proxy:
        url = f"http://127.0.0.1:{proxy.port}/v1"
        with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
            assert client.models.retrieve("google/gemini-2.5-flash").id == "google/gemini-2.5-flash"
            with pytest.raises(openai.NotFoundError, match="google/other"):
                client.models.retrieve("google/other")


if __name__ == "__main__":
    print(table())
