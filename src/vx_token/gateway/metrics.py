"""What the gateway counts, in a registry of its own."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from vx_token.gateway.usage import Usage

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # the format of generate_latest in every version
_ROUTES = frozenset({"chat/completions", "completions", "embeddings", "responses", "models"})
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


def known_route(path: str) -> str:
    """The route below a base URL, of the few that have a name."""
    return path if path in _ROUTES else "other"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The gateway in a few numbers, for `status`.

    Attributes:
        requests: answered since the start.
        errors: those with status 400 or more.
        in_flight: under way now.
        tokens_per_minute: counted by upstream over the last minute, prompts and answers together.
        started_at: epoch seconds.
    """

    requests: int
    errors: int
    in_flight: int
    tokens_per_minute: int
    started_at: float


class LastMinute:
    """A sum over the last sixty seconds, in sixty cells."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._cells = [(0, 0)] * 60

    def add(self, amount: int) -> None:
        """Count `amount` now."""
        second = int(self._monotonic())
        stamp, sum_ = self._cells[second % 60]
        self._cells[second % 60] = (second, sum_ + amount if stamp == second else amount)

    def total(self) -> int:
        """The sum of what came in the last minute."""
        oldest = int(self._monotonic()) - 60
        return sum(sum_ for stamp, sum_ in self._cells if stamp > oldest)


class Metrics:
    """Prometheus counters, and the same in short for `status`."""

    def __init__(self, seconds_left: Callable[[], dict[str, float]]) -> None:
        self.registry = CollectorRegistry()
        prefix = "vx_token_gateway"
        self._requests = Counter(
            f"{prefix}_requests", "Requests answered.", ["profile", "route", "status"], registry=self.registry
        )
        self._in_flight = Gauge(f"{prefix}_in_flight", "Requests under way.", registry=self.registry)
        self._latency = Histogram(
            f"{prefix}_upstream_seconds",
            "Until upstream's first byte.",
            ["profile"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._refreshes = Counter(
            f"{prefix}_refreshes", "Refreshes asked for by requests.", ["profile", "result"], registry=self.registry
        )
        self._tokens = Counter(
            f"{prefix}_tokens", "Model tokens counted by upstream.", ["profile", "kind"], registry=self.registry
        )
        self._left = Gauge("vx_token_seconds_left", "Life left in the token.", ["profile"], registry=self.registry)
        self._seconds_left = seconds_left
        self._minute = LastMinute()
        self._answered = self._errors = self._under_way = self._peak = 0
        self._started_at = time.time()
        # Looking a child up in the library costs more than counting.
        self._children: dict[tuple[str, str, int], Counter] = {}
        self._latencies: dict[str, Histogram] = {}
        self._kinds: dict[str, tuple[Counter, Counter]] = {}

    def request_started(self) -> None:
        """A request came."""
        self._under_way += 1
        self._peak = max(self._peak, self._under_way)

    def request_ended(self, profile: str, path: str, status: int) -> None:
        """It was answered."""
        self._under_way -= 1
        self._answered += 1
        self._errors += status >= HTTPStatus.BAD_REQUEST
        route = known_route(path)
        child = self._children.get((profile, route, status))
        if child is None:
            child = self._children[profile, route, status] = self._requests.labels(profile, route, str(status))
        child.inc()

    def upstream_responded(self, profile: str, seconds: float) -> None:
        """Upstream's first byte came after `seconds`."""
        child = self._latencies.get(profile)
        if child is None:
            child = self._latencies[profile] = self._latency.labels(profile)
        child.observe(seconds)

    def refresh_ended(self, profile: str, result: str) -> None:
        """A refresh that requests waited for has ended."""
        self._refreshes.labels(profile, result).inc()

    def tokens_used(self, profile: str, usage: Usage) -> None:
        """Upstream counted the tokens of one request."""
        if usage == Usage():
            return
        children = self._kinds.get(profile)
        if children is None:
            children = self._tokens.labels(profile, "prompt"), self._tokens.labels(profile, "answer")
            self._kinds[profile] = children
        children[0].inc(usage.prompt)
        children[1].inc(usage.answer)
        self._minute.add(usage.prompt + usage.answer)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        self._in_flight.set(self._under_way)
        for profile, left in self._seconds_left().items():
            self._left.labels(profile).set(max(0.0, left))
        return generate_latest(self.registry)

    def take_peak(self) -> int:
        """How many requests were under way at once since the last look."""
        most, self._peak = self._peak, self._under_way
        return most

    def snapshot(self) -> Snapshot:
        """The gateway in a few numbers."""
        return Snapshot(self._answered, self._errors, self._under_way, self._minute.total(), self._started_at)
