"""Completions of the emulated model, by OpenAI's schemas: JSON bodies and server-sent events; pure functions."""

import base64
import hashlib
import itertools
import json
import re
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vx_token.emulator.signatures import signature

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a user's message such as `emulator: chunks=20 delay=0.1 size=1000` asks of the emulator itself.

    Attributes:
        chunks: in how many pieces a stream carries the text.
        delay: seconds before a plain answer, or after each event of a stream.
        size: least length of the text, in characters.
        calls: how many of the declared functions are called at once.
        steps: how often functions are called before the text.
    """

    chunks: int = 4
    delay: float = 0.0
    size: int = 0
    calls: int = 1
    steps: int = 1

    @classmethod
    def read(cls, prompt: str) -> "Wishes":
        """The wishes in `prompt`; the defaults where it has none."""
        _, _, wishes = prompt.partition("emulator:")
        said = dict(re.findall(r"\b(chunks|delay|size|calls|steps)=(\d+(?:\.\d+)?)", wishes))
        defaults = {"chunks": 4, "delay": 0, "size": 0, "calls": 1, "steps": 1}
        chunks, delay, size, calls, steps = (float(said.get(name, default)) for name, default in defaults.items())
        return cls(max(1, int(chunks)), delay, int(size), int(calls), int(steps))


@dataclass(frozen=True, slots=True)
class Ask:
    """One admitted request, as the model sees it.

    Attributes:
        identity: the identity of the bearer token.
        number: how many requests were admitted, this one included.
        body: its JSON object.
        size: its length in bytes.
        path: the path of its endpoint.
        signs: whether the model signs its tool calls.
    """

    identity: str
    number: int
    body: Json
    size: int
    path: str = ""
    signs: bool = False

    @property
    def model(self) -> str:
        """The model asked for."""
        return str(self.body.get("model", ""))

    @property
    def streams(self) -> bool:
        """Whether the answer is wanted as server-sent events."""
        return self.body.get("stream") is True

    @property
    def prompt(self) -> str:
        """Return the last message to the model."""
        return _text(next((self.body[key] for key in ("messages", "input", "prompt") if self.body.get(key)), ""))

    @property
    def wishes(self) -> Wishes:
        """What the user's last message, or else the prompt, asks of the emulator itself."""
        asked = [message for message in self.body.get("messages") or [] if message.get("role") == "user"]
        return Wishes.read(_text(asked[-1]) if asked else self.prompt)

    @property
    def origin(self) -> str:
        """Return where a thought signature of this answer is valid: model, endpoint and identity."""
        return f"{self.model} {self.path} {self.identity}"

    @property
    def answer(self) -> str:
        """Return a text with the caller, the number of this answer and the length of the prompt."""
        text = f"Hello from the emulator (answer {self.number}) to {self.identity}: {self.size} bytes read."
        return text.ljust(max(self.wishes.size, self.wishes.chunks), ".")


Answer = Json | Iterator[str]
"""A JSON body, or the events of a stream."""


def chat(ask: Ask) -> Answer:
    """Words, or calls of declared functions unless their results were just given."""
    calls = _tool_calls(ask)
    if ask.streams:
        return _chat_events(ask, calls)
    message: Json = {"role": "assistant", "content": None if calls else ask.answer}
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "finish_reason": "tool_calls" if calls else "stop", "logprobs": None, "message": message}
    return _completion(ask, "chat.completion", [choice]) | {"usage": _usage(ask)}


def completions(ask: Ask) -> Answer:
    """The older, promptlike form."""
    if ask.streams:
        return _completion_events(ask)
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None, "text": ask.answer}
    return _completion(ask, "text_completion", [choice]) | {"usage": _usage(ask)}


def embeddings(ask: Ask) -> Answer:
    """A vector of each input; the same text has the same vector."""
    given = ask.body.get("input", "")
    size = int(ask.body.get("dimensions") or 8)
    encode = _base64_floats if ask.body.get("encoding_format") == "base64" else list
    vectors = [_vector(str(text), size) for text in (given if isinstance(given, list) else [given])]
    rows = [{"object": "embedding", "index": at, "embedding": encode(row)} for at, row in enumerate(vectors)]
    tokens = _tokens(ask.prompt)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": ask.model, "data": rows, "usage": usage}


def responses(ask: Ask) -> Answer:
    """The newer Responses form."""
    if ask.streams:
        return _response_events(ask)
    return _response(ask, "completed", [_output(ask, ask.answer)])


def _data(body: Json) -> str:
    return f"data: {json.dumps(body)}\n\n"


def _chat_events(ask: Ask, calls: list[Json]) -> Iterator[str]:
    def chunk(delta: Json, finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return _data(_completion(ask, "chat.completion.chunk", [choice]))

    for at, call in enumerate(calls):
        yield chunk({"role": "assistant", "tool_calls": [call | {"index": at}]})
    for piece in [] if calls else _pieces(ask):
        yield chunk({"role": "assistant", "content": piece})
    yield chunk({}, "tool_calls" if calls else "stop")
    if (ask.body.get("stream_options") or {}).get("include_usage"):
        yield _data(_completion(ask, "chat.completion.chunk", []) | {"usage": _usage(ask)})
    yield "data: [DONE]\n\n"


def _completion_events(ask: Ask) -> Iterator[str]:
    for piece in _pieces(ask):
        choice = {"index": 0, "text": piece, "finish_reason": None, "logprobs": None}
        yield _data(_completion(ask, "text_completion", [choice]))
    yield _data(_completion(ask, "text_completion", [{"index": 0, "text": "", "finish_reason": "stop"}]))
    yield "data: [DONE]\n\n"


def _response_events(ask: Ask) -> Iterator[str]:
    order = itertools.count()
    item = _output(ask, ask.answer)
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}

    def event(kind: str, **fields: Any) -> str:
        return f"event: {kind}\n" + _data({"type": kind, "sequence_number": next(order)} | fields)

    yield event("response.created", response=_response(ask, "in_progress", []))
    empty = item | {"status": "in_progress", "content": []}
    yield event("response.output_item.added", output_index=0, item=empty)
    yield event("response.content_part.added", **place, part=item["content"][0] | {"text": ""})
    for piece in _pieces(ask):
        yield event("response.output_text.delta", **place, delta=piece, logprobs=[])
    yield event("response.output_text.done", **place, text=ask.answer, logprobs=[])
    yield event("response.content_part.done", **place, part=item["content"][0])
    yield event("response.output_item.done", output_index=0, item=item)
    yield event("response.completed", response=_response(ask, "completed", [item]))


def _completion(ask: Ask, kind: str, choices: list[Json]) -> Json:
    identifier, created = f"emulator-{ask.number}", int(time.time())
    return {"id": identifier, "object": kind, "created": created, "model": ask.model, "choices": choices}


def _output(ask: Ask, text: str) -> Json:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": f"msg_{ask.number}", "role": "assistant", "status": "completed", "content": [part]}


def _response(ask: Ask, status: str, output: list[Json]) -> Json:
    said, heard = _tokens(ask.answer), _tokens(ask.prompt)
    usage = {"input_tokens": heard, "output_tokens": said, "total_tokens": heard + said}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    head = {"id": f"resp_{ask.number}", "object": "response", "created_at": int(time.time()), "model": ask.model}
    settings = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": ask.body.get("tools") or []}
    finished = {"usage": usage | details} if status == "completed" else {}
    return head | settings | {"status": status, "output": output} | finished


def _tool_calls(ask: Ask) -> list[Json]:
    """Calls of the function that was asked for, or else of the first ones declared; the first call is signed."""
    body = ask.body
    functions = [tool["function"] for tool in body.get("tools") or [] if tool.get("type") == "function"]
    choice = body.get("tool_choice")
    if choice == "none" or _steps_done(body.get("messages") or []) >= ask.wishes.steps:
        return []
    if isinstance(choice, dict):
        functions = [function for function in functions if function["name"] == choice["function"]["name"]]
    calls = [
        _tool_call(function, f"call_{ask.number}_{at}") for at, function in enumerate(functions[: ask.wishes.calls])
    ]
    if calls and ask.signs:
        calls[0]["extra_content"] = {"google": {"thought_signature": signature(ask.origin, ask.number, calls[0])}}
    return calls


def _steps_done(messages: list[Json]) -> int:
    """Return how often functions were called and gave their results since the user's last message."""
    roles = [message.get("role") for message in messages]
    current = roles[len(roles) - roles[::-1].index("user") :] if "user" in roles else roles
    return sum(each == "tool" and before != "tool" for each, before in zip(current, ["", *current], strict=False))


def _tool_call(function: Json, identifier: str) -> Json:
    arguments = json.dumps(_example(function.get("parameters") or {"type": "object"}))
    call = {"name": function["name"], "arguments": arguments}
    return {"id": identifier, "type": "function", "function": call}


def _example(schema: Json) -> Any:
    """A value that a JSON schema allows, as far as the simple keywords go."""
    if schema.get("enum"):
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {name: _example(inner) for name, inner in (schema.get("properties") or {}).items()}
    return {"integer": 1, "number": 1.5, "boolean": True, "array": [], "null": None}.get(
        schema.get("type", ""), "example"
    )


def _text(said: Any) -> str:
    """The words of a prompt, of the last of several messages, or of a message's text parts."""
    if isinstance(said, dict):
        return _text(said.get("content") or said.get("text") or "")
    if isinstance(said, list):
        parts = said if all(isinstance(part, dict) and "text" in part for part in said) else said[-1:]
        return " ".join(_text(part) for part in parts)
    return str(said)


def _pieces(ask: Ask) -> Iterator[str]:
    text, count = ask.answer, ask.wishes.chunks
    return (text[len(text) * at // count : len(text) * (at + 1) // count] for at in range(count))


def _tokens(text: str) -> int:
    return 1 + len(text) // 4


def _usage(ask: Ask) -> Json:
    heard, said = _tokens(ask.prompt), _tokens(ask.answer)
    return {"prompt_tokens": heard, "completion_tokens": said, "total_tokens": heard + said}


def _vector(text: str, size: int) -> list[float]:
    digest = hashlib.shake_256(text.encode()).digest(size)
    return [byte / 128 - 1 for byte in digest]


def _base64_floats(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
