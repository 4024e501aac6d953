"""An upstream with scripted responses, a purse of tokens, and a gateway in front of them, on loopback."""

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trustme
from aiohttp import web

from sandbox import until
from vx_token.credentials.token import Token
from vx_token.gateway.app import GatewayApp
from vx_token.gateway.server import serve
from vx_token.gateway.settings import DEFAULT_KEY, GatewaySettings, Limits, LocalKey, Route

KEY = "vx-local-test"
BRISK = Limits(quiet=0.2, drain=1.0, first=0.0)
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class LoopThread:
    """An event loop in a thread, as the gateway has one in the daemon."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Any, seconds: float = 60.0) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(seconds)

    def close(self) -> None:
        self.run(self.loop.shutdown_default_executor())
        self.run(asyncio.sleep(0))  # closed transports call connection_lost in the loop's next turn
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@dataclass(frozen=True)
class Seen:
    """A request as upstream got it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def bearer(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")


async def answer_ok(request: web.BaseRequest) -> web.StreamResponse:
    return web.json_response({"ok": True})


@dataclass
class Upstream:
    """A server that records what it gets and answers with `handler`."""

    handler: Handler = answer_ok
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    cancelled: int = 0
    open: int = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.open += 1
        try:
            body = await request.read() if not request.path.endswith("/unread") else b""
            self.seen.append(Seen(request.method, request.raw_path, request.headers, body))
            return await self.handler(request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.open -= 1


@contextlib.contextmanager
def upstream(handler: Handler = answer_ok, tls: ssl.SSLContext | None = None) -> Iterator[Upstream]:
    server = Upstream(handler)
    thread = LoopThread()

    async def start() -> web.ServerRunner:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            request._client_max_size = 1 << 30
            return await server.handle(request)

        runner = web.ServerRunner(
            web.Server(handle, handler_cancellation=True, auto_decompress=False, access_log=None), shutdown_timeout=0.1
        )
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls, backlog=1024).start()
        return runner

    runner = thread.run(start())
    server.url = f"http{'s' if tls else ''}://localhost:{runner.addresses[0][1]}/v1/projects/p/endpoints/openapi"
    try:
        yield server
    finally:
        thread.run(runner.cleanup())
        thread.close()


class Purse:
    """Tokens for tests: `current` returns the last one, `fresh` mints a new one or raises from `failures`."""

    def __init__(self, lifetime: float = 3600.0) -> None:
        self.lifetime = lifetime
        self.minted = 0
        self.asked: list[str | None] = []
        self.failures: list[Exception] = []
        self.delay = 0.0
        self.stuck = False
        self.quota_project = ""
        self.token: Token | None = self.mint()

    def mint(self) -> Token:
        self.minted += 1
        now = time.time()
        return Token(f"ya29.token-{self.minted}", now + self.lifetime, now, quota_project=self.quota_project)

    def current(self, profile: str) -> Token | None:
        return self.token

    async def fresh(self, profile: str, rejected: str | None) -> Token:
        self.asked.append(rejected)
        await asyncio.sleep(self.delay)
        if self.failures:
            raise self.failures.pop(0)
        if not self.stuck or self.token is None:
            self.token = self.mint()
        return self.token


@dataclass
class Front:
    """A running gateway."""

    url: str
    gateway: GatewayApp
    thread: LoopThread

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1].split("/")[0])

    def connect(self, timeout: float = 30.0) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(
        self,
        method: str = "POST",
        path: str = "/v1/chat/completions",
        body: bytes | str | None = None,
        key: str | None = KEY,
        **headers: str,
    ) -> "Answer":
        """Send one request on a new connection; an underscore in a header's name stands for a hyphen."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            fields.setdefault("Authorization", f"Bearer {key}")
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, body, fields)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())


def connection_to(proxy: Front) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), 10)


def read_all(raw: socket.socket) -> bytes:
    return b"".join(iter(lambda: raw.recv(65536), b""))


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


def settings_for(*routes: Route, **changes: Any) -> GatewaySettings:
    """Settings of a gateway; `accepts` says whether a string is the default key."""
    accepts = changes.pop("accepts", KEY.__eq__)

    def find_key(value: str) -> LocalKey | None:
        return LocalKey(DEFAULT_KEY) if accepts(value) else None

    settings = GatewaySettings(
        {route.profile: route for route in routes}, routes[0].profile, find_key, port=0, wait=30.0
    )
    return replace(settings, **{"limits": BRISK, **changes})


@contextlib.contextmanager
def front(tokens: Any, *routes: Route, **changes: Any) -> Iterator[Front]:
    """Run a gateway in a thread; `changes` are fields of its settings."""
    thread = LoopThread()
    gateway = GatewayApp(settings_for(*routes, **changes), tokens)
    addresses: list[str] = []
    stop = thread.run(_event())
    task = asyncio.run_coroutine_threadsafe(serve(gateway, stop=stop, ready=addresses.append), thread.loop)
    until(lambda: addresses or task.done())
    try:
        yield Front(addresses[0] if addresses else task.result(), gateway, thread)  # type: ignore[arg-type]
    finally:
        thread.loop.call_soon_threadsafe(stop.set)
        with contextlib.closing(thread):
            task.result(30)


async def _event() -> asyncio.Event:
    return asyncio.Event()


def tls_contexts(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """What a server that calls itself `localhost` serves with, and the file by which to trust it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    return context, folder / "ca.pem"
