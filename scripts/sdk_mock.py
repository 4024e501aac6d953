"""A mock of OpenAI's API: each route of openai-python's api.md returns a sample of its response type."""

import datetime as dt
import importlib
import inspect
import pkgutil
import re
import types
import typing
from collections import Counter
from pathlib import Path
from typing import Any

import openai.pagination
import openai.types
from aiohttp import web

_ENTRY = re.compile(r'<code title="(\w+) ([^"?]+)[^"]*">[^<]*? -> (.*?)</code>')
_STREAM = re.compile(rb'"stream":\s*true|name="stream"\r\n\r\ntrue')
_SAMPLES = {str: "text", bool: True, int: 1, float: 1.5, dt.datetime: "2026-01-31T12:00:00Z"}
_MAX_DEPTH = 4  # of nested lists, because some types contain themselves


class Mock:
    """Answers requests, and counts them.

    Attributes:
        seen: how often each method, path with query and JSON body arrived; without the model list, which the gateway
            answers itself.

    Args:
        api: the SDK's list of routes.
        prefix: the path before a route.
    """

    def __init__(self, api: Path, prefix: str) -> None:
        self._prefix = prefix
        self.seen: Counter[tuple[str, str, bytes]] = Counter()
        names = _types()
        text = re.sub(r"</?a\b[^>]*>|\\", "", api.read_text())
        self._routes = [
            (method.upper(), re.compile(re.sub(r"{[^}]*}", "[^/]+", path)), names(response))
            for method, path, response in _ENTRY.findall(text)
        ]

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        body, path = await request.read(), request.path.removeprefix(self._prefix)
        comparable = body if request.content_type == "application/json" else b""  # multipart has random boundaries
        if path.split("/")[1] != "models" or request.method == "DELETE":
            self.seen[request.method, request.raw_path, comparable] += 1
        for method, pattern, response in self._routes:
            if method == request.method and pattern.fullmatch(path):
                if _STREAM.search(body):
                    return web.Response(text="data: {}\n\ndata: [DONE]\n\n", content_type="text/event-stream")
                if response is None:
                    return web.Response(status=204)
                return web.Response(text="text") if response is str else web.json_response(sample(response))
        return web.json_response({"error": {"message": "the mock has no such route"}}, status=404)


def sample(kind: Any, depth: int = 0) -> Any:
    """Return a JSON value that fits a type of the SDK."""
    while hasattr(kind, "__value__"):
        kind = kind.__value__
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is typing.Annotated:
        return sample(arguments[0], depth)
    if origin in {typing.Union, types.UnionType}:
        return sample(next(each for each in arguments if each is not type(None)), depth)
    if origin is typing.Literal:
        return arguments[0]
    if origin is list:
        return [sample(arguments[0], depth + 1)] if depth < _MAX_DEPTH else []
    if origin is dict:
        return {"key": sample(arguments[1], depth + 1)}
    if inspect.isclass(origin) and issubclass(origin, openai.BaseModel):
        # The fields of `kind` have their type arguments, those of `origin` do not.
        fields = getattr(kind, "model_fields", None) or origin.model_fields
        wanted = {name: each for name, each in fields.items() if each.is_required() or name == "data"}
        return {each.alias or name: sample(each.annotation, depth + 1) for name, each in wanted.items()}
    return _SAMPLES.get(origin, {})


def _types() -> typing.Callable[[str], Any]:
    """Return a function that evaluates the name of a response type."""
    names: dict[str, Any] = {}
    for module in pkgutil.walk_packages(openai.types.__path__, "openai.types."):
        names = {**vars(importlib.import_module(module.name)), **names}
    names.update(vars(openai.pagination))

    def evaluate(name: str) -> Any:
        try:
            return eval(name, dict(names))  # noqa: S307 - a name from the SDK's own documentation
        except NameError:  # binary content, which the tests mock themselves
            return str

    return evaluate
