"""Request and response headers: which are forwarded, replaced or dropped."""

from collections.abc import Container, Iterable, Mapping
from urllib.parse import urljoin

from vx_token import __version__
from vx_token.credentials.token import Token
from vx_token.gateway.settings import Route

Headers = list[tuple[str, str]]

_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
# Never forwarded: the client's credentials, and headers about the connection to this host.
_CREDENTIALS = {"authorization", "api-key", "x-api-key", "x-goog-api-key", "cookie"}
_ACCOUNT = {"openai-organization", "openai-project"}
_CLIENT_ONLY = frozenset(_HOP | _CREDENTIALS | _ACCOUNT | {"host", "origin", "referer", "expect", "content-length"})
_AGENT = f"vx-token/{__version__}"
_PLAIN = {"", "keep-alive", "close"}  # values of Connection that name no header
# Never returned to clients: headers about upstream's host and port. CORS headers are dropped in `to_client`.
_UPSTREAM_ONLY = frozenset(_HOP | {"alt-svc", "strict-transport-security", "set-cookie"})


def to_upstream(client: Iterable[tuple[str, str]], token: Token, extra: Mapping[str, str]) -> Headers:
    """Return the request headers for upstream, with the Google token."""
    own = {"authorization": f"Bearer {token.value}"}
    if token.quota_project:
        own["x-goog-user-project"] = token.quota_project
    own.update((name.lower(), value) for name, value in extra.items())
    pairs = list(client)
    if "user-agent" not in own:
        theirs = [value for name, value in pairs if name.lower() == "user-agent"]
        own["user-agent"] = " ".join([*theirs, _AGENT])
    headers = _without(pairs, _CLIENT_ONLY, own)
    headers.extend((name.title(), value) for name, value in own.items())
    return headers


def to_client(upstream: Iterable[tuple[str, str]]) -> Headers:
    """Return the response headers for the client."""
    headers = _without(upstream, _UPSTREAM_ONLY, ())
    return [pair for pair in headers if not pair[0].lower().startswith("access-control-")]


def redirect_target(location: str, requested: str, route: Route) -> str:
    """Return a Location header for the client: a path of the same profile, or upstream's absolute URL.

    An unchanged `/path` would lead the client to the default profile and its token.

    Args:
        location: upstream's Location header.
        requested: the URL that upstream redirects from.
        route: the route of the request.
    """
    target, base = urljoin(requested, location), f"{route.base_url.rstrip('/')}/"
    return f"/{route.profile}/v1/{target.removeprefix(base)}" if target.startswith(base) else target


def _without(headers: Iterable[tuple[str, str]], dropped: frozenset[str], replaced: Container[str]) -> Headers:
    kept: Headers = []
    named: set[str] = set()
    spellings: dict[str, str] = {}
    for spelling, value in headers:
        name = spelling.lower()
        if name == "connection":
            named.update(word.strip().lower() for word in value.split(","))
        elif name not in dropped and name not in replaced:
            # One spelling per name, because aiohttp replaces `X-Two` by `x-two` instead of sending both.
            kept.append((spellings.setdefault(name, spelling), value))
    if named <= _PLAIN:
        return kept
    return [pair for pair in kept if pair[0].lower() not in named]
