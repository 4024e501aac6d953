"""Queries a running gateway; sends no key to a listener of another user."""

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
"""Seconds for the connection, and again for the whole response."""

_MAX_RESPONSE = 65536  # bytes of a response
_FIELDS = ("requests", "errors", "in_flight", "tokens_per_minute")
_NEW_FIELDS = ("signatures_kept", "signatures_put_back", "signatures_stood_in")  # an older gateway sends none of them


class Owner(enum.Enum):
    """The user whose socket listens at an address."""

    SAME_USER = "same user"
    OTHER_USER = "another user"
    UNKNOWN = "not verified"
    NONE = "no listener"


def owner(address: str) -> tuple[Owner, int]:
    """Return the owner of the socket that listens at `address`, and the user id (-1 if unknown).

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
    """Return the gateway's address, `verified` and its counters; on failure, the address and a `problem`.

    Only numbers of the response are returned, because another program may listen at the address.

    Args:
        address: `http://host:port/…` with a numeric host, or `unix:` and a path.
        key: returns the local key; not called if the listener belongs to another user.
    """
    try:
        connection, whose, uid = _connect(address)
    except (OSError, ValueError):
        return {"address": address, "problem": "does not answer"}
    with contextlib.closing(connection):
        if whose is Owner.OTHER_USER:
            return {"address": address, "problem": f"belongs to another user (uid {uid}); no key was sent"}
        try:
            status, response = _get(connection, "/statusz", key())
        except ConfigError as error:
            return {"address": address, "problem": f"cannot be queried: {error.message} ({error.hint})"}
        except (OSError, ValueError, RecursionError):
            return {"address": address, "problem": "is not a vx-token gateway"}
    if status == 401:
        return {"address": address, "problem": "rejects the local key: it has another key, or is another program"}
    numbers = _numbers(response)
    if numbers is None:
        return {"address": address, "problem": "is not a vx-token gateway"}
    return {"address": address, "verified": whose is Owner.SAME_USER, **numbers}


def probe(address: str) -> tuple[bool, Owner, int]:
    """Return whether a gateway answers at `address`, its owner and the user id; sends no key.

    Raises:
        OSError: no connection is possible.
        ValueError: the address is invalid.
    """
    connection, whose, uid = _connect(address)
    with contextlib.closing(connection):
        if whose is Owner.OTHER_USER:
            return False, whose, uid
        try:
            _, response = _get(connection, "/healthz")
        except (OSError, ValueError, RecursionError):
            return False, whose, uid
    return isinstance(response, dict) and response.get("status") == "ok" and "version" in response, whose, uid


def _numbers(response: object) -> Mapping[str, Any] | None:
    if not isinstance(response, dict):
        return None
    numbers: dict[str, int] = {}
    for name in (*_FIELDS, *_NEW_FIELDS):
        value = response.get(name, 0 if name in _NEW_FIELDS else None)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
            return None
        numbers[name] = value
    started_at = response.get("started_at")
    if not isinstance(started_at, int | float) or not 0 <= started_at < 1e12:
        return None
    # Subtract this request itself.
    return {**numbers, "in_flight": max(0, numbers["in_flight"] - 1), "started_at": float(started_at)}


def _connect(address: str) -> tuple[socket.socket, Owner, int]:
    """Connect, then look up the owner; in the other order the listener could change in between."""
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
    _, uid, _ = struct.unpack("3i", credentials)  # credentials of the listening process: unix(7)
    return connection, (Owner.SAME_USER if uid == os.geteuid() else Owner.OTHER_USER), uid


def _host_and_port(address: str) -> tuple[str, int]:
    """Parse the numeric host and the port.

    Raises:
        ValueError: the address has no numeric host or no port.
    """
    parts = urlsplit(address)
    host = ipaddress.ip_address(parts.hostname or "")
    if parts.port is None:
        raise ValueError(address)
    return str(host), parts.port


def _get(connection: socket.socket, path: str, key: str = "") -> tuple[int, object]:
    """Send a GET request, and return the HTTP status and the JSON.

    Not with http.client, because its timeout restarts with each byte.

    Raises:
        OSError: no complete response within the timeout.
        ValueError: the response is not HTTP or not JSON.
    """
    end = time.monotonic() + TIMEOUT
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}\r\n"
    connection.sendall(head.encode())
    response = b""
    while True:
        remaining = end - time.monotonic()
        if remaining <= 0 or len(response) > _MAX_RESPONSE:
            raise TimeoutError
        connection.settimeout(remaining)
        chunk = connection.recv(_MAX_RESPONSE)
        if not chunk:
            break
        response += chunk
    start, _, rest = response.partition(b"\r\n")
    version, _, status = start.partition(b" ")
    if not version.startswith(b"HTTP/1."):
        raise ValueError("not HTTP")
    return int(status[:3]), json.loads(rest.partition(b"\r\n\r\n")[2])
