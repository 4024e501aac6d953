"""Who may call the gateway, and which request targets stay below a profile's base URL."""

import functools
import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from vx_token.gateway.errors import GatewayError

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(?::\d{1,5})?")
_PATH = re.compile(r"/[!$-;=@-Z\[\]_a-z~]*")  # the printable ASCII that a path may hold, and brackets
_QUERY = re.compile(r"[!\"$-~]*")  # any printable ASCII but #

_NO_TARGET = "the request target must be a plain path on this host"
_NO_PAGE = frozenset({"none", "same-origin"})  # an address that the user typed, or our own; Fetch Metadata, section 2.3
_CREDENTIALS = frozenset({"key", "api_key", "api-key", "access_token", "oauth_token"})


@dataclass(frozen=True, slots=True)
class RequestTarget:
    """A request's place: the profile, the path below its base URL without a leading slash, and the raw query."""

    profile: str
    path: str
    query: str = ""

    def url(self, base_url: str) -> str:
        """The upstream URL."""
        return f"{base_url.rstrip('/')}/{self.path}{'?' if self.query else ''}{self.query}"


def check_method(method: str) -> None:
    """Refuse CONNECT, TRACE and inventions.

    Raises:
        GatewayError: 405.
    """
    if method not in METHODS:
        raise GatewayError(405, f"the gateway does not serve {method} requests", "method_not_allowed")


def check_framing(version: Sequence[int], encodings: Sequence[str]) -> None:
    """Refuse what upstream could read in another way than we do: another protocol, a body coded in another way.

    Raises:
        GatewayError: 505 or 501.
    """
    if tuple(version) not in {(1, 0), (1, 1)}:
        raise GatewayError(505, "the gateway speaks HTTP/1.1 and 1.0", "bad_version")
    if any(encoding.strip().lower() != "chunked" for encoding in encodings):
        raise GatewayError(501, "the gateway knows no transfer coding but chunked", "bad_encoding")


def check_host(hosts: Sequence[str]) -> None:
    """Demand one Host header with a loopback name, so that a page under a rebound DNS name gets nothing.

    Raises:
        GatewayError: 400 without exactly one, 403 for another name.
    """
    match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if match is None:
        raise GatewayError(400, "a request needs one well-formed Host header", "bad_host")
    if not _is_loopback(match[1].lower()):
        raise GatewayError(403, "the gateway answers only to 127.0.0.1, [::1] and localhost", "foreign_host")


def check_origin(origins: Sequence[str], sites: Sequence[str], allowed: Collection[str]) -> str:
    """Return the allowed browser origin, "" for a caller that is no web page.

    Args:
        origins: the Origin headers.
        sites: the Sec-Fetch-Site headers. Browsers send them with a page's image or script too, which has no Origin.
        allowed: the origins that may call.

    Raises:
        GatewayError: 403 for any other web page.
    """
    if len(origins) == 1 and origins[0] in allowed:
        return origins[0]
    if not origins and _NO_PAGE.issuperset(sites):
        return ""
    raise GatewayError(
        403, "the gateway refuses calls from web pages; allow this origin in its settings", "foreign_origin"
    )


def bearer(authorization: Sequence[str]) -> str:
    """The key in the Authorization header, empty when there is none or more than one."""
    if len(authorization) != 1:
        return ""
    scheme, _, key = authorization[0].partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def parse_target(raw: str, profiles: Collection[str], default: str) -> RequestTarget:
    """Read a raw request target: `/…`, `/v1/…` or `/PROFILE/v1/…`.

    Raises:
        GatewayError: 400 when it could leave the base URL, 404 for an unknown profile.
    """
    path, _, query = raw.partition("?")
    if not _QUERY.fullmatch(query):
        raise GatewayError(400, _NO_TARGET, "bad_target")
    profile, rest = _parse_path(path, default)
    if profile not in profiles:
        raise GatewayError(404, f"no profile {profile} here; known: {', '.join(sorted(profiles))}", "unknown_profile")
    return RequestTarget(profile, rest, _without_credentials(query) if query else "")


@functools.lru_cache(maxsize=64)
def _parse_path(path: str, default: str) -> tuple[str, str]:
    if path.startswith("//") or not _PATH.fullmatch(path):
        raise GatewayError(400, _NO_TARGET, "bad_target")
    segments = [segment for segment in path.split("/") if segment]
    if not all(_is_plain(segment) for segment in segments):
        raise GatewayError(400, "the request path must not climb or hide slashes", "bad_target")
    profile, rest = _split_profile(segments, default)
    return profile, "/".join(rest) + ("/" if rest and path.endswith("/") else "")


def _without_credentials(query: str) -> str:
    """The query less what Google would take for a credential: tools of other protocols put their key there."""
    return "&".join(part for part in query.split("&") if unquote(part.partition("=")[0]).lower() not in _CREDENTIALS)


def _split_profile(segments: list[str], default: str) -> tuple[str, list[str]]:
    if segments[:1] == ["v1"]:
        return default, segments[1:]
    if segments[1:2] == ["v1"]:
        return segments[0], segments[2:]
    return default, segments


def _is_plain(segment: str) -> bool:
    if "%" not in segment and not segment.startswith("."):
        return True
    decoded = unquote(segment)
    # "..;x" climbs on servers that cut path parameters off first; a second % would be decoded by a second reader.
    return decoded.split(";")[0] not in {".", ".."} and not re.search(r"[/\\%\x00-\x20\x7f]", decoded)


@functools.lru_cache(maxsize=64)
def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser asks if it may call; it sends no key with that."""
    return method == "OPTIONS" and "Access-Control-Request-Method" in headers


def cors(origin: str) -> dict[str, str]:
    """The headers that let an allowed origin's page read the answer; none for other callers."""
    if not origin:
        return {}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": ", ".join(sorted(METHODS)),
        "Access-Control-Allow-Headers": "*, Authorization",  # the star does not cover that one (Fetch standard)
        "Access-Control-Max-Age": "600",
        "Vary": "Origin",
    }
