"""Checks of single configuration values: each returns the value in its type, or raises what is allowed instead."""

import ipaddress
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from vx_token.config import presets, templates
from vx_token.config.duration import seconds
from vx_token.config.locations import nearest

type_names = {str: "a string", bool: "true or false", int: "a number", list: "a list", dict: "a table"}

Check = Callable[[object], Any]


class InvalidError(ValueError):
    """A value is invalid: `problem` is the end of a sentence about it, `allowed` describes the valid values."""

    def __init__(self, problem: str, allowed: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.allowed = allowed


def _is(kind: type, value: object, allowed: str) -> None:
    if type(value) is not kind:
        raise InvalidError(f"must be {type_names[kind]}", allowed)


def text(value: object) -> str:
    """Check a string of one line."""
    allowed = "a string on one line, in quotes"
    _is(str, value, allowed)
    if not str(value).isprintable():
        raise InvalidError("contains a control character", allowed)
    return str(value)


def credential_path(value: object) -> str:
    """Check the path of a credential file; the error for a pasted key or token does not repeat it."""
    path = text(value)
    if re.match(r"AIza|ya29\.", path):
        allowed = (
            "the path of a credential file, such as a service account's key file; Vertex AI accepts no API key here"
        )
        raise InvalidError("is an API key or a token, not a path", allowed)
    return path


def output_path(value: object) -> str:
    """Check the path of a file to write: absolute, or below the home folder, so that it has one meaning everywhere."""
    path = text(value)
    if not re.fullmatch(r"(/|~/)(.*[^/])?", path) or path.endswith(("/.", "/..")) or path in ("/", "~/"):
        raise InvalidError(f"is not an absolute path of a file: {path!r}", 'a path such as "~/.config/tool/key"')
    return path


def file_format(value: object) -> str:
    """Check the format of a file: a name or a template."""
    fields = ", ".join(f"{{{name}}}" for name in templates.FIELDS)
    allowed = f"{', '.join(templates.FORMATS)}, or a template with some of {fields}"
    _is(str, value, allowed)
    if problem := templates.problem(str(value)):
        raise InvalidError(problem, allowed)
    return str(value)


def file_mode(value: object) -> int:
    """Check the permissions of a file that contains a secret: others may never read it."""
    return int(choice("0600", "0400", "0640", "0440")(value), 8)


def tables(value: object) -> list[Mapping[str, Any]]:
    """Check a list of tables, whose content is checked elsewhere."""
    allowed = "a list of tables, each under [[profiles.NAME.files]]"
    _is(list, value, allowed)
    assert isinstance(value, list)
    if not all(isinstance(item, dict) for item in value):
        raise InvalidError("has an item that is no table", allowed)
    return value


def boolean(value: object) -> bool:
    """Check a boolean."""
    _is(bool, value, "true, false")
    return bool(value)


def integer(least: int, most: int) -> Check:
    """Return a check for a whole number in a range."""

    def check(value: object) -> int:
        allowed = f"a whole number from {least} to {most}"
        _is(int, value, allowed)
        assert isinstance(value, int)
        if not least <= value <= most:
            raise InvalidError(f"is out of range: {value}", allowed)
        return value

    return check


def choice(*names: str) -> Check:
    """Return a check for one of `names`."""

    def check(value: object) -> str:
        allowed = ", ".join(names)
        _is(str, value, allowed)
        if value not in names:
            raise InvalidError(f"has an unknown value: {value!r}", allowed)
        return str(value)

    return check


def matching(pattern: str, allowed: str) -> Check:
    """Return a check for a string that matches a regular expression."""
    compiled = re.compile(pattern)

    def check(value: object) -> str:
        _is(str, value, allowed)
        if not compiled.fullmatch(str(value)) or not str(value).isprintable():
            raise InvalidError(f"has an invalid value: {value!r}", allowed)
        return str(value)

    return check


def location(value: object) -> str:
    """Check the form of a location; whether it exists is not checked, because Google adds locations."""
    allowed = "global, us, eu or a region such as us-central1"
    near = nearest(value) if isinstance(value, str) else ""
    return str(matching(r"[a-z][a-z0-9-]*", f"{allowed}; did you mean {near!r}?" if near else allowed)(value))


def duration(least: float, most: float, example: str) -> Check:
    """Return a check for a duration such as `1h30m`, which gives seconds; `least` and `most` are seconds."""

    def check(value: object) -> float:
        allowed = f'a duration such as "{example}", from {least:.0f}s to {most / 3600:.0f}h'
        _is(str, value, allowed)
        amount = seconds(str(value))
        if amount is None or not least <= amount <= most:
            raise InvalidError(f"is an invalid duration: {value!r}", allowed)
        return amount

    return check


def texts(value: object) -> tuple[str, ...]:
    """Check a list of strings without white space."""
    allowed = 'a list of strings such as ["one", "two"]'
    _is(list, value, allowed)
    assert isinstance(value, list)
    for item in value:
        if not isinstance(item, str) or not re.fullmatch(r"\S+", item) or not item.isprintable():
            raise InvalidError(f"has an invalid item: {item!r}", allowed)
    return tuple(value)


def host_names(value: object) -> tuple[str, ...]:
    """Check a list of host names and IP addresses without ports, as they stand in a Host header."""
    allowed = 'a list of host names without ports, such as ["host.docker.internal", "172.17.0.1"]'
    for item in texts(value):
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\]", item):
            raise InvalidError(f"has an invalid item: {item!r}", allowed)
    return tuple(name.lower() for name in texts(value))


def mapping(value: object) -> Mapping[str, str]:
    """Check a table of strings."""
    allowed = "a table of strings"
    _is(dict, value, allowed)
    assert isinstance(value, dict)
    for key, item in value.items():
        if not isinstance(item, str) or not item or not item.isprintable() or not key:
            raise InvalidError(f"has an invalid item: {key!r} = {item!r}", allowed)
    return dict(value)


_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_RESERVED_HEADERS = frozenset({
    "authorization", "connection", "content-length", "host", "keep-alive", "proxy-authenticate", "proxy-authorization",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip


def headers(value: object) -> Mapping[str, str]:
    """Check a table of HTTP headers, without those that the gateway sets: the token, the host, the connection's."""
    allowed = "a table of HTTP headers, each a string on one line in Latin-1"
    _is(dict, value, allowed)
    assert isinstance(value, dict)
    for name, item in value.items():
        if not _FIELD_NAME.fullmatch(name):
            raise InvalidError(f"has an invalid name: {name!r}", allowed)
        if name.lower() in _RESERVED_HEADERS:
            raise InvalidError(f"has a header that only the gateway may set: {name}", allowed)
        if not isinstance(item, str) or not item or not item.isprintable() or max(item) > "\xff":
            raise InvalidError(f"has an invalid value for {name}", allowed)  # not shown, because it may be a secret
    return dict(value)


_A_COMMAND = """a command such as ["notify-send", "log in"] or "notify-send 'log in'", or several: [["one"], ["two"]]"""


def commands(value: object) -> tuple[tuple[str, ...], ...]:
    """Check commands: a list of commands, each a list of arguments; or one command, also as a string.

    They run without a shell. A list of strings is one command, and its strings are never split.
    """
    if not isinstance(value, list) or not value or not all(isinstance(part, list) for part in value):
        only = _command(value)
        return (only,) if only else ()
    several = tuple(map(_command, value))
    if () in several:
        raise InvalidError("has an empty command", _A_COMMAND)
    return several


def _command(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            parts: object = shlex.split(value)
        except ValueError:
            raise InvalidError("has an unclosed quote", _A_COMMAND) from None
    else:
        parts = value
    if not isinstance(parts, list) or not all(isinstance(part, str) and "\0" not in part for part in parts):
        raise InvalidError("must be a command", _A_COMMAND)
    return tuple(parts)


def url(value: object) -> str:
    """Check an https URL without user, query and fragment; plain http only for loopback and private addresses."""
    allowed = "a URL such as https://host/v1/projects/…; http only for loopback and private addresses"
    _is(str, value, allowed)
    try:
        parts = urlsplit(str(value))
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InvalidError("is not a URL", allowed) from None
    if parts.scheme not in ("http", "https") or not host or not re.fullmatch(r"[!-&(-~]+", str(value)):
        raise InvalidError("is not an http(s) URL", allowed)
    if parts.username is not None or parts.query or parts.fragment or "?" in str(value) or "#" in str(value):
        raise InvalidError("must have no user, query or fragment", allowed)
    if parts.scheme == "http" and not _is_private(host):
        raise InvalidError("would send the token unencrypted", allowed)
    return str(value)


def _is_private(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False


def exports(value: object) -> tuple[str, ...]:
    """Check a list of presets and of `NAME=value`, where {token}, {base_url}, {model}, {profile} are replaced."""
    allowed = f"presets ({', '.join(presets.PRESETS)}) and NAME=value, with these names: {presets.ALLOWED}"
    _is(list, value, allowed)
    assert isinstance(value, list)
    for item in value:
        problem = presets.problem(item) if isinstance(item, str) else "is not a string"
        if problem:
            name, *rest = str(item).split("=", 1)  # the value may be a secret
            raise InvalidError(f"has an invalid item: {f'{name}=…' if rest else item!r} {problem}", allowed)
    return tuple(value)
