"""Prometheus metrics of the gateway, and the counters that `status` shows."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from vx_token.gateway.exchange import Exchange
from vx_token.gateway.usage import Usage

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # the format that generate_latest returns
_ROUTES = frozenset({"chat/completions", "completions", "embeddings", "responses", "models"})
SIGNATURE_ACTIONS = ("kept", "put_back", "stood_in")
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


STATUS_PATH = "/statusz"


def known_route(path: str) -> str:
    """Return the path if it is a known route, else "other"; this bounds the number of label values."""
    return path if path in _ROUTES else "other"


@dataclass(slots=True)
class KeyUsage:
    """The use of one local key since the start.

    Attributes:
        requests: completed.
        errors: completed with status 400 or higher.
        tokens: model tokens of prompts and answers, as counted by upstream.
        last_used: epoch seconds.
    """

    requests: int = 0
    errors: int = 0
    tokens: int = 0
    last_used: float = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counters that `status` shows.

    Attributes:
        requests: completed since the start, without those of `status` itself.
        errors: completed with status 400 or higher.
        in_flight: running now.
        tokens_per_minute: model tokens of prompts and answers in the last minute, as counted by upstream.
        started_at: epoch seconds.
        signatures_kept: thought signatures kept from answers.
        signatures_put_back: thought signatures put back into requests.
        signatures_stood_in: lost ones that Google's stand-in replaced.
        keys: the use of each local key, by its name.
    """

    requests: int
    errors: int
    in_flight: int
    tokens_per_minute: int
    started_at: float
    signatures_kept: int = 0
    signatures_put_back: int = 0
    signatures_stood_in: int = 0
    keys: dict[str, KeyUsage] = field(default_factory=dict)


class LastMinute:
    """A sum over the last 60 seconds, in one cell per second."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._cells = [(0, 0)] * 60

    def add(self, amount: int) -> None:
        """Add `amount` to the current second."""
        second = int(self._monotonic())
        stamp, total = self._cells[second % 60]
        self._cells[second % 60] = (second, total + amount if stamp == second else amount)

    def total(self) -> int:
        """Return the sum over the last minute."""
        oldest = int(self._monotonic()) - 60
        return sum(total for stamp, total in self._cells if stamp > oldest)


class _KeyCollector(Collector):
    """Renders the use of the local keys for Prometheus."""

    def __init__(self, keys: dict[str, KeyUsage]) -> None:
        self._keys = keys

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Return one counter per field."""
        for counted, what in (("requests", "Completed requests"), ("errors", "Errors"), ("tokens", "Model tokens")):
            family = CounterMetricFamily(f"vx_token_gateway_key_{counted}", f"{what} by local key.", labels=["key"])
            for name, usage in list(self._keys.items()):
                family.add_metric([name], getattr(usage, counted))
            yield family


class Metrics:
    """Records requests, and renders them for Prometheus and for `status`."""

    def __init__(self, seconds_left: Callable[[], dict[str, float]]) -> None:
        self.registry = CollectorRegistry()
        prefix = "vx_token_gateway"
        self._requests = Counter(
            f"{prefix}_requests", "Completed requests.", ["profile", "route", "status"], registry=self.registry
        )
        self._in_flight = Gauge(f"{prefix}_in_flight", "Running requests.", registry=self.registry)
        self._latency = Histogram(
            f"{prefix}_upstream_seconds",
            "Seconds to the first byte of the response of upstream.",
            ["profile"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._refreshes = Counter(
            f"{prefix}_refreshes", "Refreshes that requests waited for.", ["profile", "result"], registry=self.registry
        )
        self._tokens = Counter(
            f"{prefix}_tokens", "Model tokens, as counted by upstream.", ["profile", "kind"], registry=self.registry
        )
        self._signatures = Counter(
            f"{prefix}_thought_signatures",
            "Thought signatures: kept from answers, put back into requests, stood in for lost ones.",
            ["profile", "action"],
            registry=self.registry,
        )
        self._left = Gauge(
            "vx_token_seconds_left", "Remaining lifetime of the token in seconds.", ["profile"], registry=self.registry
        )
        self._seconds_left = seconds_left
        self._minute = LastMinute()
        self._completed = self._errors = self._in_progress = self._peak = 0
        self._started_at = time.time()
        self._keys: dict[str, KeyUsage] = {}
        self.registry.register(_KeyCollector(self._keys))
        self._signature_actions = dict.fromkeys(SIGNATURE_ACTIONS, 0)
        # Cached, because `labels` of prometheus_client costs more than incrementing.
        self._children: dict[tuple[str, str, int], Counter] = {}
        self._latencies: dict[str, Histogram] = {}
        self._kinds: dict[str, tuple[Counter, Counter]] = {}

    def request_started(self) -> None:
        """Record the start of a request."""
        self._in_progress += 1
        self._peak = max(self._peak, self._in_progress)

    def request_ended(self, exchange: Exchange) -> None:
        """Record the end of a request."""
        profile, status = exchange.profile, exchange.status
        is_counted, is_error = exchange.path != STATUS_PATH, status >= HTTPStatus.BAD_REQUEST
        self._in_progress -= 1
        self._completed += is_counted
        self._errors += is_error
        if exchange.key and is_counted:
            usage = self._keys.get(exchange.key)
            if usage is None:
                usage = self._keys[exchange.key] = KeyUsage()
            usage.requests += 1
            usage.errors += is_error
            usage.tokens += exchange.usage.prompt + exchange.usage.answer
            usage.last_used = time.time()
        route = known_route(exchange.path)
        child = self._children.get((profile, route, status))
        if child is None:
            child = self._children[profile, route, status] = self._requests.labels(profile, route, str(status))
        child.inc()

    def upstream_responded(self, profile: str, seconds: float) -> None:
        """Record the time (seconds) to the first byte of upstream's response."""
        child = self._latencies.get(profile)
        if child is None:
            child = self._latencies[profile] = self._latency.labels(profile)
        child.observe(seconds)

    def refresh_ended(self, profile: str, result: str) -> None:
        """Record a refresh that requests waited for."""
        self._refreshes.labels(profile, result).inc()

    def tokens_used(self, profile: str, usage: Usage) -> None:
        """Record the model tokens of one request."""
        if usage == Usage():
            return
        children = self._kinds.get(profile)
        if children is None:
            children = self._tokens.labels(profile, "prompt"), self._tokens.labels(profile, "answer")
            self._kinds[profile] = children
        children[0].inc(usage.prompt)
        children[1].inc(usage.answer)
        self._minute.add(usage.prompt + usage.answer)

    def signatures_counted(self, profile: str, action: str, number: int) -> None:
        """Record thought signatures; `action` is one of `SIGNATURE_ACTIONS`."""
        self._signatures.labels(profile, action).inc(number)
        self._signature_actions[action] += number

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        self._in_flight.set(self._in_progress)
        for profile, seconds in self._seconds_left().items():
            self._left.labels(profile).set(max(0.0, seconds))
        return generate_latest(self.registry)

    def take_peak(self) -> int:
        """Return the maximum number of concurrent requests since the last call."""
        peak, self._peak = self._peak, self._in_progress
        return peak

    def snapshot(self) -> Snapshot:
        """Return the counters that `status` shows."""
        return Snapshot(
            self._completed,
            self._errors,
            self._in_progress,
            self._minute.total(),
            self._started_at,
            **{f"signatures_{action}": number for action, number in self._signature_actions.items()},
            keys={name: replace(usage) for name, usage in list(self._keys.items())},
        )
