"""The way to upstream: one HTTP session, verified TLS, and what its failures mean."""

import asyncio
import re
import ssl
from asyncio import sslproto
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from vx_token.gateway.body import RequestBody
from vx_token.gateway.errors import GatewayError
from vx_token.gateway.guard import RequestTarget
from vx_token.gateway.headers import Headers
from vx_token.gateway.settings import Limits, Route

_TLS_BUFFER = 16 << 10  # bytes: one TLS record
_HEADER = 64 << 10  # bytes that one header line of upstream may have
_IDLE = 15.0  # seconds that an idle connection is kept; Google closes its end only after minutes
_ENDS = ("Content-Length", "Transfer-Encoding")  # with one of them, an answer tells its own end
_BEAT = 1.0  # seconds between two looks at the connection of an answer that is under way
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN = re.compile(rb"[\x00-\x08\n-\x1f\x7f]")
_OURS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One request as upstream is to get it, but for its headers and body."""

    method: str
    target: RequestTarget
    route: Route


def open_session(ca_file: Path | None, limits: Limits, most: int) -> aiohttp.ClientSession:
    """A session without cookies, redirects' memory and decompression; close it at the end.

    Requests beyond its `most` connections wait for one.
    """
    _slim_tls()
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=most, ssl=context, keepalive_timeout=_IDLE, ttl_dns_cache=60),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect, sock_read=limits.silence),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=_OURS,
        max_line_size=_HEADER,
        max_field_size=_HEADER,
    )


async def send(
    session: aiohttp.ClientSession, call: UpstreamRequest, headers: Headers, body: RequestBody
) -> aiohttp.ClientResponse:
    """Send one request; the answer's head is there, its body is still to be read.

    Raises:
        GatewayError: 502 or 504 when upstream gives no answer; the body's own when that cannot be read.
    """
    fields = CIMultiDict(headers)
    if body.length is not None:
        fields["Content-Length"] = str(body.length)
    url = URL(call.target.url(call.route.base_url), encoded=True)
    proxy = call.route.proxy or None
    try:
        return await session.request(
            call.method, url, headers=fields, data=body.payload(), allow_redirects=False, proxy=proxy
        )
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise body.refusal or upstream_error(error, url.host or "") from None


def check_response(answer: aiohttp.ClientResponse) -> None:
    """Refuse an answer that is no HTTP: the library lets pass what a client could read in another way than we do.

    Source: RFC 9110, sections 5.1, 5.5 and 15.

    Raises:
        GatewayError: 502; the connection is closed.
    """
    if not (200 <= answer.status <= 599 and all(map(_is_field, answer.raw_headers))):
        answer.close()
        raise GatewayError(502, "upstream's answer is no HTTP response", "upstream_gone")


def _is_field(field: tuple[bytes, bytes]) -> bool:
    name, value = field
    return _TOKEN.fullmatch(name) is not None and _FORBIDDEN.search(value) is None


def release(answer: aiohttp.ClientResponse) -> None:
    """Keep the connection when its answer has been read to the end; else close it, so that upstream stops its work."""
    if answer.content.at_eof():
        answer.release()
    else:
        answer.close()


class ConnectionMonitor:
    """Tells a connection that is lost inside an answer where the HTTP library does not; `stop` it at the answer's end.

    The library closes a connection that brings malformed chunks, and leaves the reader waiting for ever; and it takes
    a reset for the good end of an answer that has neither a length nor chunks.
    """

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        connection = answer.connection  # at the answer's end it has none any more
        self._protocol = connection.protocol if connection is not None else None
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_later(_BEAT, self._look)

    @property
    def reset(self) -> bool:
        """Whether an answer that ends with its connection ended by an error."""
        if self._protocol is None or any(name in self._answer.headers for name in _ENDS):
            return False
        return isinstance(self._protocol.exception(), OSError)

    def stop(self) -> None:
        """Look no more."""
        self._handle.cancel()

    def _look(self) -> None:
        content = self._answer.content
        gone = self._answer.connection is not None and self._protocol is not None and not self._protocol.is_connected()
        if gone and not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("the connection is gone"))
        else:
            self._handle = self._loop.call_later(_BEAT, self._look)


def upstream_error(error: Exception, host: str) -> GatewayError:
    """What a failed exchange means to the tool's user; the error's own text stays here, it may quote headers."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return GatewayError(502, f"the TLS certificate of {host} cannot be verified", "upstream_untrusted")
    if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError):
        return GatewayError(502, f"cannot connect to {host}", "upstream_unreachable")
    if isinstance(error, TimeoutError):
        return GatewayError(504, f"{host} did not answer in time", "upstream_timeout")
    return GatewayError(502, f"{host} closed the connection without a proper answer", "upstream_gone")


async def read_up_to(content: aiohttp.StreamReader, size: int) -> bytes:
    """The beginning of a body, all of it when `content` is at its end afterwards."""
    chunks = []
    while size > 0 and not content.at_eof():
        chunks.append(await content.readany())
        size -= len(chunks[-1])
    return b"".join(chunks)


def _slim_tls() -> None:
    """Let asyncio take 16 KiB for a TLS connection's receive buffer, in place of 256 KiB.

    The standard library offers only this attribute of its class, so it counts for the whole process. With a thousand
    open streams it is the difference of 240 MiB; a TLS record has at most 16 KiB, so nothing becomes slower.
    """
    sslproto.SSLProtocol.max_size = _TLS_BUFFER
