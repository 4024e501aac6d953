"""The emulator's copy of Vertex AI's OpenAI-compatible routes."""

import asyncio
import json
import re
from collections.abc import Callable, Iterable

from aiohttp import web

from vx_token.emulator.catalog import Catalog
from vx_token.emulator.completions import Answer, Ask, Json, chat, completions, embeddings, responses
from vx_token.emulator.error_bodies import refusal
from vx_token.emulator.signatures import demanded, problem

VERSIONS = ("v1", "v1beta1")
ENDPOINT = "/projects/{project}/locations/{location}/endpoints/{endpoint}"
INVOKE = "/invoke/v1"
"""The prefix of a container's own OpenAI routes, at an endpoint whose model has an `invokeRoutePrefix`."""

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


async def serve(
    model: Model,
    request: web.Request,
    identity: str,
    number: int,
    cut: int | None,
    catalog: Catalog,
    signatures: str,
) -> web.StreamResponse:
    """Answer a request whose bearer was found good.

    Args:
        model: what makes the answer, one of `ROUTES`.
        request: the HTTP request, its body still unread.
        identity: the identity of the bearer token.
        number: how many requests were admitted, this one included.
        cut: after how many events a stream is broken off, or None.
        catalog: what is deployed, and which listed models do not answer.
        signatures: which models sign their tool calls, one of `signatures.MODES`.
    """
    data = await request.read()
    body = parse(data)
    if body is None:
        return refusal(400, "Invalid JSON payload received.")
    signs = demanded(signatures, str(body.get("model", "")))
    ask = Ask(identity, number, body, len(data), request.path.rpartition("/endpoints/")[0], signs)
    if request.match_info["endpoint"] == "openapi" and not re.fullmatch(r"[^/\s]+/\S+", ask.model):
        return refusal(400, f"Malformed publisher model (`model`: '{ask.model}'); expected '<publisher>/<model>'.")
    if refused := _unknown_model(request, ask.model, catalog):
        return refused
    try:
        wrong = problem(ask.origin, body.get("messages") or []) if signs else ""
        if wrong:
            return refusal(400, wrong)
        answer, delay = model(ask), ask.wishes.delay
        if not isinstance(answer, dict):
            return await _stream(request, answer, delay, cut)
    except (AttributeError, KeyError, TypeError, ValueError):
        return refusal(400, "Request contains an invalid argument.")
    await asyncio.sleep(delay)
    return web.json_response(answer)


def _unknown_model(request: web.Request, model: str, catalog: Catalog) -> web.Response | None:
    """Refuse a model that is listed and not served in this location, or one that a container does not know.

    Sources: Vertex AI's message from public reports; vLLM's from its OpenAI server, which accepts an empty name as its
    own model.
    """
    place = request.match_info
    if model in catalog.unavailable:
        publisher, _, name = model.partition("/")
        parent = f"projects/{place['project']}/locations/{place['location']}"
        message = (
            f"Publisher Model `{parent}/publishers/{publisher}/models/{name}` was not found or your project does not "
            "have access to it. Please ensure you are using a valid model version."
        )
        return refusal(404, message)
    endpoint = catalog.find(place["endpoint"])
    if endpoint is not None and endpoint.serves and model not in ("", endpoint.serves):
        message = f"The model `{model}` does not exist."
        body = {"object": "error", "message": message, "type": "NotFoundError", "code": 404}
        return web.json_response(body, status=404)
    return None


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
