"""Distinguishes clients that have closed only their sending side from clients that have left; both send a FIN.

A client on this machine has its own row in Linux's /proc/net/tcp or /proc/net/tcp6. After close() or the end of its
process, that row has no inode. Other systems have no such table, so there each FIN counts as the end of the client.
"""

import asyncio
import functools
import ipaddress
import select
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from vx_token.gateway.listener import TABLES

_CHECK_INTERVAL = 0.25  # seconds between two checks


class Connection(Protocol):
    """A connection to a client."""

    transport: asyncio.Transport | None

    @property
    def is_idle(self) -> bool:
        """Whether every request has its response."""

    def force_close(self) -> None:
        """Close the connection at once."""


class HalfClosedConnections:
    """Closes half-closed connections when the client has left or has all its responses; one check for all of them."""

    def __init__(self) -> None:
        self._sockets: dict[Connection, socket.socket] = {}
        self._is_supported = any(table.exists() for table in TABLES)

    def add(self, connection: Connection) -> bool:
        """Keep a connection open; return False if this system does not show whether its client has left."""
        if not self._is_supported or connection.transport is None:
            return False
        if not self._sockets:
            self._schedule()
        self._sockets[connection] = connection.transport.get_extra_info("socket")
        return True

    def _schedule(self) -> None:
        asyncio.get_running_loop().call_later(_CHECK_INTERVAL, self._check)

    def _check(self) -> None:
        still_open = {each: sock for each, sock in self._sockets.items() if each.transport is not None}
        present = present_peers(sock for each, sock in still_open.items() if not each.is_idle)
        self._sockets = {each: sock for each, sock in still_open.items() if sock in present}
        for connection in still_open.keys() - self._sockets.keys():
            connection.force_close()
        if self._sockets:
            self._schedule()


def present_peers(sockets: Iterable[socket.socket], tables: Iterable[Path] = TABLES) -> set[socket.socket]:
    """Return the connected sockets whose peer still exists; each table is read at most once."""
    present: set[socket.socket] = set()
    peers: dict[tuple[str, str], socket.socket] = {}
    for sock in sockets:
        if sock.family != socket.AF_UNIX:
            peers.update(dict.fromkeys(_rows(sock), sock))
        elif not _is_hung_up(sock):
            present.add(sock)
    for table in tables if peers else ():
        with table.open(encoding="ascii") as rows:
            for row in rows:
                fields = row.split(None, 10)
                sock_ = peers.get((fields[1], fields[2])) if len(fields) > 9 and fields[9] != "0" else None
                if sock_ is not None:
                    present.add(sock_)
    return present


def _is_hung_up(sock: socket.socket) -> bool:
    """Return whether the peer of a Unix socket has closed both directions."""
    poll = select.poll()
    poll.register(sock, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


def _rows(sock: socket.socket) -> list[tuple[str, str]]:
    """Return the first two fields of the row of a socket's peer: its local address and its remote address."""
    try:
        peer, own = sock.getpeername()[:2], sock.getsockname()[:2]
    except OSError:  # reset by the peer
        return []
    return list(zip(_forms(*peer), _forms(*own), strict=True))


def _forms(host: str, port: int) -> list[str]:
    return [f"{words}:{port:04X}" for words in _host_forms(host)]


@functools.lru_cache(maxsize=8)
def _host_forms(host: str) -> list[str]:
    """Return an address as the tables print it; an IPv4 client may use an IPv6 socket (::ffff:127.0.0.1)."""
    address = ipaddress.ip_address(host)
    packed = [address.packed]
    if address.version == 4:
        packed.append(ipaddress.IPv6Address(f"::ffff:{host}").packed)
    return [_words(each) for each in packed]


def _words(packed: bytes) -> str:
    # The kernel prints 32-bit words in the machine's byte order.
    words = [packed[start : start + 4] for start in range(0, len(packed), 4)]
    return b"".join(word[::-1] if sys.byteorder == "little" else word for word in words).hex().upper()
