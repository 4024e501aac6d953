"""Starts, replaces and stops the gateway's thread as the configuration changes; imports aiohttp only when needed."""

import os
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vx_token.config.model import Config
from vx_token.errors import ConfigError
from vx_token.gateway import address as gateway_address
from vx_token.gateway.inherited import check_inherited
from vx_token.system.log import Log
from vx_token.tokens.refresh import Refresher

if TYPE_CHECKING:
    from vx_token.gateway.named_keys import NamedKey
    from vx_token.gateway.runner import GatewayThread


def new_gateway(
    config: Config,
    refresher: Refresher,
    log: Log,
    sockets: Sequence[socket.socket] = (),
    keys: "tuple[NamedKey, ...]" = (),
) -> "GatewayThread":
    """Return a gateway that is not started yet; `sockets` replace the configured addresses.

    It accepts `keys` in addition to the stored ones.

    Raises:
        ConfigError: the `gateway` extra is not installed, or the local key cannot be stored safely.
    """
    try:
        from vx_token.gateway.runner import GatewayThread
    except ImportError as error:
        from vx_token.system import installation

        raise ConfigError(f"the gateway needs {error.name}", installation.how_to_add("gateway")) from None
    return GatewayThread(config, refresher, log, sockets, keys)


def activation_sockets(environ: Mapping[str, str]) -> list[socket.socket]:
    """Return the sockets passed by systemd; empty without socket activation.

    Raises:
        ConfigError: a descriptor is not a socket.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    from vx_token.gateway.inherited import inherited_sockets

    return inherited_sockets(environ, os.getpid())


class GatewayController:
    """The gateway of a process; it may be off."""

    def __init__(self, log: Log, sockets: Sequence[socket.socket] = ()) -> None:
        self._log = log
        self._sockets = sockets
        self._thread: GatewayThread | None = None
        self._bound_to: tuple[object, ...] = ()

    @property
    def address(self) -> str:
        """The base URL for clients, "" while it is off."""
        return self._thread.address if self._thread else ""

    def apply(self, config: Config, refresher: Refresher) -> None:
        """Start, change or stop the gateway according to `config`; on an error the previous one keeps running.

        Raises:
            ConfigError: the `gateway` extra is not installed, or an address is in use.
            TemporaryError: the gateway does not start.
        """
        gateway, previous = config.gateway, self._thread if self.alive() else None
        addresses = (gateway.ip, gateway.port, gateway.listen, gateway.unix_socket) if not self._sockets else ()
        place = (*addresses, gateway.ca_file)
        check_inherited(self._sockets, gateway)
        if not (self._sockets or gateway_address.is_wanted(config)):
            self._stop_current()
        elif previous is None or place != self._bound_to:
            new = new_gateway(config, refresher, self._log, self._sockets)
            self._log.event("info", f"the gateway listens at {new.start(previous)}")
            self._stop_current(new)
            self._thread, self._bound_to = new, place
            self._warn_if_unreachable(config)
        else:
            previous.apply(config, refresher)

    def request_token(self, profile: str) -> None:
        """Start a refresh if there is no valid token, before the first request needs one."""
        if self._thread is not None:
            self._thread.current(profile)

    def alive(self) -> bool:
        """Return whether the gateway is running or off."""
        return self._thread is None or self._thread.alive()

    def stop(self) -> None:
        """Finish the running requests, then stop."""
        if self._thread is not None:
            self._thread.stop()

    def _stop_current(self, successor: "GatewayThread | None" = None) -> None:
        if self._thread is not None:
            self._thread.begin_stop(successor)
            self._log.event("info", f"the gateway stops listening at {self._thread.address}")
            self._thread = None

    def _warn_if_unreachable(self, config: Config) -> None:
        """Log a warning if the sockets of systemd do not have the configured address, which tools use."""
        expected = gateway_address.base_url(config, config.default_profile)
        if self._sockets and self.address != expected:
            self._log.event(
                "warning", f"tools use the gateway at {expected}: give ListenStream= and gateway.port one port"
            )
