"""Joins the gateway to the store and the refresher, and runs it in a thread beside the keepers."""

import asyncio
import logging
import math
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vx_token.config.model import Config, Profile
from vx_token.credentials.token import Token
from vx_token.errors import ConfigError, TemporaryError, VxTokenError, shortage
from vx_token.gateway import address as gateway_address
from vx_token.gateway.app import GatewayApp
from vx_token.gateway.key import LocalKeys
from vx_token.gateway.proxy import proxy_for
from vx_token.gateway.server import serve
from vx_token.gateway.settings import GatewaySettings, Route
from vx_token.gateway.sockets import open_sockets, remove_files, socket_files
from vx_token.system import paths, stamps
from vx_token.system.log import Lines, Log
from vx_token.tokens.model import Origin, State
from vx_token.tokens.refresh import Refresher, error_of
from vx_token.tokens.schedule import LONGEST_PAUSE, next_refresh

MIN_LIFETIME = 5.0
"""Seconds of life below which a waiting request rather has a new token."""

START_TIMEOUT = 10.0
"""Seconds that opening the sockets may take."""


class StoredTokens:
    """Hands the gateway what the store holds.

    Whoever asks for a token that is past its time for renewal, or not there, has it renewed behind its back, so that a
    gateway without a daemon does not begin to ask Google when the last second has come.
    """

    def __init__(self, config: Config, refresher: Refresher) -> None:
        self._profiles = config.profiles
        self._refresher = refresher
        self._next_refresh: dict[str, float] = {}
        self._checked: dict[str, Origin] = {}

    def current(self, profile: str) -> Token | None:
        """The last good token of the login in force; may be called from any thread."""
        now = self._refresher.clock.now()
        try:
            state = self._refresher.store.read(profile)
        except ConfigError:
            return None  # the folder is not safe: `fresh` says so
        outdated = self._is_outdated(profile, state)
        if now >= self._next_refresh.get(profile, 0.0) and (outdated or self._is_due(profile, state, now)):
            self._next_refresh[profile] = math.inf
            threading.Thread(
                target=self._refresh_in_background, args=(profile,), name=f"renew {profile}", daemon=True
            ).start()
        return None if outdated else state.token

    def _is_outdated(self, profile: str, state: State) -> bool:
        """Whether it was made from other settings or another login; all but the file's stamp is compared only once."""
        origin = state.origin
        if origin is not None and origin is self._checked.get(profile) and stamps.stamp(origin.path) == origin.stamp:
            return False
        outdated = self._refresher.outdated(self._profiles[profile], state)
        if origin is not None and not outdated:
            self._checked[profile] = origin
        return outdated

    def _is_due(self, profile: str, state: State, now: float) -> bool:
        # The least jitter: where a daemon keeps the token fresh, it was there previous.
        return next_refresh(now, state, 0.0, self._profiles[profile].refresh_margin) <= now

    def _refresh_in_background(self, name: str) -> None:
        profile, now = self._profiles[name], self._refresher.clock.now()
        rest = now + LONGEST_PAUSE
        try:
            state = self._refresher.store.read(name)
            # The request that found no token may have got one meanwhile.
            if self._is_due(name, state, now) or self._refresher.outdated(profile, state):
                self._refresher.refresh(profile)
            rest = 0.0  # from here on the schedule knows
        except VxTokenError:
            pass  # nothing could be written down; the token at hand lives on, and when it ends, requests are told
        finally:
            self._next_refresh[name] = rest

    async def fresh(self, profile: str, rejected: str | None) -> Token:
        """A live token, newly made when `rejected` was refused; the same once more where Google gives no other.

        Raises:
            LoginNeededError, TemporaryError, ConfigError: there is none, and why.
        """
        return await asyncio.to_thread(self._fresh, self._profiles[profile], rejected)

    def _fresh(self, profile: Profile, rejected: str | None) -> Token:
        if rejected is None:
            return self._refresher.current(profile, MIN_LIFETIME)
        state, now = self._refresher.refresh(profile, rejected), self._refresher.clock.now()
        token = state.live(now)
        if token is None or (state.failure is not None and token.value == rejected):
            raise error_of(state.failure, now)
        return token


def gateway_settings(config: Config, environ: Mapping[str, str]) -> GatewaySettings:
    """The gateway's settings, as the configuration and the environment give them.

    Raises:
        ConfigError: the local key cannot be kept safe, or the certificate file is no good.
    """
    gateway_address.local_key(environ)
    gateway = config.gateway
    return GatewaySettings(
        routes={profile.name: _route(profile, environ) for profile in config.profiles.values()},
        default=config.default_profile,
        accepts=LocalKeys(paths.state_dir(environ)),
        host=gateway.ip,
        port=gateway.port,
        unix_socket=Path(gateway.unix_socket) if gateway.unix_socket else None,
        origins=gateway.allowed_origins,
        metrics_open=gateway.metrics_open,
        access_log=gateway.access_log,
        ca_file=_check_ca_file(Path(gateway.ca_file)) if gateway.ca_file else None,
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
    )


def _check_ca_file(path: Path) -> Path:
    """The file, when it holds certificates; said here, where a running daemon can refuse it."""
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        hint = "gateway.ca_file takes a file of certificates in PEM form"
        raise ConfigError(f"cannot use {path}: {error.strerror}", hint) from None
    return path


class GatewayThread:
    """A running gateway; made, changed and ended from another thread than its own.

    Attributes:
        address: the base URL for clients, "" previous it serves.
        sockets: those it serves; given ones listen beyond its end.
        files: of its own Unix sockets, see `sockets.socket_files`.
    """

    def __init__(self, config: Config, refresher: Refresher, log: Log, sockets: Sequence[socket.socket] = ()) -> None:
        self.address = ""
        self._environ = refresher.environ
        self.sockets, self._inherited = sockets, bool(sockets)
        self.files: dict[Path, int] = {}
        self._log = log
        self._error: BaseException | None = None
        self._started = threading.Event()
        self._stopped = False
        self._stored = self._tokens(config, refresher)
        self._gateway = GatewayApp(gateway_settings(config, self._environ), self)
        _route_log(log)
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)

    def start(self, previous: "GatewayThread | None" = None) -> str:
        """Begin to serve, beside the one `previous` where the address is the same; the base URL for clients.

        Raises:
            ConfigError: an address is taken or not allowed.
            TemporaryError: it does not start.
        """
        if self._inherited:
            self.sockets = [inherited.dup() for inherited in self.sockets]  # the next one wants them too
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
            unknown = TemporaryError("the gateway does not start", "see the log; VX_TOKEN_DEBUG=1 tells more")
            raise self._error if isinstance(self._error, VxTokenError) else unknown
        return self.address

    def apply(self, config: Config, refresher: Refresher) -> None:
        """Take another configuration from the next request on; addresses stay.

        Raises:
            ConfigError: it cannot be had; the one in force stays.
        """
        new = gateway_settings(config, self._environ)
        self._stored = self._tokens(config, refresher)
        self._gateway.apply(new)

    def begin_stop(self, successor: "GatewayThread | None" = None) -> None:
        """Let the requests under way end in the background."""
        remove_files(
            {path: number for path, number in self.files.items() if successor is None or path not in successor.files}
        )
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)

    def stop(self) -> None:
        """Let the requests under way end, and close; sockets that others hold are served until clients have moved."""
        self.begin_stop()
        if self._thread.is_alive():
            self._thread.join()

    def alive(self) -> bool:
        """Whether it serves."""
        return self._thread.is_alive()

    def _tokens(self, config: Config, refresher: Refresher) -> StoredTokens:
        return StoredTokens(config, replace(refresher, cancelled=lambda: self._stopped))

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
            self._stopped = True  # nobody waits any more: a refresh that hangs must not hold up the end

    def _ready(self, address: str) -> None:
        self.address = address
        self._started.set()


def _route_log(log: Log) -> None:
    logger = logging.getLogger("vx_token.gateway")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers[:] = [Lines(log)]
