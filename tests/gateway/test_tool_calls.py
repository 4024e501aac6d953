"""Tool calls are found in requests and answers in any form, and nothing malformed does harm."""

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vx_token.gateway.answer_calls import AnswerCalls
from vx_token.gateway.decompression import accept_readable
from vx_token.gateway.tool_calls import ToolCall, request_calls

SIGNED = {"google": {"thought_signature": "c2lnbmF0dXJl/+=="}}
CALL = ToolCall("call_1", "look", '{"at":"é\\n"}')


def call(number: int = 1, extra: Any = SIGNED, **more: Any) -> dict[str, Any]:
    found = {"id": f"call_{number}", "type": "function", "function": {"name": "look", "arguments": CALL.arguments}}
    return {**found, **({"extra_content": extra} if extra else {}), **more}


def event(*choices: dict[str, Any], end: str = "\n\n") -> bytes:
    return f"data: {json.dumps({'choices': choices})}{end}".encode()


def delta(part: dict[str, Any], choice: int = 0, finish: str | None = None) -> dict[str, Any]:
    return {"index": choice, "delta": {"tool_calls": [part]}, "finish_reason": finish}


FINISH = {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
TEXT = {"index": 0, "delta": {"content": "I look."}, "finish_reason": None}
STREAM = b": ping\n\n" + event(TEXT) + event(delta(call(index=0))) + event(FINISH) + b"data: [DONE]\n\n"
ANSWER = json.dumps({"choices": [{"index": 0, "message": {"content": None, "tool_calls": [call()]}}]}).encode()


def read(*chunks: bytes, kind: str = "text/event-stream", encoding: str = "") -> list[tuple[ToolCall, Any]]:
    found: list[tuple[ToolCall, Any]] = []
    reader = AnswerCalls(kind, encoding, lambda call, extra: found.append((call, json.loads(extra))))
    for chunk in chunks:
        reader.feed(chunk)
    reader.end()
    reader.end()
    return found


@pytest.mark.parametrize("stream", [STREAM, STREAM.replace(b"\n", b"\r\n"), STREAM.replace(b"data: ", b"data:")])
def test_a_stream_may_be_split_at_any_byte(stream: bytes) -> None:
    for at in range(len(stream)):
        assert read(stream[:at], stream[at:]) == [(CALL, SIGNED)]
    assert read(*(stream[at : at + 1] for at in range(len(stream)))) == [(CALL, SIGNED)]


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream; charset=utf-8"])
@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "GZIP", "identity", ""])
@given(size=st.integers(1, 400))
def test_compressed_answers_are_read(kind: str, encoding: str, size: int) -> None:
    body = ANSWER if "json" in kind else STREAM
    pack: dict[str, Any] = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}
    packed = pack.get(encoding.lower(), bytes)(body)
    chunks = [packed[at : at + size] for at in range(0, len(packed), size)]
    assert read(*chunks, kind=kind, encoding=encoding) == [(CALL, SIGNED)]


def test_a_call_is_reported_before_the_chunk_that_completes_it_is_sent_on() -> None:
    found: list[ToolCall] = []
    reader = AnswerCalls("text/event-stream", "", lambda call, _: found.append(call))
    reader.feed(event(delta(call(index=0))))
    assert found == []
    reader.feed(event(FINISH))
    assert found == [CALL]


def test_the_parts_of_parallel_calls_of_several_choices_are_joined() -> None:
    def part(index: int, choice: int, **function: str) -> dict[str, Any]:
        return delta({"index": index, "function": function}, choice)

    events = [
        event(delta({"index": 0, "id": "a", "function": {"name": "look", "arguments": ""}, "extra_content": SIGNED})),
        event(delta({"index": 0, "id": "b", "function": {"name": "look"}, "extra_content": {"vertex": 1}}, 1)),
        event(part(0, 0, arguments='{"x"'), part(0, 1, arguments="[")),
        event(delta({"index": 1, "id": "c", "function": {"name": "stop", "arguments": "{}"}})),
        event(part(0, 1, arguments="]"), part(0, 0, arguments=":1}")),
        event(delta({"index": 0, "extra_content": {"other": 2}})),
    ]
    assert read(*events) == [
        (ToolCall("a", "look", '{"x":1}'), SIGNED | {"other": 2}),
        (ToolCall("b", "look", "[]"), {"vertex": 1}),
    ]


def test_parallel_calls_with_one_index_are_told_apart_by_their_ids() -> None:
    events = [event(delta(call(number, extra, index=0))) for number, extra in ((1, SIGNED), (2, None), (3, SIGNED))]
    assert read(*events, event(FINISH)) == [
        (CALL, SIGNED),
        (CALL._replace(id="call_3"), SIGNED),
    ]


def test_an_event_of_several_data_lines_is_read() -> None:
    lines = json.dumps({"choices": [delta(call(index=0))]}, indent=1).splitlines()
    assert read("".join(f"data: {line}\n" for line in lines).encode() + b"\n") == [(CALL, SIGNED)]


def test_a_json_answer_with_several_choices_is_read() -> None:
    body = {"choices": [{"message": {"tool_calls": [call(1), call(2, None)]}}, {"message": {"tool_calls": [call(3)]}}]}
    found = read(json.dumps(body).encode(), kind="application/json")
    assert [each.id for each, _ in found] == ["call_1", "call_3"]


MALFORMED = [
    b"", b"{", b"[]", b"null", b'{"choices":5}', b'{"choices":[1,{"message":2},{"message":{"tool_calls":{}}}]}',
    b'{"choices":[{"message":{"tool_calls":[1,{},{"function":3},{"id":4,"function":{"name":"x"}}]}}]} "extra_content"',
    b'{"choices":[{"delta":{"tool_calls":[1,{"index":[]},{"function":{"name":[]}},{"extra_content":"x"}]}}]}',
    b'{"tool_calls" "extra_content"' + b"[" * 100_000, b'"tool_calls"\xff"extra_content"',
]  # fmt: skip


@pytest.mark.parametrize("body", MALFORMED)
def test_a_malformed_answer_is_harmless(body: bytes) -> None:
    assert read(body, kind="application/json") == []
    assert read(b"data: " + body + b"\n\n") == []
    assert read(b"data: " + body + b"\n\n" + STREAM) == [(CALL, SIGNED)]
    for encoding in ("gzip", "deflate", "br", "zstd"):
        assert read(body, b"x" * 99, encoding=encoding) == []


def test_an_answer_that_is_too_large_is_no_longer_read() -> None:
    flood = b"data: " + b"x" * (1 << 20)
    assert read(*[flood] * 9, STREAM) == []
    bomb = gzip.compress(bytes(80 << 20), 1)
    assert read(bomb, kind="application/json", encoding="gzip") == []


def request(*calls: dict[str, Any], **more: Any) -> str:
    return json.dumps({"messages": [{"role": "user"}, {"role": "assistant", "tool_calls": calls}], **more})


def test_the_calls_of_a_request_are_found_with_their_places() -> None:
    text = request(call(1, None), call(2), tools=[{"function": {"name": "x"}}])
    first, second = request_calls(text)
    assert (first.call, first.first, first.extra) == (CALL, True, False)
    assert (second.first, second.extra) == (False, True)
    assert [text[each.at - 1 : each.at + 5] for each in (first, second)] == ['{"id":'] * 2


def test_any_white_space_is_allowed_between_the_values_of_a_request() -> None:
    body = json.loads(request(call(1, None), call(2)))
    for text in (json.dumps(body, indent=3), json.dumps(body, separators=(",", ":")), json.dumps(body, indent="\r\t")):
        assert [each.call.id for each in request_calls(text)] == ["call_1", "call_2"]


def test_a_key_inside_a_string_is_no_tool_call() -> None:
    quoted = json.dumps({"tool_calls": [call(9)]})
    body = {"messages": [{"content": quoted}, {"content": f"\\{quoted}"}, {"tool_calls": [call(1, None)]}]}
    assert [each.call.id for each in request_calls(json.dumps(body))] == ["call_1"]
    again = json.dumps({"messages": [{"content": json.dumps(body)}]})
    assert request_calls(again) == []


BAD_REQUESTS = [
    "", '"tool_calls"',
    '"tool_calls":[', '"tool_calls":[]', '"tool_calls":[1,', '"tool_calls":null', '"tool_calls":[{]',
    '{"tool_calls":[{"function":' + "[" * 200_000, '"tool_calls":[{"id":"x","function":{"name":7}}]',
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_REQUESTS)
def test_a_malformed_request_has_no_calls(text: str) -> None:
    assert request_calls(text) == []


def test_a_request_with_too_many_values_is_not_read() -> None:
    assert request_calls(request(call(1, None), x=[[]] * 500_000)) == []
    assert len(request_calls(request(call(1, None), x="," * 200_000 + "x" * (8 << 20)))) == 1


def test_of_countless_calls_the_last_are_read() -> None:
    messages = [{"role": "assistant", "tool_calls": [call(number, None)]} for number in range(3000)]
    found = request_calls(json.dumps({"messages": messages}))
    assert [each.call.id for each in found] == [f"call_{number}" for number in range(1000, 3000)]
    assert len(request_calls(request(*[call(1, None)] * 3000))) == 2000


def test_calls_inside_calls_are_not_touched() -> None:
    outer = call(1, None, more={"tool_calls": [call(2, None)]})
    assert [each.call.id for each in request_calls(request(outer, call(3, None)))] == ["call_1", "call_3"]


def test_only_readable_codings_are_offered_to_upstream() -> None:
    def offered(value: str) -> str:
        return dict(accept_readable([("X", "br"), ("Accept-Encoding", value)]))["Accept-Encoding"]

    assert offered("gzip, deflate, br, zstd") == "gzip, deflate"
    assert offered("br;q=1.0, GZIP;q=0.8, *;q=0.1") == "GZIP;q=0.8"
    assert offered("br") == "identity"
    assert accept_readable([("X", "br")]) == [("X", "br")]
