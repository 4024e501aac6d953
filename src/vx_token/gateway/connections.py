"""The clients' connections, and since when each is quiet: a gateway must know it to end without breaking a request."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from weakref import WeakKeyDictionary

_MOVED = -math.inf


class Connections:
    """Tells when no client is about to use a connection that it has.

    HTTP/1.1 has no word for "ask no more here" but the `Connection: close` of an answer. A connection without one that
    is closed while its client asks breaks that request, so it is closed only after its client has forgotten it.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        # The instant of the last answer; infinity while one is under way.
        self._quiet_since: WeakKeyDictionary[asyncio.BaseTransport, float] = WeakKeyDictionary()
        self.moving = False

    def asked(self, transport: asyncio.BaseTransport | None) -> None:
        """A request came; while clients move, its answer ends the connection."""
        if transport is not None:
            self._quiet_since[transport] = _MOVED if self.moving else math.inf

    def answered(self, transport: asyncio.BaseTransport | None) -> None:
        """It was answered, and the client may ask again."""
        if transport is not None and self._quiet_since.get(transport) == math.inf:
            self._quiet_since[transport] = self._monotonic()

    def quiet(self, seconds: float) -> bool:
        """Whether each connection has moved, is closed, or brought nothing for `seconds`."""
        recent = self._monotonic() - seconds
        return not any(since > recent and not each.is_closing() for each, since in self._quiet_since.items())

    def known(self, transports: Iterable[asyncio.BaseTransport | None]) -> bool:
        """Whether all of them have brought a request: one just taken is about to."""
        return all(each is None or each in self._quiet_since for each in transports)
