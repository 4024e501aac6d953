"""The servers that the gateway's benchmark compares, each a process of its own: KIND PORT UPSTREAM STREAMS FOLDER."""

import asyncio
import ctypes
import gc
import signal
import ssl
import sys
import time
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web

from vx_token.credentials.token import Token
from vx_token.gateway.app import GatewayApp
from vx_token.gateway.server import serve
from vx_token.gateway.settings import GatewaySettings, LocalKey, Route
from vx_token.gateway.sockets import max_connections

KEY = "sk-vx-local-bench"  # one peer takes no key without this beginning


class Purse:
    """One token that lives long."""

    token = Token("ya29.bench", time.time() + 86400, time.time())

    def current(self, profile: str) -> Token:  # noqa: ARG002 - one token for all
        """The token."""
        return self.token

    async def fresh(self, profile: str, rejected: str | None) -> Token:  # noqa: ARG002 - one token for all
        """The token."""
        return self.token


class Heap(ctypes.Structure):
    """What mallinfo2 of glibc tells: ten sizes, the fifth of what is mapped and the eighth of what else is in use."""

    _fields_ = (("sizes", ctypes.c_size_t * 10),)


def note_heap(folder: Path) -> None:
    """At SIGUSR1 write how many bytes of the heap are in use, whatever the resident set is, to FOLDER/heap."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Heap

    def note() -> None:
        gc.collect()
        sizes = mallinfo2().sizes
        (folder / "heap.new").write_text(str(sizes[4] + sizes[7]))
        (folder / "heap.new").rename(folder / "heap")

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, note)


async def gateway(port: int, upstream: str, streams: str, folder: Path) -> None:
    """The gateway with everything on: aliases, publisher prefix, metrics, usage."""
    route = Route("bench", upstream, aliases={"gpt-4o": "google/gemini-2.5-pro"}, publisher="google")
    routes = {"bench": route, "streams": Route("streams", streams)}
    settings = GatewaySettings(
        routes, "bench", lambda key: LocalKey("default") if key == KEY else None, port=port, ca_file=folder / "ca.pem"
    )
    note_heap(folder)
    await serve(GatewayApp(settings, Purse()), stop=asyncio.Event())


async def bare(port: int, upstream: str, streams: str, folder: Path) -> None:
    """What thirty lines of aiohttp do."""
    max_connections()
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=context), auto_decompress=False)

    async def handle(request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name not in {"Host", "Content-Length"}}
        headers["Authorization"] = f"Bearer {Purse.token.value}"
        base = streams if "stream" in request.path else upstream
        url = base + request.path_qs.removeprefix("/streams").removeprefix("/v1")
        async with session.request(
            request.method, url, headers=headers, data=await request.read() or None, allow_redirects=False
        ) as answer:
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    await _forever(port, handle, None)


async def streams(port: int, _upstream: str, _streams: str, folder: Path) -> None:
    """SSE: as many chunks as asked, each with the instant it was written at."""
    max_connections()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem")

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(int(request.query["chunks"])):
            await response.write(b"data: %d\n\n" % time.monotonic_ns())
            await asyncio.sleep(float(request.query["pause"]))
        return response

    await _forever(port, handle, context)


async def _forever(port: int, handle: "web.RequestHandler", context: ssl.SSLContext | None) -> None:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context, backlog=1024).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    kind, port_, upstream_, streams_, folder_ = sys.argv[1:]
    serving = {"gateway": gateway, "bare": bare, "uvloop": bare, "streams": streams}[kind]
    run = uvloop.run if kind == "uvloop" else asyncio.run
    run(serving(int(port_), upstream_, streams_, Path(folder_)))
