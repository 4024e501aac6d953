"""The gateway's life: sockets opened, requests served, streams ended in peace."""

import asyncio
import functools
import logging
import socket
from collections.abc import Callable, Sequence

import aiohttp
from aiohttp import web

from vx_token.gateway.app import Gateway
from vx_token.gateway.connections import Connections
from vx_token.gateway.memory import give_back
from vx_token.gateway.settings import Limits
from vx_token.gateway.sockets import BACKLOG, address, allow_many_files, open_sockets
from vx_token.gateway.upstream import open_session

_SETTLE = 0.05  # seconds in which the connections just accepted find their server
_LOOK = 0.05  # seconds between two looks at the connections when the gateway ends


async def serve(
    gateway: Gateway,
    *,
    stop: asyncio.Event,
    sockets: Sequence[socket.socket] = (),
    held: bool = False,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until `stop` is set; then give the requests under way `limits.drain` seconds.

    Args:
        gateway: the application.
        stop: set in this event loop.
        sockets: listening ones to take over, such as systemd's; without any, those that the settings name are opened.
        held: the sockets listen beyond our end; until clients have left their connections, we serve on.
        ready: told the base URL for clients once they can connect.

    Raises:
        ConfigError: an address is taken or not allowed.
    """
    settings = gateway.settings
    allow_many_files()
    listening = list(sockets) or open_sockets(settings)
    base_url = address(listening)
    async with open_session(settings.ca_file, settings.limits) as session:
        runner = web.ServerRunner(_server(gateway, session, settings.limits), shutdown_timeout=settings.limits.drain)
        await runner.setup()
        tidying = asyncio.create_task(give_back(gateway.most))
        try:
            for sock in listening:
                await web.SockSite(runner, sock, backlog=BACKLOG).start()
            ready(base_url)
            await stop.wait()
            if held:
                await _let_move(gateway.connections, settings.limits)
            await _close(runner, listening, gateway.connections, settings.limits.first)
        finally:
            tidying.cancel()
            await runner.cleanup()


async def _let_move(connections: Connections, limits: Limits) -> None:
    """Serve on until no client is about to use a connection that it has; the next process gets their new ones."""
    connections.moving = True
    await _until(lambda: connections.quiet(limits.quiet), limits.drain)


async def _close(
    runner: web.ServerRunner, listening: Sequence[socket.socket], connections: Connections, seconds: float
) -> None:
    """Take no more connections, and wait for the first request of those just taken.

    A connection that is being accepted when its server closes hangs for ever (python/cpython#109564), so accepting ends
    first. New connections wait in the queue of a held socket meanwhile.
    """
    connections.moving = True
    for sock in listening:
        asyncio.get_running_loop().remove_reader(sock)
    await asyncio.sleep(_SETTLE)
    for site in runner.sites:
        await site.stop()
    server = runner.server
    assert server is not None
    await _until(lambda: connections.known(each.transport for each in server.connections), seconds)


async def _until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for `condition`, at most so long."""
    for _ in range(round(seconds / _LOOK)):
        if condition():
            return
        await asyncio.sleep(_LOOK)


def _server(gateway: Gateway, session: aiohttp.ClientSession, limits: Limits) -> web.Server:
    return web.Server(
        functools.partial(gateway.handle, session),
        handler_cancellation=True,  # a client that leaves ends its request upstream
        auto_decompress=False,
        keepalive_timeout=limits.head,
        lingering_time=5.0,
        max_line_size=limits.line,
        max_field_size=limits.field,
        logger=_mute(),
        access_log=None,
    )


def _mute() -> logging.Logger:
    """A logger that says nothing: the HTTP library quotes malformed headers, and one may hold a key."""
    return logging.Logger("http", logging.CRITICAL + 1)  # noqa: LOG001 - outside of all configuration is the point
