"""No request splits in two on its way to upstream, and no client gets a byte of another's request or answer.

Each case is sent whole, in two parts and byte by byte, by a client that may use the gateway, and an ordinary client
follows. The recording upstream accepts only what every HTTP parser reads the same way.
"""

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from upstreams import BRISK, KEY, Front, Purse, connection_to, front
from vx_token.gateway.settings import Route

pytestmark = pytest.mark.slow  # hundreds of connections

AUTH = f"Authorization: Bearer {KEY}"
HEAD = f"Host: localhost\r\n{AUTH}\r\nX-Attack: outer\r\n"
SMUGGLED = f"GET /v1/smuggled HTTP/1.1\r\nHost: localhost\r\n{AUTH}\r\nX-Attack: inner\r\n\r\n"
SIZE = f"{len(SMUGGLED):x}"
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
LINE = re.compile(rb"[A-Z]+ /[!-~]* HTTP/1\.1")


class NotStrictError(Exception):
    """Bytes that some parser could read in another way."""


@dataclass(frozen=True)
class Received:
    """A request as upstream got it."""

    line: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name]


def split_request(data: bytes) -> tuple[Received | None, bytes]:
    """The first complete request and the rest; only the form of RFC 9112 that leaves no choice is accepted."""
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None, data
    line, *lines = head.split(b"\r\n")
    pairs = [each.partition(b": ")[::2] for each in lines]
    if not LINE.fullmatch(line) or re.search(rb"[\r\n\0]", head.replace(b"\r\n", b"")):
        raise NotStrictError(line)
    if any(not TOKEN.fullmatch(name) or value != value.strip() for name, value in pairs):
        raise NotStrictError(lines)
    request = Received(line, pairs, b"")
    lengths, codings = request.values(b"content-length"), request.values(b"transfer-encoding")
    if len(lengths) + len(codings) > 1 or len(request.values(b"host")) != 1:
        raise NotStrictError(pairs)
    if codings:
        return _chunked(replace(request), codings[0], rest, data)
    if lengths and not re.fullmatch(rb"0|[1-9]\d{0,15}", lengths[0]):
        raise NotStrictError(lengths)
    length = int(lengths[0]) if lengths else 0
    if len(rest) < length:
        return None, data
    return replace(request, body=rest[:length]), rest[length:]


def _chunked(request: Received, coding: bytes, rest: bytes, data: bytes) -> tuple[Received | None, bytes]:
    if coding != b"chunked":
        raise NotStrictError(coding)
    body = b""
    while True:
        size, end, rest = rest.partition(b"\r\n")
        if not end:
            return None, data
        if not re.fullmatch(rb"[0-9a-f]{1,8}", size):
            raise NotStrictError(size)
        length = int(size, 16)
        if len(rest) < length + 2:
            return None, data
        if rest[length : length + 2] != b"\r\n":
            raise NotStrictError(rest)
        body, rest = body + rest[:length], rest[length + 2 :]
        if not length:
            return replace(request, body=body), rest


@dataclass
class Recorder:
    """An upstream that keeps each request, and what was no strict request; it answers with what it got."""

    url: str = ""
    seen: list[Received] = field(default_factory=list)
    odd: list[object] = field(default_factory=list)
    answer: Callable[[Received, bytes], bytes] = lambda _, usual: usual

    def serve(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        data = b""
        with connection, contextlib.suppress(OSError):
            while chunk := connection.recv(65536):
                data += chunk
                try:
                    request, data = split_request(data)
                    while request is not None:
                        self.seen.append(request)
                        connection.sendall(self.answer(request, usual(request)))
                        request, data = split_request(data)
                except NotStrictError as error:
                    self.odd.append(error)
                    return


def usual(request: Received) -> bytes:
    """What the recorder answers: the request's own line and body."""
    body = json.dumps({"line": request.line.decode(), "body": request.body.decode("latin-1")}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Front, Recorder]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        recorder = Recorder(f"http://localhost:{listening.getsockname()[1]}/v1/p")
        threading.Thread(target=recorder.serve, args=(listening,), daemon=True).start()
        limits = replace(BRISK, pause=1.0, head=3.0)
        with front(Purse(), Route("p", recorder.url), limits=limits) as proxy:
            yield proxy, recorder
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def gateway(running: tuple[Front, Recorder]) -> Front:
    return running[0]


@pytest.fixture
def recorder(running: tuple[Front, Recorder]) -> Recorder:
    recorder = running[1]
    recorder.seen, recorder.odd = [], []
    recorder.answer = lambda _, usual: usual
    return recorder


def post(*lines: str, body: str = "", first: str = "POST /v1/x HTTP/1.1") -> bytes:
    return (f"{first}\r\n{HEAD}" + "".join(f"{line}\r\n" for line in lines) + f"\r\n{body}").encode("latin-1")


def raw(text: str) -> bytes:
    return text.encode("latin-1")


CODINGS = [
    "Transfer-Encoding: chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    " Transfer-Encoding: chunked",
    "\tTransfer-Encoding: chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding:chunked",
    "Transfer-Encoding:  chunked",
    "Transfer-Encoding: chunked ",
    "Transfer-Encoding: chunked\t",
    "Transfer-Encoding: \x0bchunked",
    "Transfer-Encoding: \x0cchunked",
    "Transfer-Encoding: chunked\x0b",
    "Transfer-Encoding: \x00chunked",
    "Transfer-Encoding: chunked\x00",
    "Transfer-Encoding: \xa0chunked",
    "Transfer-Encoding: chunked\xa0",
    "Transfer-Encoding: \x85chunked",
    "Transfer-Encoding: CHUNKED",
    "TRANSFER-ENCODING: chunked",
    "Transfer-Encoding: chunKed",
    "Transfer-Encoding: \xc3\xa7hunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: chunk",
    "Transfer-Encoding: 'chunked'",
    'Transfer-Encoding: "chunked"',
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: ,",
    "Transfer-Encoding:",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: deflate",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding:\r\n\tchunked",
    "Transfer-Encoding: x\r\n chunked",
    "Transfer-Encoding:\nchunked",
    "Transfer-Encoding\n: chunked",
    "Transfer-\nEncoding: chunked",
    "X: x\nTransfer-Encoding: chunked",
    "X: x\rTransfer-Encoding: chunked",
    "X: x\n\rTransfer-Encoding: chunked",
    "X: x\r\n Transfer-Encoding: chunked",
    "X:\0Transfer-Encoding: chunked",
    "Foo\r\nTransfer-Encoding: chunked",
    ":\r\nTransfer-Encoding: chunked",
    "Transfer_Encoding: chunked",
    "Transfer-Encoding\x00: chunked",
    "\x00Transfer-Encoding: chunked",
    "\xefTransfer-Encoding: chunked",
    "Transfer Encoding: chunked",
    "Content-Encoding: chunked",
    "TE: chunked",
    "Connection: Transfer-Encoding",
]
LENGTHS = [
    "+{}",
    "-{}",
    "0x{}",
    "{},{}",
    "{}, {}",
    "{};",
    "{}.0",
    "{}e0",
    "{} 0",
    "0{}",
    "\t{}",
    "{}\t",
    "{}\x00",
    "\x0b{}",
    "'{}'",
    "_{}",
    "{}_",
    "\xb2{}",
    "99999999999999999999",
    "",
    " ",
    "18446744073709551616",
    "{}\r\nContent-Length: {}",
    "{}\r\nContent-Length: 0",
    "0\r\nContent-Length: {}",
    "{}\r\nContent_Length: 0",
    "\n{}",
    "\r\n {}",
    "{}\r\n 0",
    "{}\r\nContent-Length : 0",
    "{}\r\n Content-Length: 0",
]
CHUNKS = [
    "5\r\nhello\r\n0\r\n\r\n",
    "5;a=b\r\nhello\r\n0\r\n\r\n",
    '5;a="\r\n"\r\nhello\r\n0\r\n\r\n',
    "5;\nX\r\nhello\r\n0\r\n\r\n",
    "5;a\nhello\r\n0\r\n\r\n",
    "5;a\rb\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "5\t;a\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    "5_0\r\nhello\r\n0\r\n\r\n",
    "\xb55\r\nhello\r\n0\r\n\r\n",
    "5\nhello\n0\n\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\rhello\r0\r\r",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhelloXX0\r\n\r\n",
    "5\r\nhelloX\r\n0\r\n\r\n",
    "4\r\nhello\r\n0\r\n\r\n",
    "\r\n5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n00\r\n\r\n",
    "5\r\nhello\r\n0000000000000000000\r\n\r\n",
    "0000000000000000005\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0;x=y\r\n\r\n",
    "FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n",
    "5\r\nhello\r\n0\r\nTransfer-Encoding: x\r\n\r\n",
    "5\r\nhello\r\n0\r\nHost: evil.example\r\nAuthorization: Bearer x\r\n\r\n",
    "5\r\nhello\r\n0\r\n X: folded\r\n\r\n",
    "5\r\nhello\r\n0\r\n\n",
    "5\r\nhello\r\n0\n\r\n",
    "5\r\nhello\r\n\r\n0\r\n\r\n",
    "\n5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\nX\r\n\r\n",
    "5\r\nhello\r\n0\r\n: y\r\n\r\n",
    "z\r\nhello\r\n0\r\n\r\n",
    "\r\n\r\n",
    "0\r\n",
    "5",
    "5\r\nhel",
    "5\x00\r\nhello\r\n0\r\n\r\n",
]
FIRSTS = [
    "POST /v1/x",
    "POST /v1/x HTTP/0.9",
    "POST /v1/x HTTP/1.0",
    "POST /v1/x HTTP/1.2",
    "POST /v1/x HTTP/2.0",
    "POST /v1/x http/1.1",
    "POST /v1/x HTTP/1.1 ",
    "POST  /v1/x HTTP/1.1",
    "POST\t/v1/x\tHTTP/1.1",
    "POST /v1/x HTTP/1.1\x0b",
    "POST /v1/x HTTP/11",
    "POST /v1/x HTTP/1.10",
    "POST /v1/x HTTP/1.1 HTTP/1.1",
    "post /v1/x HTTP/1.1",
    "P\xd6ST /v1/x HTTP/1.1",
    "POST /v1/x\x00 HTTP/1.1",
    "POST /v1/x y HTTP/1.1",
    "POST http://localhost/v1/x HTTP/1.1",
    "POST http://evil.example/v1/x HTTP/1.1",
    "POST evil.example:80 HTTP/1.1",
    "POST * HTTP/1.1",
    "POST /v1/x%0d%0aX:%20y HTTP/1.1",
    "POST /v1/x%20HTTP/1.1%0d%0aHost:%20y HTTP/1.1",
    "POST /v1/x?a=\x7f HTTP/1.1",
    "POST //evil.example/v1/x HTTP/1.1",
    "POST /v1/x#y HTTP/1.1",
    "CONNECT evil.example:443 HTTP/1.1",
    "PRI * HTTP/2.0",
    "\r\nPOST /v1/x HTTP/1.1",
    "\nPOST /v1/x HTTP/1.1",
    " POST /v1/x HTTP/1.1",
    "\x00POST /v1/x HTTP/1.1",
    "POST /v1/x\nHTTP/1.1",
    "POST /v1/x\rHTTP/1.1",
    "GET /v1/x HTTP/1.1",
    "HEAD /v1/x HTTP/1.1",
    "OPTIONS /v1/x HTTP/1.1",
    "DELETE /v1/x HTTP/1.1",
    "TRACE /v1/x HTTP/1.1",
]
HOSTS = [
    "Host: localhost",
    "Host: evil.example",
    " Host: evil.example",
    "Host : evil.example",
    "Host:\r\n evil.example",
    "X: y\nHost: evil.example",
    "Connection: Host",
    "Connection: Authorization",
    "Connection: Content-Length",
    "Connection: close, Content-Length, X-Attack",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    "Upgrade: websocket\r\nConnection: Upgrade",
    "Expect: 100-continue",
    "Expect: 100-continue\r\nExpect: 100-continue",
    "Expect: x",
    "Keep-Alive: timeout=1",
    "Proxy-Connection: keep-alive",
    "X-HTTP-Method-Override: CONNECT",
    "X-Forwarded-Host: evil.example",
    "Trailer: Content-Length",
    "Content-Type: multipart/form-data; boundary=x",
    "Authorization: Bearer x",
    "X-Long: " + "a" * 5000,
    "Range: bytes=0-1",
    "Content-Location: //evil.example",
    "Max-Forwards: 0",
]

CASES: dict[str, tuple[bytes, int]] = {}
"""Each case, and the most requests that upstream may get of it."""

for coding in CODINGS:
    body = f"0\r\n\r\n{SMUGGLED}"
    # With both headers, one parser reads the length and the other the chunks.
    may = 1 if re.match(r"(Transfer_|Content-E|TE|Connection)", coding) else 0
    CASES[f"CL.TE {coding!r}"] = post(f"Content-Length: {len(body)}", coding, body=body), may
    CASES[f"TE.CL {coding!r}"] = post(coding, "Content-Length: 4", body=f"{SIZE}\r\n{SMUGGLED}\r\n0\r\n\r\n"), may
    CASES[f"TE {coding!r}"] = post(coding, body=f"{SIZE}\r\n{SMUGGLED}\r\n0\r\n\r\n"), 1
for length in LENGTHS:
    CASES[f"CL {length!r}"] = post(f"Content-Length: {length.replace('{}', str(len(SMUGGLED)))}", body=SMUGGLED), 1
    CASES[f"CL on GET {length!r}"] = (
        post(f"Content-Length: {length.replace('{}', '5')}", body="hello", first="GET /v1/x HTTP/1.1"),
        1,
    )
for chunks in CHUNKS:
    CASES[f"chunks {chunks!r}"] = post("Transfer-Encoding: chunked", body=chunks + SMUGGLED), 1
for first in FIRSTS:
    CASES[f"line {first!r}"] = post(f"Content-Length: {len(SMUGGLED)}", body=SMUGGLED, first=first), 1
for line in HOSTS:
    CASES[f"header {line[:60]!r}"] = post(line, f"Content-Length: {len(SMUGGLED)}", body=SMUGGLED), 1
HTTP2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CASES |= {
    "two requests": (post(first="GET /v1/x HTTP/1.1") * 2, 2),
    "three requests with a body": (post("Content-Length: 5", body="hello") * 3, 3),
    "a body that is too short": (post("Content-Length: 500", body=SMUGGLED), 1),
    "a malformed request behind a good one": (
        post(first="GET /v1/x HTTP/1.1") + post("Bad Header: x", body=SMUGGLED),
        1,
    ),
    "an HTTP/2 preface": (raw(HTTP2) + post(body=SMUGGLED), 0),
    "an HTTP/2 preface behind a request": (post(first="GET /v1/x HTTP/1.1") + raw(HTTP2 + SMUGGLED), 1),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + post(body=SMUGGLED), 0),
    "a PROXY line": (raw("PROXY TCP4 1.2.3.4 127.0.0.1 1 2\r\n") + post(), 0),
    "lines that end in LF": (post("Content-Length: 5", body="hello").replace(b"\r\n", b"\n"), 0),
    "lines that end in CR": (post("Content-Length: 5", body="hello").replace(b"\r\n", b"\r"), 0),
    "one line that ends in LF": (post("Content-Length: 5", "X: y", body="hello").replace(b"X: y\r\n", b"X: y\n"), 0),
    "a head that ends in LF LF": (post("Content-Length: 5").replace(b"\r\n\r\n", b"\n\n") + b"hello", 0),
    "only line ends": (b"\r\n" * 200, 0),
}


def parts(data: bytes, how: str) -> list[bytes]:
    if how == "bytes":
        return [data[at : at + 1] for at in range(len(data))]
    middle = data.find(b"\r\n\r\n") + 2 if how == "head" else len(data)
    return [part for part in (data[:middle], data[middle:]) if part]


def attack(gateway: Front, data: bytes, how: str) -> bytes:
    """Send the bytes and close the sending side; return all that the gateway answers."""
    with connection_to(gateway) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answers = b""
        with contextlib.suppress(OSError):  # the gateway has closed
            for part in parts(data, how):
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(65536):
                answers += chunk
        return answers


@pytest.mark.parametrize("name", CASES)
def test_no_request_becomes_two(
    gateway: Front, recorder: Recorder, name: str, record_property: Callable[[str, object], None]
) -> None:
    data, most = CASES[name]
    ways = ("whole", "head", "bytes")
    record_property("requests", len(ways))
    for number, how in enumerate(ways):
        recorder.seen.clear()
        answers = attack(gateway, data, how)
        mark = f"victim-{number}"
        victim = gateway.ask(path=f"/v1/{mark}", body=mark, X_Victim=mark)
        *attacks, last = list(recorder.seen)
        assert recorder.odd == [], how
        assert len(attacks) <= most, how
        assert not [each for each in attacks if b"/smuggled" in each.line], how
        assert [each.values(b"authorization") for each in attacks] == [[b"Bearer ya29.token-1"]] * len(attacks)
        assert KEY.encode() not in b"".join(each.line + bytes(str(each.headers), "ascii") for each in attacks)
        assert (last.line, last.body, last.values(b"x-victim")) == (
            f"POST /v1/p/{mark} HTTP/1.1".encode(),
            mark.encode(),
            [mark.encode()],
        )
        assert last.values(b"x-attack") == []
        assert (victim.status, victim.json["body"]) == (200, mark)
        assert answers.count(b"HTTP/1.1 200 ") <= most
        assert b"victim" not in answers


ANSWERS: dict[str, Callable[[bytes], bytes]] = {
    "another answer behind it": lambda usual: usual + usual.replace(b"/v1/p/", b"/INJECTED"),
    "bytes behind it": lambda usual: usual + b"INJECTED",
    "a line end behind it": lambda usual: usual + b"\r\n",
    "a length that is too short": lambda usual: re.sub(rb"Length: \d+", b"Length: 3", usual) + b"INJECTED",
    "a length that is too long": lambda usual: re.sub(rb"Length: \d+", b"Length: 3000", usual),
    "a length and chunks": lambda usual: usual.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n", 1),
    "two lengths": lambda usual: usual.replace(b"Content-Length: ", b"Content-Length: 2\r\nContent-Length: ", 1),
    "a list of lengths": lambda usual: re.sub(rb"Length: (\d+)", rb"Length: 2, \1", usual),
    "a negative length": lambda usual: re.sub(rb"Length: \d+", b"Length: -1", usual),
    "a signed length": lambda usual: re.sub(rb"Length: ", b"Length: +", usual),
    "a length that is no number": lambda usual: re.sub(rb"Length: \d+", b"Length: x", usual),
    "a coding that nobody knows": lambda usual: re.sub(rb"Content-Length: \d+", b"Transfer-Encoding: x", usual),
    "a folded header": lambda usual: usual.replace(b"\r\n\r\n", b"\r\nX: y\r\n Z: INJECTED\r\n\r\n", 1),
    "a bare LF in a header": lambda usual: usual.replace(b"\r\n\r\n", b"\r\nX: y\nSet-Cookie: INJECTED\r\n\r\n", 1),
    "a bare CR in a header": lambda usual: usual.replace(b"\r\n\r\n", b"\r\nX: y\rSet-Cookie: INJECTED\r\n\r\n", 1),
    "a NUL in a header": lambda usual: usual.replace(b"\r\n\r\n", b"\r\nX: \0INJECTED\r\n\r\n", 1),
    "a header without a name": lambda usual: usual.replace(b"\r\n\r\n", b"\r\n: INJECTED\r\n\r\n", 1),
    "a space before the colon": lambda usual: usual.replace(b"Content-Length:", b"Content-Length :"),
    "no content but a body": lambda usual: usual.replace(b"200 OK", b"204 No Content") + b"INJECTED",
    "not modified but a body": lambda usual: usual.replace(b"200 OK", b"304 Not Modified") + b"INJECTED",
    "a switch of protocols": lambda usual: usual.replace(b"200 OK", b"101 Switching Protocols") + b"INJECTED",
    "hints before it": lambda usual: b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3 + usual,
    "a hundred times continue": lambda usual: b"HTTP/1.1 100 Continue\r\n\r\n" * 100 + usual,
    "HTTP/1.0": lambda usual: usual.replace(b"HTTP/1.1", b"HTTP/1.0") + b"INJECTED",
    "HTTP/0.9": lambda _: b"INJECTED",
    "a status without a number": lambda usual: usual.replace(b"200", b"abc"),
    "a status over 599": lambda usual: usual.replace(b"200", b"999"),
    "chunks of another size": lambda _: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcINJECTED\r\n0\r\n\r\n"
    ),
    "chunks and another answer": lambda usual: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        + usual.replace(b"/v1/p/", b"/INJECTED")
    ),
    "a signed chunk": lambda _: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\nINJECTED",
    "a trailer": lambda _: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\nINJECTED"
    ),
    "lines that end in LF": lambda usual: usual.replace(b"\r\n", b"\n"),
}
"""What upstream sends to the first client, made from the right answer."""


@pytest.mark.parametrize("method", ["POST", "HEAD"])
@pytest.mark.parametrize("name", ANSWERS)
def test_no_answer_reaches_another_client(
    gateway: Front, recorder: Recorder, name: str, method: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("answers", 1)
    recorder.answer = lambda request, usual: ANSWERS[name](usual) if b"/first" in request.line else usual
    with contextlib.suppress(OSError), contextlib.closing(gateway.connect(5)) as connection:
        connection.request(method, "/v1/first", b"hello", {"Authorization": f"Bearer {KEY}"})
        with contextlib.suppress(Exception):
            connection.getresponse().read()
    for number in range(3):
        mark = f"second-{number}"
        answer = gateway.ask(path=f"/v1/{mark}", body=mark)
        assert (answer.status, answer.json) == (200, {"line": f"POST /v1/p/{mark} HTTP/1.1", "body": mark})
        assert "INJECTED" not in str(answer.headers)


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 300
    assert len({data for data, _ in CASES.values()}) == len(CASES)


@pytest.mark.parametrize(
    "data",
    [
        b"GET /x HTTP/1.1\nHost: a\n\n\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 01\r\n\r\na",
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a\r\na\r\n0\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
    ],
)
def test_the_recorder_rejects_what_parsers_read_differently(data: bytes) -> None:
    with pytest.raises(NotStrictError):
        split_request(data)
