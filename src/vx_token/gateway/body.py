"""A request's body: held when it is small enough for a second try, passed on as it comes when it is not."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from vx_token.gateway.errors import GatewayError
from vx_token.gateway.settings import Limits

_SLICE = 256 << 10  # bytes handed to the socket at once


class BufferBudget:
    """Bytes of bodies that all requests together may still hold; the small ones do in any case."""

    def __init__(self, free: int) -> None:
        self.free = free


class RequestBody:
    """One request's body, read once; made before the client is told to send it.

    Attributes:
        head: the bytes held so far: all of them when `whole`.
        whole: whether a second try is possible.
        length: in bytes, when it is known before the end; follows a change of `head`.
        refusal: why the rest could not be read, when that is so.

    Raises:
        GatewayError: 413.
    """

    def __init__(self, request: web.BaseRequest, limits: Limits, budget: BufferBudget) -> None:
        self.buffered = b""
        self.complete = not request.can_read_body
        self.length = request.content_length
        self.refusal: GatewayError | None = None
        self._content = request.content
        self._limits = limits
        self._buffer_budget = budget
        self._held = 0
        if self.length is not None and self.length > limits.body:
            raise self._too_large()

    async def read_ahead(self) -> None:
        """Read until the end, or until no more may be held.

        Raises:
            GatewayError: 408 or 400.
        """
        chunks: list[bytes] = []
        while not self.complete and self._may_hold():
            chunks.append(await self._next())
            self._hold(len(chunks[-1]))
            self.complete = self._content.at_eof()
        self.buffered = b"".join(chunks)
        if self.complete and self.buffered:
            self.length = len(self.buffered)

    def replace_buffered(self, head: bytes) -> None:
        """Put another beginning in place of the one held."""
        if self.length is not None:
            self.length += len(head) - len(self.buffered)
        self.buffered = head

    def release(self) -> None:
        """No second try will be needed: forget what is held."""
        self._buffer_budget.free += self._held
        self._held = 0
        self.buffered = b""

    def payload(self) -> bytes | AsyncIterator[bytes] | None:
        """What to send upstream; asked for anew at each try, and only once when not `whole`."""
        if not self.complete:
            return self._rest()
        return self._slices() if len(self.buffered) > _SLICE else self.buffered or None

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
            except GatewayError as refusal:
                self.refusal = refusal  # the HTTP client wraps it; the reason would be lost
                raise
            yield chunk

    async def _next(self) -> bytes:
        try:
            if self._content.is_eof():
                return self._content.read_nowait()  # small bodies come with their head: nothing to wait for
            async with asyncio.timeout(self._limits.pause):
                return await self._content.readany()
        except TimeoutError:
            raise GatewayError(408, "the request's body stopped coming", "body_timeout") from None
        except web.RequestPayloadError:
            raise GatewayError(400, "the request's body is malformed", "bad_body") from None

    def _may_hold(self) -> bool:
        limits = self._limits
        return self._held < limits.buffer and (self._held < limits.buffer_always or self._buffer_budget.free > 0)

    def _hold(self, size: int) -> None:
        # Read already, so it is held whatever the budget says: that may go below zero.
        self._buffer_budget.free -= size
        self._held += size

    def _too_large(self) -> GatewayError:
        return GatewayError(413, f"the request's body is larger than {self._limits.body >> 20} MiB", "body_too_large")
