"""Finds the tool calls in a chat request, and the place in each where a member can be inserted."""

import json
import re
from collections.abc import Iterator
from itertools import islice
from json.decoder import JSONDecoder
from typing import NamedTuple

EXTRA = "extra_content"
"""The member of a tool call in which Gemini sends its thought signature."""

_KEY = '"tool_calls"'
_OPENING = re.compile(r"[ \t\n\r]*:[ \t\n\r]*\[[ \t\n\r]*")
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
_decode = JSONDecoder(strict=False).raw_decode
_MAX_CALLS = 2000  # a call takes 10 us
_ALWAYS_READ = 1 << 20  # characters; decoding them blocks the event loop for at most 0.05 s
_MAX_VALUES = 300_000  # commas and brackets of a larger request, for the same reason


class ToolCall(NamedTuple):
    """A tool call of the model; `arguments` is JSON in a string."""

    id: str
    name: str
    arguments: str


class RequestCall(NamedTuple):
    """A tool call in a request.

    Attributes:
        at: offset just behind its opening brace, where a member can be inserted.
        call: the call.
        first: whether it is the first of the calls of its message.
        extra: whether it has an `extra_content`.
    """

    at: int
    call: ToolCall
    first: bool
    extra: bool


def parse_call(value: object) -> ToolCall | None:
    """Return the tool call that a decoded JSON object describes; None if it lacks a function's name."""
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(function, dict):
        return None
    identifier, name, arguments = value.get("id", ""), function.get("name"), function.get("arguments", "")
    if not isinstance(identifier, str) or not isinstance(name, str) or not name:
        return None
    return ToolCall(identifier, name, arguments if isinstance(arguments, str) else json.dumps(arguments))


def request_calls(text: str) -> list[RequestCall]:
    """Return the tool calls of the last 2,000 messages that have any; none if the text has too many values.

    Only the calls are decoded. They are found by their key: inside a JSON string its quotes would be escaped. Malformed
    JSON ends the search.
    """
    if len(text) > _ALWAYS_READ and sum(map(text.count, ",[{")) > _MAX_VALUES:
        return []
    try:
        return list(islice(_calls(text), _MAX_CALLS))
    except (ValueError, RecursionError):
        return []


def _calls(text: str) -> Iterator[RequestCall]:
    at = 0
    for key in list(_keys(text))[-_MAX_CALLS:]:
        opening = _OPENING.match(text, key)
        if key < at or opening is None:  # a key inside the previous calls
            continue
        at, first, more = opening.end(), True, not text.startswith("]", opening.end())
        while more:
            start = at
            value, at = _decode(text, start)
            call = parse_call(value)
            if call is not None:
                yield RequestCall(start + 1, call, first, EXTRA in value)
            comma = _COMMA.match(text, at)
            at, first, more = comma.end() if comma else at, False, comma is not None


def _keys(text: str) -> Iterator[int]:
    """Yield the offset behind each `"tool_calls"`."""
    at = 0
    while (at := text.find(_KEY, at)) >= 0:
        at += len(_KEY)
        yield at
