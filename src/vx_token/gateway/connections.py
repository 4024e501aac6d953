"""Open client connections: which are idle, which are stalled, and which can be closed without breaking a request."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from weakref import WeakKeyDictionary, WeakSet

_CLOSING = -math.inf  # in place of the time of the last response: the response closes the connection
_FIRST_REQUEST = 0.25  # seconds in which a new connection is not closed, so that it can send its request
_STALLED_AFTER = 10.0  # seconds without reading after which a connection may be closed for a new one


class Connections:
    """Tracks the state of each client connection.

    In HTTP/1.1 only the `Connection: close` header of a response asks a client not to reuse its connection. If the
    gateway closes a connection without it, a request sent at the same moment fails. While `draining`, responses have
    that header, and other connections are kept until clients do not reuse them any more.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        # Time of the last response; infinity during a request.
        self._last_response: WeakKeyDictionary[asyncio.BaseTransport, float] = WeakKeyDictionary()
        # Bytes that the client did not read yet, and the time at which that number last changed.
        self._unread: dict[asyncio.Transport, tuple[int, float]] = {}
        # Idle connections, oldest first, each with the time since when it is idle.
        self._idle_unauthenticated: OrderedDict[asyncio.BaseTransport, float] = OrderedDict()
        self._idle_authenticated: OrderedDict[asyncio.BaseTransport, float] = OrderedDict()
        self._authenticated: WeakSet[asyncio.BaseTransport] = WeakSet()
        self.draining = False

    @property
    def count(self) -> int:
        """The number of open connections."""
        return len(self._unread)

    def opened(self, transport: asyncio.Transport) -> None:
        """Add a new connection."""
        self._unread[transport] = (0, self._monotonic())
        self._idle_unauthenticated[transport] = self._monotonic()

    def closed(self, transport: asyncio.Transport) -> None:
        """Remove a closed connection."""
        self._unread.pop(transport, None)
        self._set_busy(transport)

    def request_started(self, transport: asyncio.BaseTransport | None) -> None:
        """Record a request; its response closes the connection while draining."""
        if transport is not None:
            self._last_response[transport] = _CLOSING if self.draining else math.inf
            self._set_busy(transport)

    def authenticated(self, transport: asyncio.BaseTransport | None) -> None:
        """Record that the client has sent a valid key."""
        if transport is not None:
            self._authenticated.add(transport)

    def request_ended(self, transport: asyncio.BaseTransport | None) -> None:
        """Record the end of a request; the connection is idle again."""
        if transport is None:
            return
        if self._last_response.get(transport) == math.inf:
            self._last_response[transport] = self._monotonic()
        if transport in self._unread:
            idle = self._idle_authenticated if transport in self._authenticated else self._idle_unauthenticated
            idle[transport] = self._monotonic()

    def idle_for(self, seconds: float) -> bool:
        """Return whether every connection is closing or has had no request for `seconds`."""
        recent = self._monotonic() - seconds
        return not any(since > recent and not each.is_closing() for each, since in self._last_response.items())

    def all_used(self, transports: Iterable[asyncio.BaseTransport | None]) -> bool:
        """Return whether every connection has had at least one request."""
        return all(each is None or each in self._last_response for each in transports)

    def abort_stalled(self, seconds: float) -> None:
        """Abort connections whose clients have read nothing of their pending data for `seconds`.

        Call it repeatedly: it compares with what was pending at the previous call.
        """
        now = self._monotonic()
        for transport, (previous, since) in list(self._unread.items()):
            unread = transport.get_write_buffer_size()
            if not unread or unread != previous:
                self._unread[transport] = (unread, now)
            elif now - since >= seconds:
                transport.abort()

    def close_oldest(self) -> bool:
        """Close the least useful connection; return False if there is none.

        In this order: the oldest idle connection without a valid key, the oldest idle one, the one stalled longest.
        New connections, and those with a request whose client reads, are never closed.
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
