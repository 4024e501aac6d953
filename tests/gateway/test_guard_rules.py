"""The checks of the gateway, decided without a connection; test_guard.py shows them through a running gateway."""

from collections.abc import Callable, Sequence

import pytest

from vx_token.gateway.errors import GatewayError
from vx_token.gateway.guard import (
    RequestTarget,
    bearer,
    check_framing,
    check_host,
    check_method,
    check_origin,
    check_profile,
    cors,
    is_preflight,
    parse_target,
)
from vx_token.gateway.settings import LocalKey

PAGE = "https://chat.example"


def refused(check: Callable[[], object]) -> tuple[int, str]:
    """The status and the code with which a check fails."""
    with pytest.raises(GatewayError) as raised:
        check()
    assert raised.value.message
    return raised.value.status, raised.value.code


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_these_methods_are_allowed(method: str) -> None:
    check_method(method)


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "PURGE", "get", ""])
def test_other_methods_are_not(method: str) -> None:
    assert refused(lambda: check_method(method)) == (405, "method_not_allowed")


@pytest.mark.parametrize(("version", "encodings"), [((1, 0), []), ((1, 1), ["chunked"]), ([1, 1], [" CHUNKED\t"])])
def test_http_1_with_chunked_is_spoken(version: Sequence[int], encodings: list[str]) -> None:
    check_framing(version, encodings)


@pytest.mark.parametrize("version", [(0, 9), (1, 2), (2, 0), (1,), (2, 1), (1, 1, 0)])
def test_no_other_version_is_spoken(version: Sequence[int]) -> None:
    assert refused(lambda: check_framing(version, [])) == (505, "bad_version")


@pytest.mark.parametrize("encodings", [["gzip"], ["gzip", "chunked"], ["chunked", "identity"], ["chunked, gzip"], [""]])
def test_no_other_transfer_coding_is_spoken(encodings: list[str]) -> None:
    assert refused(lambda: check_framing((1, 1), encodings)) == (501, "bad_encoding")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9:1", "localhost", "LocalHost:65535", "[::1]", "[0:0:0:0:0:0:0:1]:80"]
)
def test_a_loopback_host_is_served(host: str) -> None:
    check_host([host])


@pytest.mark.parametrize(
    ("hosts", "refusal"),
    [
        ([], (400, "bad_host")),
        (["localhost", "localhost"], (400, "bad_host")),
        (["localhost:"], (400, "bad_host")),
        (["localhost:123456"], (400, "bad_host")),
        (["localhost:a"], (400, "bad_host")),
        (["local_host"], (400, "bad_host")),
        (["::1"], (400, "bad_host")),
        (["[::1"], (400, "bad_host")),
        ([" localhost"], (400, "bad_host")),
        (["localhost\n"], (400, "bad_host")),
        (["evil.example"], (403, "foreign_host")),
        (["128.0.0.1"], (403, "foreign_host")),
        (["[::2]"], (403, "foreign_host")),
        (["127.1"], (403, "foreign_host")),
    ],
)
def test_every_other_host_is_refused(hosts: list[str], refusal: tuple[int, str]) -> None:
    assert refused(lambda: check_host(hosts)) == refusal


def test_a_page_of_an_allowed_origin_is_served_and_so_is_what_is_no_page() -> None:
    assert check_origin([PAGE], ["cross-site"], {PAGE}) == PAGE
    for sites in ([], ["none"], ["same-origin"], ["none", "same-origin"]):
        assert check_origin([], sites, {PAGE}) == ""


@pytest.mark.parametrize(
    ("origins", "sites"),
    [
        (["https://evil.example"], []),
        ([PAGE, PAGE], []),
        ([""], []),
        (["null"], ["none"]),
        ([], ["cross-site"]),
        ([], ["same-site"]),
        ([], ["none", "cross-site"]),
        ([], [""]),
    ],
)
def test_every_other_page_is_refused(origins: list[str], sites: list[str]) -> None:
    assert refused(lambda: check_origin(origins, sites, {PAGE})) == (403, "foreign_origin")


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        (["Bearer abc"], "abc"), (["bearer  abc "], "abc"), (["BEARER a b"], "a b"), (["Basic abc"], ""), (["abc"], ""),
        (["Bearer"], ""), ([], ""), (["Bearer abc", "Bearer abc"], ""),
    ],
)  # fmt: skip
def test_a_key_is_that_of_the_only_authorization_header(headers: list[str], key: str) -> None:
    assert bearer(headers) == key


def test_a_key_may_be_limited_to_profiles() -> None:
    check_profile(LocalKey("ci"), "work")
    check_profile(LocalKey("ci", frozenset({"work", "home"})), "work")
    with pytest.raises(GatewayError, match="the local key ci may use only: home, work") as raised:
        check_profile(LocalKey("ci", frozenset({"work", "home"})), "other")
    assert (raised.value.status, raised.value.code) == (403, "profile_not_allowed")
    assert refused(lambda: check_profile(LocalKey("ci", frozenset()), "work")) == (403, "profile_not_allowed")


def parsed(raw: str) -> RequestTarget:
    return parse_target(raw, {"p", "q"}, "p")


@pytest.mark.parametrize(
    ("raw", "profile", "path", "query"),
    [
        ("/", "p", "", ""),
        ("/v1", "p", "", ""),
        ("/v1/", "p", "", ""),
        ("/v1/chat/completions", "p", "chat/completions", ""),
        ("/v1/models/", "p", "models/", ""),
        ("/v1/a//b", "p", "a/b", ""),
        ("/chat", "p", "chat", ""),
        ("/q/v1", "q", "", ""),
        ("/q/v1/chat?a=1&b=", "q", "chat", "a=1&b="),
        ("/q/chat", "p", "q/chat", ""),
        ("/v1/v1/x", "p", "v1/x", ""),
        ("/v1/google%2Fgemini", "p", "google%2Fgemini", ""),
        ("/v1/a%C3%A9", "p", "a%C3%A9", ""),
        ("/v1/...", "p", "...", ""),
        ("/v1/.well-known", "p", ".well-known", ""),
        ("/v1/a;b", "p", "a;b", ""),
        ("/v1/x?", "p", "x", ""),
        ("/v1/x?a?b", "p", "x", "a?b"),
        ('/v1/x?a="|~', "p", "x", 'a="|~'),
        ("/v1/x?key=1", "p", "x", ""),
        ("/v1/x?a=1&KEY=1&b=2", "p", "x", "a=1&b=2"),
        ("/v1/x?api_key=1&api-key=1&access_token=1&oauth_token=1&k%65y=1&keys=1", "p", "x", "keys=1"),
        ("/v1/!$%26'()*+,-:=@[]_~", "p", "!$%26'()*+,-:=@[]_~", ""),
    ],
)
def test_a_target_has_a_profile_a_path_and_a_query(raw: str, profile: str, path: str, query: str) -> None:
    assert parsed(raw) == RequestTarget(profile, path, query)


@pytest.mark.parametrize(
    "raw",
    [
        "", "x", "//v1/x", "/v1/..", "/v1/.", "/v1/%2e", "/v1/%2e%2E", "/v1/..;x", "/v1/.;x/y", "/v1/a%2f..", "/v1/%2f",
        "/v1/a%2f", "/v1/%2fa", "/v1/a%2f%2fb", "/v1/a%5cb", "/v1/%25", "/v1/%00", "/v1/%1f", "/v1/%20", "/v1/%7f",
        "/v1/ x", "/v1/\x7f", "/v1/é", '/v1/"', "/v1/#", "/v1/\\", "/v1/{", "/v1/|", "/v1/x?#", "/v1/x? ", "/v1/x?é",
        "/v1/x?\x7f", "http://localhost/v1/x", "*",
    ],
)  # fmt: skip
def test_a_target_that_may_mean_another_place_is_refused(raw: str) -> None:
    assert refused(lambda: parsed(raw)) == (400, "bad_target")


def test_an_unknown_profile_is_named_with_the_known_ones() -> None:
    with pytest.raises(GatewayError, match="unknown profile r; known: p, q") as raised:
        parsed("/r/v1/x")
    assert (raised.value.status, raised.value.code) == (404, "unknown_profile")


def test_a_target_becomes_a_url_below_the_base_url() -> None:
    assert RequestTarget("p", "x/y").url("https://host/base/") == "https://host/base/x/y"
    assert RequestTarget("p", "", "a=1").url("https://host/base") == "https://host/base/?a=1"


def test_a_preflight_asks_for_a_method() -> None:
    asks = {"Access-Control-Request-Method": "POST"}
    assert [is_preflight(*each) for each in (("OPTIONS", asks), ("OPTIONS", {}), ("POST", asks))] == [
        True,
        False,
        False,
    ]


def test_an_allowed_page_may_use_all_methods_and_headers_and_others_get_no_word_of_it() -> None:
    assert cors("") == {}
    assert cors(PAGE) == {
        "Access-Control-Allow-Origin": PAGE,
        "Access-Control-Allow-Methods": "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT",
        "Access-Control-Allow-Headers": "*, Authorization",
        "Access-Control-Max-Age": "600",
        "Vary": "Origin",
    }
