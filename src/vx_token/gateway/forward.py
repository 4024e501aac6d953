"""Forwards one request to upstream with a token; after a 401 it sends the request once more with a new token."""

import time
from http import HTTPStatus

import aiohttp
from aiohttp import HttpVersion11, hdrs, web

from vx_token.credentials.token import Token
from vx_token.errors import VxTokenError
from vx_token.gateway.answer import AnswerReaders
from vx_token.gateway.body import BufferBudget, RequestBody
from vx_token.gateway.decompression import accept_readable
from vx_token.gateway.errors import GatewayError, token_error
from vx_token.gateway.exchange import Exchange
from vx_token.gateway.guard import bearer
from vx_token.gateway.headers import to_upstream
from vx_token.gateway.http_client import Client, Response
from vx_token.gateway.metrics import Metrics
from vx_token.gateway.models import model_id, needs_rewrite, rewrite
from vx_token.gateway.relay import relay
from vx_token.gateway.settings import Limits
from vx_token.gateway.signature_memory import Scope
from vx_token.gateway.thought_signatures import ThoughtSignatures, caller_of, has_tools
from vx_token.gateway.token_source import TokenSource
from vx_token.gateway.upstream import UpstreamRequest, check_response, send, upstream_error
from vx_token.gateway.usage import UsageMeter


class Forwarder:
    """Forwards requests.

    Args:
        token_source: provides the token of each request.
        metrics: records latency and usage.
        limits: limits per client.
        signatures: keeps the thought signatures of tool calls.
    """

    def __init__(
        self, token_source: TokenSource, metrics: Metrics, limits: Limits, signatures: ThoughtSignatures
    ) -> None:
        self._token_source = token_source
        self._metrics = metrics
        self._limits = limits
        self._signatures = signatures
        self._buffer_budget = BufferBudget(limits.buffer_total)

    async def forward(
        self,
        client: Client,
        request: web.BaseRequest,
        outgoing: UpstreamRequest,
        exchange: Exchange,
    ) -> web.StreamResponse:
        """Send the request to upstream, and upstream's response to the client; record both in `exchange`.

        Raises:
            GatewayError: the error response for the client, to which nothing has been sent yet.
            UpstreamClosedError: the connection to upstream failed during the response.
        """
        body = RequestBody(request, self._limits, self._buffer_budget)
        await _send_continue(request)
        try:
            await body.read_ahead()
            if _is_plain_json(request):
                if needs_rewrite(outgoing.route):
                    body.replace_buffered(
                        rewrite(body.buffered, outgoing.route, outgoing.target.path, whole=body.complete)
                    )
                exchange.model = model_id(body.buffered)
            token = await self._token(outgoing.target.profile)
            scope = self._signature_scope(request, outgoing, body, token)
            if scope is not None:
                body.replace_buffered(self._signatures.restore(body.buffered, scope))
            upstream = await self._send_with_retry(client, request, outgoing, body, token, scope)
            exchange.first_byte = exchange.seconds
        finally:
            body.release()  # free the memory before the response, which may take minutes
        return await self._relay_response(request, upstream, outgoing, exchange, scope)

    async def _send_with_retry(
        self,
        client: Client,
        request: web.BaseRequest,
        outgoing: UpstreamRequest,
        body: RequestBody,
        token: Token,
        scope: Scope | None,
    ) -> Response:
        profile = outgoing.target.profile

        async def attempt(token: Token) -> Response:
            headers = to_upstream(request.headers.items(), token, outgoing.route.extra_headers)
            if scope is not None:
                headers = accept_readable(headers)
            started = time.monotonic()
            response = await send(client, outgoing, headers, body)
            self._metrics.upstream_responded(profile, time.monotonic() - started)
            check_response(response)
            if response.status != HTTPStatus.UNAUTHORIZED:
                self._token_source.token_accepted(profile)
            return response

        upstream = await attempt(token)
        if upstream.status != HTTPStatus.UNAUTHORIZED:
            return upstream
        replacement = await self._replacement(profile, token, upstream)
        if replacement is None or not body.complete:
            return upstream
        upstream.close()
        return await attempt(replacement)

    async def _token(self, profile: str) -> Token:
        try:
            return await self._token_source.token(profile)
        except VxTokenError as error:
            raise token_error(profile, error) from None

    async def _replacement(self, profile: str, token: Token, upstream: Response) -> Token | None:
        try:
            return await self._token_source.replacement(profile, token.value)
        except VxTokenError as error:
            upstream.close()
            raise token_error(profile, error) from None
        except BaseException:
            upstream.close()
            raise

    def _signature_scope(
        self, request: web.BaseRequest, outgoing: UpstreamRequest, body: RequestBody, token: Token
    ) -> Scope | None:
        """Return the scope of a chat request's thought signatures; None if it has no tools."""
        if outgoing.target.path != "chat/completions" or not self._signatures.settings.enabled:
            return None
        if not (body.complete and has_tools(body.buffered) and _is_plain_json(request)):
            return None
        caller = caller_of(bearer(request.headers.getall("Authorization", ())))
        route = outgoing.route
        return Scope(route.profile, route.base_url, token.account, model_id(body.buffered), caller)

    async def _relay_response(
        self,
        request: web.BaseRequest,
        upstream: Response,
        outgoing: UpstreamRequest,
        exchange: Exchange,
        scope: Scope | None,
    ) -> web.StreamResponse:
        meter = UsageMeter(upstream.headers.get("Content-Encoding", ""))
        calls = None
        if scope is not None and upstream.status == HTTPStatus.OK:
            calls = self._signatures.reader(scope, upstream.headers)
        try:
            response = await relay(
                request, upstream, outgoing, list(exchange.extra.items()), AnswerReaders(meter, calls)
            )
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, TimeoutError) as error:
            raise upstream_error(error, outgoing.route.base_url) from None
        finally:
            upstream.close()
            exchange.usage = meter.usage()
        self._metrics.tokens_used(outgoing.target.profile, exchange.usage)
        return response


async def _send_continue(request: web.BaseRequest) -> None:
    expected = request.headers.get(hdrs.EXPECT, "").lower()
    if not expected or request.version < HttpVersion11:
        return
    if expected != "100-continue":
        raise GatewayError(417, "the gateway supports no expectation but 100-continue", "expectation_failed")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the response starts after it


def _is_plain_json(request: web.BaseRequest) -> bool:
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity")
    return request.method == "POST" and "json" in request.content_type and encoding.lower() == "identity"
