"""The clients' connections: which are idle, which do not read, and which can be closed without breaking a request."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from weakref import WeakKeyDictionary, WeakSet

_MOVED = -math.inf
_GRACE = 0.25  # seconds in which a new connection may bring its request, however many wait behind it
_STALLED = 10.0  # seconds without reading after which a client counts as one that may never read again


class Connections:
    """Keeps what must be known of each connection.

    HTTP/1.1 has no word for "ask no more here" but the `Connection: close` of an answer. A connection without one that
    is closed while its client asks breaks that request, so it is closed only after its client has forgotten it.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        # The instant of the last answer; infinity while one is under way.
        self._quiet_since: WeakKeyDictionary[asyncio.BaseTransport, float] = WeakKeyDictionary()
        # What each open connection has not read yet, in bytes, and since when that has not changed.
        self._unread: dict[asyncio.Transport, tuple[int, float]] = {}
        # Idle ones, oldest first: those that have not shown the key, and those that have.
        self._strangers: OrderedDict[asyncio.BaseTransport, float] = OrderedDict()
        self._clients: OrderedDict[asyncio.BaseTransport, float] = OrderedDict()
        self._trusted: WeakSet[asyncio.BaseTransport] = WeakSet()
        self.moving = False

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._unread)

    def opened(self, transport: asyncio.Transport) -> None:
        """A client has connected."""
        self._unread[transport] = (0, self._monotonic())
        self._strangers[transport] = self._monotonic()

    def closed(self, transport: asyncio.Transport) -> None:
        """The connection is gone."""
        self._unread.pop(transport, None)
        self._set_busy(transport)

    def asked(self, transport: asyncio.BaseTransport | None) -> None:
        """A request came; while clients move, its answer ends the connection."""
        if transport is not None:
            self._quiet_since[transport] = _MOVED if self.moving else math.inf
            self._set_busy(transport)

    def proved(self, transport: asyncio.BaseTransport | None) -> None:
        """The request had the key."""
        if transport is not None:
            self._trusted.add(transport)

    def answered(self, transport: asyncio.BaseTransport | None) -> None:
        """It was answered, and the client may ask again."""
        if transport is None:
            return
        if self._quiet_since.get(transport) == math.inf:
            self._quiet_since[transport] = self._monotonic()
        if transport in self._unread:
            idle = self._clients if transport in self._trusted else self._strangers
            idle[transport] = self._monotonic()

    def quiet(self, seconds: float) -> bool:
        """Whether each connection has moved, is closed, or brought nothing for `seconds`."""
        recent = self._monotonic() - seconds
        return not any(since > recent and not each.is_closing() for each, since in self._quiet_since.items())

    def known(self, transports: Iterable[asyncio.BaseTransport | None]) -> bool:
        """Whether all of them have brought a request: one just taken is about to."""
        return all(each is None or each in self._quiet_since for each in transports)

    def close_unread(self, seconds: float) -> None:
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
        for idle in (self._strangers, self._clients):
            for transport, since in idle.items():
                if self._monotonic() - since < _GRACE:
                    return False
                del idle[transport]
                transport.close()
                return True
        recent = self._monotonic() - _STALLED
        stalled = {each: since for each, (unread, since) in self._unread.items() if unread and since < recent}
        if stalled:
            min(stalled, key=stalled.__getitem__).abort()
        return bool(stalled)

    def _set_busy(self, transport: asyncio.BaseTransport) -> None:
        self._strangers.pop(transport, None)
        self._clients.pop(transport, None)
