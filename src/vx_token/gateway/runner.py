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
from vx_token.gateway.app import Gateway
from vx_token.gateway.key import Keys
from vx_token.gateway.proxy import proxy_for
from vx_token.gateway.server import serve
from vx_token.gateway.settings import GatewaySettings, Route
from vx_token.gateway.sockets import files_of, open_sockets, remove
from vx_token.system import paths, stamps
from vx_token.system.log import Lines, Log
from vx_token.tokens.model import Origin, State
from vx_token.tokens.refresh import Refresher, error_of
from vx_token.tokens.schedule import LONGEST_PAUSE, next_refresh

USEFUL = 5.0
"""Seconds of life below which a waiting request rather has a new token."""

START = 10.0
"""Seconds that opening the sockets may take."""


class StoredTokens:
    """Hands the gateway what the store holds.

    Whoever asks for a token that is past its time for renewal, or not there, has it renewed behind its back, so that a
    gateway without a daemon does not begin to ask Google when the last second has come.
    """

    def __init__(self, config: Config, refresher: Refresher) -> None:
        self._profiles = config.profiles
        self._refresher = refresher
        self._rests: dict[str, float] = {}
        self._ours: dict[str, Origin] = {}

    def current(self, profile: str) -> Token | None:
        """The last good token of the login in force; may be called from any thread."""
        now = self._refresher.clock.now()
        try:
            state = self._refresher.store.read(profile)
        except ConfigError:
            return None  # the folder is not safe: `fresh` says so
        foreign = self._foreign(profile, state)
        if now >= self._rests.get(profile, 0.0) and (foreign or self._due(profile, state, now)):
            self._rests[profile] = math.inf
            threading.Thread(target=self._renew, args=(profile,), name=f"renew {profile}", daemon=True).start()
        return None if foreign else state.token

    def _foreign(self, profile: str, state: State) -> bool:
        """Whether it was made from other settings or another login; all but the file's stamp is compared only once."""
        origin = state.origin
        if origin is not None and origin is self._ours.get(profile) and stamps.stamp(origin.path) == origin.stamp:
            return False
        foreign = self._refresher.outdated(self._profiles[profile], state)
        if origin is not None and not foreign:
            self._ours[profile] = origin
        return foreign

    def _due(self, profile: str, state: State, now: float) -> bool:
        # The least jitter: where a daemon keeps the token fresh, it was there before.
        return next_refresh(now, state, 0.0, self._profiles[profile].refresh_margin) <= now

    def _renew(self, name: str) -> None:
        profile, now = self._profiles[name], self._refresher.clock.now()
        rest = now + LONGEST_PAUSE
        try:
            state = self._refresher.store.read(name)
            # The request that found no token may have got one meanwhile.
            if self._due(name, state, now) or self._refresher.outdated(profile, state):
                self._refresher.refresh(profile)
            rest = 0.0  # from here on the schedule knows
        except VxTokenError:
            pass  # nothing could be written down; the token at hand lives on, and when it ends, requests are told
        finally:
            self._rests[name] = rest

    async def fresh(self, profile: str, rejected: str | None) -> Token:
        """A live token, newly made when `rejected` was refused; the same once more where Google gives no other.

        Raises:
            LoginNeededError, TemporaryError, ConfigError: there is none, and why.
        """
        return await asyncio.to_thread(self._fresh, self._profiles[profile], rejected)

    def _fresh(self, profile: Profile, rejected: str | None) -> Token:
        if rejected is None:
            return self._refresher.current(profile, USEFUL)
        state, now = self._refresher.refresh(profile, rejected), self._refresher.clock.now()
        token = state.live(now)
        if token is None or (state.failure is not None and token.value == rejected):
            raise error_of(state.failure, now)
        return token


def settings(config: Config, environ: Mapping[str, str]) -> GatewaySettings:
    """The gateway's settings, as the configuration and the environment give them.

    Raises:
        ConfigError: the local key cannot be kept safe, or the certificate file is no good.
    """
    gateway_address.key(environ)
    gateway = config.gateway
    return GatewaySettings(
        routes={profile.name: _route(profile, environ) for profile in config.profiles.values()},
        default=config.default_profile,
        accepts=Keys(paths.state_dir(environ)),
        host=gateway.ip,
        port=gateway.port,
        unix_socket=Path(gateway.unix_socket) if gateway.unix_socket else None,
        origins=gateway.allowed_origins,
        metrics_open=gateway.metrics_open,
        access_log=gateway.access_log,
        ca_file=_certificates(Path(gateway.ca_file)) if gateway.ca_file else None,
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


def _certificates(path: Path) -> Path:
    """The file, when it holds certificates; said here, where a running daemon can refuse it."""
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        hint = "gateway.ca_file takes a file of certificates in PEM form"
        raise ConfigError(f"cannot use {path}: {error.strerror}", hint) from None
    return path


class Link:
    """A running gateway; made, changed and ended from another thread than its own.

    Attributes:
        address: the base URL for clients, "" before it serves.
        sockets: those it serves; given ones listen beyond its end.
        files: of its own Unix sockets, see `sockets.files_of`.
    """

    def __init__(self, config: Config, refresher: Refresher, log: Log, sockets: Sequence[socket.socket] = ()) -> None:
        self.address = ""
        self._environ = refresher.environ
        self.sockets, self._held = sockets, bool(sockets)
        self.files: dict[Path, int] = {}
        self._log = log
        self._problem: BaseException | None = None
        self._up = threading.Event()
        self._over = False
        self._stored = self._tokens(config, refresher)
        self._gateway = Gateway(settings(config, self._environ), self)
        _tell(log)
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)

    def start(self, before: "Link | None" = None) -> str:
        """Begin to serve, beside the one `before` where the address is the same; the base URL for clients.

        Raises:
            ConfigError: an address is taken or not allowed.
            TemporaryError: it does not start.
        """
        if self._held:
            self.sockets = [held.dup() for held in self.sockets]  # the next one wants them too
        else:
            self.sockets = open_sockets(self._gateway.settings, before.sockets if before else ())
            self.files = files_of(self.sockets)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._problem = shortage(error)
        else:
            self._up.wait(START)
        if not self.address:
            for listening in self.sockets:
                listening.close()
            unknown = TemporaryError("the gateway does not start", "see the log; VX_TOKEN_DEBUG=1 tells more")
            raise self._problem if isinstance(self._problem, VxTokenError) else unknown
        return self.address

    def apply(self, config: Config, refresher: Refresher) -> None:
        """Take another configuration from the next request on; addresses stay.

        Raises:
            ConfigError: it cannot be had; the one in force stays.
        """
        new = settings(config, self._environ)
        self._stored = self._tokens(config, refresher)
        self._gateway.apply(new)

    def leave(self, heir: "Link | None" = None) -> None:
        """Let the requests under way end, while the caller goes on; `heir` has the files of sockets that it shares."""
        remove({path: number for path, number in self.files.items() if heir is None or path not in heir.files})
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)

    def stop(self) -> None:
        """Let the requests under way end, and close; sockets that others hold are served until clients have moved."""
        self.leave()
        if self._thread.is_alive():
            self._thread.join()

    def alive(self) -> bool:
        """Whether it serves."""
        return self._thread.is_alive()

    def _tokens(self, config: Config, refresher: Refresher) -> StoredTokens:
        return StoredTokens(config, replace(refresher, cancelled=lambda: self._over))

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
            if self._up.is_set():
                self._log.event("error", f"the gateway has failed: {type(error).__name__}")
        finally:
            self._up.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            await serve(self._gateway, stop=self._stop, sockets=self.sockets, held=self._held, ready=self._ready)
        finally:
            self._over = True  # nobody waits any more: a refresh that hangs must not hold up the end

    def _ready(self, address: str) -> None:
        self.address = address
        self._up.set()


def _tell(log: Log) -> None:
    logger = logging.getLogger("vx_token.gateway")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers[:] = [Lines(log)]
