"""The gateway's life: sockets opened, requests served, streams ended in peace."""

import asyncio
import functools
import logging
import socket
from collections.abc import Callable, Sequence

import aiohttp
from aiohttp import web

from vx_token.gateway.app import Gateway
from vx_token.gateway.memory import give_back
from vx_token.gateway.settings import Limits
from vx_token.gateway.sockets import BACKLOG, address, allow_many_files, open_sockets
from vx_token.gateway.upstream import open_session


async def serve(
    gateway: Gateway,
    *,
    stop: asyncio.Event,
    sockets: Sequence[socket.socket] = (),
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until `stop` is set; then take no more connections and give those under way `limits.drain` seconds.

    Args:
        gateway: the application.
        stop: set in this event loop.
        sockets: listening ones to take over, such as systemd's; without any, those that the settings name are opened.
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
        tidying = asyncio.create_task(give_back(gateway.snapshot))
        try:
            for sock in listening:
                await web.SockSite(runner, sock, backlog=BACKLOG).start()
            ready(base_url)
            await stop.wait()
            await _let_go(runner, gateway, settings.limits.move)
        finally:
            tidying.cancel()
            await runner.cleanup()


async def _let_go(runner: web.ServerRunner, gateway: Gateway, seconds: float) -> None:
    """Take no more connections, and let clients with a live one move to the next process.

    A connection just taken has not said yet what it wants, and a busy one may be about to: closing them now would
    break requests. Under socket activation new connections wait in the socket's queue meanwhile.
    """
    for site in runner.sites:
        await site.stop()
    gateway.drain()
    await asyncio.sleep(seconds)


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
