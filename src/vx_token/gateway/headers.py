"""Which headers cross the gateway."""

from collections.abc import Iterable, Mapping

from vx_token import __version__
from vx_token.tokens import Token

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
# The client's credentials end here, and so does what speaks of this host alone.
_CREDENTIALS = {"authorization", "api-key", "x-api-key", "x-goog-api-key", "cookie"}
_ACCOUNT = {"openai-organization", "openai-project"}
_CLIENT_ONLY = frozenset(_HOP | _CREDENTIALS | _ACCOUNT | {"host", "origin", "referer", "expect", "content-length"})
# These speak of upstream's own host and port, or would open the gateway to web pages.
_UPSTREAM_ONLY = frozenset(_HOP | {"alt-svc", "strict-transport-security", "set-cookie"})


def to_upstream(client: Iterable[tuple[str, str]], token: Token, extra: Mapping[str, str]) -> Headers:
    """The request's headers as upstream sees them, with the bearer put in."""
    own = {"authorization": f"Bearer {token.value}"}
    if token.quota_project:
        own["x-goog-user-project"] = token.quota_project
    own.update((name.lower(), value) for name, value in extra.items())
    headers = _without(client, _CLIENT_ONLY, own)
    agent = f"vx-token/{__version__}"
    if "user-agent" not in own:
        theirs = " ".join(value for name, value in headers if name.lower() == "user-agent")
        headers = [(name, value) for name, value in headers if name.lower() != "user-agent"]
        own["user-agent"] = f"{theirs} {agent}".lstrip()
    headers.extend((name.title(), value) for name, value in own.items())
    return headers


def to_client(upstream: Iterable[tuple[str, str]]) -> Headers:
    """The answer's headers as the client sees them."""
    headers = _without(upstream, _UPSTREAM_ONLY, ())
    return [(name, value) for name, value in headers if not name.lower().startswith("access-control-")]


def _without(headers: Iterable[tuple[str, str]], dropped: frozenset[str], replaced: Iterable[str]) -> Headers:
    pairs = list(headers)
    named = {word.strip().lower() for name, value in pairs if name.lower() == "connection" for word in value.split(",")}
    gone = dropped.union(replaced, named)
    return [pair for pair in pairs if pair[0].lower() not in gone]
