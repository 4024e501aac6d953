"""The gateway's request handler: checks a request, then answers it or forwards it with the current Google token."""

import asyncio
import hmac
import json
import logging
import socket
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import hdrs, web
from multidict import istr

from vx_token import __version__
from vx_token.config.listen import is_loopback
from vx_token.gateway.connections import Connections
from vx_token.gateway.errors import GatewayError
from vx_token.gateway.exchange import Exchange, RecentRequests
from vx_token.gateway.forward import Forwarder
from vx_token.gateway.guard import (
    bearer,
    check_framing,
    check_host,
    check_method,
    check_origin,
    check_profile,
    cors,
    is_preflight,
    parse_target,
)
from vx_token.gateway.http_client import Client
from vx_token.gateway.metrics import CONTENT_TYPE, STATUS_PATH, Metrics, Snapshot, known_route
from vx_token.gateway.models import model_entry, model_list
from vx_token.gateway.relay import StreamedResponse, UpstreamClosedError
from vx_token.gateway.settings import DEFAULT_KEY, GatewaySettings, LocalKey, Route, TokenProvider
from vx_token.gateway.thought_signatures import ThoughtSignatures
from vx_token.gateway.token_source import TokenSource
from vx_token.gateway.upstream import UpstreamRequest

_log = logging.getLogger(__name__)
_access = logging.getLogger(f"{__name__}.access")
_FETCH_SITE = istr("Sec-Fetch-Site")
_CLIENT_CLOSED_REQUEST = 499  # the non-standard code of nginx


class GatewayApp:
    """The gateway application: `handle` answers one request.

    Args:
        settings: the initial settings; `apply` replaces them.
        tokens: provides the Google tokens.

    Attributes:
        connections: the client connections; while they are draining, each response closes its connection.
    """

    def __init__(self, settings: GatewaySettings, tokens: TokenProvider) -> None:
        self.settings = settings
        self.connections = Connections()
        self._metrics = Metrics(self._seconds_left)
        self._recent = RecentRequests()
        self._token_source = TokenSource(tokens, settings.wait, self._metrics.refresh_ended)
        self._signatures = ThoughtSignatures(settings.signatures, self._metrics.signatures_counted)
        self._forwarder = Forwarder(self._token_source, self._metrics, settings.limits, self._signatures)

    def apply(self, settings: GatewaySettings) -> None:
        """Replace routes, default profile, keys, origins, access log and signature settings; thread-safe.

        Addresses, limits, `wait` and `ca_file` do not change until a restart.
        """
        self.settings = settings
        self._signatures.apply(settings.signatures)
        self._token_source.reset()

    def take_peak(self) -> int:
        """Return the maximum number of concurrent requests since the last call."""
        return self._metrics.take_peak()

    def forget_old(self) -> None:
        """Forget thought signatures that are too old."""
        self._signatures.prune()

    def snapshot(self) -> Snapshot:
        """Return the request counters; thread-safe."""
        return self._metrics.snapshot()

    async def handle(self, client: Client, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, count it, and write the access log; `client` sends requests to upstream."""
        exchange = Exchange(extra={"Connection": "close"} if self.connections.draining else {})
        transport = request.transport  # None at the end if the client disconnects
        self.connections.request_started(transport)
        self._metrics.request_started()
        response: web.StreamResponse | None = None
        try:
            response = await self._respond(client, request, exchange)
            return response
        except (asyncio.CancelledError, ConnectionError):
            exchange.status = _CLIENT_CLOSED_REQUEST
            raise
        finally:
            self.connections.request_ended(transport)
            self._metrics.request_ended(exchange)
            if exchange.profile:
                self._recent.add(exchange, known_route(exchange.path))
            if self.settings.access_log:
                _log_access(request.method, exchange, _size(response))

    async def _respond(self, client: Client, request: web.BaseRequest, exchange: Exchange) -> web.StreamResponse:
        try:
            response = await self._dispatch(client, request, exchange)
        except UpstreamClosedError as closed:
            exchange.status = 502
            return closed.response
        except GatewayError as error:
            response = _error_response(error, exchange.extra)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - a bug fails one request, and its traceback stays here
            _log.error("gateway: %s at %s", type(error).__name__, _location(error))
            if request.writer.output_size > 0:
                raise ConnectionResetError from None
            response = _error_response(
                GatewayError(500, "internal error in the gateway; see its log", "internal_error"), exchange.extra
            )
        exchange.status = response.status
        return response

    async def _dispatch(self, client: Client, request: web.BaseRequest, exchange: Exchange) -> web.StreamResponse:
        settings = self.settings
        headers = request.headers
        check_method(request.method)
        check_framing(request.version, headers.getall(hdrs.TRANSFER_ENCODING, ()))
        check_host(headers.getall(hdrs.HOST, ()), settings.hosts)
        origin = check_origin(headers.getall(hdrs.ORIGIN, ()), headers.getall(_FETCH_SITE, ()), settings.origins)
        if origin:
            exchange.extra.update(cors(origin))
            if is_preflight(request.method, headers):
                return _response(204, b"", exchange.extra)
        public = self._public_response(request, settings)
        if public is not None:
            exchange.path = request.raw_path
            return public
        key = self._check_key(request, settings)
        exchange.key = key.name
        self.connections.authenticated(request.transport)
        if request.raw_path == "/metrics":
            exchange.path = request.raw_path
            return self._metrics_response()
        if request.raw_path.partition("?")[0] == STATUS_PATH:
            exchange.path = STATUS_PATH
            return self._status_response(request, key)
        target = parse_target(request.raw_path, settings.routes, settings.default)
        exchange.profile, exchange.path = target.profile, target.path
        check_profile(key, target.profile)
        route = settings.routes[target.profile]
        if request.method in {"GET", "HEAD"} and target.path.partition("/")[0] == "models":
            return _models_response(route, target.path, exchange.extra)
        outgoing = UpstreamRequest(request.method, target, route)
        return await self._forwarder.forward(client, request, outgoing, exchange)

    def _public_response(self, request: web.BaseRequest, settings: GatewaySettings) -> web.Response | None:
        """Answer public endpoints: health, readiness, and metrics on the Unix socket or if `metrics_open` is set."""
        match request.raw_path:
            case "/healthz":
                return _json({"status": "ok", "version": __version__})
            case "/readyz":
                return self._readiness_response()
            case "/metrics" if _on_unix_socket(request) or (settings.metrics_open and _on_loopback(request)):
                return self._metrics_response()
        return None

    def _check_key(self, request: web.BaseRequest, settings: GatewaySettings) -> LocalKey:
        candidate = bearer(request.headers.getall(hdrs.AUTHORIZATION, ()))
        if (key := settings.find_key(candidate)) is not None:
            return key
        what, hint = "this is not the local key of the vx-token gateway", "run vx-token env for the variables to set"
        if self._is_google_token(candidate, settings):
            what, hint = "the vx-token gateway accepts its local key, not a Google token", "use: vx-token gateway key"
        raise GatewayError(401, f"{what}; {hint}", "invalid_api_key")

    def _is_google_token(self, candidate: str, settings: GatewaySettings) -> bool:
        if candidate.startswith("ya29."):
            return True
        tokens = [self._token_source.current(profile) for profile in settings.routes]
        encoded = candidate.encode("utf-8", "surrogateescape")
        matches = [hmac.compare_digest(encoded, token.value.encode()) for token in tokens if token is not None]
        return any(matches)

    def _status_response(self, request: web.BaseRequest, key: LocalKey) -> web.Response:
        """Answer `status` (the counters) and `gateway tail` (the requests after a number)."""
        if key.name != DEFAULT_KEY:
            raise GatewayError(403, "only the default key may read the status of the gateway", "key_not_allowed")
        after = request.query.get("after")
        if after is None:
            return _json(asdict(self.snapshot()))
        recent = self._recent.after(int(after) if after.isdecimal() else 0)
        return _json({"started_at": self.snapshot().started_at, "requests": recent})

    def _metrics_response(self) -> web.Response:
        return _response(200, self._metrics.text(), {"Content-Type": CONTENT_TYPE})

    def _readiness_response(self) -> web.Response:
        profile = self.settings.default
        ready = self._token_source.current(profile) is not None
        status = {"status": "ready" if ready else "no token", "profile": profile}
        return _json(status, 200 if ready else 503)

    def _seconds_left(self) -> dict[str, float]:
        now = time.time()
        tokens = {profile: self._token_source.current(profile) for profile in self.settings.routes}
        return {profile: token.remaining(now) if token else 0.0 for profile, token in tokens.items()}


def malformed_response(status: int) -> web.Response:
    """Return the response to a malformed request; it quotes nothing of the request."""
    return _error_response(GatewayError(status, "malformed HTTP request, or headers too long", "bad_request"), {})


def _on_unix_socket(request: web.BaseRequest) -> bool:
    """Return whether the request came through the Unix socket, which only its owner can open (mode 0600)."""
    sock = request.get_extra_info("socket")
    return sock is not None and sock.family == socket.AF_UNIX


def _on_loopback(request: web.BaseRequest) -> bool:
    """Return whether the request came to a loopback address, which only programs of this machine can reach."""
    name = request.get_extra_info("sockname")
    return isinstance(name, tuple) and is_loopback(str(name[0]))


def _models_response(route: Route, path: str, headers: dict[str, str]) -> web.Response:
    name = unquote(path.partition("/")[2])  # the SDKs encode the slash of google/gemini-2.5-flash
    if route.known:
        route.known.refresh_if_due()
    models = model_list(route)
    if not name:
        return _json(models, headers=headers)
    if name in {entry["id"] for entry in models["data"]}:
        return _json(model_entry(name, route), headers=headers)
    raise GatewayError(404, f"the model list of profile {route.profile} does not contain {name}", "model_not_found")


def _json(value: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return _response(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})


def _response(status: int, body: bytes, headers: dict[str, str]) -> web.Response:
    return web.Response(status=status, body=body, headers={"Server": "vx-token", **headers})


def _error_response(error: GatewayError, extra: dict[str, str]) -> web.Response:
    return _response(error.status, error.body, {**error.headers, **extra})


def _location(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"


def _size(response: web.StreamResponse | None) -> int:
    if isinstance(response, web.Response):
        return len(response.body) if isinstance(response.body, bytes) else 0
    return response.size if isinstance(response, StreamedResponse) else 0


def _log_access(method: str, exchange: Exchange, size: int) -> None:
    # Log the route, not the path, because a client may put a key in its path.
    route = f"{exchange.profile}/{known_route(exchange.path)}" if exchange.profile else exchange.path or "-"
    _access.info("%s %s %d %d bytes %.1f ms", method, route, exchange.status, size, exchange.seconds * 1000)
