"""Faults that the emulator injects into its answers: which, when and how often."""

import asyncio
import itertools
import json
import random
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from vx_token.emulator import vertex
from vx_token.emulator.error_bodies import error, page, reauth_needed

_BREAKS = ("error", "html", "empty", "list", "truncated", "junk", "drip", "reset", "hang", "invalid_rapt")
_TWISTS = ("no_expiry", "negative_expiry", "newline_token", "empty_token", "huge_token", "same_token")
KINDS = frozenset({*_BREAKS, *_TWISTS, "slow", "cut"})


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one answer.

    Attributes:
        kind: one of `KINDS`: `error` (by status), a 200 that is `html`, `empty`, `truncated`, a JSON `list`, `junk`
            (`size` bytes) or a `drip` (a byte a second); `reset` and `hang` send nothing, `slow` answers rightly after
            `delay`, `cut` breaks a stream after `after` events; the others spoil the token that is handed out.
        status: the HTTP status.
        body: the body of an `error`; by default Google's body for that status.
        headers: more headers of an `error`, such as Retry-After.
        delay: seconds to wait before anything else.
        after: events of a stream before a `cut`.
        size: bytes of `junk`.
    """

    kind: str = "error"
    status: int = 503
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    after: int = 1
    size: int = 200_000_000

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            message = f"unknown fault {self.kind!r}; there are {', '.join(sorted(KINDS))}"
            raise ValueError(message)


@dataclass(slots=True)
class Rule:
    """When a fault strikes: on a route, so many times (None: for ever), with a probability from a seeded chance."""

    route: str
    fault: Fault
    times: int | None
    probability: float
    chance: random.Random

    def strikes(self, route: str) -> bool:
        """Whether it strikes this request; it then has one time less."""
        if route != self.route or self.times == 0 or self.chance.random() >= self.probability:
            return False
        self.times = None if self.times is None else self.times - 1
        return True


class Faults:
    """The faults that wait for their requests."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def add(self, rule: Rule) -> None:
        """Add one behind those of the same route."""
        self._rules = [*self._rules, rule]

    def heal(self, route: str | None) -> None:
        """Drop those of a route, or all."""
        self._rules = [rule for rule in self._rules if route not in {None, rule.route}]

    def strike(self, route: str) -> Fault | None:
        """What goes wrong with this request, if anything."""
        return next((rule.fault for rule in self._rules if rule.strikes(route)), None)


@dataclass(frozen=True, slots=True)
class Visit:
    """One request on its way through the emulator.

    Attributes:
        request: the HTTP request.
        route: the route it takes.
        fault: what goes wrong with its answer, or None.
    """

    request: web.Request
    route: str
    fault: Fault | None

    @property
    def kind(self) -> str:
        """What goes wrong, or an empty string."""
        return self.fault.kind if self.fault else ""


Handler = Callable[[Visit], Awaitable[web.StreamResponse]]


async def go_wrong(visit: Visit) -> web.StreamResponse | None:
    """Answer wrongly; None when nothing is wrong, or when the fault spoils a right answer instead."""
    fault = visit.fault
    if fault is None:
        return None
    await asyncio.sleep(fault.delay)
    match fault.kind:
        case "error":
            return _failure(visit.route, fault)
        case "invalid_rapt":
            raise reauth_needed()
        case "html" | "empty" | "list":
            text, kind = _BODIES[fault.kind]
            return web.Response(text=text, content_type=kind)
        case "truncated" | "junk" | "drip":
            return await _send(visit.request, *_flow(fault))
        case "reset":
            _reset(visit.request)
            raise ConnectionResetError
        case "hang":
            await asyncio.Event().wait()
    return None


_BODIES = {
    "html": ("<!DOCTYPE html><title>Log in to this network</title>", "text/html"),
    "empty": ("", "application/json"),
    "list": ("[]", "application/json"),
}


def _flow(fault: Fault) -> tuple[int, Iterable[bytes], float]:
    """The bytes promised, the pieces sent, and the seconds between them."""
    return {
        "truncated": (1000, [b'{"access_token": "ya29.'], 0.0),
        "junk": (fault.size, itertools.repeat(b"x" * 65536, 1 + fault.size // 65536), 0.0),
        "drip": (3600, itertools.repeat(b" ", 3600), 1.0),
    }[fault.kind]


def _failure(route: str, fault: Fault) -> web.Response:
    body = _default_body(route, fault.status) if fault.body is None else fault.body
    kind = "application/json" if body.startswith(("{", "[")) else "text/html"
    return web.Response(status=fault.status, text=body, content_type=kind, headers=fault.headers)


async def _send(request: web.Request, length: int, pieces: Iterable[bytes], pause: float) -> web.StreamResponse:
    """Promise `length` bytes, send no more than that in pieces, and hang up when the promise was not kept."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = length
    await response.prepare(request)
    for piece in pieces:
        await response.write(piece[:length])
        length -= len(piece)
        await asyncio.sleep(pause)
    if length > 0:
        vertex.hang_up(request)
    else:  # because after an abrupt close the peer could lose unread data
        await response.write_eof()
    return response


def _reset(request: web.Request) -> None:
    """Break the connection at once, so that the peer sees a reset instead of an orderly end."""
    if request.transport is None:
        return
    raw = request.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


def _default_body(route: str, status: int) -> str:
    """Return Google's body for that status on that route."""
    if route in vertex.ROUTES:
        return json.dumps([error(status, "The emulator was told to fail.")])
    if route in {"iam", "endpoints", "endpoint", "model", "publishers"}:
        return json.dumps(error(status, "The emulator was told to fail."))
    if route in {"token", "sts"}:
        code = "internal_failure" if status >= 500 else "invalid_request"
        return json.dumps({"error": code, "error_description": "The emulator was told to fail."})
    return page(status)
