"""A request body: buffered if it is small enough to be sent again, else streamed to upstream."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from vx_token.gateway.errors import GatewayError
from vx_token.gateway.settings import Limits

_SLICE = 256 << 10  # bytes per write to the socket


class BufferBudget:
    """Memory (bytes) left for the buffered bodies of all requests; small bodies are buffered regardless."""

    def __init__(self, free: int) -> None:
        self.free = free


class RequestBody:
    """One request body, read once.

    Attributes:
        buffered: the bytes in memory: the whole body if `complete`, else its beginning.
        complete: whether the whole body is buffered, so that it can be sent again.
        length: size in bytes if known; updated when `buffered` is replaced.
        error: why the rest of the body could not be read.

    Raises:
        GatewayError: 413, the announced length is over the limit.
    """

    def __init__(self, request: web.BaseRequest, limits: Limits, budget: BufferBudget) -> None:
        self.buffered = b""
        self.complete = not request.can_read_body
        self.length = request.content_length
        self.error: GatewayError | None = None
        self._content = request.content
        self._limits = limits
        self._buffer_budget = budget
        self._size = 0
        if self.length is not None and self.length > limits.body:
            raise self._too_large()

    async def read_ahead(self) -> None:
        """Buffer the body to its end or to the buffer limit.

        Raises:
            GatewayError: 408 after a timeout, 400 for a malformed body.
        """
        chunks: list[bytes] = []
        while not self.complete and self._has_room():
            chunks.append(await self._next())
            self._add(len(chunks[-1]))
            self.complete = self._content.at_eof()
        self.buffered = b"".join(chunks)
        if self.complete and self.buffered:
            self.length = len(self.buffered)

    def replace_buffered(self, data: bytes) -> None:
        """Replace the buffered part."""
        if self.length is not None:
            self.length += len(data) - len(self.buffered)
        self.buffered = data

    def release(self) -> None:
        """Free the buffer; the body cannot be sent again."""
        self._buffer_budget.free += self._size
        self._size = 0
        self.buffered = b""

    def payload(self) -> bytes | AsyncIterator[bytes]:
        """Return the body; call it once per attempt, and only once if not `complete`."""
        if not self.complete:
            return self._rest()
        return self._slices() if len(self.buffered) > _SLICE else self.buffered

    async def _slices(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.buffered), _SLICE):
            yield self.buffered[start : start + _SLICE]

    async def _rest(self) -> AsyncIterator[bytes]:
        sent = len(self.buffered)
        async for piece in self._slices():
            yield piece
        while not self._content.at_eof():
            try:
                chunk = await self._next()
                sent += len(chunk)
                if sent > self._limits.body:
                    raise self._too_large()
            except GatewayError as error:
                self.error = error  # aiohttp raises another error in its place
                raise
            yield chunk

    async def _next(self) -> bytes:
        try:
            if self._content.is_eof():
                return self._content.read_nowait()  # a small body arrives with its headers, so skip the timeout
            async with asyncio.timeout(self._limits.pause):
                return await self._content.readany()
        except TimeoutError:
            raise GatewayError(408, "timeout while reading the request body", "body_timeout") from None
        except web.RequestPayloadError:
            raise GatewayError(400, "the request body is malformed", "bad_body") from None

    def _has_room(self) -> bool:
        limits = self._limits
        return self._size < limits.buffer and (self._size < limits.buffer_always or self._buffer_budget.free > 0)

    def _add(self, size: int) -> None:
        # The chunk is already in memory, so the budget may become negative.
        self._buffer_budget.free -= size
        self._size += size

    def _too_large(self) -> GatewayError:
        return GatewayError(413, f"the request body is larger than {self._limits.body >> 20} MiB", "body_too_large")
