"""Detects kept connections that upstream closed while a request was sent, so that the request can be sent once more.

Every HTTP server may close an idle connection at any moment (RFC 9112, section 9.3.1). aiohttp repeats only idempotent
requests then, but the requests to models are POST.
"""

import contextlib
import functools
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

_new_only: ContextVar[bool] = ContextVar("new_only", default=False)


class StaleConnectionError(aiohttp.ServerDisconnectedError):
    """A kept connection was closed before any byte of the response."""


@contextlib.contextmanager
def new_connection() -> Iterator[None]:
    """Send the requests of this task on new connections."""
    token = _new_only.set(True)
    try:
        yield
    finally:
        _new_only.reset(token)


class Connector(aiohttp.TCPConnector):
    """A connector whose connections know whether they are reused."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(_Connection, loop=self._loop)  # type: ignore[assignment]

    async def _get(self, *arguments: Any) -> Any:
        """Return a kept connection, if there is one."""
        return None if _new_only.get() else await super()._get(*arguments)


class Response(aiohttp.ClientResponse):
    """A response that raises StaleConnectionError."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Read the head of the response."""
        protocol = connection.protocol
        protocol.has_answered = False
        try:
            return await super().start(connection)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if protocol.is_reused and not protocol.has_answered:
                raise StaleConnectionError from None
            raise
        finally:
            protocol.is_reused = True


class _Connection(ResponseHandler):
    """A connection to upstream.

    Attributes:
        is_reused: whether it has served a request before the current one.
        has_answered: whether any byte has arrived since the current request.
    """

    is_reused = False
    has_answered = False

    def data_received(self, data: bytes) -> None:
        """Parse data from upstream."""
        self.has_answered = True
        super().data_received(data)
