"""Access to the gateway needs the key, is denied to web pages, and is limited to the base URL of a profile."""

import contextlib
import json
import logging
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upstreams import (
    BRISK,
    KEY,
    Front,
    Purse,
    Upstream,
    connection_to,
    front,
    read_all,
    settings_for,
    tls_contexts,
    upstream,
)
from vx_token.credentials.token import Token
from vx_token.errors import ConfigError
from vx_token.gateway.errors import GatewayError
from vx_token.gateway.guard import parse_target
from vx_token.gateway.settings import Route


@pytest.fixture
def proxy(server: Upstream) -> Iterator[Front]:
    with front(Purse(), Route("p", server.url), origins=("https://chat.example",)) as running:
        yield running


def exchange(proxy: Front, text: str) -> bytes:
    """Send raw bytes and read the whole response."""
    with connection_to(proxy) as raw:
        raw.sendall(text.replace("\n", "\r\n").encode("latin-1"))
        raw.shutdown(socket.SHUT_WR)
        return read_all(raw)


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer wrong", f"Basic {KEY}", KEY, f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", "Bearer \xff"],
)
def test_without_the_key_nothing_reaches_upstream(proxy: Front, server: Upstream, authorization: str) -> None:
    answer = proxy.ask(key=None, **({"Authorization": authorization} if authorization else {}))
    assert (answer.status, answer.error["code"], answer.error["type"]) == (
        401,
        "invalid_api_key",
        "authentication_error",
    )
    assert server.seen == []


def test_the_current_google_token_gets_another_error_than_a_wrong_key(server: Upstream) -> None:
    purse = Purse()
    purse.token = Token("eyJ.of-a-distributed-cloud", time.time() + 60, time.time())
    with front(purse, Route("p", server.url)) as proxy:
        messages = [proxy.ask(key=key).error["message"] for key in (purse.token.value, "eyJ.of-others", "\xe9")]
    assert ["vx-token gateway key" in message for message in messages] == [True, False, False]
    assert server.seen == []


def test_two_authorization_headers_are_rejected(proxy: Front, server: Upstream) -> None:
    line = f"Authorization: Bearer {KEY}\n"
    head = f"GET /v1/x HTTP/1.1\nHost: localhost\nConnection: close\n{line}"
    assert b" 200 " in exchange_line(proxy, f"{head}\n")
    assert b" 401 " in exchange_line(proxy, f"{head}{line}\n")


def exchange_line(proxy: Front, text: str) -> bytes:
    with connection_to(proxy) as raw:
        raw.sendall(text.replace("\n", "\r\n").encode("latin-1"))
        return raw.recv(65536).split(b"\r\n")[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:1", "[::1]:8490", "127.1.2.3:80"])
def test_loopback_names_are_served(proxy: Front, host: str) -> None:
    assert proxy.ask("GET", "/v1/x", Host=host).status == 200


REBOUND = [
    "evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example:8490",
    "localhost,evil.example",
    "a@localhost",
    "localhost:80:80",
    "localhost/",
    "localhost.",
    "127.1",
    "2130706433",
    "0x7f.0.0.1",
    "10.0.0.1",
    "0.0.0.0",
    "::1",
    "[::]",
    "[::1%25lo]",
    "\xb9\xb2\xb7.0.0.1",
    "",
    "a b",
]


@pytest.mark.parametrize("host", REBOUND)
@pytest.mark.parametrize("path", ["/v1/x", "/healthz", "/metrics"])
def test_dns_rebinding_is_rejected(proxy: Front, server: Upstream, host: str, path: str) -> None:
    assert proxy.ask("GET", path, Host=host).status in {400, 403}
    assert server.seen == []


def test_a_request_needs_exactly_one_host(proxy: Front) -> None:
    for hosts in ("", "Host: localhost\nHost: localhost\n"):
        text = f"GET /v1/x HTTP/1.1\n{hosts}Authorization: Bearer {KEY}\n\n"
        assert b" 400 " in exchange_line(proxy, text)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "", "file://", "http://localhost:3000", "https://chat.example.evil"]
)
def test_web_pages_are_refused(proxy: Front, server: Upstream, origin: str) -> None:
    answer = proxy.ask(Origin=origin)
    assert answer.status == 403
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert server.seen == []


@pytest.mark.parametrize("site", ["cross-site", "same-site", "other", "", "none, cross-site"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/v1/models", "/v1/x"])
def test_what_a_page_loads_without_an_origin_is_refused(proxy: Front, server: Upstream, path: str, site: str) -> None:
    answer = proxy.ask("GET", path, Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors")
    assert (answer.status, answer.error["code"]) == (403, "foreign_origin")
    assert server.seen == []


def test_an_address_that_the_user_typed_is_served(proxy: Front) -> None:
    for site in ("none", "same-origin"):
        assert proxy.ask("GET", "/healthz", key=None, Sec_Fetch_Site=site).status == 200
    both = "GET /healthz HTTP/1.1\nHost: localhost\nSec-Fetch-Site: none\nSec-Fetch-Site: cross-site\n\n"
    assert b" 403 " in exchange_line(proxy, both)
    assert proxy.ask(Origin="https://chat.example", Sec_Fetch_Site="cross-site").status == 200


def test_metrics_need_the_key_or_the_users_own_socket_or_a_setting(server: Upstream, tmp_path: Path) -> None:
    route, path = Route("p", server.url), tmp_path / "gateway.sock"
    with front(Purse(), route, unix_socket=path) as proxy:
        assert proxy.ask("GET", "/metrics", key=None).status == 401
        assert proxy.ask("GET", "/metrics").status == 200
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(path))
            raw.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert raw.recv(65536).startswith(b"HTTP/1.1 200 ")
    with front(Purse(), route, metrics_open=True) as proxy:
        assert proxy.ask("GET", "/metrics", key=None).status == 200


def test_an_allowed_page_may_call_and_read(proxy: Front, server: Upstream) -> None:
    page = {"Origin": "https://chat.example"}
    before = proxy.ask("OPTIONS", key=None, Access_Control_Request_Method="POST", **page)
    assert (before.status, before.headers["Access-Control-Allow-Origin"]) == (204, "https://chat.example")
    answers = [proxy.ask(**page), proxy.ask(key="x", **page), proxy.ask("GET", "/v1/models", **page)]
    assert [answer.status for answer in answers] == [200, 401, 200]
    assert {answer.headers["Access-Control-Allow-Origin"] for answer in answers} == {"https://chat.example"}
    assert "Origin" not in server.seen[0].headers


def test_web_pages_get_no_cors_headers_by_default(proxy: Front) -> None:
    headers = proxy.ask().headers
    assert not [name for name in headers if name.lower().startswith("access-control")]


CLIMBS = [
    "//evil.example/v1/x",
    "/v1/../x",
    "/v1/%2e%2e/x",
    "/v1/.%2E/x",
    "/v1/..;a/x",
    "/v1/a%2f%2e%2e%2fb",
    "/v1/%2fa",
    "/v1/a%2f%2fb",
    "/v1/a%2f.",
    "/v1/a%5cb",
    "/v1/a\\b",
    "/v1/%252e%252e/x",
    "/v1/%00",
    "/v1/%0d%0aX:1",
    "/v1/./x",
    "http://evil.example/v1/x",
    "https://127.0.0.1/v1/x",
    "evil.example:443",
    "*",
    "/v1/x#y",
    "/v1/\xe9",
    "/p/v1/../../x",
]


@pytest.mark.parametrize("target", CLIMBS)
def test_no_target_leaves_the_base_url(proxy: Front, server: Upstream, target: str) -> None:
    text = f"GET {target} HTTP/1.1\nHost: localhost\nAuthorization: Bearer {KEY}\n\n"
    assert b" 400 " in exchange_line(proxy, text)
    assert server.seen == []


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "PURGE", "PROPFIND"])
def test_unknown_methods_are_rejected(proxy: Front, server: Upstream, method: str) -> None:
    target = "evil.example:443" if method == "CONNECT" else "/v1/x"
    text = f"{method} {target} HTTP/1.1\nHost: localhost\nAuthorization: Bearer {KEY}\n\n"
    assert b" 40" in exchange_line(proxy, text)
    assert server.seen == []


@given(st.text(alphabet="/.%2e5fcEF\\;av1p?#:@ \x00é", max_size=30))
def test_every_parsed_target_stays_below_the_base_url(target: str) -> None:
    try:
        parsed = parse_target(target, {"p"}, "p")
    except GatewayError:
        return
    path = parsed.url("https://host/base").split("?")[0]
    assert path.startswith("https://host/base/")
    decoded = unquote(path.removeprefix("https://host"))  # as a server may read it
    assert not re.search(r"(^|/)\.{1,2}($|[/;])|//|%|\\|#|\s", decoded)


@pytest.mark.parametrize("query", ["key=1", "a=1&KEY=1", "k%65y=1", "access%5Ftoken=1", "%6b%65%79=1&a=1"])
def test_credentials_in_the_query_are_removed(proxy: Front, server: Upstream, query: str) -> None:
    assert proxy.ask("GET", f"/v1/x?{query}").status == 200
    assert server.seen[0].path.rpartition("/x")[2] in {"", "?a=1"}


CHUNKED = "5\nhello\n0\n\n"


@pytest.mark.parametrize(
    ("first", "last", "code"),
    [
        ("POST /v1/x HTTP/1.1\nTransfer-Encoding: gzip, chunked", CHUNKED, b"501"),
        ("GET /v1/x HTTP/2.0\nX: y", "", b"505"),
    ],
)
def test_ambiguous_framing_is_rejected(proxy: Front, server: Upstream, first: str, last: str, code: bytes) -> None:
    line = exchange_line(proxy, f"{first}\nHost: localhost\nAuthorization: Bearer {KEY}\n\n{last}")
    assert line.split()[1] == code
    assert server.seen == []


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
def test_an_upgrade_header_is_ignored(proxy: Front, server: Upstream, upgrade: str) -> None:
    with contextlib.closing(proxy.connect()) as connection:
        for _ in range(2):  # Java's client offers h2c with its first body, and keeps the connection
            headers = {
                "Authorization": f"Bearer {KEY}",
                "Connection": "Upgrade, X-Hop",
                "Upgrade": upgrade,
                "X-Hop": "1",
            }
            connection.request("POST", "/v1/x", b"hello", headers)
            assert connection.getresponse().read() == b'{"ok": true}'
    assert [seen.body for seen in server.seen] == [b"hello"] * 2
    assert not {"Upgrade", "X-Hop"} & set(server.seen[0].headers)


def test_trailers_are_not_forwarded(proxy: Front, server: Upstream) -> None:
    head = f"POST /v1/x HTTP/1.1\nHost: localhost\nAuthorization: Bearer {KEY}\nTransfer-Encoding: chunked\n\n"
    assert b" 200 " in exchange_line(proxy, f"{head}5\nhello\n0\nAuthorization: Bearer other\nX-Late: 1\n\n")
    assert server.seen[0].body == b"hello"
    assert "X-Late" not in server.seen[0].headers


SMUGGLED = f"GET /v1/smuggled HTTP/1.1\nHost: localhost\nAuthorization: Bearer {KEY}\n\n"


@pytest.mark.parametrize(
    "bad",
    [
        f"Content-Length: 4\nTransfer-Encoding: chunked\n\n0\n\n{SMUGGLED}",
        f"Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n{CHUNKED}",
        f"Transfer-Encoding: chunked, identity\n\n{CHUNKED}",
        f"Transfer-Encoding: xchunked\n\n{CHUNKED}",
        f"Transfer-Encoding : chunked\n\n{CHUNKED}",
        f"Transfer-Encoding: \x0bchunked\n\n{CHUNKED}",
        f"Transfer-Encoding:\n chunked\n\n{CHUNKED}",
        "Transfer-Encoding: chunked\n\nFFFFFFFFFFFFFFFFFF\nhello\n0\n\n",
        "Transfer-Encoding: chunked\n\n5\nhelloXX0\n\n",
        "Content-Length: 3, 3\n\nabc",
        "Content-Length: 3\nContent-Length: 3\n\nabc",
        "Content-Length: 0x3\n\nabc",
        "Content-Length: 99999999999999999999999\n\nabc",
        "X: a\rTransfer-Encoding: chunked\n\n",
        "X: a\0b\n\n",
        "Content-Length: 3\nTransfer-Encoding: chunked\n\nabc",
        "Content-Length: 3\nContent-Length: 4\n\nabcd",
        "Content-Length: -1\n\n",
        "Content-Length: +3\n\nabc",
        "Transfer-Encoding: chunked\n\nzz\nabc\n0\n\n",
        "X-Long: " + "a" * 20_000 + "\n\n",
        "Bad Header: x\n\n",
        "".join(f"X-{number}: 1\n" for number in range(500)) + "\n",
    ],
)
def test_malformed_requests_do_not_reach_upstream(proxy: Front, server: Upstream, bad: str) -> None:
    answer = exchange(proxy, f"POST /v1/x HTTP/1.1\nHost: localhost\nAuthorization: Bearer {KEY}\n{bad}")
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    if answer:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"Server: vx-token\r\n" in head
        assert json.loads(body)["error"]["type"] == "invalid_request_error"
        assert KEY.encode() not in body
    assert server.seen == []
    assert proxy.ask().status == 200


def test_a_head_that_never_ends_is_cut_off(server: Upstream) -> None:
    limits = replace(BRISK, head=2.0)
    with front(Purse(), Route("p", server.url), limits=limits) as proxy, connection_to(proxy) as raw:
        raw.sendall(b"GET /v1/x HTTP/1.1\r\nHost: loc")
        assert raw.recv(10) == b""
        with contextlib.closing(proxy.connect()) as kept:
            kept.auto_open = 0
            kept.connect()
            for _ in range(3):
                kept.request("GET", "/v1/models", headers={"Authorization": f"Bearer {KEY}"})
                assert kept.getresponse().read()
                time.sleep(0.9)  # in total longer than the timeout for headers


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "localhost.example", ""])
def test_only_loopback_addresses_can_be_served(host: str) -> None:
    with pytest.raises(ConfigError, match="serves only loopback"):
        settings_for(Route("p", "http://127.0.0.1:1"), host=host)


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        proxy = front(Purse(), Route("p", "http://127.0.0.1:1"), port=port)
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1 is in use"), proxy:
            pass


def test_upstreams_certificate_is_always_verified(tmp_path: Path) -> None:
    context, ca_file = tls_contexts(tmp_path)
    with upstream(tls=context) as server:
        with front(Purse(), Route("p", server.url), ca_file=ca_file) as proxy:
            assert proxy.ask().status == 200
        with front(Purse(), Route("p", server.url)) as proxy:
            answer = proxy.ask()
        assert (answer.status, answer.error["code"]) == (502, "upstream_untrusted")
        other_name = server.url.replace("localhost", "127.0.0.1")
        with front(Purse(), Route("p", other_name), ca_file=ca_file) as proxy:
            assert proxy.ask().status == 502
    assert len(server.seen) == 1


def test_no_log_holds_a_key_a_token_or_a_body(server: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with front(Purse(), Route("p", server.url), access_log=True) as proxy:
        proxy.ask(body=b"a secret wish")
        proxy.ask(path="/v1/x?a=1&key=" + KEY)
        proxy.ask(path="/v1/x/" + KEY)
        proxy.ask("GET", "/healthz")
        exchange(proxy, f"GET / HTTP/1.1\nAuthorization: Bearer {KEY}\nBad Header: ya29.x\n\n")
    assert server.seen[1].path.endswith("/x?a=1")
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("vx_token")]
    routes = ["POST p/chat/completions", "POST p/other", "POST p/other", "GET /healthz"]
    assert [line.split(" 200 ")[0] for line in ours[:4]] == routes
    assert re.fullmatch(r"POST p/chat/completions 200 12 bytes \d+\.\d ms", ours[0])
    assert not re.search(r"vx-local|ya29|secret wish", caplog.text)


def test_the_access_log_is_off_by_default(proxy: Front, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    proxy.ask()
    assert [record for record in caplog.records if record.name.startswith("vx_token")] == []
