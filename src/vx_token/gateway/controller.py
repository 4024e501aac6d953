"""Turns the daemon's gateway on, over and off as the configuration asks; its libraries are imported only then."""

import os
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vx_token.config.model import Config
from vx_token.errors import ConfigError
from vx_token.gateway import address as gateway_address
from vx_token.system.log import Log
from vx_token.tokens.refresh import Refresher

if TYPE_CHECKING:
    from vx_token.gateway.runner import GatewayThread


def new_gateway(
    config: Config, refresher: Refresher, log: Log, sockets: Sequence[socket.socket] = ()
) -> "GatewayThread":
    """A gateway, not yet started; `sockets` stand in for the configured addresses.

    Raises:
        ConfigError: the extra is not installed, or the local key cannot be kept safe.
    """
    try:
        from vx_token.gateway.runner import GatewayThread
    except ImportError as error:
        hint = "install it: pip install 'vx-token[gateway]'"
        raise ConfigError(f"the gateway needs {error.name}", hint) from None
    return GatewayThread(config, refresher, log, sockets)


def activation_sockets(environ: Mapping[str, str]) -> list[socket.socket]:
    """The sockets that systemd holds for us, none outside of socket activation.

    Raises:
        ConfigError: one of them is open to other machines.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    from vx_token.gateway.sockets import inherited_sockets

    return inherited_sockets(environ, os.getpid())


class GatewayController:
    """A gateway, or none."""

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
        """Have the gateway that `config` asks for; when it cannot be had, all stays as it was.

        Raises:
            ConfigError: the extra is not installed, or an address is taken.
            TemporaryError: it does not start.
        """
        gateway, previous = config.gateway, self._thread if self.alive() else None
        addresses = (gateway.ip, gateway.port, gateway.unix_socket) if not self._sockets else ()
        place = (*addresses, gateway.ca_file)
        if not (self._sockets or gateway_address.is_wanted(config)):
            self._stop_current()
        elif previous is None or place != self._bound_to:
            new = new_gateway(config, refresher, self._log, self._sockets)
            self._log.event("info", f"the gateway serves {new.start(previous)}")
            self._stop_current(new)
            self._thread, self._bound_to = new, place
            self._warn_if_unreachable(config)
        else:
            previous.apply(config, refresher)

    def request_token(self, profile: str) -> None:
        """Have a token made where there is none, before the first request wants it."""
        if self._thread is not None:
            self._thread.current(profile)

    def alive(self) -> bool:
        """Whether it serves, if it is on."""
        return self._thread is None or self._thread.alive()

    def stop(self) -> None:
        """Let the requests under way end, and close."""
        if self._thread is not None:
            self._thread.stop()

    def _stop_current(self, successor: "GatewayThread | None" = None) -> None:
        if self._thread is not None:
            self._thread.begin_stop(successor)
            self._log.event("info", f"the gateway leaves {self._thread.address}")
            self._thread = None

    def _warn_if_unreachable(self, config: Config) -> None:
        """Tools are sent where the configuration says, whichever sockets systemd holds."""
        expected = gateway_address.base_url(config, config.default_profile)
        if self._sockets and self.address != expected:
            self._log.event("warning", f"tools look for the gateway at {expected}: let ListenStream= and port agree")
