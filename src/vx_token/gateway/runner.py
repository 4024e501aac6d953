"""Runs the gateway in a thread, with tokens from the store and settings from the configuration."""

import asyncio
import logging
import math
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vx_token.config.model import Config, Profile
from vx_token.credentials.token import Token
from vx_token.errors import ConfigError, TemporaryError, VxTokenError, error_of, shortage
from vx_token.gateway import address as gateway_address
from vx_token.gateway.app import GatewayApp
from vx_token.gateway.known_models import KnownModels
from vx_token.gateway.local_keys import LocalKeys
from vx_token.gateway.named_keys import NamedKey
from vx_token.gateway.proxy import proxy_for
from vx_token.gateway.server import serve
from vx_token.gateway.settings import GatewaySettings, Route, SignatureSettings
from vx_token.gateway.sockets import open_sockets, remove_files, socket_files
from vx_token.system import paths, stamps
from vx_token.system.log import Lines, Log
from vx_token.tokens.model import Origin, State
from vx_token.tokens.refresh import Refresher
from vx_token.tokens.schedule import LONGEST_PAUSE, next_refresh

MIN_LIFETIME = 5.0
"""Minimum remaining lifetime (seconds) of a token given to a waiting request."""

_FRESH = 0.01
"""Seconds for which requests share one look at the files, which costs as much as a fifth of a request."""

START_TIMEOUT = 10.0
"""Timeout (seconds) for the start of the gateway."""


class StoredTokens:
    """Provides tokens from the store.

    If a requested token is due for a refresh or missing, a refresh starts in the background. So a gateway without a
    daemon refreshes tokens before they expire.
    """

    def __init__(self, config: Config, refresher: Refresher) -> None:
        self._profiles = config.profiles
        self._refresher = refresher
        self._next_refresh: dict[str, float] = {}
        self._checked: dict[str, Origin] = {}
        self._seen: dict[str, tuple[float, Token | None]] = {}

    def current(self, profile: str) -> Token | None:
        """Return the last good token of the current login, as of at most 10 ms ago; thread-safe."""
        seen_at, token = self._seen.get(profile, (-math.inf, None))
        if time.monotonic() - seen_at >= _FRESH:
            seen_at, token = time.monotonic(), self._read(profile)
            if token is not None:
                self._seen[profile] = seen_at, token
        return token

    def _read(self, profile: str) -> Token | None:
        now = self._refresher.clock.now()
        try:
            state = self._refresher.store.read(profile)
        except ConfigError:
            return None  # the runtime folder is unsafe; `fresh` raises the error
        outdated = self._is_outdated(profile, state)
        if now >= self._next_refresh.get(profile, 0.0) and (outdated or self._is_due(profile, state, now)):
            self._next_refresh[profile] = math.inf
            threading.Thread(
                target=self._refresh_in_background, args=(profile,), name=f"refresh {profile}", daemon=True
            ).start()
        return None if outdated else state.token

    def _is_outdated(self, profile: str, state: State) -> bool:
        """Return whether the token is from other settings or another login; cached while the file is unchanged."""
        origin = state.origin
        if origin is not None and origin is self._checked.get(profile) and stamps.joined(origin.files) == origin.stamp:
            return False
        outdated = self._refresher.outdated(self._profiles[profile], state)
        if origin is not None and not outdated:
            self._checked[profile] = origin
        return outdated

    def _is_due(self, profile: str, state: State, now: float) -> bool:
        # Zero jitter is the latest due time, so a running daemon always refreshes first.
        return next_refresh(now, state, 0.0, self._profiles[profile].refresh_margin) <= now

    def _refresh_in_background(self, name: str) -> None:
        profile, now = self._profiles[name], self._refresher.clock.now()
        next_refresh_at = now + LONGEST_PAUSE
        try:
            state = self._refresher.store.read(name)
            # Another caller may have refreshed in the meantime.
            if self._is_due(name, state, now) or self._refresher.outdated(profile, state):
                self._refresher.refresh(profile)
            next_refresh_at = 0.0  # the state is written, so the schedule decides
        except VxTokenError:
            pass  # the state is not writable; the current token is served until it expires, then requests fail
        finally:
            self._next_refresh[name] = next_refresh_at

    async def fresh(self, profile: str, rejected: str | None) -> Token:
        """Return a live token, refreshed if it equals `rejected`; the same one if Google returns no other.

        Raises:
            LoginNeededError, TemporaryError, ConfigError: no token is available.
        """
        try:
            return await asyncio.to_thread(self._fresh, self._profiles[profile], rejected)
        finally:
            self._seen.pop(profile, None)

    def _fresh(self, profile: Profile, rejected: str | None) -> Token:
        if rejected is None:
            return self._refresher.current(profile, MIN_LIFETIME)
        state, now = self._refresher.refresh(profile, rejected), self._refresher.clock.now()
        token = state.live(now)
        if token is None or (state.failure is not None and token.value == rejected):
            raise error_of(state.failure, now)
        return token


def gateway_settings(config: Config, environ: Mapping[str, str], keys: tuple[NamedKey, ...] = ()) -> GatewaySettings:
    """Return the gateway's settings from the configuration and the environment.

    Args:
        config: the configuration.
        environ: the environment variables.
        keys: further local keys, which are not stored.

    Raises:
        ConfigError: the local key cannot be stored safely, or `ca_file` is invalid.
    """
    gateway_address.local_key(environ)
    gateway = config.gateway
    return GatewaySettings(
        routes={profile.name: _route(profile, environ) for profile in config.profiles.values()},
        default=config.default_profile,
        find_key=LocalKeys(paths.state_dir(environ), keys),
        host=gateway.ip,
        port=gateway.port,
        listen=gateway.listen,
        hosts=gateway.allowed_hosts,
        unix_socket=Path(gateway.unix_socket) if gateway.unix_socket else None,
        origins=gateway.allowed_origins,
        metrics_open=gateway.metrics_open,
        access_log=gateway.access_log,
        ca_file=_check_ca_file(Path(gateway.ca_file)) if gateway.ca_file else None,
        signatures=SignatureSettings(
            gateway.thought_signatures, gateway.thought_signature_stand_in, gateway.thought_signature_models
        ),
    )


def _route(profile: Profile, environ: Mapping[str, str]) -> Route:
    return Route(
        profile=profile.name,
        base_url=profile.url,
        extra_headers=profile.headers,
        aliases=profile.aliases,
        models=profile.models,
        model=profile.model,
        publisher=profile.prefix,
        proxy=proxy_for(profile.url, environ),
        known=KnownModels(environ, profile),
    )


def _check_ca_file(path: Path) -> Path:
    """Return `path` if it contains certificates; checked here so that a reload rejects an invalid file."""
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        hint = "set gateway.ca_file to a file of PEM certificates"
        raise ConfigError(f"cannot use {path}: {error.strerror}", hint) from None
    return path


class GatewayThread:
    """A gateway in its own thread; its methods are called from another thread.

    Attributes:
        address: the base URL for clients, "" before the start.
        sockets: the listening sockets; those of systemd stay open after `stop`.
        files: inodes of the socket files that it created, see `sockets.socket_files`.
    """

    def __init__(
        self,
        config: Config,
        refresher: Refresher,
        log: Log,
        sockets: Sequence[socket.socket] = (),
        keys: tuple[NamedKey, ...] = (),
    ) -> None:
        self.address = ""
        self._environ = refresher.environ
        self._keys = keys
        self.sockets, self._inherited = sockets, bool(sockets)
        self.files: dict[Path, int] = {}
        self._log = log
        self._error: BaseException | None = None
        self._started = threading.Event()
        self._stopped = False
        self._stored = self._tokens(config, refresher)
        self._gateway = GatewayApp(gateway_settings(config, self._environ, self._keys), self)
        _route_log(log)
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)

    def start(self, previous: "GatewayThread | None" = None) -> str:
        """Start the thread and return the base URL for clients.

        Args:
            previous: the gateway to replace; sockets with the same address are shared with it.

        Raises:
            ConfigError: an address is in use or not allowed.
            TemporaryError: the gateway does not start.
        """
        if self._inherited:
            self.sockets = [sock.dup() for sock in self.sockets]  # keep the originals for the next gateway
        else:
            self.sockets = open_sockets(self._gateway.settings, previous.sockets if previous else ())
            self.files = socket_files(self.sockets)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._error = shortage(error)
        else:
            self._started.wait(START_TIMEOUT)
        if not self.address:
            for listening in self.sockets:
                listening.close()
            unknown = TemporaryError("the gateway does not start", "see the log, or set VX_TOKEN_DEBUG=1 for more")
            raise self._error if isinstance(self._error, VxTokenError) else unknown
        self._refresh_models()
        return self.address

    def apply(self, config: Config, refresher: Refresher) -> None:
        """Apply a changed configuration to the next requests; addresses do not change.

        Raises:
            ConfigError: the configuration cannot be used; the previous one stays in force.
        """
        new = gateway_settings(config, self._environ, self._keys)
        self._stored = self._tokens(config, refresher)
        self._gateway.apply(new)
        self._refresh_models()

    def begin_stop(self, successor: "GatewayThread | None" = None) -> None:
        """Start the stop; running requests finish in the background. Socket files that `successor` shares are kept."""
        remove_files(
            {path: number for path, number in self.files.items() if successor is None or path not in successor.files}
        )
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)

    def stop(self) -> None:
        """Finish the running requests, then stop; with sockets of systemd, serve until clients have left."""
        self.begin_stop()
        if self._thread.is_alive():
            self._thread.join()

    def alive(self) -> bool:
        """Return whether the thread is running."""
        return self._thread.is_alive()

    def _refresh_models(self) -> None:
        for route in self._gateway.settings.routes.values():
            if route.known:
                route.known.refresh_if_due()

    def _tokens(self, config: Config, refresher: Refresher) -> StoredTokens:
        return StoredTokens(config, replace(refresher, cancelled=lambda: self._stopped))

    def current(self, profile: str) -> Token | None:
        """Return the last good token under the current configuration."""
        return self._stored.current(profile)

    async def fresh(self, profile: str, rejected: str | None) -> Token:
        """Return a live token under the current configuration."""
        return await self._stored.fresh(profile, rejected)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - `start` raises it in the calling thread
            self._error = error
            if self._started.is_set():
                self._log.event("error", f"the gateway has failed: {type(error).__name__}")
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            await serve(
                self._gateway, stop=self._stop, sockets=self.sockets, inherited=self._inherited, ready=self._ready
            )
        finally:
            self._stopped = True  # cancels a refresh that would delay the exit

    def _ready(self, address: str) -> None:
        self.address = address
        self._started.set()


def _route_log(log: Log) -> None:
    logger = logging.getLogger("vx_token.gateway")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers[:] = [Lines(log)]
