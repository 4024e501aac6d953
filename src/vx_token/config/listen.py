"""The gateway's addresses as the configuration writes them: `127.0.0.1:8490`, `[::1]:8490`, `unix:/path`."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from vx_token.config.fields import InvalidError

ALLOWED = 'an address such as "127.0.0.1:8490", "172.17.0.1:8490" or "unix:/path", or a list of them'

Place = str | tuple[str, int]  # the path of a Unix socket, or an IP address and a port


def listen(value: object) -> tuple[Place, ...]:
    """Check one address or a list of them; none that every interface or the internet reaches."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not items or not all(isinstance(item, str) for item in items):
        raise InvalidError("must be an address or a list of addresses", ALLOWED)
    places = tuple(map(_place, items))
    if len(set(places)) != len(places):
        raise InvalidError("names an address twice", ALLOWED)
    if sum(isinstance(place, str) for place in places) > 1:
        raise InvalidError("names two Unix sockets", "at most one address that begins with unix:")
    return places


def _place(text: str) -> Place:
    if text.startswith("unix:") and text != "unix:" and text.isprintable():
        return text.removeprefix("unix:")
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+|localhost)):(\d{1,5})", text)
    try:
        ip = ipaddress.ip_address((match[1] or match[2].replace("localhost", "127.0.0.1")) if match else "")
    except ValueError:
        raise InvalidError(f"has an invalid address: {text!r}", ALLOWED) from None
    assert match is not None
    if not 0 < int(match[3]) < 1 << 16:
        raise InvalidError(f"has a port out of range: {text!r}", "a port from 1 to 65535")
    if problem := unsuitable(str(ip)):
        raise InvalidError(f"names {ip}, {problem}", 'addresses of this machine, such as "172.17.0.1:8490"')
    return str(ip), int(match[3])


def unsuitable(host: str) -> str:
    """Return why the gateway may never listen on an IP address; "" if it may."""
    ip = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return "an IPv4 address in IPv6 form: write the IPv4 address"
    if ip.is_unspecified:
        return "which means every interface: name the one that your containers reach"
    if ip.is_global or ip.is_multicast:
        return "a public address: the gateway's HTTP is not encrypted"
    return ""


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an IP address."""
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def as_settings(places: tuple[Place, ...], allowed_hosts: tuple[str, ...]) -> Mapping[str, Any]:
    """Return the settings that `listen` stands for.

    The first loopback address is `host` and `port`, which tools of this machine use. Without one they keep their
    defaults, so the gateway always listens on loopback.

    Raises:
        InvalidError: other machines or containers reach an address, and no allowed host is named.
    """
    tcp = [place for place in places if not isinstance(place, str)]
    local = next((place for place in tcp if place[0] in ("127.0.0.1", "::1")), None)
    reachable = [host for host, _ in tcp if not is_loopback(host)]
    if reachable and not allowed_hosts:
        raise InvalidError(
            f"names {reachable[0]}, which is not loopback, and gateway.allowed_hosts is not set",
            f'with allowed_hosts = ["host.docker.internal", "{reachable[0]}"], the names that clients there use',
        )
    settings: dict[str, Any] = {"listen": tuple(place for place in tcp if place != local)}
    for path in (place for place in places if isinstance(place, str)):
        settings["unix_socket"] = path
    if local is not None:
        settings |= {"host": local[0], "port": local[1]}
    return settings
