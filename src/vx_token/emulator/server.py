"""The emulator's HTTP server: all routes, with faults applied, and its start and stop."""

import asyncio
import contextlib
import email.utils
import functools
import itertools
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from vx_token.emulator import vertex
from vx_token.emulator.aws_metadata import MachineSide
from vx_token.emulator.control import Control
from vx_token.emulator.error_bodies import DeniedError, html, unauthenticated
from vx_token.emulator.faults import Handler, Visit, go_wrong
from vx_token.emulator.management import ManagementSide, refuse_prediction
from vx_token.emulator.state import EmulatedGoogle
from vx_token.emulator.tokens import IdentitySide


class Emulator(EmulatedGoogle):
    """A Google on loopback, alive inside `async with`; see `EmulatedGoogle` for what it can be told.

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
            await web.TCPSite(self._runner, self.host, self.port, ssl_context=self.tls).start()
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
        sides = (IdentitySide(self), MachineSide(self.directory.roles), ManagementSide(self))
        for method, path, route, handler in itertools.chain.from_iterable(side.routes() for side in sides):
            app.router.add_route(method, path, self._door(route, handler))
        for route, (path, answer) in vertex.ROUTES.items():
            for version in vertex.VERSIONS:
                serve = functools.partial(self._vertex, answer)
                for prefix in ("", vertex.INVOKE):
                    app.router.add_post(f"/{version}{vertex.ENDPOINT}{prefix}{path}", self._door(route, serve))
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
                return web.Response()  # the client has gone

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

    async def _vertex(self, model: vertex.Model, visit: Visit) -> web.StreamResponse:
        bearer = self.bearer(visit.request)
        if isinstance(bearer, str):
            return unauthenticated(bearer)
        self.ledger.amend(identity=bearer.identity)
        if refused := refuse_prediction(self, visit.request):
            return refused
        cut = visit.fault.after if visit.fault is not None and visit.kind == "cut" else None
        return await vertex.serve(
            model, visit.request, bearer.identity, next(self.answers), cut, self.catalog, self.signatures
        )


@contextlib.contextmanager
def running(**options: Any) -> Iterator[Emulator]:
    """Run an emulator in a separate thread; `options` are those of `Emulator`.

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
