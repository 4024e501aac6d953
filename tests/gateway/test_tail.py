"""`gateway tail` shows the last requests and each new one, and never a body or a key."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from gateways import configure, local_key
from sandbox import Box
from upstreams import KEY, Front, Purse, Upstream, front, upstream
from vx_token.cli.gateway_keys import follow
from vx_token.emulator import Emulator
from vx_token.errors import TemporaryError
from vx_token.gateway import statusz
from vx_token.gateway.exchange import Exchange, RecentRequests
from vx_token.gateway.local_keys import LocalKeys
from vx_token.gateway.settings import Route
from vx_token.report.gateway_use import request_line


async def answer_usage(request: web.BaseRequest) -> web.StreamResponse:
    status = 404 if b"unknown" in await request.read() else 200
    return web.json_response({"usage": {"prompt_tokens": 11, "completion_tokens": 31}}, status=status)


@pytest.fixture
def server() -> Iterator[Upstream]:
    with upstream(answer_usage) as running:
        yield running


@pytest.fixture
def proxy(server: Upstream) -> Iterator[Front]:
    with front(Purse(), Route("gemini", server.url, publisher="google")) as running:
        yield running


def test_the_last_hundred_requests_are_kept_with_their_numbers() -> None:
    recent = RecentRequests()
    for _ in range(250):
        recent.add(Exchange(key="default", profile="p", path="x", model="m" * 500, status=200), "other")
    assert [each["number"] for each in recent.after(0)] == list(range(151, 251))
    assert [each["number"] for each in recent.after(248)] == [249, 250]
    assert recent.after(250) == recent.after(999) == []
    assert len(json.dumps(recent.after(0))) < 65536  # what `tail` reads


def test_a_request_is_recorded_without_body_and_key(proxy: Front) -> None:
    secret = b'{"messages": [{"content": "a secret wish"}], "model": "gemini-2.5-flash"}'
    proxy.ask(body=secret, Content_Type="application/json")
    proxy.ask(path=f"/gemini/v1/{KEY}", body=b'{"model": "unknown"}', Content_Type="application/json")
    proxy.ask("GET", "/v1/models")
    proxy.ask(key="wrong")
    proxy.ask("GET", "/healthz")
    text = proxy.ask("GET", "/statusz?after=0").body.decode()
    assert not re.search("secret wish|vx-local|ya29", text)
    requests = json.loads(text)["requests"]
    assert [(each["key"], each["route"], each["model"], each["status"]) for each in requests] == [
        ("default", "gemini/chat/completions", "google/gemini-2.5-flash", 200),
        ("default", "gemini/other", "google/unknown", 404),
        ("default", "gemini/models", "", 200),
    ]
    assert [each["prompt"] + each["answer"] for each in requests] == [42, 42, 0]
    assert [each["first_byte"] is None for each in requests] == [False, False, True]
    assert all(0 <= (each["first_byte"] or 0) <= each["total"] < 60 for each in requests)
    assert proxy.ask("GET", "/statusz?after=0", key="wrong").status == 401
    assert proxy.ask("GET", "/statusz").json["requests"] == 6


def entry(number: int, **changes: object) -> dict[str, object]:
    fields = {"number": number, "time": 0.0, "key": "aider", "route": "p/other", "model": f"m{number}", "status": 200}
    return {**fields, "first_byte": 0.25, "total": 1.5, "prompt": 3, "answer": 4, **changes}


def test_each_request_is_one_line() -> None:
    assert re.fullmatch(r"\d\d:\d\d:\d\d  aider +p/other +m1 +200 +0\.25s +1\.50s +3\+4", request_line(entry(1)))
    refused = entry(2, key="", model="", status=404, first_byte=None, prompt=0, answer=0)
    assert request_line(refused).split()[1:] == ["-", "p/other", "-", "404", "-", "1.50s", "-"]


def test_new_requests_follow_also_after_a_restart_of_the_gateway() -> None:
    answers = {
        (0.0, 0): [entry(1), entry(2)],
        (0.0, 2): [entry(3)],
        (0.0, 3): [],
        (9.0, 3): [],
        (9.0, 0): [entry(1, model="after")],
    }
    pauses = iter([0.0, 0.0, 9.0])
    lines: list[str] = []
    started_at = 0.0

    def pause() -> None:
        nonlocal started_at
        started_at = next(pauses)

    with pytest.raises(StopIteration):
        follow(lambda after: (started_at, answers[started_at, after]), lines.append, pause)
    assert [line.split()[3] for line in lines] == ["MODEL", "m1", "m2", "m3", "after"]


def test_only_a_gateways_answer_is_shown(server: Upstream) -> None:
    answers = [
        {"started_at": 1.0, "requests": [entry(1, model="a\n\x1b[2J")]},
        {"started_at": 1.0, "requests": [entry(1, total="x")]},
        {"requests": []},
        [],
    ]

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(answers.pop(0))

    server.handler = handler
    address = server.url.replace("localhost", "127.0.0.1")
    _, [request] = statusz.recent(address, str, 0)
    assert request["model"] == "a??[2J"
    for _ in range(3):
        with pytest.raises(TemporaryError, match="is not a vx-token gateway"):
            statusz.recent(address, str, 0)


def test_the_command_prints_them(box: Box, google: Emulator, server: Upstream) -> None:
    google.service_account(box.key)
    configure(box, google, 1)
    key = local_key(box)
    with front(Purse(), Route("gemini", server.url), find_key=LocalKeys(Path(box.config).parent)) as proxy:
        configure(box, google, proxy.port)
        proxy.ask(body=b'{"model": "google/gemini"}', key=key, Content_Type="application/json")
        head, line = box.vx("gateway", "tail", "--no-follow").stdout.splitlines()
    assert head.split() == ["TIME", "KEY", "ROUTE", "MODEL", "STATUS", "FIRST", "TOTAL", "TOKENS"]
    assert line.split()[1:5] == ["default", "gemini/chat/completions", "google/gemini", "200"]
    done = box.vx("gateway", "tail", "--no-follow")
    assert (done.returncode, "does not answer" in done.stderr) == (5, True)
