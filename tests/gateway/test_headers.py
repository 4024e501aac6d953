"""Headers, decided without a connection: what is dropped, what is set once, and where a redirect leads."""

import pytest

from vx_token import __version__
from vx_token.credentials.token import Token
from vx_token.gateway.headers import redirect_target, to_client, to_upstream
from vx_token.gateway.settings import Route

TOKEN = Token("ya29.google", 2000.0, 1000.0)
OURS = [("Authorization", "Bearer ya29.google"), ("User-Agent", f"vx-token/{__version__}")]
BASE = "https://vertex.example/v1/projects/p"


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "Api-Key", "X-API-KEY", "x-goog-api-key", "Cookie", "OpenAI-Organization", "OpenAI-Project",
        "Host", "Origin", "Referer", "Expect", "Content-Length", "Connection", "Keep-Alive", "Proxy-Authenticate",
        "Proxy-Authorization", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
    ],
)  # fmt: skip
def test_no_credential_and_no_header_of_one_connection_reaches_upstream(name: str) -> None:
    assert to_upstream([(name, "close"), ("X-Kept", "1")], TOKEN, {}) == [("X-Kept", "1"), *OURS]


@pytest.mark.parametrize(
    "name",
    [
        "Alt-Svc", "Strict-Transport-Security", "SET-COOKIE", "Access-Control-Allow-Origin", "access-control-max-age",
        "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "TE", "Trailer",
        "Transfer-Encoding", "Upgrade",
    ],
)  # fmt: skip
def test_no_header_about_upstreams_connection_reaches_the_client(name: str) -> None:
    assert to_client([(name, "close"), ("X-Kept", "1")]) == [("X-Kept", "1")]


def test_configured_headers_and_the_quota_project_replace_the_clients_and_are_there_once() -> None:
    token = Token("ya29.google", 2000.0, 1000.0, quota_project="billing")
    client = [("x-team", "red"), ("X-TEAM", "green"), ("X-Goog-User-Project", "theirs"), ("USER-AGENT", "tool/1")]
    assert to_upstream(client, token, {"X-Team": "blue"}) == [
        ("Authorization", "Bearer ya29.google"),
        ("X-Goog-User-Project", "billing"),
        ("X-Team", "blue"),
        ("User-Agent", f"tool/1 vx-token/{__version__}"),
    ]
    assert to_upstream([], token, {"x-goog-user-project": "mine"})[1] == ("X-Goog-User-Project", "mine")


def test_a_configured_agent_is_sent_as_it_is() -> None:
    assert to_upstream([("User-Agent", "tool/1")], TOKEN, {"User-Agent": "mine"})[1:] == [("User-Agent", "mine")]


def test_a_header_that_connection_lists_is_dropped_and_others_of_one_name_share_a_spelling() -> None:
    pairs = [("X-Two", "1"), ("Connection", "close, X-Hop"), ("x-two", "2"), ("x-hop", "3"), ("Connection", "X-Late")]
    assert to_client([*pairs, ("x-late", "4")]) == [("X-Two", "1"), ("X-Two", "2")]


@pytest.mark.parametrize("value", ["", "keep-alive", "Close", "close, keep-alive"])
def test_a_plain_connection_drops_nothing_else(value: str) -> None:
    kept = [("X-A", "1"), ("Content-Type", "text/plain"), ("Content-Length", "5")]
    assert to_client([("connection", value), *kept]) == kept


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/v1/projects/p/chat", "/work/v1/chat"),
        ("other?a=1", "/work/v1/other?a=1"),
        (f"{BASE}/models/x", "/work/v1/models/x"),
        ("/v1/projects/pp/chat", "https://vertex.example/v1/projects/pp/chat"),
        ("https://elsewhere.example/x", "https://elsewhere.example/x"),
    ],
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_redirect_below_the_base_url_stays_with_the_profile(location: str, path: str, slash: str) -> None:
    assert redirect_target(location, f"{BASE}/asked", Route("work", BASE + slash)) == path
