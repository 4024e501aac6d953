"""Remembers the `extra_content` of tool calls in memory, bounded by entries, bytes and age."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from json import JSONDecoder, JSONEncoder
from typing import NamedTuple

from vx_token.gateway.tool_calls import ToolCall

_OVERHEAD = 200  # bytes of the objects of one entry


class Scope(NamedTuple):
    """The conversation partner that made a signature and can read it: another one gets a 400 for it.

    Attributes:
        profile: name of the profile.
        base_url: its URL: host, project, location and endpoint.
        account: account of the Google token, "" if unknown.
        model: model id as sent to upstream.
        caller: digest of the local key.
    """

    profile: str
    base_url: str
    account: str
    model: str
    caller: bytes


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of the memory: number of entries, bytes of all, bytes of one, and seconds since the last use."""

    entries: int = 10_000
    total: int = 16 << 20
    entry: int = 1 << 20
    age: float = 24 * 3600.0


class SignatureMemory:
    """A least-recently-used map of tool calls to their `extra_content`.

    Args:
        monotonic: returns seconds.
        bounds: the oldest entries beyond them are forgotten.
    """

    def __init__(self, monotonic: Callable[[], float], bounds: Bounds = Bounds()) -> None:
        self._monotonic = monotonic
        self._bounds = bounds
        self._entries: OrderedDict[bytes, tuple[str, float]] = OrderedDict()  # the least recently used first
        self._size = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return self._size

    def put(self, scope: Scope, call: ToolCall, extra: str) -> bool:
        """Remember JSON text; return False if it is too large."""
        if len(extra) > self._bounds.entry:
            return False
        key = _key(scope, call)
        self._forget(key)
        self._entries[key] = extra, self._monotonic()
        self._size += len(extra) + _OVERHEAD
        while len(self._entries) > self._bounds.entries or self._size > self._bounds.total:
            self._forget(next(iter(self._entries)))
        return True

    def get(self, scope: Scope, call: ToolCall) -> str | None:
        """Return the JSON text for this call of this scope, or None."""
        key = _key(scope, call)
        entry = self._entries.get(key)
        now = self._monotonic()
        if entry is None or now - entry[1] > self._bounds.age:
            return None
        self._entries[key] = entry[0], now
        self._entries.move_to_end(key)
        return entry[0]

    def prune(self) -> None:
        """Forget expired entries."""
        oldest = self._monotonic() - self._bounds.age
        while self._entries and next(iter(self._entries.values()))[1] < oldest:
            self._forget(next(iter(self._entries)))

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._size = 0

    def _forget(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= len(entry[0]) + _OVERHEAD


def _number(digits: str) -> float:
    number = float(digits)
    return int(number) if number.is_integer() else number


# Clients that decode arguments and encode them again change spaces, the order of keys, escapes and forms of numbers.
_decode = JSONDecoder(strict=False, parse_int=_number, parse_float=_number).decode
_encode = JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def canonical(arguments: str) -> str:
    """Return the arguments in one form for all clients; unchanged if they are not JSON."""
    try:
        return _encode(_decode(arguments or "{}"))
    except (ValueError, RecursionError):
        return arguments


def _key(scope: Scope, call: ToolCall) -> bytes:
    """Return a digest, because the arguments can be as large as a file, and no content of a conversation is kept."""
    text = repr((*scope, call.id, call.name, canonical(call.arguments)))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
