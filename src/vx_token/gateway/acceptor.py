"""Accepts client connections up to a limit, so that file descriptors remain for the rest of the process."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence

from vx_token.gateway.connections import Connections

_log = logging.getLogger(__name__)
_BATCH = 16  # connections accepted per turn of the event loop, so that accepted ones are read in between
_PAUSE = 0.05  # seconds without accepting when the limit is reached and no connection can be closed
_LOG_INTERVAL = 60.0  # seconds between two warnings about the limit
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Acceptor:
    """Accepts connections on listening sockets until `close`.

    The accept loop of asyncio has no limit. When descriptors run out, it logs up to 1024 errors per attempt.
    This class keeps at most `limit` connections open. At the limit, a new connection replaces the oldest idle one.
    If no connection is idle, new ones wait in the kernel's queue.

    Args:
        protocol: creates the protocol object of a connection.
        sockets: listening sockets.
        connections: the open connections, updated by the protocol object.
        limit: maximum number of open connections.
    """

    def __init__(
        self,
        protocol: Callable[[], asyncio.Protocol],
        sockets: Sequence[socket.socket],
        connections: Connections,
        limit: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._sockets = sockets
        self._connections = connections
        self._limit = limit
        self._starting: set[asyncio.Task[object]] = set()
        self._resume: asyncio.TimerHandle | None = None
        self._logged = -_LOG_INTERVAL

    def start(self) -> None:
        """Start accepting."""
        self._resume = None
        for listening in self._sockets:
            listening.setblocking(False)
            self._loop.add_reader(listening, self._accept, listening)

    async def close(self) -> None:
        """Close the sockets, and wait until every accepted connection has its protocol object."""
        self._remove_readers()
        if self._resume is not None:
            self._resume.cancel()
        for listening in self._sockets:
            listening.close()
        await asyncio.gather(*self._starting, return_exceptions=True)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_BATCH):
            if self._connections.count + len(self._starting) >= self._limit and not self._make_room():
                return
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:  # the process or the machine has no descriptors or memory left
                    self._connections.close_oldest()
                self._pause()
                return
            accepted.setblocking(False)
            task = self._loop.create_task(self._start(accepted))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _start(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, accepted)
        except OSError:  # the client has already disconnected
            accepted.close()

    def _make_room(self) -> bool:
        if self._connections.close_oldest():
            self._warn("the oldest idle connections are closed")
            return True
        self._pause()
        return False

    def _pause(self) -> None:
        self._warn("new connections wait")
        self._remove_readers()
        self._resume = self._loop.call_later(_PAUSE, self.start)

    def _remove_readers(self) -> None:
        for listening in self._sockets:
            if listening.fileno() >= 0:
                self._loop.remove_reader(listening)

    def _warn(self, consequence: str) -> None:
        now = self._loop.time()
        if now >= self._logged + _LOG_INTERVAL:
            self._logged = now
            _log.warning(
                "gateway: the limit of open connections is reached (%d): %s", self._connections.count, consequence
            )
