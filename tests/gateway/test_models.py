"""Model ids in request bodies are resolved; every other byte stays the same."""

import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import slowness
from vx_token.config.load import parse_config
from vx_token.gateway.models import model_id, model_list, needs_rewrite, resolve, rewrite
from vx_token.gateway.runner import gateway_settings
from vx_token.gateway.settings import Route, SignatureSettings

ROUTE = Route("p", "http://u", aliases={"gpt-4o": "google/gemini-2.5-pro", "fast": "gemini-flash"}, publisher="google")


@pytest.mark.parametrize(
    ("model", "upstream_id"),
    [
        ("gpt-4o", "google/gemini-2.5-pro"),
        ("fast", "google/gemini-flash"),
        ("gemini-2.5-flash", "google/gemini-2.5-flash"),
        ("meta/llama-maas", "meta/llama-maas"),
        ("", ""),
    ],
)
def test_ids_resolve(model: str, upstream_id: str) -> None:
    assert resolve(model, ROUTE) == upstream_id


def test_white_space_and_escapes_around_the_id_stay() -> None:
    body = b'{ "a" : [1, 2] ,\n "mod\\u0065l"\t: "fast"\r\n ,"b":"\\"}" } '
    assert rewrite(body, ROUTE, "x") == body.replace(b'"fast"', b'"google/gemini-flash"')


@pytest.mark.parametrize("inner", [b"[],", b'"",', b"{},", b"[[],", b'{"a":[', b"1,", b'"\\\\",'])
def test_a_large_body_costs_neither_memory_nor_time(inner: bytes) -> None:
    """Parsing blocks the event loop, and with it every other request."""
    body = b'{"messages":[' + inner * (31_000_000 // len(inner)) + b'0],"model":"fast"}'
    tracemalloc.start()
    try:
        started = time.process_time()
        rewrite(body, ROUTE, "chat/completions")
        spent = time.process_time() - started
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 70_000_000
    assert spent < 2 * slowness()


def test_the_id_behind_a_million_numbers_is_resolved() -> None:
    body = (
        b'{"input":[' + b"[1,2]," * 1000 + b"1," * 1_000_000 + b'0],"image":"' + b"A" * 1_000_000 + b'","model":"fast"}'
    )
    assert rewrite(body, ROUTE, "embeddings") == body.replace(b'"fast"', b'"google/gemini-flash"')


def nested(depth: int, model: bytes) -> bytes:
    """A body with so many lists in each other before the id."""
    return b'{"a":' + b"[" * depth + b"]" * depth + b',"model":"' + model + b'"}'


MODELS = Route("p", "u", aliases={"fast": "google/f"}, model="default", publisher="google")


@pytest.mark.parametrize(
    ("body", "path", "changed"),
    [
        (b"{}", "chat/completions", b'{"model":"google/default"}'),
        (b"{}", "completions", b'{"model":"google/default"}'),
        (b"{}", "responses", b'{"model":"google/default"}'),
        (b"{}", "embeddings", b"{}"),
        (b" \t\n\r{ \t\n\r} ", "responses", b' \t\n\r{"model":"google/default" \t\n\r} '),
        (b'{"a":1}', "responses", b'{"model":"google/default","a":1}'),
        (b'{"a":1}\n', "responses", None),
        (b'{ "a" : "}" , "b" : {"model":"fast"}}', "responses", None),
        (b'{"model":"fast"}', "embeddings", b'{"model":"google/f"}'),
        (b'{"a":1 , "model" : "fast" , "b":2}', "embeddings", b'{"a":1 , "model" : "google/f" , "b":2}'),
        (b'{"model":"fast"}{"model":"fast"}', "embeddings", b'{"model":"google/f"}{"model":"fast"}'),
        (b'{"model":"fast","model":"fast"}', "embeddings", b'{"model":"google/f","model":"fast"}'),
        (b'{"model":"google/f"}', "embeddings", b'{"model":"google/f"}'),
        (b'{"\\u0061\x01":1,"model":"fast"}', "embeddings", b'{"\\u0061\x01":1,"model":"google/f"}'),
        (b'{"model":7,"a":1}', "responses", b'{"model":7,"a":1}'),
        (b'{"a":[' + b'"b",' * 40 + b'1],"model":"fast"}', "x", b'{"a":[' + b'"b",' * 40 + b'1],"model":"google/f"}'),
        (b'{"\xff":1,"model":"fast"}', "x", b'{"\xff":1,"model":"google/f"}'),
        (nested(49_998, b"fast"), "x", nested(49_998, b"google/f")),
        (nested(49_999, b"fast"), "x", nested(49_999, b"fast")),  # a hundred thousand parts with the id's
    ],
)
def test_a_body_changes_by_its_id_and_by_no_other_byte(body: bytes, path: str, changed: bytes | None) -> None:
    default = b'{"model":"google/default",' + body[1:]
    assert rewrite(body, MODELS, path) == (default if changed is None else changed)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[", b'{"a"', b'{"a":', b'{"a":1', b'{"a":[1}', b'{"a" 1}', b"{a:1}", b'{"a":"x}', b'{"a":1,', b'{"a":1]',
        b'{"a":{"b":1}', b"x{}", b'["model"]', b'"{}"', b'{"a":[[]}', b'{"model":fast}',
        b'{"model":"fast', b'{"model":"\\x"}', b'{"a":' + b"[" * 100_001 + b"]" * 100_001 + b"}",
    ],
)  # fmt: skip
def test_a_malformed_body_stays_as_it_was_and_gets_no_default(body: bytes) -> None:
    assert rewrite(body, MODELS, "responses") == body


@pytest.mark.parametrize("model", ["", "default"])
@pytest.mark.parametrize("aliases", [{}, {"a": "b"}])
@pytest.mark.parametrize("publisher", ["", "google"])
def test_any_setting_that_changes_bodies_asks_for_it(model: str, aliases: dict[str, str], publisher: str) -> None:
    route = Route("p", "u", aliases=aliases, model=model, publisher=publisher)
    assert needs_rewrite(route) == bool(model or aliases or publisher)


def test_without_a_default_model_nothing_is_put_in() -> None:
    assert rewrite(b"{}", Route("p", "u", publisher="google"), "responses") == b"{}"


class Deployed:
    """What is known of a deployed endpoint."""

    def ids(self) -> tuple[str, ...]:
        return ("mine",)

    def deployed(self) -> frozenset[str]:
        return frozenset({"mine"})


def test_a_deployed_model_is_asked_for_without_a_name_and_listed_as_deployed() -> None:
    known: Any = Deployed()
    route = Route("p", "u", aliases={"my": "mine"}, publisher="google", known=known)
    assert needs_rewrite(Route("p", "u", known=known))
    assert [resolve(name, route) for name in ("my", "mine", "other")] == ["", "", "google/other"]
    entries = model_list(route)["data"]
    assert [(entry["id"], entry["owned_by"]) for entry in entries] == [("my", "deployed"), ("mine", "deployed")]
    assert entries[0] == {"id": "my", "object": "model", "created": 0, "owned_by": "deployed"}
    assert model_list(route)["object"] == "list"


def test_without_a_publisher_only_aliases_change() -> None:
    route = Route("p", "http://u", aliases={"a": "b"})
    assert [resolve(name, route) for name in ("a", "c")] == ["b", "c"]
    assert not needs_rewrite(Route("p", "http://u"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"{",
        b'{"model"',
        b'{"model":',
        b'{"model":"gpt',
        b'{"model":1}',
        b'{"model":null}',
        b'{"a":{"model":"gpt-4o"}}',
        b'{"a":"\\"model\\":\\"gpt-4o\\""}',
        b'{"messages":[{"model":"gpt-4o"}], "model":"google/x"}',
        b'"model"',
        b"\xff\xfe",
        b"{" * 5000,
        b'{"a":' + b"[" * 100_000,
    ],
)
def test_a_body_without_an_id_of_ours_stays_as_it_was(body: bytes) -> None:
    assert rewrite(body, ROUTE, "chat/completions") == body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=8), JSON, max_size=5),
    st.text(max_size=10),
    st.booleans(),
    st.sampled_from([None, 2]),
)
def test_only_the_top_level_id_changes(rest: dict[str, Any], model: str, ascii_only: bool, indent: int | None) -> None:
    value = {**rest, "model": model}
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    changed = rewrite(body, ROUTE, "chat/completions").decode("utf-8", "surrogatepass")
    assert json.loads(changed) == {**value, "model": resolve(model, ROUTE)}


def test_a_beginning_is_enough_when_the_id_is_in_it() -> None:
    assert rewrite(b'{"model":"gpt-4o","messages":[{"con', ROUTE, "x", whole=False).startswith(b'{"model":"google/gem')
    unfinished = b'{"messages":[{"con'
    assert rewrite(unfinished, Route("p", "u", model="m"), "chat/completions", whole=False) == unfinished


def test_the_list_names_aliases_the_default_and_the_models_once() -> None:
    route = Route("p", "u", aliases={"a": "x/y"}, model="google/m", models=("google/m", "b"))
    assert [(entry["id"], entry["owned_by"]) for entry in model_list(route)["data"]] == [
        ("a", "x"),
        ("google/m", "google"),
        ("b", "google"),
    ]


OPENAPI, DEPLOYED = (f"https://host.example/v1/projects/p/locations/l/endpoints/{name}" for name in ("openapi", "1234"))


@pytest.mark.parametrize(
    ("profile", "publisher"),
    [
        ("project = 'p'", "google"),
        ("project = 'p'\nendpoint = '1234'", ""),
        ("project = 'p'\nendpoint = '1234'\npublisher = 'google'", "google"),
        ("project = 'p'\npublisher = ''", ""),
        ("base_url = 'http://127.0.0.1:1234/v1'", "google"),
        ("base_url = 'http://127.0.0.1:1234/v1'\npublisher = 'meta'", "meta"),
        ("base_url = 'http://127.0.0.1:1234/v1'\npublisher = ''", ""),
        (f"base_url = '{OPENAPI}/'", "google"),
        (f"base_url = '{DEPLOYED}'", ""),
        (f"base_url = '{DEPLOYED}/'\npublisher = 'google'", "google"),
    ],
)
def test_a_bare_id_gets_googles_prefix_but_at_a_deployed_endpoint(tmp_path: Path, profile: str, publisher: str) -> None:
    path = tmp_path / "config.toml"
    environ = {"VX_TOKEN_CONFIG": str(path)}
    settings = gateway_settings(parse_config(f"[profiles.p]\n{profile}\n", path, environ, {}, path.parent), environ)
    assert settings.routes["p"].publisher == publisher


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"messages":[{"content":"\\"model\\": \\"x\\""}],"model" : "google/a"}', "google/a"),
        (b'{"tools":[{"model":{}},{"model":"x"}],"mod\\u0065l":"google/\\u0061"}', "google/a"),
        (b'{"tools":[{"model":"x"}],"model":"google/a"}', "google/a"),
        (b'{"model":7}', ""),
        (b'{"model":', ""),
        (b'{"model":"a","b":"model"}', "a"),
        (b'{"b":"model"}', ""),
        (b'{"b":"model","model":"a"}', "a"),
        (b'{"model":"a","model":"b"}', "a"),
        (b'{"model" \t\n\r: \t\n\r"a"}', "a"),
        (b'{"a":1,"b":[],"model":"\\u0061"}', "a"),
        (b'{"model":"\xff"}', "\ufffd"),
        (b'{"model":{"a":1}}', ""),
        (b'{"model":' + b"[" * 99_000 + b"]" * 99_000 + b"}", ""),
        (b"[]", ""),
        (b"", ""),
    ],
)
def test_the_model_id_of_a_request_is_the_top_level_one(body: bytes, model: str) -> None:
    assert model_id(body) == model


def test_the_configuration_decides_which_signatures_are_kept(tmp_path: Path) -> None:
    def settings(gateway: str) -> SignatureSettings:
        text, environ = f"[profiles.p]\nproject = 'p'\n[gateway]\n{gateway}", {"HOME": str(tmp_path)}
        config = parse_config(text, tmp_path / "config.toml", environ, {}, tmp_path)
        return gateway_settings(config, environ).signatures

    assert settings("") == SignatureSettings()
    assert settings("thought_signatures = false") == SignatureSettings(enabled=False)
    changed = settings("thought_signature_stand_in = false\nthought_signature_models = ['a/*', 'b']")
    assert changed == SignatureSettings(stand_in=False, models=("a/*", "b"))
    assert not changed.stands_in_for("a/x")
    assert settings("thought_signature_models = ['a/*', 'b']").stands_in_for("a/x")
