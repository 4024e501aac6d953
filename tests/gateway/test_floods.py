"""However many connect without the key: refreshes are on time, the log is short, the key's holder is served."""

import contextlib
import itertools
import resource
import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from aiohttp import web

from gateways import ask, configure, free_port, local_key
from sandbox import Box, until
from upstreams import BRISK, KEY, Purse, connection_to, front, upstream
from vx_token.emulator import Emulator
from vx_token.gateway.settings import Route

LIFETIME = 8.0
HEAD = b"GET /healthz HTTP/1.1\r\nHost: loc"


class Flood:
    """Holds `number` connections open and replaces each that is closed; each sends `begin`."""

    def __init__(self, port: int, number: int, begin: bytes) -> None:
        self.address = ("127.0.0.1", port)
        self.number = number
        self.begin = begin
        self.most = 0
        self._open = selectors.DefaultSelector()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Flood":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)
        for key in list(self._open.get_map().values()):
            self._drop(key.fileobj)
        self._open.close()

    def _drop(self, sock: object) -> None:
        assert isinstance(sock, socket.socket)
        self._open.unregister(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def _run(self) -> None:
        while not self._over.is_set():
            while len(self._open.get_map()) < self.number and self._connect():
                pass
            self.most = max(self.most, len(self._open.get_map()))
            for key, _ in self._open.select(0.01):
                with contextlib.suppress(BlockingIOError):
                    with contextlib.suppress(ConnectionError):
                        if key.fileobj.recv(4096):  # type: ignore[union-attr]
                            continue
                    self._drop(key.fileobj)

    def _connect(self) -> bool:
        sock = socket.socket()
        sock.settimeout(2)
        try:
            sock.connect(self.address)
            sock.sendall(self.begin)
        except OSError:
            sock.close()
            return False
        sock.setblocking(False)
        self._open.register(sock, selectors.EVENT_READ)
        return True


@contextlib.contextmanager
def limited(box: Box, files: int) -> Iterator[None]:
    """A daemon that may have so many descriptors."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    with (box.root / "daemon.log").open("a") as log, box.start("run", stderr=log, preexec_fn=limit) as process:
        try:
            until(lambda: box.read("token") or process.poll() is not None, 60)
            assert process.poll() is None, box.log
            yield
        finally:
            process.terminate()
            process.wait(30)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "files", "begin"),
    [
        (400, 256, b""),
        (300, 200, b"GET / HTTP/1.1\r\nHost: loc"),
        (300, 256, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
    ],
    ids=["idle", "half-open", "asking"],
)
def test_a_flood_without_the_key_stops_neither_refreshes_nor_the_keys_holder(
    box: Box, google: Emulator, number: int, files: int, begin: bytes
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard) if soft < 4096 else soft, hard))
    google.service_account(box.key)
    google.lifetime = LIFETIME
    port = free_port()
    configure(box, google, port)
    with limited(box, files):
        key = local_key(box)
        before, dead, answered = box.log.count("\n"), [], []
        with Flood(port, number, begin) as flood:
            end, refreshes = time.monotonic() + 60, len(google.issued) + 4
            while len(google.issued) < refreshes and time.monotonic() < end:
                ends = {issued.value: issued.expires_at for issued in google.issued}
                token = box.read("token")
                if time.time() > ends.get(token, 0.0) + 0.2:
                    dead.append(token)
                started = time.monotonic()
                answered.append((ask(port, "/v1/models", key)[0], time.monotonic() - started < 5))
            assert flood.most > 50
        lines = box.log.splitlines()[before:]
    issued = [each.issued_at for each in google.issued][-4:]
    assert len(google.issued) >= refreshes, "refreshes stopped"
    assert max(after - before for before, after in itertools.pairwise(issued)) < LIFETIME
    assert dead == []
    assert set(answered) == {(200, True)}
    assert len([line for line in lines if "fresh token" not in line]) < 6, lines


def test_a_client_that_reads_nothing_is_cut_off_and_a_slow_one_is_not() -> None:
    stopped = threading.Event()

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        finally:
            stopped.set()

    head = f"GET /v1/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()
    limits = replace(BRISK, unread=2.0)
    with upstream(endless) as server, front(Purse(), Route("p", server.url), limits=limits) as proxy:
        with connection_to(proxy) as slow:
            slow.sendall(head)
            end = time.monotonic() + 5
            while time.monotonic() < end:
                assert slow.recv(1 << 20)
                time.sleep(0.05)
            assert not stopped.is_set()
        until(stopped.is_set)
        stopped.clear()
        with connection_to(proxy) as deaf:
            deaf.sendall(head)
            until(stopped.is_set, 20)
            assert proxy.gateway.connections.count == 0


def test_an_answer_is_read_to_its_end_though_its_connection_is_the_next_to_be_closed() -> None:
    """Closing the oldest connection breaks no running or just finished response."""
    body = b"y" * (8 << 20)

    async def large(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=body)

    with upstream(large) as server, front(Purse(), Route("p", server.url)) as proxy:
        raw = connection_to(proxy)
        with raw:
            raw.sendall(f"GET /v1/x HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
            got = raw.recv(1000)
            for _ in range(3):
                proxy.thread.loop.call_soon_threadsafe(proxy.gateway.connections.close_oldest)
            while chunk := raw.recv(1 << 20):
                got += chunk
    assert got.endswith(body)
