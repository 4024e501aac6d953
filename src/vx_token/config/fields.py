"""Checks of single configuration values: each returns the value in its own type, or says what would be allowed."""

import ipaddress
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from vx_token.config import presets
from vx_token.config.duration import seconds

type_names = {str: "a text", bool: "true or false", int: "a number", list: "a list", dict: "a table"}

Check = Callable[[object], Any]


class InvalidError(ValueError):
    """A value that is not allowed; `wrong` says why, `allowed` what would be."""

    def __init__(self, wrong: str, allowed: str) -> None:
        super().__init__(wrong)
        self.wrong = wrong
        self.allowed = allowed


def _is(kind: type, value: object, allowed: str) -> None:
    if type(value) is not kind:
        raise InvalidError(f"must be {type_names[kind]}", allowed)


def text(value: object) -> str:
    """Any text of one line."""
    allowed = "a text of one line in quotes"
    _is(str, value, allowed)
    if not str(value).isprintable():
        raise InvalidError("holds a control character", allowed)
    return str(value)


def boolean(value: object) -> bool:
    """True or false."""
    _is(bool, value, "true, false")
    return bool(value)


def integer(least: int, most: int) -> Check:
    """A whole number between two."""

    def check(value: object) -> int:
        allowed = f"a whole number from {least} to {most}"
        _is(int, value, allowed)
        assert isinstance(value, int)
        if not least <= value <= most:
            raise InvalidError(f"is out of range: {value}", allowed)
        return value

    return check


def choice(*names: str) -> Check:
    """One of a few words."""

    def check(value: object) -> str:
        allowed = ", ".join(names)
        _is(str, value, allowed)
        if value not in names:
            raise InvalidError(f"has an unknown value: {value!r}", allowed)
        return str(value)

    return check


def matching(pattern: str, allowed: str) -> Check:
    """A text of a given form."""
    compiled = re.compile(pattern)

    def check(value: object) -> str:
        _is(str, value, allowed)
        if not compiled.fullmatch(str(value)) or not str(value).isprintable():
            raise InvalidError(f"has an impossible value: {value!r}", allowed)
        return str(value)

    return check


def duration(least: float, most: float, example: str) -> Check:
    """A duration such as `1h30m`, in seconds."""

    def check(value: object) -> float:
        allowed = f'a duration such as "{example}", from {least:.0f}s to {most / 3600:.0f}h'
        _is(str, value, allowed)
        found = seconds(str(value))
        if found is None or not least <= found <= most:
            raise InvalidError(f"is an impossible duration: {value!r}", allowed)
        return found

    return check


def texts(value: object) -> tuple[str, ...]:
    """A list of texts without white space."""
    allowed = 'a list of texts such as ["one", "two"]'
    _is(list, value, allowed)
    assert isinstance(value, list)
    for item in value:
        if not isinstance(item, str) or not re.fullmatch(r"\S+", item) or not item.isprintable():
            raise InvalidError(f"has an impossible item: {item!r}", allowed)
    return tuple(value)


def mapping(value: object) -> Mapping[str, str]:
    """A table of texts."""
    allowed = "a table of texts"
    _is(dict, value, allowed)
    assert isinstance(value, dict)
    for key, item in value.items():
        if not isinstance(item, str) or not item or not item.isprintable() or not key:
            raise InvalidError(f"has an impossible item: {key!r} = {item!r}", allowed)
    return dict(value)


_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_NOT_YOURS = frozenset({
    "authorization", "connection", "content-length", "host", "keep-alive", "proxy-authenticate", "proxy-authorization",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip


def headers(value: object) -> Mapping[str, str]:
    """A table of HTTP headers, less those that are the gateway's own: the token, the host, and the connection's."""
    allowed = "a table of HTTP headers with a text of one line each, in Latin-1"
    _is(dict, value, allowed)
    assert isinstance(value, dict)
    for name, item in value.items():
        if not _FIELD_NAME.fullmatch(name):
            raise InvalidError(f"has an impossible name: {name!r}", allowed)
        if name.lower() in _NOT_YOURS:
            raise InvalidError(f"has a name that is the gateway's own: {name}", allowed)
        if not isinstance(item, str) or not item or not item.isprintable() or max(item) > "\xff":
            raise InvalidError(f"has an impossible value for {name}", allowed)  # not shown: it may be a secret
    return dict(value)


_A_COMMAND = """a command such as ["notify-send", "log in"] or "notify-send 'log in'", or several: [["one"], ["two"]]"""


def commands(value: object) -> tuple[tuple[str, ...], ...]:
    """Commands: a list of them, each a list of arguments; or only one, also as a text. No shell runs them.

    A list of texts is one command: no text in a list is ever split.
    """
    if not isinstance(value, list) or not value or not all(isinstance(part, list) for part in value):
        only = _command(value)
        return (only,) if only else ()
    found = tuple(map(_command, value))
    if () in found:
        raise InvalidError("has an empty command", _A_COMMAND)
    return found


def _command(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            parts: object = shlex.split(value)
        except ValueError:
            raise InvalidError("has an open quote", _A_COMMAND) from None
    else:
        parts = value
    if not isinstance(parts, list) or not all(isinstance(part, str) and "\0" not in part for part in parts):
        raise InvalidError("must be a command", _A_COMMAND)
    return tuple(parts)


def url(value: object) -> str:
    """An https URL without user, query and fragment; plain http only where no stranger listens."""
    allowed = "a URL such as https://host/v1/projects/…; http only for loopback and private addresses"
    _is(str, value, allowed)
    try:
        parts = urlsplit(str(value))
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InvalidError("is no URL", allowed) from None
    if parts.scheme not in ("http", "https") or not host or not re.fullmatch(r"[!-&(-~]+", str(value)):
        raise InvalidError("is no http(s) URL", allowed)
    if parts.username is not None or parts.query or parts.fragment or "?" in str(value) or "#" in str(value):
        raise InvalidError("must have no user, query or fragment", allowed)
    if parts.scheme == "http" and not _near(host):
        raise InvalidError("would send the token in the clear", allowed)
    return str(value)


def _near(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False


def exports(value: object) -> tuple[str, ...]:
    """Names of presets, and `NAME=value` with {token}, {base_url}, {model}, {profile} replaced."""
    allowed = f"presets ({', '.join(presets.PRESETS)}) and NAME=value, with these names: {presets.ALLOWED}"
    _is(list, value, allowed)
    assert isinstance(value, list)
    for item in value:
        problem = presets.problem(item) if isinstance(item, str) else "is not a text"
        if problem:
            raise InvalidError(f"has an impossible item: {item!r} {problem}", allowed)
    return tuple(value)
