"""One request on its way to upstream and back: the token put in, and a refused token replaced once."""

import time
from http import HTTPStatus

import aiohttp
from aiohttp import HttpVersion11, web

from vx_token.credentials.token import Token
from vx_token.errors import VxTokenError
from vx_token.gateway.body import Body, Budget
from vx_token.gateway.errors import Refusal, no_token
from vx_token.gateway.headers import Headers, to_upstream
from vx_token.gateway.metrics import Metrics
from vx_token.gateway.models import rewrite, rewrites
from vx_token.gateway.relay import relay
from vx_token.gateway.settings import Limits
from vx_token.gateway.token_source import Freshness
from vx_token.gateway.upstream import Call, check_http, let_go, send, unreachable
from vx_token.gateway.usage import UsageMeter


class Forwarder:
    """Passes requests on.

    Args:
        freshness: gives each request its token.
        metrics: told of latency and usage.
        limits: what one client may cost.
    """

    def __init__(self, freshness: Freshness, metrics: Metrics, limits: Limits) -> None:
        self._freshness = freshness
        self._metrics = metrics
        self._limits = limits
        self._budget = Budget(limits.kept_in_all)

    async def forward(
        self, session: aiohttp.ClientSession, request: web.BaseRequest, call: Call, extra: Headers
    ) -> web.StreamResponse:
        """Send the request to upstream, and its answer to the client with `extra` headers.

        Raises:
            Refusal: nothing has been sent to the client yet, and this is to be.
            UpstreamGoneError: upstream broke off inside its answer.
        """
        body = Body(request, self._limits, self._budget)
        await _say_continue(request)
        try:
            await body.fill()
            if rewrites(call.route) and _is_plain_json(request):
                body.replace_head(rewrite(body.head, call.route, call.target.path, whole=body.whole))
            upstream = await self._ask(session, request, call, body)
        finally:
            body.release()  # before the answer, which may last for minutes
        return await self._answer(request, upstream, call.target.profile, extra)

    async def _ask(
        self, session: aiohttp.ClientSession, request: web.BaseRequest, call: Call, body: Body
    ) -> aiohttp.ClientResponse:
        profile = call.target.profile

        async def ask(token: Token) -> aiohttp.ClientResponse:
            headers = to_upstream(request.headers.items(), token, call.route.extra_headers)
            started = time.monotonic()
            answer = await send(session, call, headers, body)
            self._metrics.upstream(profile, time.monotonic() - started)
            check_http(answer)
            if answer.status != HTTPStatus.UNAUTHORIZED:
                self._freshness.accepted(profile)
            return answer

        token = await self._token(profile)
        upstream = await ask(token)
        if upstream.status != HTTPStatus.UNAUTHORIZED:
            return upstream
        other = await self._replacement(profile, token, upstream)
        if other is None or not body.whole:
            return upstream
        let_go(upstream)
        return await ask(other)

    async def _token(self, profile: str) -> Token:
        try:
            return await self._freshness.token(profile)
        except VxTokenError as error:
            raise no_token(profile, error) from None

    async def _replacement(self, profile: str, token: Token, upstream: aiohttp.ClientResponse) -> Token | None:
        try:
            return await self._freshness.replacement(profile, token.value)
        except VxTokenError as error:
            let_go(upstream)
            raise no_token(profile, error) from None
        except BaseException:
            let_go(upstream)
            raise

    async def _answer(
        self, request: web.BaseRequest, upstream: aiohttp.ClientResponse, profile: str, extra: Headers
    ) -> web.StreamResponse:
        meter = UsageMeter(upstream.headers.get("Content-Encoding", ""))
        try:
            response = await relay(request, upstream, extra, meter)
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, TimeoutError) as error:
            raise unreachable(error, upstream.url.host or "") from None
        finally:
            let_go(upstream)
        self._metrics.used(profile, meter.usage())
        return response


async def _say_continue(request: web.BaseRequest) -> None:
    expected = request.headers.get("Expect", "").lower()
    if not expected or request.version < HttpVersion11:
        return
    if expected != "100-continue":
        raise Refusal(417, "the gateway knows no expectation but 100-continue", "expectation_failed")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer itself has not begun


def _is_plain_json(request: web.BaseRequest) -> bool:
    encoded = request.headers.get("Content-Encoding", "identity").lower() != "identity"
    return request.method == "POST" and "json" in request.content_type and not encoded
