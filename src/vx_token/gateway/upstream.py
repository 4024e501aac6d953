"""HTTP client for upstream: session, request, response checks and errors."""

import re
import ssl
from asyncio import sslproto
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from aiohttp.http import HttpProcessingError

from vx_token.gateway.body import RequestBody
from vx_token.gateway.errors import GatewayError
from vx_token.gateway.guard import RequestTarget
from vx_token.gateway.headers import Headers
from vx_token.gateway.http_client import Client, Response, StaleConnectionError, new_connection
from vx_token.gateway.settings import Limits, Route

_TLS_BUFFER = 8 << 10  # bytes; half a TLS record
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})  # without a body, they need no Content-Length: 0
_NAMES = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:)*")  # tokens, each before a colon
_FORBIDDEN = re.compile(rb"[\x00-\x08\n-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request to upstream, without headers and body."""

    method: str
    target: RequestTarget
    route: Route


def open_client(ca_file: Path | None, limits: Limits, limit: int) -> Client:
    """Return a client with verified TLS.

    At most `limit` connections are open; further requests wait.
    """
    _slim_tls()
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return Client(context, limits, limit)


async def send(client: Client, request: UpstreamRequest, headers: Headers, body: RequestBody) -> Response:
    """Send one request and return the response; its body is not read yet.

    A complete body is sent once more on a new connection if upstream has closed a kept one without a response.

    Raises:
        GatewayError: 502 or 504 if upstream does not respond; the body's error if that cannot be read.
    """
    if body.length is not None:
        headers.append(("Content-Length", str(body.length)))
    elif body.complete and request.method not in _WITHOUT_BODY:
        headers.append(("Content-Length", "0"))
    endpoint = client.endpoint(request.route.base_url, request.route.proxy)
    target = request.target.below_base_url
    try:
        try:
            return await client.request(request.method, endpoint, target, headers, body.payload())
        except StaleConnectionError:
            if not body.complete:
                raise
            with new_connection():
                return await client.request(request.method, endpoint, target, headers, body.payload())
    except (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError) as error:
        raise body.error or upstream_error(error, request.route.base_url) from None


def check_response(response: Response) -> None:
    """Reject a malformed status or header that aiohttp accepts and a client could parse differently.

    Source: RFC 9110, sections 5.1, 5.5 and 15.

    Raises:
        GatewayError: 502; the connection is closed.
    """
    names = b"".join([name + b":" for name, _ in response.raw_headers])
    values = b"".join([value for _, value in response.raw_headers])
    if not 200 <= response.status <= 599 or not _NAMES.fullmatch(names) or _FORBIDDEN.search(values):
        response.close()
        raise GatewayError(502, "upstream sent a malformed HTTP response", "upstream_gone")


def upstream_error(error: Exception, base_url: str) -> GatewayError:
    """Return the response for a failed request; the error's own message is left out, as it may quote headers."""
    host = urlsplit(base_url).hostname or ""
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
