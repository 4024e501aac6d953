"""Model ids: what clients say, what upstream is told, and the list that upstream does not have."""

import json
import re
from collections.abc import Iterator
from json.decoder import JSONDecoder, scanstring  # type: ignore[attr-defined]
from typing import Any

from vx_token.gateway.settings import Route

_DECODER = JSONDecoder(strict=False)
_OPENING = re.compile(r'[ \t\n\r]*\{[ \t\n\r]*(["}])')
_COLON = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
_AFTER = re.compile(r'[ \t\n\r]*(?:,[ \t\n\r]*(")|\})')
_TAKES_DEFAULT = frozenset({"chat/completions", "completions", "responses"})


def rewrites(route: Route) -> bool:
    """Whether any body of this route could need a change."""
    return bool(route.aliases or route.publisher or route.model)


def resolve(model: str, route: Route) -> str:
    """What upstream calls `model`: the alias's target, then the publisher's prefix where none is there."""
    model = route.aliases.get(model, model)
    return f"{route.publisher}/{model}" if route.publisher and model and "/" not in model else model


def rewrite(body: bytes, route: Route, path: str, *, whole: bool = True) -> bytes:
    """The body with its top-level model id resolved, and every other byte as it was.

    Args:
        body: JSON, or anything else, which is left alone.
        route: the aliases and the prefix.
        path: below the base URL; only some routes take the default model.
        whole: False when `body` is only the beginning of a larger one.
    """
    # Latin-1 maps bytes to characters one by one, so positions in the text are positions in the body.
    text = body.decode("latin-1")
    try:
        for key, start, end in _members(text):
            if key == "model":
                return _replaced(body, start, end, route)
    except (ValueError, RecursionError):
        return body
    if whole and route.model and path in _TAKES_DEFAULT:
        return _with_default(body, resolve(route.model, route))
    return body


def listing(route: Route) -> dict[str, Any]:
    """OpenAI's model list from the configuration: Vertex has no such route."""
    names = dict.fromkeys([*route.aliases, *([route.model] if route.model else []), *route.models])
    return {"object": "list", "data": [card(name, route) for name in names]}


def card(name: str, route: Route) -> dict[str, Any]:
    """One entry of the list."""
    owner, slash, _ = resolve(name, route).partition("/")
    return {"id": name, "object": "model", "created": 0, "owned_by": owner if slash else "google"}


def _replaced(body: bytes, start: int, end: int, route: Route) -> bytes:
    model = json.loads(body[start:end])
    if not isinstance(model, str):
        return body
    resolved = resolve(model, route)
    if resolved == model:
        return body
    return body[:start] + json.dumps(resolved).encode() + body[end:]


def _with_default(body: bytes, model: str) -> bytes:
    opening = body.index(b"{") + 1
    comma = b"" if body[opening:].lstrip().startswith(b"}") else b","
    return body[:opening] + b'"model":' + json.dumps(model).encode() + comma + body[opening:]


def _members(text: str) -> Iterator[tuple[str, int, int]]:
    """The top-level members of a JSON object as (key, start, end of the value); stops reading when you do.

    Raises:
        ValueError: it is not a JSON object, or ends too soon.
    """
    opening = _OPENING.match(text)
    if opening is None:
        raise ValueError(text[:1])
    at, more = opening.end(), opening[1] == '"'
    while more:
        key, at = scanstring(text, at, False)
        colon = _COLON.match(text, at)
        if colon is None:
            raise ValueError(key)
        start = colon.end()
        _, end = _DECODER.raw_decode(text, start)
        yield key, start, end
        after = _AFTER.match(text, end)
        if after is None:
            raise ValueError(key)
        at, more = after.end(), after[1] == '"'
