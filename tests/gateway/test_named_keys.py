"""Local keys with a name: each tool can have its own, counted alone, limited to profiles, and revoked alone."""

import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from gateways import configure, local_key
from sandbox import Box
from upstreams import Front, Purse, Upstream, front, upstream
from vx_token.cli import fastpath
from vx_token.emulator import Emulator
from vx_token.errors import ConfigError
from vx_token.gateway import statusz
from vx_token.gateway.key import load_or_create_key, rotate_key
from vx_token.gateway.local_keys import LocalKeys
from vx_token.gateway.named_keys import FOLDER, load_or_create_named_key, named_keys, revoke_key
from vx_token.gateway.settings import LocalKey, Route


async def answer_usage(request: web.BaseRequest) -> web.StreamResponse:
    return web.json_response({"usage": {"prompt_tokens": 11, "completion_tokens": 31}})


@pytest.fixture
def server() -> Iterator[Upstream]:
    with upstream(answer_usage) as running:
        yield running


@pytest.fixture
def proxy(server: Upstream, tmp_path: Path) -> Iterator[Front]:
    load_or_create_key(tmp_path)
    routes = Route("gemini", server.url), Route("other", server.url)
    with front(Purse(), *routes, find_key=LocalKeys(tmp_path)) as running:
        yield running


def test_a_named_key_is_private_stable_and_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    key = load_or_create_named_key(folder, "aider")
    assert load_or_create_named_key(folder, "aider") == key == (folder / FOLDER / "aider").read_text()
    assert key.startswith("vx-local-")
    assert len({key, load_or_create_named_key(folder, "Other_tool-2"), load_or_create_key(folder)}) == 3
    assert stat.S_IMODE((folder / FOLDER).stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / FOLDER / "aider").stat().st_mode) == 0o600
    assert key not in repr(named_keys(folder))


@pytest.mark.parametrize("name", ["", "default", "-x", "a/b", "..", "a.b", "a b", "x" * 33, "é", "a\n"])
def test_a_name_is_one_word(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a key"):
        load_or_create_named_key(tmp_path, name)
    assert named_keys(tmp_path) == []


def test_a_key_keeps_the_profiles_that_it_was_made_for(tmp_path: Path) -> None:
    key = load_or_create_named_key(tmp_path, "aider", frozenset({"b", "a"}))
    assert key.isprintable()
    assert load_or_create_named_key(tmp_path, "aider") == key
    assert load_or_create_named_key(tmp_path, "aider", frozenset({"a", "b"})) == key
    with pytest.raises(ConfigError, match="limited to a, b"):
        load_or_create_named_key(tmp_path, "aider", frozenset({"a"}))
    load_or_create_named_key(tmp_path, "free")
    with pytest.raises(ConfigError, match="limited to all profiles"):
        load_or_create_named_key(tmp_path, "free", frozenset({"a"}))
    assert [each.owner for each in named_keys(tmp_path)] == [
        LocalKey("aider", frozenset({"a", "b"})),
        LocalKey("free"),
    ]


def test_revoking_a_key_harms_no_other(tmp_path: Path) -> None:
    default, find_key = load_or_create_key(tmp_path), LocalKeys(tmp_path)
    first, second = (load_or_create_named_key(tmp_path, name) for name in ("first", "second"))
    assert [find_key(key) for key in (default, first, second)] == [
        LocalKey("default"),
        LocalKey("first"),
        LocalKey("second"),
    ]
    revoke_key(tmp_path, "first")
    assert [bool(find_key(key)) for key in (default, first, second)] == [True, False, True]
    assert load_or_create_named_key(tmp_path, "first") != first
    rotate_key(tmp_path, 0.0)
    assert [bool(find_key(key)) for key in (default, first, second)] == [False, False, True]
    with pytest.raises(ConfigError, match="no key with the name 'none'"):
        revoke_key(tmp_path, "none")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    load_or_create_key(tmp_path)
    key = load_or_create_named_key(tmp_path, "aider")
    (tmp_path / FOLDER / "aider").chmod(0o644)
    assert LocalKeys(tmp_path)(key) is None
    with pytest.raises(ConfigError, match="other users can read") as raised:
        load_or_create_named_key(tmp_path, "aider")
    assert raised.value.hint == "run: vx-token gateway revoke aider"


def test_a_running_gateway_counts_and_refuses_by_key(proxy: Front, server: Upstream, tmp_path: Path) -> None:
    default = load_or_create_key(tmp_path)
    aider = load_or_create_named_key(tmp_path, "aider")
    limited = load_or_create_named_key(tmp_path, "limited", frozenset({"other"}))
    assert [proxy.ask(key=key).status for key in (default, aider, aider)] == [200, 200, 200]
    assert proxy.ask(path="/missing/v1/x", key=aider).status == 404
    assert proxy.ask(path="/other/v1/x", key=limited).status == 200
    refused = proxy.ask(key=limited)
    assert (refused.status, refused.error["message"]) == (403, "the local key limited may use only: other")
    assert len(server.seen) == 4
    metrics = proxy.ask("GET", "/metrics", key=aider).body.decode()
    for line in ('requests_total{key="aider"} 3.0', 'errors_total{key="aider"} 1.0', 'tokens_total{key="aider"} 84.0'):
        assert f"vx_token_gateway_key_{line}" in metrics
    status = proxy.ask("GET", "/statusz", key=default).json
    assert {name: usage["requests"] for name, usage in status["keys"].items()} == {
        "default": 1,
        "aider": 4,
        "limited": 2,
    }
    assert status["keys"]["limited"]["errors"] == 1
    assert time.time() - status["keys"]["aider"]["last_used"] < 60
    assert proxy.ask("GET", "/statusz", key=aider).error["code"] == "key_not_allowed"
    revoke_key(tmp_path, "aider")
    assert [proxy.ask(key=key).status for key in (default, aider)] == [200, 401]


def test_what_another_program_answers_is_not_shown(server: Upstream) -> None:
    usage = {"requests": 1, "errors": 0, "tokens": 0, "last_used": 1.0}
    counters = {"requests": 1, "errors": 0, "in_flight": 1, "tokens_per_minute": 0, "started_at": 1.0}
    answers = [{"a\x1b[2J" * 99: usage}, {"a": {**usage, "tokens": "\n"}}, {"a": 1}, [1], "x"]

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({**counters, "keys": answers.pop(0)})

    server.handler = handler
    address = server.url.replace("localhost", "127.0.0.1")
    [name] = statusz.query(address, str)["keys"]
    assert name.isprintable()
    assert len(name) == 100
    assert {statusz.query(address, str).get("problem") for _ in range(4)} == {"is not a vx-token gateway"}


def test_the_commands_make_list_and_revoke_keys(box: Box, google: Emulator, server: Upstream) -> None:
    google.service_account(box.key)
    configure(box, google, 1)
    default = local_key(box)
    route = Route("gemini", server.url)
    with front(Purse(), route, find_key=LocalKeys(box.config.parent)) as proxy:
        configure(box, google, proxy.port)
        key = box.vx("gateway", "key", "--name", "aider", "--profile", "gemini").stdout
        assert key == box.vx("gateway", "key", "--name", "aider").stdout
        assert key.strip() not in {"", default}
        assert fastpath.answer(["vx-token", "gateway", "key", "--name", "aider"], box.environ, time.time()) is None
        assert [proxy.ask(key=each).status for each in (key.strip(), default)] == [200, 200]
        head, *rows = [line.split() for line in box.vx("gateway", "keys").stdout.splitlines()]
        assert head == ["NAME", "PROFILES", "REQUESTS", "ERRORS", "TOKENS", "LAST", "USE"]
        assert [row[:5] for row in rows[:2]] == [
            ["default", "all", "1", "0", "42"],
            ["aider", "gemini", "1", "0", "42"],
        ]
        status = box.vx("status").stdout
        assert "  key aider: 1 requests, 0 errors, 42 tokens, last used " in status
        assert box.vx("gateway", "revoke", "aider").stdout == "revoked the key aider\n"
        assert [proxy.ask(key=each).status for each in (key.strip(), default)] == [401, 200]
    assert "the use is unknown: " in box.vx("gateway", "keys").stdout
    failures = [("revoke", "aider"), ("key", "--profile", "gemini"), ("key", "--name", "x", "--profile", "none")]
    done = [box.vx("gateway", *words) for words in failures]
    assert [each.returncode for each in done] == [3, 2, 3]
    assert all("\nhint: " in each.stderr and not each.stdout for each in done)
