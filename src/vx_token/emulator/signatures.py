"""Thought signatures of the emulated model: made for tool calls, and demanded back as Vertex does.

Source: Google's page "Thought signatures". The first of parallel calls has one. The calls of the current turn, which
begins with the last message of the user, must have theirs; an altered one is refused anywhere.
"""

import base64
import hashlib
import json
import re
from typing import Any

Json = dict[str, Any]

MODES = ("gemini-3", "all", "none")
"""Which models sign: those of Gemini 3 and later, all, or none."""

STAND_IN = "skip_thought_signature_validator"
_LEARN_MORE = "Learn more: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/thought-signatures"


def demanded(mode: str, model: str) -> bool:
    """Whether this model signs its tool calls and demands the signatures back."""
    return mode == "all" or (mode == "gemini-3" and re.search(r"\bgemini-([3-9]|[1-9]\d)", model) is not None)


def signature(origin: str, number: int, call: Json) -> str:
    """Return the signature of a tool call.

    Args:
        origin: model, path and identity; the signature is valid only there.
        number: number of the answer, so that no two answers have the same signature.
        call: the tool call.
    """
    function = call["function"]
    text = json.dumps([origin, number, call["id"], function["name"], _arguments(function)], sort_keys=True)
    return base64.b64encode(b"%d:" % number + hashlib.sha512(text.encode()).digest()).decode()


def problem(origin: str, messages: list[Json]) -> str:
    """Return Google's words for the first signature that is missing or invalid, "" if there is none."""
    contents = [message for message in messages if message.get("role") not in {"system", "developer"}]
    turn = max((at for at, message in enumerate(contents) if message.get("role") == "user"), default=0)
    for at, message in enumerate(contents):
        for place, call in enumerate(message.get("tool_calls") or []):
            given = ((call.get("extra_content") or {}).get("google") or {}).get("thought_signature")
            if given is None and place == 0 and at > turn:
                name = call["function"]["name"]
                return (
                    f"Unable to submit request because function call `default_api:{name}` in the {at + 1}. content "
                    f"block is missing a `thought_signature`. {_LEARN_MORE}"
                )
            if given not in {None, STAND_IN} and given != signature(origin, _number(given), call):
                return "Corrupted thought signature."
    return ""


def _arguments(function: Json) -> Any:
    try:
        return json.loads(function.get("arguments") or "{}")
    except ValueError:
        return function["arguments"]


def _number(given: str) -> int:
    try:
        return int(base64.b64decode(given).partition(b":")[0])
    except ValueError:
        return -1
