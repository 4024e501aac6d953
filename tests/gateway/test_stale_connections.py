"""A request on a kept connection that upstream has closed is sent once more, and no other request is."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest

from sandbox import until
from upstreams import BRISK, Front, Purse, front
from vx_token.gateway.settings import Route

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Script:
    """An upstream that reads a request per step, answers with the step's bytes, and closes the connection after b""."""

    url: str = ""
    steps: list[list[bytes]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    first_steps: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))

    def serve(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                steps = self.steps[self.connections] if self.connections < len(self.steps) else [b""]
                self.connections += 1
                threading.Thread(target=self._answer, args=(connection, steps), daemon=True).start()

    def _answer(self, connection: socket.socket, steps: list[bytes]) -> None:
        with connection, connection.makefile("rb") as reader:
            for number, step in enumerate(steps):
                length = 0
                while line := reader.readline().strip():
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split()[1])
                self.bodies.append(reader.read(length))
                if number == 0:
                    self.first_steps.wait(10)
                connection.sendall(step)
                if not step.endswith(b"ok"):
                    return
            reader.read(1)


@pytest.fixture
def server() -> Iterator[Script]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        script = Script(f"http://127.0.0.1:{listening.getsockname()[1]}/v1")
        threading.Thread(target=script.serve, args=(listening,), daemon=True).start()
        yield script
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(server: Script) -> Iterator[Front]:
    limits = replace(BRISK, buffer=1 << 20, buffer_always=1 << 16)
    with front(Purse(), Route("p", server.url), limits=limits) as running:
        yield running


@pytest.mark.parametrize("body", [b"", b"{}", b"x" * (1 << 19)])
def test_a_request_on_a_connection_that_upstream_closes_is_sent_once_more(
    proxy: Front, server: Script, body: bytes
) -> None:
    server.steps = [[OK, b""], [OK]]
    assert [proxy.ask(body=each).status for each in (b"first", body)] == [200, 200]
    assert server.bodies == [b"first", body, body]
    assert server.connections == 2


def test_it_is_sent_once_more_on_a_new_connection_and_not_again(proxy: Front, server: Script) -> None:
    server.steps = [[OK, b""], [OK, b""], [b""], [OK]]
    server.first_steps = threading.Barrier(2)  # so that two connections are kept
    with ThreadPoolExecutor(2) as pool:
        assert [answer.status for answer in pool.map(lambda body: proxy.ask(body=body), [b"a", b"a"])] == [200, 200]
    server.first_steps = threading.Barrier(1)
    assert proxy.ask(body=b"b").status == 502
    assert server.bodies == [b"a", b"a", b"b", b"b"]
    assert server.connections == 3


def test_a_request_on_a_new_connection_is_not_sent_again(proxy: Front, server: Script) -> None:
    server.steps = [[b""], [OK]]
    assert proxy.ask(body=b"{}").status == 502
    assert server.bodies == [b"{}"]


@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Cut: "])
def test_a_request_is_not_sent_again_after_a_byte_of_the_answer(proxy: Front, server: Script, begun: bytes) -> None:
    server.steps = [[OK, begun], [OK]]
    assert proxy.ask(body=b"first").status == 200
    assert proxy.ask(body=b"second").status == 502
    assert server.bodies == [b"first", b"second"]


def test_a_streamed_body_is_not_sent_again(proxy: Front, server: Script) -> None:
    server.steps = [[OK, b""], [OK]]
    assert proxy.ask(body=b"first").status == 200
    assert proxy.ask(body=b"x" * (2 << 20)).status == 502
    until(lambda: len(server.bodies) == 2)
    assert server.connections == 1


@pytest.mark.parametrize("status", [429, 503])
def test_an_answer_that_asks_for_a_retry_is_the_clients(proxy: Front, server: Script, status: int) -> None:
    server.steps = [[OK, b"HTTP/1.1 %d Later\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nok" % status]]
    proxy.ask(body=b"first")
    answer = proxy.ask(body=b"second")
    assert (answer.status, answer.headers["Retry-After"]) == (status, "7")
    assert len(server.bodies) == 2
