"""Asks a running gateway how it is, and sends the key only to a listener that is not another user's."""

import contextlib
import enum
import ipaddress
import json
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from vx_token.errors import ConfigError
from vx_token.gateway.listener import TABLES, owner_uid

TIMEOUT = 1.0
"""Seconds for connecting, and again for the whole answer."""

_MAX_RESPONSE = 65536  # bytes of an answer that are read
_FIELDS = ("requests", "errors", "in_flight", "tokens_per_minute")


class Owner(enum.Enum):
    """Whose socket listens at an address."""

    SAME_USER = "ours"
    OTHER_USER = "another user's"
    UNKNOWN = "not verified"
    NONE = "nobody's"


def owner(address: str) -> tuple[Owner, int]:
    """Return whose socket listens at the gateway's `address`, and that user's id (-1 if unknown).

    Args:
        address: `http://host:port/…` with a numeric host.
    """
    try:
        host, port = _host_and_port(address)
    except ValueError:
        return Owner.NONE, -1
    uid = owner_uid(host, port)
    if uid is not None:
        return (Owner.SAME_USER if uid == os.geteuid() else Owner.OTHER_USER), uid
    if any(table.exists() for table in TABLES):
        return Owner.NONE, -1
    try:
        socket.create_connection((host, port), TIMEOUT).close()
    except OSError:
        return Owner.NONE, -1
    return Owner.UNKNOWN, -1


def query(address: str, key: Callable[[], str]) -> Mapping[str, Any]:
    """Return the gateway's address, `verified` and its numbers; without the numbers, the address and a `problem`.

    Nothing that the listener says is returned but numbers, since another program may have taken the gateway's place.

    Args:
        address: `http://host:port/…` with a numeric host, or `unix:` and a path.
        key: gives the local key; called when the listener is not another user's.
    """
    try:
        connection, owner_, uid = _connect(address)
    except (OSError, ValueError):
        return {"address": address, "problem": "does not answer"}
    with contextlib.closing(connection):
        if owner_ is Owner.OTHER_USER:
            return {"address": address, "problem": f"belongs to another user (uid {uid}), and was sent no key"}
        try:
            status, answer = _get(connection, "/statusz", key())
        except ConfigError as error:
            return {"address": address, "problem": f"cannot be asked: {error.message} ({error.hint})"}
        except (OSError, ValueError, RecursionError):
            return {"address": address, "problem": "does not answer as a gateway of vx-token's"}
    if status == 401:
        return {"address": address, "problem": "does not accept the local key: it has another, or is another program"}
    numbers = _numbers(answer)
    if numbers is None:
        return {"address": address, "problem": "does not answer as a gateway of vx-token's"}
    return {"address": address, "verified": owner_ is Owner.SAME_USER, **numbers}


def probe(address: str) -> tuple[bool, Owner, int]:
    """Return whether a gateway answers at `address`, whose listener that is, and the user id; sends no key.

    Raises:
        OSError: no connection is possible.
        ValueError: the address is invalid.
    """
    connection, owner_, uid = _connect(address)
    with contextlib.closing(connection):
        if owner_ is Owner.OTHER_USER:
            return False, owner_, uid
        try:
            _, answer = _get(connection, "/healthz")
        except (OSError, ValueError, RecursionError):
            return False, owner_, uid
    return isinstance(answer, dict) and answer.get("status") == "ok" and "version" in answer, owner_, uid


def _numbers(answer: object) -> Mapping[str, Any] | None:
    if not isinstance(answer, dict):
        return None
    numbers: dict[str, int] = {}
    for name in _FIELDS:
        value = answer.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
            return None
        numbers[name] = value
    started_at = answer.get("started_at")
    if not isinstance(started_at, int | float) or not 0 <= started_at < 1e12:
        return None
    # The question itself is one of those under way.
    return {**numbers, "in_flight": max(0, numbers["in_flight"] - 1), "started_at": float(started_at)}


def _connect(address: str) -> tuple[socket.socket, Owner, int]:
    """Connect, then find out whose listener it is: the other way round, it could change in between."""
    if not address.startswith("unix:"):
        connection = socket.create_connection(_host_and_port(address), TIMEOUT)
        return connection, *owner(address)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(TIMEOUT)
        connection.connect(address.removeprefix("unix:"))
        if not hasattr(socket, "SO_PEERCRED"):
            return connection, Owner.UNKNOWN, -1
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except BaseException:
        connection.close()
        raise
    _, uid, _ = struct.unpack("3i", credentials)  # of the process that listens: unix(7)
    return connection, (Owner.SAME_USER if uid == os.geteuid() else Owner.OTHER_USER), uid


def _host_and_port(address: str) -> tuple[str, int]:
    """The numeric host and the port.

    Raises:
        ValueError: there are none.
    """
    parts = urlsplit(address)
    host = ipaddress.ip_address(parts.hostname or "")
    if parts.port is None:
        raise ValueError(address)
    return str(host), parts.port


def _get(connection: socket.socket, path: str, key: str = "") -> tuple[int, object]:
    """Ask, and return the HTTP status and the JSON.

    Not by http.client, whose timeout begins anew with each byte.

    Raises:
        OSError: there is no complete answer in time.
        ValueError: it is not HTTP, or not JSON.
    """
    end = time.monotonic() + TIMEOUT
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}\r\n"
    connection.sendall(head.encode())
    answer = b""
    while True:
        left = end - time.monotonic()
        if left <= 0 or len(answer) > _MAX_RESPONSE:
            raise TimeoutError
        connection.settimeout(left)
        chunk = connection.recv(_MAX_RESPONSE)
        if not chunk:
            break
        answer += chunk
    start, _, rest = answer.partition(b"\r\n")
    version, _, status = start.partition(b" ")
    if not version.startswith(b"HTTP/1."):
        raise ValueError("not HTTP")
    return int(status[:3]), json.loads(rest.partition(b"\r\n\r\n")[2])
