"""Listening sockets that systemd passes to the gateway (socket activation)."""

import socket
from collections.abc import Iterable, Mapping

from vx_token.config.listen import is_loopback
from vx_token.config.model import Gateway
from vx_token.errors import ConfigError

_FIRST = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)


def inherited_sockets(environ: Mapping[str, str], pid: int) -> list[socket.socket]:
    """Return the listening sockets passed by systemd; empty if they are for another process.

    Source: sd_listen_fds(3).

    Raises:
        ConfigError: a descriptor is not a socket.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return []
    try:
        count = int(environ.get("LISTEN_FDS", "0"))
        sockets = [socket.socket(fileno=descriptor) for descriptor in range(_FIRST, _FIRST + count)]
    except (ValueError, OSError):
        hint = "unset LISTEN_PID and LISTEN_FDS, which only systemd should set"
        raise ConfigError("LISTEN_FDS does not match the passed sockets", hint) from None
    for inherited in sockets:
        inherited.set_inheritable(False)
        inherited.setblocking(False)
    return sockets


def check_inherited(sockets: Iterable[socket.socket], gateway: Gateway) -> None:
    """Require that each socket that other machines reach is one that the configuration names.

    Raises:
        ConfigError: a socket is not on loopback, and `listen` does not name its address.
    """
    for sock in sockets:
        host, port = sock.getsockname()[:2] if sock.family != socket.AF_UNIX else ("::1", 0)
        if not is_loopback(str(host)) and (host, port) not in gateway.listen:
            hint = "set ListenStream=127.0.0.1:PORT, or name the address in gateway.listen"
            raise ConfigError(f"systemd's socket listens on {host}, which gateway.listen does not name", hint)
