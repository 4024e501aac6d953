"""Relays upstream's response to the client chunk by chunk; a truncated response ends in a connection error."""

import socket
import struct

import aiohttp
from aiohttp import HttpVersion11, web
from multidict import CIMultiDict

from vx_token.gateway.errors import MAX_ERROR_BODY, to_openai_error
from vx_token.gateway.headers import Headers, to_client
from vx_token.gateway.upstream import ConnectionMonitor, read_up_to
from vx_token.gateway.usage import UsageMeter

_FORMAT = frozenset({"content-length", "content-encoding", "content-type"})


class UpstreamClosedError(Exception):
    """Upstream closed the connection during its response; the client's connection is aborted.

    Attributes:
        response: the response as sent so far.
    """

    def __init__(self, response: web.StreamResponse) -> None:
        super().__init__("upstream closed the connection during its response")
        self.response = response


class StreamedResponse(web.StreamResponse):
    """A response sent in chunks.

    Attributes:
        size: bytes of its body, set at the end.
    """

    size = 0


async def relay(
    request: web.BaseRequest, upstream: aiohttp.ClientResponse, extra: Headers, meter: UsageMeter
) -> web.StreamResponse:
    """Send upstream's response to the client.

    Raises:
        UpstreamClosedError: upstream closed the connection after the client got the beginning.
        aiohttp.ClientError, TimeoutError: upstream closed the connection before that.
    """
    headers = to_client(upstream.headers.items()) + extra
    prefix = b""
    if _is_plain_error(upstream):
        prefix = await read_up_to(upstream.content, MAX_ERROR_BODY)
        changed = to_openai_error(upstream.status, prefix, upstream.headers.get("Content-Encoding", ""))
        if changed is not None and upstream.content.at_eof():
            headers = [pair for pair in headers if pair[0].lower() not in _FORMAT]
            headers.append(("Content-Type", "application/json"))
            return web.Response(
                status=upstream.status, reason=upstream.reason, headers=CIMultiDict(headers), body=changed
            )
    if upstream.content.is_eof() and request.method != "HEAD":
        return _send_buffered(upstream, headers, prefix, meter)
    return await _send_stream(request, upstream, headers, prefix, meter)


def _send_buffered(
    upstream: aiohttp.ClientResponse, headers: Headers, prefix: bytes, meter: UsageMeter
) -> web.StreamResponse:
    """Send a response that has arrived completely, in one write instead of three."""
    body = prefix + upstream.content.read_nowait()
    meter.feed(body)
    return web.Response(status=upstream.status, reason=upstream.reason, headers=CIMultiDict(headers), body=body)


async def _send_stream(
    request: web.BaseRequest, upstream: aiohttp.ClientResponse, headers: Headers, prefix: bytes, meter: UsageMeter
) -> web.StreamResponse:
    response = StreamedResponse(status=upstream.status, reason=upstream.reason, headers=CIMultiDict(headers))
    await response.prepare(request)
    content = upstream.content
    chunk = prefix
    meter.feed(chunk)
    monitor = ConnectionMonitor(upstream)
    try:
        while not content.at_eof():
            if chunk:
                await response.write(chunk)
            try:
                chunk = await content.readany()
            except (aiohttp.ClientError, TimeoutError, OSError):
                _abort_client(request)
                raise UpstreamClosedError(response) from None
            meter.feed(chunk)
        if monitor.reset:
            _abort_client(request)
            raise UpstreamClosedError(response)
    finally:
        monitor.stop()
    response.size = meter.size
    await response.write_eof(chunk)
    return response


def _is_plain_error(upstream: aiohttp.ClientResponse) -> bool:
    return upstream.status >= 400 and "event-stream" not in upstream.headers.get("Content-Type", "").lower()


def _abort_client(request: web.BaseRequest) -> None:
    """Close the client's connection so that the client detects a truncated response."""
    transport = request.transport
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if request.version < HttpVersion11 and sock is not None:
        # An HTTP/1.0 body ends with its connection, so only a reset (SO_LINGER 0) marks it as truncated.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    transport.close()
