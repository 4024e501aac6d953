"""Thought signatures that clients drop are put back: Gemini 3's tool calls work through the gateway."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from sandbox import slowness
from upstreams import KEY, Front, Purse, Upstream, front
from vx_token.credentials.token import Token
from vx_token.emulator import Emulator
from vx_token.gateway import statusz
from vx_token.gateway.settings import Route, SignatureSettings
from vx_token.gateway.signature_memory import Bounds, Scope, SignatureMemory, canonical
from vx_token.gateway.thought_signatures import STAND_IN, ThoughtSignatures
from vx_token.gateway.tool_calls import ToolCall
from vx_token.report import color
from vx_token.report.status import _gateway_lines

MODEL = "google/gemini-3-pro-preview"
OTHER = "vx-local-other"
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {"at": {}}}}}
    for name in ("look", "listen", "stop")
]
Json = dict[str, Any]


class Granted(Purse):
    """A purse that the emulator fills."""

    def __init__(self, google: Emulator) -> None:
        self.google = google
        super().__init__()

    def mint(self) -> Token:
        issued = self.google.mint.issue("user", "token", self.lifetime)
        return Token(issued.value, issued.expires_at, issued.issued_at)


def keys(candidate: str) -> bool:
    return candidate in {KEY, OTHER}


@pytest.fixture
def proxy(google: Emulator) -> Iterator[Front]:
    routes = [Route(name, google.base_url(place), publisher="google") for name, place in (("p", "global"), ("q", "us"))]
    with front(Granted(google), *routes, accepts=keys) as running:
        yield running


def client(url: str, key: str = KEY) -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=url, max_retries=0)


def step(client: openai.OpenAI, messages: list[Any], *, stream: bool, model: str = MODEL, **more: Any) -> list[Json]:
    """Ask, and append what a tool that knows no signatures keeps of the answer; return the calls as they came."""
    made: Any = client.chat.completions.create(model=model, messages=messages, tools=TOOLS, stream=stream, **more)
    if not stream:
        message = made.choices[0].message
        content = message.content
        calls: list[Json] = [each.to_dict() for each in message.tool_calls or []]
    else:
        deltas = [chunk.choices[0].delta for chunk in made if chunk.choices]
        calls = [each.to_dict() for delta in deltas for each in delta.tool_calls or []]
        content = "".join(delta.content or "" for delta in deltas)
    kept: list[Json] = [{"id": each["id"], "type": "function", "function": each["function"]} for each in calls]
    messages.append({"role": "assistant", "content": content or None, **({"tool_calls": kept} if kept else {})})
    messages += [{"role": "tool", "tool_call_id": each["id"], "content": "done"} for each in kept]
    return calls


def turn(client: openai.OpenAI, messages: list[Any], wish: str = "", *, stream: bool = False, **more: Any) -> str:
    """One turn of the user: calls until there is an answer in words."""
    messages.append({"role": "user", "content": wish or "go on"})
    while step(client, messages, stream=stream, **more):
        pass
    return str(messages[-1]["content"])


def numbers(proxy: Front) -> tuple[int, int, int]:
    counts = proxy.gateway.snapshot()
    return counts.signatures_kept, counts.signatures_put_back, counts.signatures_stood_in


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_drops_signatures_fails_directly_and_works_through_the_gateway(
    google: Emulator, proxy: Front, stream: bool
) -> None:
    issued = google.mint.issue("user", "token", 3600)
    with client(google.base_url(), issued.value) as direct, pytest.raises(openai.BadRequestError) as failure:
        turn(direct, [], stream=stream)
    assert "is missing a `thought_signature`" in failure.value.response.text
    with client(proxy.url) as through:
        messages: list[Any] = []
        for wish in ("emulator: steps=2", "emulator: calls=3 steps=2"):
            assert "Hello from the emulator" in turn(through, messages, wish, stream=stream)
    assert len([each for each in messages if each.get("tool_calls")]) == 4
    assert numbers(proxy) == (4, 1 + 2 + 2 + 3 + 4, 0)


def test_sdks_that_keep_signatures_are_left_alone(proxy: Front) -> None:
    with client(proxy.url) as through:
        messages: list[Any] = [{"role": "user", "content": "emulator: steps=2"}]
        for _ in range(2):
            answer = through.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS).choices[0].message
            messages.append(answer.to_dict())
            messages.append({"role": "tool", "tool_call_id": answer.tool_calls[0].id, "content": "x"})  # type: ignore[index]
        assert through.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS).choices[0].message.content
    assert numbers(proxy) == (2, 0, 0)


def test_an_altered_signature_is_not_repaired(proxy: Front) -> None:
    with client(proxy.url) as through:
        messages: list[Any] = [{"role": "user", "content": "x"}]
        step(through, messages, stream=False)
        messages[1]["tool_calls"][0]["extra_content"] = {"google": {"thought_signature": "AAAA"}}
        with pytest.raises(openai.BadRequestError, match="Corrupted thought signature"):
            step(through, messages, stream=False)


@pytest.mark.parametrize("change", ["model", "profile", "key", "restart", "id", "arguments"])
def test_a_signature_of_another_origin_is_replaced_by_the_stand_in(google: Emulator, proxy: Front, change: str) -> None:
    messages: list[Any] = [{"role": "user", "content": "x"}]
    with client(proxy.url) as through:
        step(through, messages, stream=True)
    call = messages[1]["tool_calls"][0]
    url, key = (
        proxy.url.replace("/v1", "/q/v1") if change == "profile" else proxy.url,
        OTHER if change == "key" else KEY,
    )
    if change == "id":
        call["id"] = "another"
    if change == "arguments":
        call["function"]["arguments"] = '{"at": "elsewhere"}'
    if change == "restart":
        proxy.gateway._signatures._memory.clear()
    with client(url, key) as through:
        step(through, messages, stream=True, model=f"{MODEL}-customtools" if change == "model" else MODEL)
    assert numbers(proxy) == (1, 0, 1)
    assert "Hello" in messages[-1]["content"]


def test_without_the_stand_in_a_lost_signature_is_google_s_error(google: Emulator) -> None:
    off = SignatureSettings(stand_in=False)
    with front(Granted(google), Route("p", google.base_url()), signatures=off) as proxy, client(proxy.url) as through:
        messages: list[Any] = [{"role": "user", "content": "x"}]
        step(through, messages, stream=False)
        proxy.gateway._signatures._memory.clear()
        with pytest.raises(openai.BadRequestError, match="is missing"):
            step(through, messages, stream=False)


def test_switched_off_nothing_is_kept_and_what_was_is_forgotten(google: Emulator, proxy: Front) -> None:
    messages: list[Any] = [{"role": "user", "content": "x"}]
    with client(proxy.url) as through:
        step(through, messages, stream=False)
        off = replace(proxy.gateway.settings, signatures=SignatureSettings(enabled=False))
        proxy.gateway.apply(off)
        proxy.gateway.forget_old()
        assert len(proxy.gateway._signatures._memory) == 0
        with pytest.raises(openai.BadRequestError, match="is missing"):
            step(through, messages, stream=False)
    assert numbers(proxy) == (1, 0, 0)


def test_the_numbers_are_in_metrics_and_status(proxy: Front) -> None:
    with client(proxy.url) as through:
        turn(through, [])
    metrics = proxy.ask("GET", "/metrics").body.decode()
    for action in ("kept", "put_back"):
        assert f'vx_token_gateway_thought_signatures_total{{action="{action}",profile="p"}} 1.0' in metrics
    answer = statusz.query(proxy.url, lambda: KEY)
    assert "requests" in answer, answer
    [line] = _gateway_lines(answer, color.plain)
    assert "; thought signatures: 1 kept, 1 put back, 0 stood in" in line


def test_the_status_of_an_older_gateway_has_no_signatures() -> None:
    counts = {"requests": 1, "errors": 0, "in_flight": 1, "tokens_per_minute": 0, "started_at": 1.5}
    older = statusz._counters(counts)
    [line] = _gateway_lines({"address": "x", "verified": True, **older}, color.plain)
    assert "signatures" not in line
    with pytest.raises(statusz._QueryError):
        statusz._counters({**counts, "signatures_kept": "1"})


# What upstream gets, byte for byte


@pytest.fixture
def plain(server: Upstream) -> Iterator[Front]:
    with front(Purse(), Route("p", server.url, publisher="google"), accepts=keys) as running:
        yield running


def sent(plain: Front, server: Upstream, body: bytes | str, **headers: str) -> bytes:
    assert plain.ask(body=body, Content_Type="application/json", **headers).status == 200
    return server.seen[-1].body


def request(model: str = MODEL, identifier: str = "1", arguments: str = "{}") -> str:
    call = {"id": identifier, "type": "function", "function": {"name": "look", "arguments": arguments}}
    return json.dumps({"messages": [{"role": "assistant", "tool_calls": [call]}], "model": model})


def answers(server: Upstream, extra: Any, **changes: Any) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        function = {"name": "look", "arguments": changes.get("arguments", "{}")}
        call = {"id": "1", "type": "function", "function": function, "extra_content": extra}
        return web.json_response({"choices": [{"index": 0, "message": {"tool_calls": [call]}}]})

    server.handler = handler


def test_only_the_signature_is_inserted(plain: Front, server: Upstream) -> None:
    body = f' \r\n{{ "weird" : [1.0e0, "\\u00e9é"],\t"tools":[],"tool_calls": 1, {request()[1:-1]} }}\n'
    before, start, after = body.partition('"tool_calls": [{')
    assert sent(plain, server, body.encode()).decode() == f'{before}{start}"extra_content":{STAND_IN},{after}'


def test_requests_of_other_models_and_routes_stay_as_they_are(plain: Front, server: Upstream) -> None:
    for model in ("google/gemini-2.5-pro", "meta/llama-4-maas", "x/gemini-3"):
        assert sent(plain, server, request(model)) == request(model).encode()
    body = request().encode()
    assert plain.ask(path="/v1/responses", body=body, Content_Type="application/json").status == 200
    assert server.seen[-1].body == body
    assert plain.ask(body=body, Content_Type="text/plain").status == 200
    assert server.seen[-1].body == body
    for model in ("google/gemini-3-flash", "google/gemini-3.1-pro", "google/gemini-4", "google/gemini-10-pro"):
        assert b"skip_thought" in sent(plain, server, request(model))


@pytest.mark.parametrize("extra", [None, {}, "x", {"google": {}}])
def test_an_extra_content_of_the_client_is_never_touched(plain: Front, server: Upstream, extra: Any) -> None:
    body = json.loads(request())
    body["messages"][0]["tool_calls"][0]["extra_content"] = extra
    assert sent(plain, server, json.dumps(body)) == json.dumps(body).encode()


def test_another_model_s_extra_content_is_put_back_but_never_stood_in(plain: Front, server: Upstream) -> None:
    model = "google/gemini-2.5-flash"
    answers(server, {"google": {"thought_signature": "abc"}, "other": [1, 2.5, None, "é"]})
    sent(plain, server, request(model, "0"))
    found = json.loads(sent(plain, server, request(model)))["messages"][0]["tool_calls"][0]["extra_content"]
    assert found == {"google": {"thought_signature": "abc"}, "other": [1, 2.5, None, "é"]}


def test_the_same_arguments_in_another_form_are_recognized(plain: Front, server: Upstream) -> None:
    answers(server, {"x": 1}, arguments='{"b":[1.0,"\\u00e9\\/"],"a":1e2}')
    sent(plain, server, request(identifier="0"))
    for arguments in ('{ "a": 100, "b": [1, "é/"] }', '{"a":100.0,"b":[1,"\\u00E9/"]}'):
        assert b'"extra_content":{"x":1}' in sent(plain, server, request(arguments=arguments))


def test_keys_never_share_a_signature_although_ids_repeat(plain: Front, server: Upstream) -> None:
    for key in (KEY, OTHER):
        answers(server, {"of": key})
        sent(plain, server, request(identifier="0"), Authorization=f"Bearer {key}")
    for key in (KEY, OTHER):
        body = sent(plain, server, request(), Authorization=f"Bearer {key}")
        assert json.loads(body)["messages"][0]["tool_calls"][0]["extra_content"] == {"of": key}


def test_a_second_attempt_with_a_new_token_sends_the_same_body(plain: Front, server: Upstream) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=401 if len(server.seen) == 1 else 200)

    server.handler = handler
    sent(plain, server, request())
    first, second = server.seen
    assert first.body == second.body
    assert b'"extra_content":{"google":{"thought_signature":"skip_thought_signature_validator"}}' in first.body
    assert first.headers["Content-Length"] == second.headers["Content-Length"] == str(len(first.body))


def test_codings_are_restricted_only_for_requests_with_tools(plain: Front, server: Upstream) -> None:
    codings = "gzip, deflate, br, zstd"
    sent(plain, server, request(), Accept_Encoding=codings)
    assert server.seen[-1].headers["Accept-Encoding"] == "gzip, deflate"
    sent(plain, server, '{"model":"google/gemini-3-pro","messages":[]}', Accept_Encoding=codings)
    assert server.seen[-1].headers["Accept-Encoding"] == codings


def test_answers_other_than_200_are_not_read(plain: Front, server: Upstream) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        call = json.loads(await request.read())["messages"][0]["tool_calls"][0] | {"extra_content": {"x": 1}}
        return web.json_response({"choices": [{"message": {"tool_calls": [call]}}]}, status=500)

    server.handler = handler
    assert plain.ask(body=request(), Content_Type="application/json").status == 500
    assert plain.gateway.snapshot().signatures_kept == 0


def test_a_broken_stream_keeps_what_was_complete(plain: Front, server: Upstream) -> None:
    call = {"index": 0, "id": "1", "function": {"name": "look", "arguments": "{}"}, "extra_content": {"x": 1}}

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(
            b"data: " + json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]}).encode() + b"\n\n"
        )
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.close()
        return response

    server.handler = handler
    with pytest.raises(Exception, match=r"IncompleteRead|Remote end"):
        plain.ask(body=request(), Content_Type="application/json")
    assert plain.gateway.snapshot().signatures_kept == 1


WORDS = st.sampled_from(["tool_calls", '"tool_calls":[{', "function", 'é\\"', "x", "\u2028", "[{", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
CALLS = st.builds(
    lambda identifier, arguments, more: {**more, "id": identifier, "function": {"name": "f", "arguments": arguments}},
    WORDS, WORDS, st.dictionaries(st.sampled_from(["type", "x"]), VALUES, max_size=2),
)  # fmt: skip
MESSAGES = st.builds(lambda calls: {"tool_calls": calls}, st.lists(CALLS, max_size=3))


@given(st.lists(MESSAGES, max_size=4), WORDS, st.sampled_from([None, 0, "\t"]), st.booleans())
def test_without_the_insertions_any_request_is_the_same(
    messages: list[Json], content: str, indent: Any, ascii_only: bool
) -> None:
    messages.insert(0, {"role": "user", "content": content})
    body = json.dumps({"messages": messages, "model": MODEL}, indent=indent, ensure_ascii=ascii_only)
    out = ThoughtSignatures(SignatureSettings(), lambda *_: None).restore(body.encode(), SCOPE).decode()
    assert out.replace(f'"extra_content":{STAND_IN},', "") == body
    signed = [each["tool_calls"] for each in json.loads(out)["messages"][1:] if each["tool_calls"]]
    assert [["extra_content" in call for call in calls] for calls in signed] == [
        [number == 0 for number, _ in enumerate(calls)] for calls in signed
    ]


# The memory

SCOPE = Scope("p", "https://host", "a@example.com", MODEL, b"caller")
CALL = ToolCall("1", "look", "{}")


def test_the_memory_is_bounded_by_entries_bytes_and_age() -> None:
    now = 0.0
    memory = SignatureMemory(lambda: now, Bounds(entries=3, total=2000, entry=900, age=10))
    for number in range(4):
        assert memory.put(SCOPE, CALL._replace(id=str(number)), f'"{number}"')
        now += 1
    assert [memory.get(SCOPE, CALL._replace(id=str(number))) for number in range(4)] == [None, '"1"', '"2"', '"3"']
    memory.get(SCOPE, CALL)  # used again, so it is the last to be forgotten
    assert memory.put(SCOPE, CALL._replace(id="9"), "x" * 900)
    assert memory.put(SCOPE, CALL._replace(id="8"), "x" * 800)
    assert memory.size <= 2000
    assert not memory.put(SCOPE, CALL, "x" * 901)
    now += 11
    assert memory.get(SCOPE, CALL._replace(id="8")) is None
    memory.prune()
    assert (len(memory), memory.size) == (0, 0)


def test_ten_thousand_large_signatures_take_bounded_memory() -> None:
    memory = SignatureMemory(time.monotonic)
    for number in range(10_100):
        memory.put(SCOPE, CALL._replace(id=str(number), arguments="x" * 5000), "s" * 2500)
    assert memory.size <= 16 << 20
    assert 5_000 < len(memory) <= 10_000


@pytest.mark.parametrize("field", Scope._fields)
def test_each_part_of_the_scope_counts(field: str) -> None:
    memory = SignatureMemory(time.monotonic)
    memory.put(SCOPE, CALL, "1")
    assert memory.get(SCOPE, CALL) == "1"
    other: dict[str, Any] = {field: b"?" if field == "caller" else "?"}
    assert memory.get(SCOPE._replace(**other), CALL) is None


def test_arguments_have_one_form() -> None:
    assert canonical("") == canonical(" {} ") == "{}"
    assert canonical('{"b": 1.50, "a": "\\u00e9"}') == canonical('{"a":"é","b":1.5}')
    assert canonical("{not json") == "{not json"
    assert canonical("[" * 100_000) == "[" * 100_000
    assert canonical('"\\ud800"') == canonical('"\\uD800"')


def test_64_tool_calls_take_less_than_a_millisecond() -> None:
    signatures = ThoughtSignatures(SignatureSettings(), lambda *_: None)
    text = 'def x():\n\treturn "y"  # é' * 28
    messages: list[Json] = [{"role": "system", "content": text * 12}]
    for number in range(64):
        call = ToolCall(f"call_{number}", "edit", json.dumps({"path": f"src/{number}.py", "text": text[:200]}))
        signatures._keep(SCOPE, call, json.dumps({"google": {"thought_signature": "s" * 1200}}))
        function = {"name": call.name, "arguments": call.arguments}
        messages += [
            {"role": "assistant", "tool_calls": [{"id": call.id, "type": "function", "function": function}]},
            {"role": "tool", "tool_call_id": call.id, "content": text},
        ]
    body = json.dumps({"messages": messages, "tools": TOOLS * 7, "model": MODEL}, ensure_ascii=False).encode()
    assert len(body) > 90_000
    assert signatures.restore(body, SCOPE).count(b"extra_content") == 64

    def seconds(work: Callable[[], object]) -> float:
        started = time.thread_time()
        work()
        return time.thread_time() - started

    tracing = sys.gettrace()
    sys.settrace(None)  # counting the lines for the coverage figure takes longer than the work
    try:
        rounds = [
            (seconds(lambda: signatures.restore(body, SCOPE)), seconds(lambda: json.loads(body))) for _ in range(200)
        ]
    finally:
        sys.settrace(tracing)
    restoring, parsing = map(min, zip(*rounds, strict=True))
    assert restoring < max(0.001, 4 * parsing)  # a millisecond, or what a slow machine takes for it


def test_a_huge_request_with_tools_holds_up_the_gateway_for_a_moment_only() -> None:
    signatures = ThoughtSignatures(SignatureSettings(), lambda *_: None)
    image = b'{"messages":[{"content":"' + b"A" * (30 << 20) + b'"}],"tools":[],' + request()[1:].encode()
    calls = json.dumps({"messages": [json.loads(request())["messages"][0]] * 15_000}).encode()
    for body in (image, calls):
        started = time.thread_time()
        assert b"skip_thought" in signatures.restore(body, SCOPE)
        assert time.thread_time() - started < 0.5 * slowness()
