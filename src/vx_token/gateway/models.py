"""Model ids: aliases and the default model in request bodies, and the model list."""

import json
import re
from collections.abc import Iterator
from typing import Any

from vx_token.gateway.settings import Route

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_OPENING = re.compile(rb"[ \t\n\r]*\{[ \t\n\r]*")
_KEY = re.compile(rb"(" + _STRING + rb")[ \t\n\r]*:[ \t\n\r]*", re.DOTALL)
_BRACKET = rb"(?:([\[{])|([\]}]))"
_PART = re.compile(rb'[^"\[\]{},]*+(?:' + _STRING + rb"|" + _BRACKET + rb"|(,))", re.DOTALL)
# Matches up to 16 strings at once; the number is bounded because a running match blocks the event loop.
_INNER_PART = re.compile(rb'(?:[^"\[\]{}]++|' + _STRING + rb"){0,16}+" + _BRACKET + rb"?", re.DOTALL)
_NEXT = re.compile(rb"[ \t\n\r]*")
_MODEL = b'"model"'
_MODEL_ID = re.compile(rb'[ \t\n\r]*:[ \t\n\r]*"([^"\\]*)"')
_DEFAULT_MODEL_PATHS = frozenset({"chat/completions", "completions", "responses"})
_MAX_PARTS = 100_000
"""Maximum number of regular-expression matches per body; they block the event loop for at most 0.1 s."""


def needs_rewrite(route: Route) -> bool:
    """Return whether this route has any setting that changes request bodies."""
    return bool(route.aliases or route.publisher or route.model or (route.known and route.known.deployed()))


def resolve(model: str, route: Route) -> str:
    """Return the upstream id of `model`: resolve the alias, then add the publisher if there is none.

    The model of a deployed endpoint is asked for without a name, because its container may know it by another one.
    """
    model = route.aliases.get(model, model)
    if route.known and model in route.known.deployed():
        return ""
    return f"{route.publisher}/{model}" if route.publisher and model and "/" not in model else model


def rewrite(body: bytes, route: Route, path: str, *, whole: bool = True) -> bytes:
    """Resolve the top-level model id of a JSON body; every other byte stays the same.

    Other values are skipped, not parsed, so deep or large ones need no memory.

    Args:
        body: a JSON object. Anything else is returned unchanged, and so is a body with too many values before the id.
        route: aliases, publisher and default model.
        path: path below the base URL; only some paths get the default model.
        whole: False if `body` is only the beginning of the request body.
    """
    try:
        for key, start, end in _members(body):
            if _is_model(key):
                return _replace_id(body, start, end, route)
    except ValueError:
        return body
    if whole and route.model and path in _DEFAULT_MODEL_PATHS:
        return _insert_id(body, resolve(route.model, route))
    return body


def model_id(body: bytes) -> str:
    """Return the top-level model id of a JSON body, "" if there is none."""
    at = body.find(_MODEL)
    if at >= 0 and body.find(_MODEL, at + 1) < 0 and (only := _MODEL_ID.match(body, at + len(_MODEL))):
        return only[1].decode("utf-8", "replace")  # it need not be searched for member by member
    try:
        model = next((json.loads(body[start:end]) for key, start, end in _members(body) if _is_model(key)), "")
    except (ValueError, RecursionError):
        return ""
    return model if isinstance(model, str) else ""


def model_list(route: Route) -> dict[str, Any]:
    """Return OpenAI's model list: what is configured, is deployed, has answered a probe, or is in a switched-on list.

    Vertex has no such endpoint, so nothing here waits for it.
    """
    known = route.known.ids() if route.known else ()
    names = dict.fromkeys([*route.aliases, *([route.model] if route.model else []), *route.models, *known])
    return {"object": "list", "data": [model_entry(name, route) for name in names]}


def model_entry(name: str, route: Route) -> dict[str, Any]:
    """Return one entry of the model list."""
    upstream = resolve(name, route)
    owner, slash, _ = upstream.partition("/")
    owned_by = owner if slash else "google" if upstream else "deployed"
    return {"id": name, "object": "model", "created": 0, "owned_by": owned_by}


def _is_model(key: bytes) -> bool:
    return key == _MODEL or (b"\\" in key and json.loads(key, strict=False) == "model")


def _replace_id(body: bytes, start: int, end: int, route: Route) -> bytes:
    value = body[start:end].rstrip(b" \t\n\r")
    model = json.loads(value)
    if not isinstance(model, str):
        return body
    resolved = resolve(model, route)
    if resolved == model:
        return body
    return body[:start] + json.dumps(resolved).encode() + body[start + len(value) :]


def _insert_id(body: bytes, model: str) -> bytes:
    opening = body.index(b"{") + 1
    comma = b"" if body[opening:].lstrip().startswith(b"}") else b","
    return body[:opening] + b'"model":' + json.dumps(model).encode() + comma + body[opening:]


def _members(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the top-level members of a JSON object as (raw key, start and end of the value).

    Raises:
        ValueError: the body is not a JSON object, is incomplete, or has too many values.
    """
    opening = _OPENING.match(body)
    if opening is None:
        raise ValueError("not an object")
    at, parts = opening.end(), _MAX_PARTS
    while body[at : at + 1] != b"}":
        key = _KEY.match(body, at)
        if key is None:
            raise ValueError("not a key")
        start = key.end()
        end, parts = _end_of_value(body, start, parts)
        yield key[1], start, end
        if body[end : end + 1] == b"}":
            return
        following = _NEXT.match(body, end + 1)
        assert following is not None
        at = following.end()


def _end_of_value(body: bytes, at: int, parts: int) -> tuple[int, int]:
    """Return the end index of the value that starts at `at`, and the number of parts left of `parts`."""
    depth = 0
    for left in range(parts - 1, -1, -1):
        part = (_INNER_PART if depth else _PART).match(body, at)
        if part is None or part.end() == at:
            break
        at = part.end()
        if part.lastindex == 1:
            depth += 1
        elif part.lastindex is not None and depth == 0:
            return at - 1, left
        elif part.lastindex == 2:
            depth -= 1
    raise ValueError("incomplete, or too many values")
