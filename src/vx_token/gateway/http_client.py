"""Sends HTTP/1.1 requests on the connections, and with the parser, of aiohttp.

aiohttp's own session takes half of the processor time of a small request: cookies, redirects, default headers, a task
per body and a timer per read. A proxy needs none of them.
"""

import asyncio
import contextlib
import functools
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
from aiohttp import ClientRequest, StreamReader
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import StreamWriter
from yarl import URL

from vx_token.gateway.aiohttp_headers import head_bytes
from vx_token.gateway.headers import Headers
from vx_token.gateway.settings import Limits

_HEADER = 64 << 10  # maximum bytes of one response header
_IDLE = 15.0  # seconds that an idle connection is kept; Google closes it only after minutes
_SILENCE_CHECK = 5.0  # maximum seconds between two checks for silent connections
_LENGTH_HEADERS = ("Content-Length", "Transfer-Encoding")  # with either header, the end of a response is explicit
_new_only: ContextVar[bool] = ContextVar("new_only", default=False)


class StaleConnectionError(aiohttp.ServerDisconnectedError):
    """A kept connection was closed before any byte of the response.

    Every HTTP server may close an idle connection at any moment (RFC 9112, section 9.3.1).
    """


@contextlib.contextmanager
def new_connection() -> Iterator[None]:
    """Send the requests of this task on new connections."""
    token = _new_only.set(True)
    try:
        yield
    finally:
        _new_only.reset(token)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the requests of a route go.

    Attributes:
        request: names host, port, TLS and proxy to aiohttp's connector; it is never sent.
        host: the Host header.
        prefix: the beginning of each request target, without a slash at its end.
    """

    request: ClientRequest
    host: str
    prefix: str

    @classmethod
    def of(cls, base_url: str, proxy: str) -> Self:
        """Return the endpoint of a base URL; `proxy` is the URL of an HTTP proxy or empty."""
        url = URL(base_url.rstrip("/"), encoded=True)
        request = ClientRequest(
            "GET", url, loop=asyncio.get_running_loop(), proxy=URL(proxy) if proxy else None, skip_auto_headers=()
        )
        # A proxy gets the whole URL, unless TLS leads through it.
        prefix = f"{url.origin()}{url.raw_path}" if proxy and not request.is_ssl() else url.raw_path
        return cls(request, request.headers["Host"], prefix.rstrip("/"))


class Client:
    """Sends requests on new and kept connections; an asynchronous context manager.

    Args:
        context: the TLS settings.
        limits: the timeouts.
        limit: maximum number of connections; further requests wait.
    """

    def __init__(self, context: ssl.SSLContext, limits: Limits, limit: int) -> None:
        self._connector = _Connector(limit=limit, ssl=context, keepalive_timeout=_IDLE, ttl_dns_cache=60)
        self._endpoint = functools.lru_cache(maxsize=64)(Endpoint.of)
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=limits.connect)
        self._silence = limits.silence
        self._busy: set[_Protocol] = set()
        self._silence_check = asyncio.get_running_loop().create_task(self._check_silence())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._silence_check.cancel()
        await self._connector.close()

    def endpoint(self, base_url: str, proxy: str) -> Endpoint:
        """Return the endpoint of a base URL."""
        return self._endpoint(base_url, proxy)

    async def request(
        self, method: str, endpoint: Endpoint, target: str, headers: Headers, body: bytes | AsyncIterator[bytes]
    ) -> "Response":
        """Send one request and return the response; its body is not read yet.

        Args:
            method: HTTP method.
            endpoint: the server.
            target: path and query below the endpoint, with the first slash.
            headers: all headers but Host and Transfer-Encoding; without a Content-Length, an iterator is sent in
                chunks.
            body: the body.

        Raises:
            aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError: no response; StaleConnectionError.
        """
        try:
            connection = await self._connector.connect(endpoint.request, [], self._timeout)
        except TimeoutError:
            raise aiohttp.ConnectionTimeoutError(f"timeout while connecting to {endpoint.host}") from None
        protocol = connection.protocol
        assert isinstance(protocol, _Protocol)
        response = Response(connection, protocol, self._busy)
        try:
            protocol.set_response_params(
                skip_payload=method == "HEAD",
                read_until_eof=True,
                auto_decompress=False,
                max_line_size=_HEADER,
                max_field_size=_HEADER,
            )
            lines = [("Host", endpoint.host), *headers]
            if endpoint.request.proxy and "Proxy-Authorization" in endpoint.request.headers:
                lines.append(("Proxy-Authorization", endpoint.request.headers["Proxy-Authorization"]))
            response.send(f"{method} {endpoint.prefix}{target} HTTP/1.1", lines, body)
            await response.read_head()
        except BaseException:
            response.close()
            raise
        finally:
            protocol.is_reused = True
        return response

    async def _check_silence(self) -> None:
        """End the responses of connections that were silent for too long; never returns."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_SILENCE_CHECK, self._silence / 4))
            earliest = loop.time() - self._silence
            for protocol in [each for each in self._busy if each.heard_at < earliest]:
                protocol.end_silence()


class Response:
    """A response; the end of its body returns the connection to the kept ones.

    Attributes:
        status: HTTP status.
        reason: the text after it.
        headers: the headers.
        raw_headers: the same as bytes, in their order.
        content: the body.
    """

    __slots__ = (
        "_busy",
        "_connection",
        "_protocol",
        "_writer",
        "content",
        "headers",
        "raw_headers",
        "reason",
        "status",
    )

    def __init__(self, connection: Connection, protocol: "_Protocol", busy: "set[_Protocol]") -> None:
        self._connection = connection
        self._protocol = protocol
        self._busy = busy
        self._writer: asyncio.Task[None] | None = None
        busy.add(protocol)

    def send(self, request_line: str, headers: Headers, body: bytes | AsyncIterator[bytes]) -> None:
        """Send the request; a body in chunks is sent by a task."""
        protocol, transport = self._protocol, self._protocol.transport
        if transport is None:
            raise aiohttp.ServerDisconnectedError
        protocol.has_answered, protocol.content = False, None
        if isinstance(body, bytes):
            protocol.heard_at = protocol.now()
            transport.write(head_bytes(request_line, headers) + body)
            return
        protocol.heard_at = math.inf  # until the body is sent
        writer = StreamWriter(protocol, asyncio.get_running_loop())
        if not any(name == "Content-Length" for name, _ in headers):
            headers = [*headers, ("Transfer-Encoding", "chunked")]
            writer.enable_chunking()
        transport.write(head_bytes(request_line, headers))
        self._writer = asyncio.create_task(_write_body(writer, protocol, body))

    async def read_head(self) -> None:
        """Read status and headers; informational responses are skipped.

        Raises:
            StaleConnectionError: a reused connection was closed without any byte.
            aiohttp.ClientError, HttpProcessingError, TimeoutError: no response.
        """
        protocol = self._protocol
        while True:
            try:
                message, self.content = await protocol.read()
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if protocol.is_reused and not protocol.has_answered:
                    raise StaleConnectionError from None
                raise
            if not 100 <= message.code <= 199 or message.code == 101:
                break
        self.status, self.reason = message.code, message.reason
        self.headers, self.raw_headers = message.headers, message.raw_headers
        protocol.content = self.content
        self.content.on_eof(self._end)

    @property
    def was_reset(self) -> bool:
        """Whether a connection error, which aiohttp takes for the regular end, ended a response without length."""
        if any(name in self.headers for name in _LENGTH_HEADERS):
            return False
        return isinstance(self._protocol.exception(), OSError)

    def close(self) -> None:
        """Close the connection, unless the response has been received completely."""
        if self._connection.protocol is None:
            return
        self._busy.discard(self._protocol)
        if self._writer is not None:
            self._writer.cancel()
        self._connection.close()

    def _end(self) -> None:
        if self._writer is None or self._writer.done():
            self._busy.discard(self._protocol)
            self._connection.release()
        else:
            self.close()


async def _write_body(writer: StreamWriter, protocol: "_Protocol", body: AsyncIterator[bytes]) -> None:
    try:
        async for piece in body:
            await writer.write(piece)
        await writer.write_eof()
        protocol.heard_at = protocol.now()
    except Exception as error:  # noqa: BLE001 - whatever it is, the request cannot be completed
        if protocol.content is None:
            protocol.set_exception(aiohttp.ClientConnectionError("the request body cannot be sent"), error)


class _Connector(aiohttp.TCPConnector):
    """A connector whose connections know whether they are reused."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(_Protocol, loop=self._loop)  # type: ignore[assignment]

    def _get(self, *arguments: Any) -> Awaitable[Any]:  # type: ignore[override]
        """Return a kept connection, if there is one."""
        return _nothing() if _new_only.get() else super()._get(*arguments)


async def _nothing() -> None:
    return None


class _Protocol(ResponseHandler):
    """A connection to upstream.

    Attributes:
        is_reused: whether it has served a request before the current one.
        has_answered: whether any byte has arrived since the current request.
        heard_at: time of the loop at which the last byte arrived, or the request was sent.
        content: the body of the current response.
    """

    is_reused = False
    has_answered = False
    heard_at = math.inf
    content: StreamReader | None = None

    def now(self) -> float:
        """Return the time of the loop."""
        return self._loop.time()

    def _reschedule_timeout(self) -> None:
        """Record that data has arrived; aiohttp would set a new timer here."""
        self.has_answered = True
        self.heard_at = self._loop.time()

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """End the response with an error; after malformed chunks, the reader of aiohttp would wait forever."""
        super().set_exception(exc, *cause)
        self._end_body(aiohttp.ClientPayloadError("the connection was lost"))

    def end_silence(self) -> None:
        """End the response, unless the silence is ours because the client reads slowly."""
        if self._reading_paused:
            return
        error = aiohttp.SocketTimeoutError("upstream is silent")
        self._end_body(error)
        self.set_exception(error)

    def _end_body(self, error: Exception) -> None:
        body = self._payload
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(error)
