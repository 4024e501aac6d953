"""Joins the gateway to the store and the refresher, and runs it in a thread beside the keepers."""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vx_token import endpoint, paths
from vx_token.config import Config, Profile
from vx_token.errors import ConfigError, TemporaryError
from vx_token.gateway import Gateway
from vx_token.gateway_key import Keys
from vx_token.gateway_proxy import proxy_for
from vx_token.gateway_server import serve
from vx_token.gateway_settings import GatewaySettings, Route
from vx_token.gateway_sockets import inherited_sockets
from vx_token.log import Log
from vx_token.refresh import Refresher, error_of
from vx_token.tokens import Token

USEFUL = 5.0
"""Seconds of life below which a waiting request rather has a new token."""

START = 10.0
"""Seconds that opening the sockets may take."""


class StoredTokens:
    """Hands the gateway what the store holds."""

    def __init__(self, config: Config, refresher: Refresher) -> None:
        self._profiles = config.profiles
        self._refresher = refresher

    def current(self, profile: str) -> Token | None:
        """The last good token; may be called from any thread."""
        return self._refresher.store.read(profile).token

    async def fresh(self, profile: str, rejected: str | None) -> Token:
        """A live token, newly made when `rejected` was refused.

        Raises:
            LoginNeededError, TemporaryError, ConfigError: there is none, and why.
        """
        return await asyncio.to_thread(self._fresh, self._profiles[profile], rejected)

    def _fresh(self, profile: Profile, rejected: str | None) -> Token:
        if rejected is None:
            return self._refresher.current(profile, USEFUL)
        state = self._refresher.refresh(profile, rejected)
        token = state.live(self._refresher.clock.now())
        if token is None or token.value == rejected:
            raise error_of(state.failure)
        return token


def settings(config: Config, environ: Mapping[str, str], port: int | None = None) -> GatewaySettings:
    """The gateway's settings, as the configuration and the environment give them.

    Raises:
        ConfigError: the local key cannot be kept safe.
    """
    endpoint.key(environ)
    gateway = config.gateway
    return GatewaySettings(
        routes={profile.name: _route(profile, environ) for profile in config.profiles.values()},
        default=config.default_profile,
        accepts=Keys(paths.state_dir(environ)),
        host="127.0.0.1" if gateway.host == "localhost" else gateway.host,
        port=gateway.port if port is None else port,
        unix_socket=_path(gateway.unix_socket, config),
        origins=gateway.allowed_origins,
        access_log=gateway.access_log,
        ca_file=_path(gateway.ca_file, config),
    )


def _route(profile: Profile, environ: Mapping[str, str]) -> Route:
    return Route(
        profile=profile.name,
        base_url=profile.url,
        extra_headers=profile.headers,
        aliases=profile.aliases,
        models=profile.models,
        model=profile.model,
        # Ids at a deployed endpoint are its container's own.
        publisher=profile.publisher if profile.url.endswith("/endpoints/openapi") else "",
        proxy=proxy_for(profile.url, environ),
    )


def _path(value: str, config: Config) -> Path | None:
    return config.path.parent / Path(value).expanduser() if value else None


class Link:
    """A running gateway; made, changed and ended from another thread than its own."""

    def __init__(
        self,
        config: Config,
        refresher: Refresher,
        log: Log,
        port: int | None = None,
        sockets: list[socket.socket] | None = None,
    ) -> None:
        self.address = ""
        self._environ, self._port = refresher.environ, port
        self._sockets = sockets or []
        self._problem: BaseException | None = None
        self._up = threading.Event()
        self._stored = StoredTokens(config, refresher)
        self._gateway = Gateway(settings(config, self._environ, port), self)
        _tell(log)
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)

    def start(self) -> str:
        """Begin to serve; the base URL for clients.

        Raises:
            ConfigError: an address is taken or not allowed.
        """
        self._thread.start()
        self._up.wait(START)
        if isinstance(self._problem, ConfigError):
            raise self._problem
        if not self.address:
            raise TemporaryError("the gateway does not start", "see the log; VX_TOKEN_DEBUG=1 tells more")
        return self.address

    def apply(self, config: Config, refresher: Refresher) -> None:
        """Take another configuration from the next request on; addresses stay."""
        self._stored = StoredTokens(config, refresher)
        self._gateway.apply(settings(config, self._environ, self._port))

    def stop(self) -> None:
        """Take no more requests, let those under way end, and close."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def snapshot(self) -> dict[str, Any]:
        """The gateway in a few numbers."""
        return asdict(self._gateway.snapshot())

    def current(self, profile: str) -> Token | None:
        """The last good token of the configuration in force."""
        return self._stored.current(profile)

    async def fresh(self, profile: str, rejected: str | None) -> Token:
        """A live token of the configuration in force."""
        return await self._stored.fresh(profile, rejected)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - told to the thread that started us
            self._problem = error
        finally:
            self._up.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        await serve(self._gateway, stop=self._stop, sockets=self._sockets, ready=self._ready)

    def _ready(self, address: str) -> None:
        self.address = address
        self._up.set()


class _Lines(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a line on; the gateway's own lines hold no secret."""
        level = {logging.ERROR: "error", logging.WARNING: "warning"}.get(record.levelno, "info")
        self._log.event(level, record.getMessage())


def _tell(log: Log) -> None:
    logger = logging.getLogger("vx_token.gateway")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers[:] = [_Lines(log)]
    freshness = logging.getLogger("vx_token.gateway_freshness")
    freshness.propagate = False
    freshness.handlers[:] = logger.handlers


def activated(environ: Mapping[str, str]) -> list[socket.socket]:
    """The sockets that systemd holds for us, none outside of socket activation."""
    return inherited_sockets(environ, os.getpid())
