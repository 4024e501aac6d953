"""Requests reach upstream through an HTTP proxy: a tunnel for https, the whole URL for http."""

import base64
import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from upstreams import Purse, front, tls_contexts, upstream
from vx_token.gateway.settings import Route

LOGIN = f"Proxy-Authorization: Basic {base64.b64encode(b'me:secret').decode()}"


@dataclass
class HttpProxy:
    """Joins each client to upstream's port, and keeps the first head that the client sends."""

    url: str = ""
    heads: list[list[str]] = field(default_factory=list)
    port: int = 0

    def serve(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._join, args=listening.accept()[:1], daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        with client, socket.create_connection(("localhost", self.port)) as server:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536)
            self.heads.append(head.partition(b"\r\n\r\n")[0].decode().split("\r\n"))
            if head.startswith(b"CONNECT "):
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                server.sendall(head)
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            _copy(client, server)
            back.join(10)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy() -> Iterator[HttpProxy]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = HttpProxy(f"http://me:secret@127.0.0.1:{listening.getsockname()[1]}")
        threading.Thread(target=running.serve, args=(listening,), daemon=True).start()
        yield running
        listening.shutdown(socket.SHUT_RDWR)


def test_an_https_upstream_is_reached_through_a_tunnel(proxy: HttpProxy, tmp_path: Path) -> None:
    context, trusted = tls_contexts(tmp_path)
    with upstream(tls=context) as server:
        proxy.port = int(server.url.split(":")[2].split("/")[0])
        with front(Purse(), Route("p", server.url, proxy=proxy.url), ca_file=trusted) as gateway:
            assert [gateway.ask(path="/v1/x?a=b").status for _ in range(2)] == [200, 200]
    assert [head[0] for head in proxy.heads] == [f"CONNECT localhost:{proxy.port} HTTP/1.1"]
    assert LOGIN in proxy.heads[0]
    assert not any(line.startswith("Authorization") for line in proxy.heads[0])
    assert [each.path for each in server.seen] == ["/v1/projects/p/endpoints/openapi/x?a=b"] * 2
    assert "Proxy-Authorization" not in server.seen[0].headers


def test_an_http_upstream_gets_the_whole_url(proxy: HttpProxy) -> None:
    with upstream() as server:
        proxy.port = int(server.url.split(":")[2].split("/")[0])
        with front(Purse(), Route("p", server.url, proxy=proxy.url)) as gateway:
            assert [gateway.ask(path="/v1/x?a=b").status for _ in range(2)] == [200, 200]
    assert [head[0] for head in proxy.heads] == [f"POST {server.url}/x?a=b HTTP/1.1"]
    assert LOGIN in proxy.heads[0]
    assert f"Host: localhost:{proxy.port}" in proxy.heads[0]
    assert [each.bearer for each in server.seen] == ["ya29.token-1"] * 2
