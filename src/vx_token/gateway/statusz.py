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
from typing import Any, TypeVar
from urllib.parse import urlsplit

from vx_token.errors import ConfigError, TemporaryError, printable
from vx_token.gateway.listener import TABLES, owner_uid

TIMEOUT = 1.0
"""Seconds for the connection, and again for the whole response."""

_NO_GATEWAY = "is not a vx-token gateway"
_MAX_TEXT = 100  # characters of a name
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

    Args:
        address: `http://host:port/…` with a numeric host, or `unix:` and a path.
        key: returns the local key; not called if the listener belongs to another user.
    """
    try:
        response, is_verified = _ask(address, "/statusz", key)
        return {"address": address, "verified": is_verified, **_counters(response)}
    except _QueryError as error:
        return {"address": address, "problem": str(error)}


def recent(address: str, key: Callable[[], str], after: int) -> tuple[float, list[Mapping[str, Any]]]:
    """Return the start of the gateway (epoch seconds), and its last completed requests with a number above `after`.

    Args:
        address: as for `query`.
        key: as for `query`.
        after: the number of the last request already known; 0 for all that the gateway has kept.

    Raises:
        TemporaryError: the gateway does not answer.
    """
    try:
        response, _ = _ask(address, f"/statusz?after={after}", key)
        return _number(response, "started_at"), [_request(each) for each in _part(response, "requests", list)]
    except _QueryError as error:
        raise TemporaryError(f"the gateway at {address} {error}", "start it, or see: vx-token status") from None


class _QueryError(Exception):
    """Why a gateway cannot be queried."""


def _ask(address: str, path: str, key: Callable[[], str]) -> tuple[object, bool]:
    """Return the JSON of a path, and whether the listener is known to be this user's.

    Raises:
        _QueryError: there is no gateway, it belongs to another user, or it rejects the key.
    """
    try:
        connection, whose, uid = _connect(address)
    except (OSError, ValueError):
        raise _QueryError("does not answer") from None
    with contextlib.closing(connection):
        if whose is Owner.OTHER_USER:
            raise _QueryError(f"belongs to another user (uid {uid}); no key was sent")
        try:
            status, response = _get(connection, path, key())
        except ConfigError as error:
            raise _QueryError(f"cannot be queried: {error.message} ({error.hint})") from None
        except (OSError, ValueError, RecursionError):
            raise _QueryError(_NO_GATEWAY) from None
    if status == 401:
        raise _QueryError("rejects the local key: it has another key, or is another program")
    return response, whose is Owner.SAME_USER


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


def _counters(response: object) -> Mapping[str, Any]:
    """Return the counters of a response; only numbers and names, because another program may listen at the address.

    Raises:
        _QueryError: the response is not that of a gateway.
    """
    numbers: dict[str, Any] = {name: _count(response, name) for name in _FIELDS}
    numbers |= {name: _count(response, name, 0) for name in _NEW_FIELDS}
    numbers["in_flight"] = max(0, numbers["in_flight"] - 1)  # without this request itself
    keys = _part(response, "keys", dict, {})
    usages = {
        _text(name): {
            **{each: _count(usage, each) for each in ("requests", "errors", "tokens")},
            "last_used": _number(usage, "last_used"),
        }
        for name, usage in keys.items()
    }
    return {**numbers, "started_at": _number(response, "started_at"), "keys": usages}


def _request(entry: object) -> Mapping[str, Any]:
    return {
        **{name: _count(entry, name) for name in ("number", "status", "prompt", "answer")},
        **{name: _number(entry, name) for name in ("time", "total")},
        **{name: _text(_part(entry, name, str)) for name in ("key", "route", "model")},
        "first_byte": None if _part(entry, "first_byte", object) is None else _number(entry, "first_byte"),
    }


_Part = TypeVar("_Part")


def _part(response: object, name: str, kind: type[_Part], default: _Part | None = None) -> _Part:
    value = response.get(name, default) if isinstance(response, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _QueryError(_NO_GATEWAY)
    return value


def _count(response: object, name: str, default: int | None = None) -> int:
    value = _part(response, name, int, default)
    if not 0 <= value < 1 << 63:
        raise _QueryError(_NO_GATEWAY)
    return value


def _number(response: object, name: str) -> float:
    value = _part(response, name, object)
    if not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise _QueryError(_NO_GATEWAY)
    return float(value)


def _text(value: str) -> str:
    return printable(value[:_MAX_TEXT])


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
