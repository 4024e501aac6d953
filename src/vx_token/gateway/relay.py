"""Relays upstream's response to the client chunk by chunk; a truncated response ends in a connection error."""

import asyncio
import socket
import struct

import aiohttp
from aiohttp import HttpVersion11, web
from multidict import CIMultiDict

from vx_token.gateway.aiohttp_headers import RelayedResponse
from vx_token.gateway.answer import AnswerReaders
from vx_token.gateway.errors import MAX_ERROR_BODY, may_be_array, to_openai_error
from vx_token.gateway.headers import Headers, redirect_target, to_client
from vx_token.gateway.http_client import Response
from vx_token.gateway.upstream import UpstreamRequest

_ERROR_WAIT = 2.0  # seconds after which the beginning of an error body is sent on
_FORMAT = frozenset({"content-length", "content-encoding", "content-type"})


class UpstreamClosedError(Exception):
    """Upstream closed the connection during its response; the client's connection is aborted.

    Attributes:
        response: the response as sent so far.
    """

    def __init__(self, response: web.StreamResponse) -> None:
        super().__init__("upstream closed the connection during its response")
        self.response = response


class StreamedResponse(RelayedResponse):
    """A response sent in chunks.

    Attributes:
        size: bytes of its body, set at the end.
    """

    size = 0


class BufferedResponse(RelayedResponse, web.Response):
    """A response sent in one write."""


async def relay(
    request: web.BaseRequest,
    upstream: Response,
    outgoing: UpstreamRequest,
    extra: Headers,
    readers: AnswerReaders,
) -> web.StreamResponse:
    """Send upstream's response to the client.

    Raises:
        UpstreamClosedError: upstream closed the connection after the client got the beginning.
        aiohttp.ClientError, TimeoutError: upstream closed the connection before that.
    """
    headers = to_client(upstream.headers.items()) + extra
    if "Location" in upstream.headers:
        headers = [pair if pair[0].lower() != "location" else _location(pair[1], outgoing) for pair in headers]
    prefix = b""
    if _is_plain_error(upstream):
        encoding = upstream.headers.get("Content-Encoding", "")
        prefix = await _read_error(upstream.content, encoding)
        changed = to_openai_error(upstream.status, prefix, encoding) if upstream.content.at_eof() else None
        if changed is not None:
            headers = [pair for pair in headers if pair[0].lower() not in _FORMAT]
            headers.append(("Content-Type", "application/json"))
            return BufferedResponse(
                status=upstream.status, reason=upstream.reason, headers=CIMultiDict(headers), body=changed
            )
    if upstream.content.is_eof() and request.method != "HEAD":
        return _send_buffered(upstream, headers, prefix, readers)
    return await _send_stream(request, upstream, headers, prefix, readers)


def _send_buffered(upstream: Response, headers: Headers, prefix: bytes, readers: AnswerReaders) -> web.StreamResponse:
    """Send a response that has arrived completely, in one write instead of three."""
    body = prefix + upstream.content.read_nowait()
    readers.feed(body)
    readers.end()
    return BufferedResponse(status=upstream.status, reason=upstream.reason, headers=CIMultiDict(headers), body=body)


async def _send_stream(
    request: web.BaseRequest, upstream: Response, headers: Headers, prefix: bytes, readers: AnswerReaders
) -> web.StreamResponse:
    response = StreamedResponse(status=upstream.status, reason=upstream.reason, headers=CIMultiDict(headers))
    await response.prepare(request)
    content = upstream.content
    chunk = prefix
    readers.feed(chunk)
    try:
        while not content.at_eof():
            if chunk:
                await response.write(chunk)
            try:
                chunk = await content.readany()
            except (aiohttp.ClientError, TimeoutError, OSError):
                _abort_client(request)
                raise UpstreamClosedError(response) from None
            readers.feed(chunk)
        if upstream.was_reset:
            _abort_client(request)
            raise UpstreamClosedError(response)
    finally:
        readers.end()
    response.size = readers.meter.size
    await response.write_eof(chunk)
    return response


async def _read_error(content: aiohttp.StreamReader, encoding: str) -> bytes:
    """Read an error body while it can be Google's error array: to its end, for at most `_ERROR_WAIT` seconds."""
    body = b""
    try:
        async with asyncio.timeout(_ERROR_WAIT) as waiting:
            while not content.at_eof() and len(body) < MAX_ERROR_BODY and may_be_array(body, encoding):
                body += await content.readany()
    except TimeoutError:
        if not waiting.expired():
            raise
    return body


def _location(value: str, outgoing: UpstreamRequest) -> tuple[str, str]:
    return "Location", redirect_target(value, outgoing.target.url(outgoing.route.base_url), outgoing.route)


def _is_plain_error(upstream: Response) -> bool:
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
