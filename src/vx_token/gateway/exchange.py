"""What is recorded of a request for log, metrics and `gateway tail`: never a body, key or token."""

import time
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from vx_token.gateway.usage import Usage

_KEPT = 100  # requests
_MAX_MODEL = 80  # characters


@dataclass(slots=True)
class Exchange:
    """A request and its response.

    Attributes:
        key: name of the local key, "" before it is checked.
        profile: name of the profile.
        path: path below the base URL.
        model: model id as sent to upstream, "" if unknown.
        status: HTTP status.
        started: monotonic time of the start.
        first_byte: seconds until upstream's status and headers arrived; None if the gateway answered itself.
        usage: model tokens, as counted by upstream.
        extra: headers added to the response.
    """

    key: str = ""
    profile: str = ""
    path: str = ""
    model: str = ""
    status: int = 500
    started: float = field(default_factory=time.monotonic)
    first_byte: float | None = None
    usage: Usage = field(default_factory=Usage)
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started


class RecentRequests:
    """The last requests, numbered from 1."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, float, float, str, Exchange]] = deque(maxlen=_KEPT)
        self._count = 0

    def add(self, exchange: Exchange, route: str) -> None:
        """Add a completed request."""
        self._count += 1
        self._kept.append((self._count, time.time(), exchange.seconds, route, exchange))

    def after(self, number: int) -> list[dict[str, Any]]:
        """Return the kept requests with a higher number."""
        return [_as_dict(*each) for each in islice(self._kept, max(0, len(self._kept) - (self._count - number)), None)]


def _as_dict(number: int, ended_at: float, total: float, route: str, exchange: Exchange) -> dict[str, Any]:
    return {
        "number": number,
        "time": ended_at,
        "key": exchange.key,
        "route": f"{exchange.profile}/{route}",
        "model": exchange.model[:_MAX_MODEL],
        "status": exchange.status,
        "first_byte": None if exchange.first_byte is None else round(exchange.first_byte, 3),
        "total": round(total, 3),
        "prompt": exchange.usage.prompt,
        "answer": exchange.usage.answer,
    }
