"""Reads tool calls with an `extra_content` from a chat answer, JSON or server-sent events, as it passes."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vx_token.gateway.decompression import Decompressor
from vx_token.gateway.tool_calls import EXTRA, ToolCall, parse_call

_MAX_BUFFER = 8 << 20  # bytes of a JSON answer, or of one event and of all unfinished calls of a stream
_MAX_ANSWER = 64 << 20  # bytes after which a stream is no longer read
_MAX_CALLS = 1024  # unfinished calls of a stream
_CALLS = b'"tool_calls"'
_EVENT_ENDS = (b"\n\n", b"\n\r\n")

Found = Callable[[ToolCall, str], None]
"""Receives a tool call and its `extra_content` as JSON text."""


class AnswerCalls:
    """Receives the chunks of one answer; anything malformed ends the reading and nothing else.

    Args:
        content_type: the Content-Type of the answer.
        encoding: its Content-Encoding.
        found: called for each tool call with an `extra_content`, before the client can know that the call is complete.
    """

    def __init__(self, content_type: str, encoding: str, found: Found) -> None:
        self._decompressor = Decompressor(encoding, _MAX_ANSWER)
        self._streams = "event-stream" in content_type.lower()
        self._events = _Events(found)
        self._found = found
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Add the next chunk."""
        for piece in self._decompressor.pieces(chunk):
            start = len(self._buffer) - 3  # an event's end may have begun in the previous piece
            self._buffer += piece
            if self._streams:
                self._read_events(self._last_event_end(max(0, start)))
            if len(self._buffer) > _MAX_BUFFER or self._events.size > _MAX_BUFFER:
                self._stop()

    def end(self) -> None:
        """Read the rest; call it before the end of the answer is sent on. Further calls do nothing."""
        if self._streams:
            self._read_events(len(self._buffer))
            self._events.finish_all()
        elif _CALLS in self._buffer and EXTRA.encode() in self._buffer:
            for choice in _choices(_parse(bytes(self._buffer))):
                for call in _list(_dict(choice.get("message")).get("tool_calls")):
                    _report(parse_call(call), _dict(call).get(EXTRA), self._found)
        self._stop()

    def _stop(self) -> None:
        self._decompressor.readable = False
        self._buffer.clear()
        self._events.clear()

    def _read_events(self, end: int) -> None:
        block = bytes(self._buffer[:end])
        del self._buffer[:end]
        if self._events.open or _CALLS in block:  # most chunks of a stream are text
            self._events.read(block)

    def _last_event_end(self, start: int) -> int:
        """Return the offset behind the last complete event, 0 if there is none behind `start`."""
        ends = ((self._buffer.rfind(end, start), len(end)) for end in _EVENT_ENDS)
        return max(at + length if at >= 0 else 0 for at, length in ends)


@dataclass(slots=True)
class _OpenCall:
    """A tool call whose parts are still arriving."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    extra: dict[str, Any] | None = None


class _Events:
    """Joins the parts of tool calls in server-sent events.

    Attributes:
        size: bytes of the unfinished calls.
    """

    def __init__(self, found: Found) -> None:
        self.size = 0
        self._found = found
        self._calls: dict[tuple[object, object], _OpenCall] = {}  # by index of the choice and of the call

    @property
    def open(self) -> bool:
        """Whether a call is unfinished."""
        return bool(self._calls)

    def clear(self) -> None:
        """Forget the unfinished calls."""
        self._calls.clear()
        self.size = 0

    def read(self, block: bytes) -> None:
        """Read complete events."""
        data: list[bytes] = []
        for line in [*block.splitlines(), b""]:
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                self._read_event(b"\n".join(data))
                data = []

    def _read_event(self, data: bytes) -> None:
        for choice in _choices(_parse(data)):
            index = _index(choice)
            for part in _list(_dict(choice.get("delta")).get("tool_calls")):
                self._add(index, _dict(part), len(data))
            if choice.get("finish_reason") is not None:
                self._finish(index)
        if data.strip() == b"[DONE]":
            self.finish_all()

    def _add(self, choice: object, part: dict[str, Any], size: int) -> None:
        key = choice, _index(part)
        call = self._calls.get(key)
        identifier = part.get("id")
        if call is not None and identifier and call.id and identifier != call.id:
            self._report(self._calls.pop(key))  # some servers give all parallel calls one index
            call = None
        if call is None:
            if len(self._calls) >= _MAX_CALLS:
                return
            call = self._calls[key] = _OpenCall()
        self.size += size
        function = _dict(part.get("function"))
        call.id = call.id or _text(identifier)
        call.name += _text(function.get("name"))
        call.arguments.append(_text(function.get("arguments")))
        extra = part.get(EXTRA)
        if isinstance(extra, dict):
            call.extra = {**(call.extra or {}), **extra}

    def _finish(self, choice: object) -> None:
        for key in [key for key in self._calls if key[0] == choice]:
            self._report(self._calls.pop(key))

    def finish_all(self) -> None:
        """Report every call that is still open."""
        for call in self._calls.values():
            self._report(call)
        self.clear()

    def _report(self, call: _OpenCall) -> None:
        complete = ToolCall(call.id, call.name, "".join(call.arguments)) if call.name else None
        _report(complete, call.extra, self._found)


def _report(call: ToolCall | None, extra: object, found: Found) -> None:
    if call is not None and isinstance(extra, dict):
        found(call, json.dumps(extra, separators=(",", ":")))


def _parse(data: bytes) -> dict[str, Any]:
    try:
        return _dict(json.loads(data))
    except (ValueError, RecursionError):
        return {}


def _choices(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [choice for choice in _list(answer.get("choices")) if isinstance(choice, dict)]


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _index(value: dict[str, Any]) -> int:
    index = value.get("index")
    return index if isinstance(index, int) else 0
