"""A Google that lives on loopback: token endpoint, metadata server, IAM, STS, Vertex routes, faults on demand.

Run it alone with `python -m vx_token.emulator`; in a program, `async with Emulator() as google:` or, beside code that
is not asynchronous, `with running() as google:`. Every method is safe to call from any thread.
"""

import argparse
import asyncio
import contextlib
import email.utils
import functools
import json
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from vx_token import emulator_vertex as vertex
from vx_token.emulator_control import Control
from vx_token.emulator_faults import KINDS, Fault, Handler, Visit, go_wrong
from vx_token.emulator_identity import HOUR, Issued
from vx_token.emulator_refusals import DeniedError, html, unauthenticated
from vx_token.emulator_tokens import IdentitySide
from vx_token.emulator_world import AUDIENCE, ROUTES, SCOPE, Seen, World

__all__ = ["AUDIENCE", "KINDS", "ROUTES", "SCOPE", "Emulator", "Fault", "Issued", "Seen", "main", "running"]


class Emulator(World):
    """A Google on loopback, alive inside `async with`; see `World` for what it can be told.

    Raises:
        ValueError: the host is not loopback.
        OSError: the port is taken.
    """

    _runner: web.AppRunner

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(
            self._app(),
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=0.1,  # a hanging answer must not outlive us
            max_line_size=65536,
            max_field_size=65536,  # a federated token has 12 KiB
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except BaseException:
            await self._runner.cleanup()
            raise
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 30)
        app.on_response_prepare.append(self._depart)
        for method, path, route, handler in IdentitySide(self).routes():
            app.router.add_route(method, path, self._door(route, handler))
        for route, (path, answer) in vertex.ROUTES.items():
            for version in vertex.VERSIONS:
                serve = functools.partial(self._vertex, answer)
                app.router.add_post(f"/{version}{vertex.ENDPOINT}{path}", self._door(route, serve))
        app.add_routes(Control(self).routes())
        app.router.add_route("*", "/{path:.*}", self._door("unknown", self._unknown))
        return app

    async def _depart(self, request: web.Request, response: web.StreamResponse) -> None:
        """An answer is about to be sent: its head is known before its client can know it."""
        response.headers["Date"] = email.utils.formatdate(self.now(), usegmt=True)
        if request.transport is not None and not request.transport.is_closing():
            self.ledger.amend(status=response.status)

    def _door(self, route: str, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def enter(request: web.Request) -> web.StreamResponse:
            self.ledger.arrive(request, route, self.now())
            try:
                return await self._attend(Visit(request, route, self.faults.strike(route)), handler)
            except ConnectionError:
                return web.Response()  # nobody is there to read it

        return enter

    async def _attend(self, visit: Visit, handler: Handler) -> web.StreamResponse:
        try:
            wrong = await go_wrong(visit)
            return await handler(visit) if wrong is None else wrong
        except DeniedError as denied:
            return web.json_response(denied.body, status=denied.status)

    async def _unknown(self, visit: Visit) -> web.StreamResponse:
        del visit
        return html(404)

    async def _vertex(self, handler: vertex.Handler, visit: Visit) -> web.StreamResponse:
        bearer = self.bearer(visit.request)
        if isinstance(bearer, str):
            return unauthenticated(bearer)
        self.ledger.amend(identity=bearer.identity)
        cut = visit.fault.after if visit.fault is not None and visit.kind == "cut" else None
        return await vertex.serve(handler, visit.request, bearer.identity, next(self.answers), cut)


@contextlib.contextmanager
def running(**options: Any) -> Iterator[Emulator]:
    """An emulator in a thread of its own; `options` are those of `Emulator`.

    Raises:
        OSError: the port is taken.
    """
    google = Emulator(**options)
    started: Future[Callable[[], object]] = Future()

    async def live() -> None:
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with google:
            started.set_result(lambda: loop.call_soon_threadsafe(done.set))
            await done.wait()

    def run() -> None:
        try:
            asyncio.run(live())
        except OSError as error:
            started.set_exception(error)

    thread = threading.Thread(target=run, name="emulator", daemon=True)
    thread.start()
    stop = started.result()
    try:
        yield google
    finally:
        stop()
        thread.join()


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m vx_token.emulator", description="A Google that lives on loopback.")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--lifetime", type=float, default=HOUR, help="seconds a token lives")
    parser.add_argument("--service-account", type=Path, metavar="PATH", help="write a key file there")
    parser.add_argument("--authorized-user", type=Path, metavar="PATH", help="write a user's login there")
    return parser.parse_args(argv)


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Emulator(options.lifetime, options.port, options.host) as google:
        ready = {"url": google.url, "base_url": google.base_url(), "metadata_host": google.metadata_host}
        for kind in ("service_account", "authorized_user"):
            path = getattr(options, kind)
            if path is not None:
                ready[kind] = google.credentials(kind, path)
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        await stop.wait()


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; one JSON line on stdout says where."""
    try:
        asyncio.run(_serve(_arguments(argv)))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"emulator: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
