"""Serves the gateway on its sockets, and drains connections at the end."""

import asyncio
import functools
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage

from vx_token.gateway.acceptor import Acceptor
from vx_token.gateway.aiohttp_headers import keep_header_bytes
from vx_token.gateway.app import GatewayApp, malformed_response
from vx_token.gateway.connections import Connections
from vx_token.gateway.half_closed import HalfClosedConnections
from vx_token.gateway.http_client import Client
from vx_token.gateway.memory import trim_periodically
from vx_token.gateway.settings import Limits
from vx_token.gateway.sockets import client_url, max_connections, open_sockets
from vx_token.gateway.upstream import open_client

_STALL_CHECK = 5.0  # maximum seconds between two checks for stalled clients
_FORGET_INTERVAL = 60.0  # seconds between two searches for old thought signatures
_POLL = 0.05  # seconds between two checks of the connections while draining


async def serve(
    gateway: GatewayApp,
    *,
    stop: asyncio.Event,
    sockets: Sequence[socket.socket] = (),
    inherited: bool = False,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until `stop` is set; running requests then have `limits.drain` seconds to finish.

    Args:
        gateway: the application.
        stop: an event of this event loop.
        sockets: listening sockets; by default the addresses in the settings are opened.
        inherited: whether another process keeps the sockets open. If so, serve after `stop` until clients have left
            their connections.
        ready: called with the base URL when clients can connect.

    Raises:
        ConfigError: an address is in use or not allowed.
    """
    settings = gateway.settings
    keep_header_bytes()
    limit = max_connections()
    listening = list(sockets) or open_sockets(settings)
    base_url = client_url(listening)
    async with open_client(settings.ca_file, settings.limits, limit) as client:
        server = _server(gateway, client, settings.limits)
        acceptor = Acceptor(server, listening, gateway.connections, limit)
        chores = [
            trim_periodically(gateway.take_peak),
            _close_unread(gateway.connections, settings.limits.unread),
            _forget_periodically(gateway),
        ]
        tasks = [asyncio.create_task(chore) for chore in chores]
        try:
            acceptor.start()
            ready(base_url)
            await stop.wait()
            if inherited:
                await _wait_until_clients_leave(gateway.connections, settings.limits)
            gateway.connections.draining = True
            await acceptor.close()
            await _wait_for_first_requests(server, gateway.connections, settings.limits.first)
        finally:
            for task in tasks:
                task.cancel()
            await acceptor.close()
            await asyncio.sleep(0)  # requests that have just arrived start
            server.pre_shutdown()
            await server.shutdown(settings.limits.drain)


async def _wait_until_clients_leave(connections: Connections, limits: Limits) -> None:
    """Close connections with their next response, and serve until no client reuses one."""
    connections.draining = True
    await _until(lambda: connections.idle_for(limits.quiet), limits.drain)


async def _wait_for_first_requests(server: web.Server, connections: Connections, seconds: float) -> None:
    """Wait for the first request of each newly accepted connection."""
    await _until(lambda: connections.all_used(each.transport for each in server.connections), seconds)


async def _close_unread(connections: Connections, seconds: float) -> None:
    """Abort connections whose clients read nothing for `seconds`; never returns."""
    while True:
        await asyncio.sleep(min(_STALL_CHECK, seconds / 4))
        connections.abort_stalled(seconds)


async def _forget_periodically(gateway: GatewayApp) -> None:
    """Forget old thought signatures at intervals; never returns."""
    while True:
        await asyncio.sleep(_FORGET_INTERVAL)
        gateway.forget_old()


async def _until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for `condition`, for at most `seconds`."""
    for _ in range(round(seconds / _POLL)):
        if condition():
            return
        await asyncio.sleep(_POLL)


class _Request(web.BaseRequest):
    """A request of aiohttp that is the last one of its connection in three more cases."""

    @property
    def keep_alive(self) -> bool:
        """Whether the connection can be reused after the response.

        Not after a chunked body, because aiohttp's parser adds a trailer of one request to the headers of the next.
        Not after CONNECT, because the parser reads its body as the next request.
        Not if the client has closed its sending side and no further request waits.
        """
        connection = self.protocol
        assert isinstance(connection, _RequestHandler)
        is_delimited = not self._message.chunked and self.method != "CONNECT"
        return super().keep_alive and is_delimited and not connection.is_at_last_request


class _RequestHandler(web.RequestHandler):
    """A connection of aiohttp that answers malformed requests differently, and that clients may half-close.

    Attributes:
        body: the body of the current request.
    """

    __slots__ = ("_half_closed", "_is_half_closed", "body")

    def __init__(self, server: web.Server, half_closed: HalfClosedConnections, **options: Any) -> None:
        super().__init__(server, **options)
        self.body: aiohttp.StreamReader | None = None
        self._half_closed = half_closed
        self._is_half_closed = False

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request."""
        return self._waiter is not None and not self._waiter.done() and not self._messages

    @property
    def is_at_last_request(self) -> bool:
        """Whether the client has closed its sending side, and no request waits behind the current one."""
        return self._is_half_closed and not self._messages

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio closes the connection after False
        """Keep the connection if the client has sent complete requests that have no response yet."""
        body = self._messages[-1][1] if self._messages else self.body
        if not self.is_idle and body is not None and body.is_eof():
            self._is_half_closed = self._half_closed.add(self)
        return self._is_half_closed

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002 - it quotes the malformed line, which may contain a key
        message: str | None = None,  # noqa: ARG002 - the same
    ) -> web.StreamResponse:
        """Return the response to malformed or too long headers; it closes the connection."""
        if request.writer.output_size > 0:
            raise ConnectionResetError
        response = malformed_response(status)
        response.force_close()
        return response


class _Server(web.Server):
    """A server of aiohttp that closes connections without a first request; aiohttp has no such timeout."""

    def __init__(self, gateway: GatewayApp, client: Client, **options: Any) -> None:
        super().__init__(functools.partial(gateway.handle, client), request_factory=_new_request, **options)
        self._gateway = gateway
        self._half_closed = HalfClosedConnections()
        self._first: dict[web.RequestHandler, tuple[asyncio.Transport, asyncio.TimerHandle]] = {}

    def __call__(self) -> web.RequestHandler:
        """Create the protocol object of a connection."""
        return _RequestHandler(self, self._half_closed, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Start the timeout for the first request."""
        super().connection_made(handler, transport)
        self._gateway.connections.opened(transport)
        wait = self._gateway.settings.limits.head
        self._first[handler] = transport, asyncio.get_running_loop().call_later(wait, self._close_if_unused, transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Cancel the timeout."""
        if handler in self._first:
            transport, timer = self._first.pop(handler)
            timer.cancel()
            self._gateway.connections.closed(transport)
        super().connection_lost(handler, exc)

    def _close_if_unused(self, transport: asyncio.Transport) -> None:
        if not self._gateway.connections.all_used([transport]):
            transport.close()


def _new_request(
    message: RawRequestMessage,
    body: aiohttp.StreamReader,
    connection: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: "asyncio.Task[None]",
) -> web.BaseRequest:
    assert isinstance(connection, _RequestHandler)
    connection.body = body
    return _Request(message, body, connection, writer, task, task.get_loop())


def _server(gateway: GatewayApp, client: Client, limits: Limits) -> web.Server:
    return _Server(
        gateway,
        client,
        handler_cancellation=True,  # a client that leaves ends its request upstream
        auto_decompress=False,
        keepalive_timeout=limits.idle,
        lingering_time=5.0,
        max_line_size=limits.line,
        max_field_size=limits.field,
        logger=_silent_logger(),
        access_log=None,
    )


def _silent_logger() -> logging.Logger:
    """A logger that drops everything, because aiohttp logs malformed headers, which may contain a key."""
    return logging.Logger("http", logging.CRITICAL + 1)  # noqa: LOG001 - must not be reachable by logging configuration
