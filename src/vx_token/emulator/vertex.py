"""The emulator's copy of Vertex AI's OpenAI-compatible routes."""

import asyncio
import json
import re
from collections.abc import Callable, Iterable

from aiohttp import web

from vx_token.emulator.completions import Answer, Ask, Json, chat, completions, embeddings, responses
from vx_token.emulator.error_bodies import refusal

VERSIONS = ("v1", "v1beta1")
ENDPOINT = "/projects/{project}/locations/{location}/endpoints/{endpoint}"

Model = Callable[[Ask], Answer]

ROUTES: dict[str, tuple[str, Model]] = {
    "chat": ("/chat/completions", chat),
    "completions": ("/completions", completions),
    "embeddings": ("/embeddings", embeddings),
    "responses": ("/responses", responses),
}


def parse(data: bytes) -> Json | None:
    """The JSON object in a body, or None."""
    try:
        body = json.loads(data)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


async def serve(model: Model, request: web.Request, identity: str, number: int, cut: int | None) -> web.StreamResponse:
    """Answer a request whose bearer was found good.

    Args:
        model: what makes the answer, one of `ROUTES`.
        request: the HTTP request, its body still unread.
        identity: the identity of the bearer token.
        number: how many requests were admitted, this one included.
        cut: after how many events a stream is broken off, or None.
    """
    data = await request.read()
    body = parse(data)
    if body is None:
        return refusal(400, "Invalid JSON payload received.")
    ask = Ask(identity, number, body, len(data))
    if request.match_info["endpoint"] == "openapi" and not re.fullmatch(r"[^/\s]+/\S+", ask.model):
        return refusal(400, f"Malformed publisher model (`model`: '{ask.model}'); expected '<publisher>/<model>'.")
    try:
        answer, delay = model(ask), ask.wishes.delay
        if not isinstance(answer, dict):
            return await _stream(request, answer, delay, cut)
    except (AttributeError, KeyError, TypeError, ValueError):
        return refusal(400, "Request contains an invalid argument.")
    await asyncio.sleep(delay)
    return web.json_response(answer)


def hang_up(request: web.Request) -> None:
    """End the connection in the middle of an answer; what was sent so far arrives."""
    if request.transport is not None:
        request.transport.close()


async def _stream(request: web.Request, events: Iterable[str], delay: float, cut: int | None) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for sent, event in enumerate(events):
        if sent == cut:
            hang_up(request)
            return response
        await response.write(event.encode())
        await asyncio.sleep(delay)
    await response.write_eof()
    return response
