"""Finds the user id that listens on a TCP port of this machine, from Linux's /proc/net/tcp and /proc/net/tcp6."""

import ipaddress
import sys
from collections.abc import Iterator
from pathlib import Path

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
LISTEN = "0A"
"""The state of a listening socket, from TCP_LISTEN in Linux's include/net/tcp_states.h."""


def owner_uid(address: str, port: int) -> int | None:
    """Return the user id whose socket receives a connection to `address`:`port`.

    Returns:
        None if no socket listens there, or if the operating system has no such table (macOS).
    """
    sockets: list[tuple[Address, int, int]] = []
    for table in TABLES:
        try:
            sockets += parse_listeners(table.read_text(encoding="ascii"))
        except (OSError, ValueError):  # not Linux, or no IPv6
            continue
    wanted = _plain(ipaddress.ip_address(address))
    # The kernel prefers a socket bound to the exact address to one bound to the wildcard address.
    for candidate in (wanted, ipaddress.IPv4Address(0), ipaddress.IPv6Address(0)):
        for bound, number, uid in sockets:
            if number == port and bound == candidate and bound.version >= wanted.version:
                return uid
    return None


def parse_listeners(table: str) -> Iterator[tuple[Address, int, int]]:
    """Yield address, port and user id of each listening socket in the text of /proc/net/tcp or /proc/net/tcp6.

    Raises:
        ValueError: the text has another form.
    """
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8:
            raise ValueError("a line with too few fields")
        if fields[3] == LISTEN:
            address, _, port = fields[1].partition(":")
            yield _plain(_address(address)), int(port, 16), int(fields[7])


def _address(digits: str) -> Address:
    # The kernel prints 32-bit words in the machine's byte order.
    packed = bytes.fromhex(digits)
    if sys.byteorder == "little":
        packed = b"".join(packed[start : start + 4][::-1] for start in range(0, len(packed), 4))
    return ipaddress.ip_address(packed)


def _plain(address: Address) -> Address:
    """Convert an IPv4 address that is written as an IPv6 address (::ffff:127.0.0.1)."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
