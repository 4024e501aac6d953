"""Checks on incoming requests: method, Host, Origin, key and request target."""

import functools
import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from vx_token.gateway.errors import GatewayError
from vx_token.gateway.settings import LocalKey

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_VERSIONS = frozenset({(1, 0), (1, 1)})
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(?::\d{1,5})?")
_PATH = re.compile(r"/[!$-;=@-Z\[\]_a-z~]*")  # ASCII characters allowed in a path (RFC 3986), and brackets
_QUERY = re.compile(r"[!\"$-~]*")  # printable ASCII except #

_BAD_TARGET = "the request target must be a plain path on this host"
_SAME_SITE = frozenset({"none", "same-origin"})  # not sent by a web page of another site; Fetch Metadata, section 2.3
_CREDENTIALS = frozenset({"key", "api_key", "api-key", "access_token", "oauth_token"})


@dataclass(frozen=True, slots=True)
class RequestTarget:
    """A parsed request target: profile, path below its base URL (no leading slash), and raw query."""

    profile: str
    path: str
    query: str = ""

    def url(self, base_url: str) -> str:
        """Return the upstream URL."""
        return base_url.rstrip("/") + self.below_base_url

    @property
    def below_base_url(self) -> str:
        """Path with its first slash, and query."""
        return f"/{self.path}?{self.query}" if self.query else f"/{self.path}"


def check_method(method: str) -> None:
    """Reject CONNECT, TRACE and unknown methods.

    Raises:
        GatewayError: 405.
    """
    if method not in METHODS:
        raise GatewayError(405, f"the gateway does not support {method} requests", "method_not_allowed")


def check_framing(version: Sequence[int], encodings: Sequence[str]) -> None:
    """Reject other HTTP versions and transfer codings, which upstream could parse differently (request smuggling).

    Raises:
        GatewayError: 505 or 501.
    """
    if tuple(version) not in _VERSIONS:
        raise GatewayError(505, "the gateway supports HTTP/1.1 and 1.0", "bad_version")
    if any(encoding.strip().lower() != "chunked" for encoding in encodings):
        raise GatewayError(501, "the gateway supports no transfer coding but chunked", "bad_encoding")


def check_host(hosts: Sequence[str], allowed: Collection[str] = ()) -> None:
    """Require exactly one Host header with a loopback name or an allowed one; this blocks DNS rebinding.

    Args:
        hosts: the Host headers.
        allowed: further names, in lower case.

    Raises:
        GatewayError: 400 if there is not exactly one, 403 for another name.
    """
    name = _host_name(hosts[0]) if len(hosts) == 1 else ""
    if not name:
        raise GatewayError(400, "a request needs one well-formed Host header", "bad_host")
    if not _is_loopback(name) and name not in allowed:
        names = "127.0.0.1, [::1], localhost, or in gateway.allowed_hosts"
        raise GatewayError(403, f"the Host header must be {names}", "foreign_host")


def check_origin(origins: Sequence[str], sites: Sequence[str], allowed: Collection[str]) -> str:
    """Return the allowed browser origin, or "" if the client is not a web page.

    Args:
        origins: the Origin headers.
        sites: the Sec-Fetch-Site headers, which browsers also send with requests that have no Origin (images, scripts).
        allowed: the allowed origins.

    Raises:
        GatewayError: 403 for every other web page.
    """
    if len(origins) == 1 and origins[0] in allowed:
        return origins[0]
    if not origins and _SAME_SITE.issuperset(sites):
        return ""
    raise GatewayError(
        403, "web pages may not use the gateway; add this origin to gateway.allowed_origins", "foreign_origin"
    )


def bearer(authorization: Sequence[str]) -> str:
    """Return the key in the Authorization header; empty if there is not exactly one header."""
    if len(authorization) != 1:
        return ""
    scheme, _, key = authorization[0].partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def check_profile(key: LocalKey, profile: str) -> None:
    """Reject a key that is limited to other profiles.

    Raises:
        GatewayError: 403.
    """
    if key.profiles is not None and profile not in key.profiles:
        allowed = ", ".join(sorted(key.profiles))
        raise GatewayError(403, f"the local key {key.name} may use only: {allowed}", "profile_not_allowed")


def parse_target(raw: str, profiles: Collection[str], default: str) -> RequestTarget:
    """Parse a raw request target: `/…`, `/v1/…` or `/PROFILE/v1/…`.

    Raises:
        GatewayError: 400 if the path could leave the base URL, 404 for an unknown profile.
    """
    path, _, query = raw.partition("?")
    if query and not _QUERY.fullmatch(query):
        raise GatewayError(400, _BAD_TARGET, "bad_target")
    profile, rest = _parse_path(path, default)
    if profile not in profiles:
        raise GatewayError(404, f"unknown profile {profile}; known: {', '.join(sorted(profiles))}", "unknown_profile")
    return RequestTarget(profile, rest, _without_credentials(query) if query else "")


@functools.lru_cache(maxsize=64)
def _parse_path(path: str, default: str) -> tuple[str, str]:
    if path.startswith("//") or not _PATH.fullmatch(path):
        raise GatewayError(400, _BAD_TARGET, "bad_target")
    segments = [segment for segment in path.split("/") if segment]
    if not all(_is_plain(segment) for segment in segments):
        raise GatewayError(400, "the request path must not contain .. or doubly encoded characters", "bad_target")
    profile, rest = _split_profile(segments, default)
    return profile, "/".join(rest) + ("/" if rest and path.endswith("/") else "")


def _without_credentials(query: str) -> str:
    """Remove query parameters that Google reads as credentials; tools for other protocols put their key there."""
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
    # Some servers decode percent escapes twice.
    return not re.search(r"[\\%\x00-\x20\x7f]", decoded) and all(map(_is_name, decoded.split("/")))


def _is_name(part: str) -> bool:
    """Return whether a part of a segment with encoded slashes, as in `google%2Fgemini`, leads to no other folder."""
    return part != "" and part.split(";", maxsplit=1)[0] not in {".", ".."}  # some servers read "..;x" as ".."


@functools.lru_cache(maxsize=64)
def _host_name(host: str) -> str:
    """Return the name in a Host header in lower case, "" if it is malformed."""
    match = _HOST.fullmatch(host)
    return match[1].lower() if match else ""


@functools.lru_cache(maxsize=64)
def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Return whether this is a CORS preflight request, which browsers send without a key."""
    return method == "OPTIONS" and "Access-Control-Request-Method" in headers


def cors(origin: str) -> dict[str, str]:
    """Return the CORS headers for an allowed origin; none for other clients."""
    if not origin:
        return {}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": ", ".join(sorted(METHODS)),
        "Access-Control-Allow-Headers": "*, Authorization",  # the star does not include Authorization (Fetch standard)
        "Access-Control-Max-Age": "600",
        "Vary": "Origin",
    }
