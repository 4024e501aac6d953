"""Vertex AI's OpenAI routes as the emulator answers them."""

import asyncio
import base64
import hashlib
import itertools
import json
import re
import struct
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from vx_token.emulator.refusals import refusal

Json = dict[str, Any]

VERSIONS = ("v1", "v1beta1")
ENDPOINT = "/projects/{project}/locations/{location}/endpoints/{endpoint}"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a prompt such as `emulator: chunks=20 delay=0.1 size=1000` asks of the emulator itself.

    Attributes:
        chunks: in how many pieces a stream carries the text.
        delay: seconds before a plain answer, or after each event of a stream.
        size: least length of the text, in characters.
    """

    chunks: int = 4
    delay: float = 0.0
    size: int = 0

    @classmethod
    def read(cls, prompt: str) -> "Wishes":
        """The wishes in `prompt`; the defaults where it has none."""
        _, _, wishes = prompt.partition("emulator:")
        said = dict(re.findall(r"\b(chunks|delay|size)=(\d+(?:\.\d+)?)", wishes))
        chunks, delay, size = (
            float(said.get(name, default)) for name, default in (("chunks", 4), ("delay", 0), ("size", 0))
        )
        return cls(max(1, int(chunks)), delay, int(size))


@dataclass(frozen=True, slots=True)
class Ask:
    """One admitted request.

    Attributes:
        request: the HTTP request.
        identity: whom its bearer speaks for.
        number: how many requests were admitted, this one included.
        body: its JSON object.
        size: its length in bytes.
        cut: after how many events a stream is broken off, or None.
    """

    request: web.Request
    identity: str
    number: int
    body: Json
    size: int
    cut: int | None = None

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
        """The last words said to the model."""
        return _text(next((self.body[key] for key in ("messages", "input", "prompt") if self.body.get(key)), ""))

    @property
    def wishes(self) -> Wishes:
        """What the prompt asks of the emulator itself."""
        return Wishes.read(self.prompt)

    @property
    def answer(self) -> str:
        """A text that tells who asked, which answer this is and how much was read."""
        text = f"Hello from the emulator (answer {self.number}) to {self.identity}: {self.size} bytes read."
        return text.ljust(max(self.wishes.size, self.wishes.chunks), ".")


Handler = Callable[[Ask], Awaitable[web.StreamResponse]]


def parse(data: bytes) -> Json | None:
    """The JSON object in a body, or None."""
    try:
        body = json.loads(data)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


async def serve(
    handler: Handler, request: web.Request, identity: str, number: int, cut: int | None
) -> web.StreamResponse:
    """Answer a request whose bearer was found good.

    Args:
        handler: one of `ROUTES`.
        request: the HTTP request, its body still unread.
        identity: whom the bearer speaks for.
        number: how many requests were admitted, this one included.
        cut: after how many events a stream is broken off, or None.
    """
    data = await request.read()
    body = parse(data)
    if body is None:
        return refusal(400, "Invalid JSON payload received.")
    ask = Ask(request, identity, number, body, len(data), cut)
    if request.match_info["endpoint"] == "openapi" and not re.fullmatch(r"[^/\s]+/\S+", ask.model):
        return refusal(400, f"Malformed publisher model (`model`: '{ask.model}'); expected '<publisher>/<model>'.")
    try:
        return await handler(ask)
    except (AttributeError, KeyError, TypeError, ValueError):
        return refusal(400, "Request contains an invalid argument.")


async def chat(ask: Ask) -> web.StreamResponse:
    """Answer with words, or call a declared function unless its result was just given."""
    calls = _tool_calls(ask.body)
    message: Json = {"role": "assistant", "content": None if calls else ask.answer}
    if calls:
        message["tool_calls"] = calls
    if ask.streams:
        return await _stream(ask, _chat_events(ask, calls))
    choice = {"index": 0, "finish_reason": "tool_calls" if calls else "stop", "logprobs": None, "message": message}
    return await _plain(ask, _completion(ask, "chat.completion", [choice]) | {"usage": _usage(ask)})


async def completions(ask: Ask) -> web.StreamResponse:
    """Answer the older, promptlike request."""
    if ask.streams:
        return await _stream(ask, _completion_events(ask))
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None, "text": ask.answer}
    return await _plain(ask, _completion(ask, "text_completion", [choice]) | {"usage": _usage(ask)})


async def embeddings(ask: Ask) -> web.StreamResponse:
    """Embed each input; the same text has the same vector."""
    given = ask.body.get("input", "")
    size = int(ask.body.get("dimensions") or 8)
    encode = _base64_floats if ask.body.get("encoding_format") == "base64" else list
    vectors = [_vector(str(text), size) for text in (given if isinstance(given, list) else [given])]
    rows = [{"object": "embedding", "index": at, "embedding": encode(row)} for at, row in enumerate(vectors)]
    tokens = _tokens(ask.prompt)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return await _plain(ask, {"object": "list", "model": ask.model, "data": rows, "usage": usage})


async def responses(ask: Ask) -> web.StreamResponse:
    """Answer the newer Responses request."""
    if ask.streams:
        return await _stream(ask, _response_events(ask))
    return await _plain(ask, _response(ask, "completed", [_output(ask, ask.answer)]))


ROUTES: dict[str, tuple[str, Handler]] = {
    "chat": ("/chat/completions", chat),
    "completions": ("/completions", completions),
    "embeddings": ("/embeddings", embeddings),
    "responses": ("/responses", responses),
}


def hang_up(request: web.Request) -> None:
    """End the connection in the middle of an answer; what was sent so far arrives."""
    if request.transport is not None:
        request.transport.close()


async def _plain(ask: Ask, body: Json) -> web.Response:
    await asyncio.sleep(ask.wishes.delay)
    return web.json_response(body)


async def _stream(ask: Ask, events: Iterable[str]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(ask.request)
    delay = ask.wishes.delay
    for sent, event in enumerate(events):
        if sent == ask.cut:
            hang_up(ask.request)
            return response
        await response.write(event.encode())
        await asyncio.sleep(delay)
    await response.write_eof()
    return response


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


def _tool_calls(body: Json) -> list[Json]:
    """One call of the function that was asked for, or else of the first one declared."""
    functions = [tool["function"] for tool in body.get("tools") or [] if tool.get("type") == "function"]
    choice = body.get("tool_choice")
    last = (body.get("messages") or [{}])[-1]
    if choice == "none" or last.get("role") == "tool":
        return []
    if isinstance(choice, dict):
        functions = [function for function in functions if function["name"] == choice["function"]["name"]]
    return [_tool_call(function) for function in functions[:1]]


def _tool_call(function: Json) -> Json:
    arguments = json.dumps(_example(function.get("parameters") or {"type": "object"}))
    call = {"name": function["name"], "arguments": arguments}
    return {"id": f"call_{function['name']}", "type": "function", "function": call}


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
