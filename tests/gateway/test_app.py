"""What the gateway forwards, and what it answers itself."""

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import replace

import pytest
from aiohttp import web

from upstreams import KEY, Front, Purse, Upstream, front
from vx_token.gateway.settings import Route


@pytest.fixture
def purse() -> Purse:
    return Purse()


@pytest.fixture
def proxy(server: Upstream, purse: Purse) -> Iterator[Front]:
    routes = (
        Route(
            "gemini",
            server.url,
            {"X-Team": "blue"},
            {"gpt-4o": "google/gemini-2.5-pro"},
            models=("google/gemini-2.5-flash",),
            publisher="google",
        ),
        Route("other", server.url + "/other"),
    )
    with front(purse, *routes) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "below"),
    [
        ("/v1/chat/completions", "/chat/completions"),
        ("/chat/completions", "/chat/completions"),
        ("/v1/embeddings?x=%20y&z", "/embeddings?x=%20y&z"),
        ("/v1//responses", "/responses"),
        ("/v1/docs/", "/docs/"),
        ("/v1/un/known:route", "/un/known:route"),
        ("/gemini/v1/completions", "/completions"),
        ("/other/v1/completions", "/other/completions"),
    ],
)
def test_each_route_reaches_its_profiles_upstream(proxy: Front, server: Upstream, path: str, below: str) -> None:
    assert proxy.ask(path=path, body=b"{}").json == {"ok": True}
    assert server.seen[0].path == "/v1/projects/p/endpoints/openapi" + below
    assert server.seen[0].bearer == "ya29.token-1"


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_pass_too(proxy: Front, server: Upstream, method: str) -> None:
    assert proxy.ask(method, "/v1/files/1").status == 200
    assert (server.seen[0].method, server.seen[0].body) == (method, b"")


def test_a_head_request_gets_the_length_and_no_body(proxy: Front, server: Upstream) -> None:
    answer = proxy.ask("HEAD", "/v1/files/1")
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "12", b"")


def test_bodies_pass_byte_for_byte(proxy: Front, server: Upstream) -> None:
    odd = b'{ "model" : "google/x" , "messages":[{"content":"\\u00e9 \xc3\xa9 \\"model\\": 1"}],"n":1.0e0 }'
    assert proxy.ask(body=odd, Content_Type="application/json").status == 200
    assert server.seen[0].body == odd


def test_a_body_compressed_by_the_client_stays_compressed(proxy: Front, server: Upstream) -> None:
    body = gzip.compress(b'{"model":"gpt-4o"}')
    assert proxy.ask(body=body, Content_Type="application/json", Content_Encoding="gzip").status == 200
    assert server.seen[0].body == body
    assert server.seen[0].headers["Content-Encoding"] == "gzip"


def test_an_alias_and_a_bare_id_become_vertex_ids(proxy: Front, server: Upstream) -> None:
    proxy.ask(body=b'{"messages":[],"model":"gpt-4o"}', Content_Type="application/json")
    proxy.ask(body=b'{"model":"gemini-2.5-flash","n":1}', Content_Type="application/json; charset=utf-8")
    proxy.ask(path="/other/v1/completions", body=b'{"model":"gpt-4o"}', Content_Type="application/json")
    assert [seen.body for seen in server.seen] == [
        b'{"messages":[],"model":"google/gemini-2.5-pro"}',
        b'{"model":"google/gemini-2.5-flash","n":1}',
        b'{"model":"gpt-4o"}',
    ]


def test_the_model_list_comes_from_the_configuration(proxy: Front, server: Upstream) -> None:
    ids = [entry["id"] for entry in proxy.ask("GET", "/v1/models").json["data"]]
    assert ids == ["gpt-4o", "google/gemini-2.5-flash"]
    assert proxy.ask("GET", "/models/google/gemini-2.5-flash").json["owned_by"] == "google"
    assert proxy.ask("GET", "/v1/models/none").error["code"] == "model_not_found"
    assert proxy.ask("GET", "/v1/models", key=None).status == 401
    assert server.seen == []


def test_an_unknown_profile_is_named(proxy: Front, server: Upstream) -> None:
    answer = proxy.ask(path="/missing/v1/chat/completions")
    assert (answer.status, answer.error["message"]) == (404, "unknown profile missing; known: gemini, other")
    assert server.seen == []


def test_credentials_and_account_headers_of_clients_are_dropped(proxy: Front, server: Upstream, purse: Purse) -> None:
    purse.quota_project = "billing"
    purse.token = purse.mint()
    proxy.ask(
        Api_Key=KEY,
        X_Goog_Api_Key=KEY,
        Cookie="a=b",
        Proxy_Authorization="Basic x",
        OpenAI_Organization="org",
        OpenAI_Project="proj",
        User_Agent="OpenAI/Python 3",
        X_Stainless_Lang="python",
        Connection="X-Hop, keep-alive",
        X_Hop="1",
        TE="trailers",
    )
    headers = server.seen[0].headers
    assert KEY not in str(headers)
    assert {"Cookie", "OpenAI-Organization", "OpenAI-Project", "X-Hop", "TE", "Proxy-Authorization"}.isdisjoint(headers)
    assert headers["X-Goog-User-Project"] == "billing"
    assert headers["X-Team"] == "blue"
    assert headers["X-Stainless-Lang"] == "python"
    assert headers["User-Agent"].startswith("OpenAI/Python 3 vx-token/")


def test_headers_about_upstreams_host_are_dropped(proxy: Front, server: Upstream) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        own = {"Alt-Svc": "h3", "Set-Cookie": "a=b", "Access-Control-Allow-Origin": "*", "X-Request-Id": "r1"}
        return web.json_response({}, headers=own)

    server.handler = handler
    headers = proxy.ask().headers
    assert headers["X-Request-Id"] == "r1"
    assert not {"Alt-Svc", "Set-Cookie", "Access-Control-Allow-Origin"}.intersection(headers)


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503])
def test_upstreams_errors_pass_with_their_headers(proxy: Front, server: Upstream, status: int) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, body=b'{"error" : {"message":"no"}}', headers={"Retry-After": "7"})

    server.handler = handler
    answer = proxy.ask()
    assert (answer.status, answer.body, answer.headers["Retry-After"]) == (status, b'{"error" : {"message":"no"}}', "7")
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("encoding", "kind", "mark"),
    [
        ("identity", "application/json; charset=UTF-8", b""),
        ("gzip", "application/json", b""),
        ("deflate", "application/json", b"\n "),
        ("identity", "text/plain", b""),
        ("gzip", "application/json", codecs.BOM_UTF8),
    ],
)
def test_googles_error_array_becomes_openais_object(
    proxy: Front, server: Upstream, encoding: str, kind: str, mark: bytes
) -> None:
    google = [
        {"error": {"code": 400, "message": "Unknown model.", "status": "INVALID_ARGUMENT", "details": [{"a": 1}]}}
    ]
    plain = mark + json.dumps(google).encode()
    body = {"identity": plain, "gzip": gzip.compress(plain), "deflate": zlib.compress(plain)}[encoding]

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        headers = {"Content-Type": kind, "Content-Encoding": encoding}
        return web.Response(status=400, body=body, headers=headers)

    server.handler = handler
    answer = proxy.ask()
    assert answer.status == 400
    assert "Content-Encoding" not in answer.headers
    assert answer.headers.get_all("Content-Type") == ["application/json"]
    assert answer.error == {
        "code": 400,
        "message": "Unknown model.",
        "status": "INVALID_ARGUMENT",
        "details": [{"a": 1}],
        "type": "INVALID_ARGUMENT",
        "param": None,
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (rb'[{"error": {"message": "half \ud800 a pair"}}]', "half ? a pair"),
        (rb'[{"error": {"message": "a whole \ud83d\ude00"}}]', "a whole \U0001f600"),
        (rb'[{"error": {"code": 404, "a\ud800": ["\udfff"]}}]', "upstream answered 404 Not Found"),
    ],
)
def test_an_error_of_half_a_surrogate_pair_is_still_an_error(
    proxy: Front, server: Upstream, body: bytes, message: str
) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=404, body=body, content_type="application/json")

    server.handler = handler
    answer = proxy.ask()
    assert (answer.status, answer.error["message"]) == (404, message)


@pytest.mark.parametrize(
    ("location", "status", "is_named"),
    [("europe-west4", 404, True), ("eu", 404, True), ("global", 404, False), ("europe-west4", 403, False)],
)
def test_a_model_that_a_region_does_not_serve_is_an_error_with_the_setting(
    proxy: Front, server: Upstream, location: str, status: int, is_named: bool
) -> None:
    text = f"Publisher Model `projects/p/locations/{location}/publishers/google/models/gemini-3-pro` was not found."

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response([{"error": {"code": status, "message": text}}], status=status)

    server.handler = handler
    hint = f' Many models are not served in {location}: set location = "global" in the configuration.'
    assert proxy.ask().error["message"] == text + (hint if is_named else "")


@pytest.mark.parametrize("number", [b"NaN", b"1e999"])
def test_an_error_with_a_number_that_json_lacks_stays_as_it_was(proxy: Front, server: Upstream, number: bytes) -> None:
    body = b'[{"error": {"message": "m", "x": ' + number + b"}}]"

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=400, body=body, content_type="application/json")

    server.handler = handler
    assert proxy.ask().body == body


@pytest.mark.parametrize("body", [b"<html>404</html>", b"[]", b"[1]", b"[", b"", b'{"error":"x"}'])
def test_any_other_error_body_stays_as_it_was(proxy: Front, server: Upstream, body: bytes) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=404, body=body, content_type="application/json")

    server.handler = handler
    assert proxy.ask().body == body


def test_a_redirect_is_returned_and_never_followed(proxy: Front, server: Upstream) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": server.url + "/elsewhere"})

    server.handler = handler
    assert proxy.ask().status == 302
    assert len(server.seen) == 1


def test_health_and_readiness_need_no_key(proxy: Front, purse: Purse) -> None:
    assert proxy.ask("GET", "/healthz", key=None).json["status"] == "ok"
    assert proxy.ask("GET", "/readyz", key=None).status == 200
    purse.token = None
    assert proxy.ask("GET", "/readyz", key=None).status == 503


def test_metrics_count_requests_tokens_and_latency(proxy: Front, server: Upstream) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 31}})

    server.handler = handler
    proxy.ask()
    proxy.ask(path="/v1/some/secret-looking/path")
    text = proxy.ask("GET", "/metrics").body.decode()
    assert 'requests_total{profile="gemini",route="chat/completions",status="200"} 1.0' in text
    assert 'requests_total{profile="gemini",route="other",status="200"} 1.0' in text
    assert 'tokens_total{kind="answer",profile="gemini"} 62.0' in text
    assert 'upstream_seconds_count{profile="gemini"} 2.0' in text
    assert "vx_token_gateway_in_flight 1.0" in text
    assert 'vx_token_seconds_left{profile="gemini"} 3' in text
    assert "ya29" not in text
    status = proxy.ask("GET", "/statusz").json
    assert (status["requests"], status["errors"], status["tokens_per_minute"]) == (3, 0, 84)
    assert proxy.ask("GET", "/statusz").json["requests"] == 3  # without those of `status` itself
    assert proxy.ask("GET", "/statusz", key=None).status == 401


def test_settings_change_without_a_restart(proxy: Front, server: Upstream) -> None:
    proxy.gateway.apply(replace(proxy.gateway.settings, routes={"new": Route("new", server.url)}, default="new"))
    assert proxy.ask(path="/new/v1/x").status == 200
    assert proxy.ask(path="/gemini/v1/x").status == 404


def test_an_unreachable_upstream_is_a_502(purse: Purse) -> None:
    with front(purse, Route("p", "http://127.0.0.1:9/v1")) as proxy:
        answer = proxy.ask()
    assert (answer.status, answer.error["message"]) == (502, "cannot connect to 127.0.0.1")
