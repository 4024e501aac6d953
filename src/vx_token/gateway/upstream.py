"""HTTP client for upstream: session, request, response checks and errors."""

import asyncio
import functools
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
from vx_token.gateway.stale_connections import Connector, Response, StaleConnectionError, new_connection

_TLS_BUFFER = 8 << 10  # bytes; half a TLS record
_HEADER = 64 << 10  # maximum bytes of one response header
_IDLE = 15.0  # seconds that an idle connection is kept; Google closes it only after minutes
_LENGTH_HEADERS = ("Content-Length", "Transfer-Encoding")  # with either header, the end of a response is explicit
_CHECK_INTERVAL = 1.0  # seconds between two checks of a connection during a response
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN = re.compile(rb"[\x00-\x08\n-\x1f\x7f]")
_NO_DEFAULTS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request to upstream, without headers and body."""

    method: str
    target: RequestTarget
    route: Route


def open_session(ca_file: Path | None, limits: Limits, limit: int) -> aiohttp.ClientSession:
    """Return a session with verified TLS, without cookies and decompression; the caller closes it.

    At most `limit` connections are open; further requests wait.
    """
    _slim_tls()
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return aiohttp.ClientSession(
        connector=Connector(limit=limit, ssl=context, keepalive_timeout=_IDLE, ttl_dns_cache=60),
        response_class=Response,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect, sock_read=limits.silence),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=_NO_DEFAULTS,
        max_line_size=_HEADER,
        max_field_size=_HEADER,
    )


async def send(
    session: aiohttp.ClientSession, request: UpstreamRequest, headers: Headers, body: RequestBody
) -> aiohttp.ClientResponse:
    """Send one request and return the response; its body is not read yet.

    A complete body is sent once more on a new connection if upstream has closed a kept one without a response.

    Raises:
        GatewayError: 502 or 504 if upstream does not respond; the body's error if that cannot be read.
    """
    fields = CIMultiDict(headers)
    if body.length is not None:
        fields["Content-Length"] = str(body.length)
    url = _parse_url(request.target.url(request.route.base_url))
    proxy = request.route.proxy or None

    async def attempt() -> aiohttp.ClientResponse:
        return await session.request(
            request.method, url, headers=fields, data=body.payload(), allow_redirects=False, proxy=proxy
        )

    try:
        try:
            return await attempt()
        except StaleConnectionError:
            if not body.complete:
                raise
            with new_connection():
                return await attempt()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise body.error or upstream_error(error, url.host or "") from None


@functools.lru_cache(maxsize=64)  # a parsed URL caches its parts, too
def _parse_url(url: str) -> URL:
    return URL(url, encoded=True)


def check_response(response: aiohttp.ClientResponse) -> None:
    """Reject a malformed status or header that aiohttp accepts and a client could parse differently.

    Source: RFC 9110, sections 5.1, 5.5 and 15.

    Raises:
        GatewayError: 502; the connection is closed.
    """
    if not (200 <= response.status <= 599 and all(map(_is_field, response.raw_headers))):
        response.close()
        raise GatewayError(502, "upstream sent a malformed HTTP response", "upstream_gone")


def _is_field(field: tuple[bytes, bytes]) -> bool:
    name, value = field
    return _TOKEN.fullmatch(name) is not None and _FORBIDDEN.search(value) is None


def release(response: aiohttp.ClientResponse) -> None:
    """Keep the connection if its response was read completely; else close it, so that upstream stops working."""
    if response.content.at_eof():
        response.release()
    else:
        response.close()


class ConnectionMonitor:
    """Detects lost connections during a response that aiohttp does not report; call `stop` at the end.

    After malformed chunks aiohttp closes the connection, but its reader waits forever. And for a response with neither
    Content-Length nor chunks, aiohttp treats a reset as the regular end.
    """

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        connection = response.connection  # None at the end of the response
        self._protocol = connection.protocol if connection is not None else None
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_later(_CHECK_INTERVAL, self._check)

    @property
    def reset(self) -> bool:
        """Whether a response without explicit end was ended by a connection error."""
        if self._protocol is None or any(name in self._response.headers for name in _LENGTH_HEADERS):
            return False
        return isinstance(self._protocol.exception(), OSError)

    def stop(self) -> None:
        """Stop the checks."""
        self._handle.cancel()

    def _check(self) -> None:
        content = self._response.content
        connected = self._response.connection is None or self._protocol is None or self._protocol.is_connected()
        if not connected and not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("the connection was lost"))
        else:
            self._handle = self._loop.call_later(_CHECK_INTERVAL, self._check)


def upstream_error(error: Exception, host: str) -> GatewayError:
    """Return the response for a failed request; the error's own message is left out, as it may quote headers."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return GatewayError(502, f"the TLS certificate of {host} cannot be verified", "upstream_untrusted")
    if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError):
        return GatewayError(502, f"cannot connect to {host}", "upstream_unreachable")
    if isinstance(error, TimeoutError):
        return GatewayError(504, f"{host} did not respond in time", "upstream_timeout")
    return GatewayError(502, f"{host} closed the connection before a complete response", "upstream_gone")


def _slim_tls() -> None:
    """Set the receive buffer of TLS connections to 8 KiB; the default of asyncio is 256 KiB.

    asyncio has only this class attribute for it, so it applies to the whole process. For a thousand streams this saves
    248 MiB. A large response takes a fifth more processor time, 0.3 s for 100 MiB.
    """
    sslproto.SSLProtocol.max_size = _TLS_BUFFER
