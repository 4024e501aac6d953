"""The clients' connections: which are idle, which do not read, and which can be closed without breaking a request."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from weakref import WeakKeyDictionary, WeakSet

_CLOSING = -math.inf
_FIRST_REQUEST = 0.25  # seconds in which a new connection may bring its request, however many wait behind it
_STALLED_AFTER = 10.0  # seconds without reading after which a client counts as one that may never read again


class Connections:
    """Keeps what must be known of each connection.

    HTTP/1.1 has no word for "ask no more here" but the `Connection: close` of an answer. A connection without one that
    is closed while its client asks breaks that request, so it is closed only after its client has forgotten it.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        # The instant of the last answer; infinity while one is under way.
        self._last_response: WeakKeyDictionary[asyncio.BaseTransport, float] = WeakKeyDictionary()
        # What each open connection has not read yet, in bytes, and since when that has not changed.
        self._unread: dict[asyncio.Transport, tuple[int, float]] = {}
        # Idle ones, oldest first: those that have not shown the key, and those that have.
        self._idle_unauthenticated: OrderedDict[asyncio.BaseTransport, float] = OrderedDict()
        self._idle_authenticated: OrderedDict[asyncio.BaseTransport, float] = OrderedDict()
        self._authenticated: WeakSet[asyncio.BaseTransport] = WeakSet()
        self.draining = False

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._unread)

    def opened(self, transport: asyncio.Transport) -> None:
        """A client has connected."""
        self._unread[transport] = (0, self._monotonic())
        self._idle_unauthenticated[transport] = self._monotonic()

    def closed(self, transport: asyncio.Transport) -> None:
        """The connection is gone."""
        self._unread.pop(transport, None)
        self._set_busy(transport)

    def request_started(self, transport: asyncio.BaseTransport | None) -> None:
        """A request came; while clients move, its answer ends the connection."""
        if transport is not None:
            self._last_response[transport] = _CLOSING if self.draining else math.inf
            self._set_busy(transport)

    def authenticated(self, transport: asyncio.BaseTransport | None) -> None:
        """The request had the key."""
        if transport is not None:
            self._authenticated.add(transport)

    def request_ended(self, transport: asyncio.BaseTransport | None) -> None:
        """It was answered, and the client may ask again."""
        if transport is None:
            return
        if self._last_response.get(transport) == math.inf:
            self._last_response[transport] = self._monotonic()
        if transport in self._unread:
            idle = self._idle_authenticated if transport in self._authenticated else self._idle_unauthenticated
            idle[transport] = self._monotonic()

    def idle_for(self, seconds: float) -> bool:
        """Whether each connection has moved, is closed, or brought nothing for `seconds`."""
        recent = self._monotonic() - seconds
        return not any(since > recent and not each.is_closing() for each, since in self._last_response.items())

    def all_used(self, transports: Iterable[asyncio.BaseTransport | None]) -> bool:
        """Whether all of them have brought a request: one just taken is about to."""
        return all(each is None or each in self._last_response for each in transports)

    def abort_stalled(self, seconds: float) -> None:
        """Close the connections whose clients have read nothing of what waits for them for `seconds`.

        Called now and then, it notes what each has read since the last call.
        """
        now = self._monotonic()
        for transport, (before, since) in list(self._unread.items()):
            unread = transport.get_write_buffer_size()
            if not unread or unread != before:
                self._unread[transport] = (unread, now)
            elif now - since >= seconds:
                transport.abort()

    def close_oldest(self) -> bool:
        """Close the connection that is missed least; False when each is new, or has a request and a client that reads.

        In this order: the oldest idle one that has not shown the key, the oldest idle one, the one that is stalled for
        longest.
        """
        for idle in (self._idle_unauthenticated, self._idle_authenticated):
            for transport, since in idle.items():
                if self._monotonic() - since < _FIRST_REQUEST:
                    return False
                del idle[transport]
                transport.close()
                return True
        recent = self._monotonic() - _STALLED_AFTER
        stalled = {each: since for each, (unread, since) in self._unread.items() if unread and since < recent}
        if stalled:
            min(stalled, key=stalled.__getitem__).abort()
        return bool(stalled)

    def _set_busy(self, transport: asyncio.BaseTransport) -> None:
        self._idle_unauthenticated.pop(transport, None)
        self._idle_authenticated.pop(transport, None)
