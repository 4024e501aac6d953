"""The gateway's sockets, systemd's sockets, and the HTTP proxy."""

import asyncio
import contextlib
import http.client
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from aiohttp import web

from sandbox import plain_environment, until
from upstreams import KEY, Purse, front, upstream
from vx_token.config.model import Gateway
from vx_token.errors import ConfigError
from vx_token.gateway.inherited import check_inherited, inherited_sockets
from vx_token.gateway.proxy import proxy_for
from vx_token.gateway.settings import Route
from vx_token.gateway.sockets import client_url

ROUTE = Route("p", "http://127.0.0.1:1")


def test_a_unix_socket_is_private_and_served(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with upstream() as server, front(Purse(), Route("p", server.url), unix_socket=path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(path))
            raw.sendall(f"GET /v1/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
            assert raw.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_a_dead_processs_unix_socket_is_replaced_and_a_live_ones_is_not(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    second = front(Purse(), ROUTE, unix_socket=path)
    with front(Purse(), ROUTE, unix_socket=path), pytest.raises(ConfigError, match=r"sock is in use"), second:
        pass


def test_a_file_in_the_place_of_the_unix_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("text")
    with pytest.raises(ConfigError, match="is in use"), front(Purse(), ROUTE, unix_socket=path):
        pass
    assert path.read_text() == "text"


def test_ipv6_loopback_is_served() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with front(Purse(), ROUTE, host="::1") as proxy:
        assert proxy.url.startswith("http://[::1]:")
        with socket.create_connection(("::1", proxy.port), 10) as raw:
            raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: [::1]\r\n\r\n")
            assert raw.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_sockets_meant_for_another_process_are_left_alone() -> None:
    assert inherited_sockets({}, os.getpid()) == []
    assert inherited_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "3"}, os.getpid()) == []


@pytest.mark.parametrize("count", ["abc", "1"])
def test_what_is_handed_over_must_be_sockets(count: str, tmp_path: Path) -> None:
    code = (
        "import os, sys; from vx_token.__main__ import main; os.dup2(0, 3);"
        "os.environ['LISTEN_PID'] = str(os.getpid()); sys.argv[1:] = ['gateway']; sys.exit(main())"
    )
    environ = {**plain_environment(tmp_path), "LISTEN_FDS": count, "GOOGLE_CLOUD_PROJECT": "demo"}
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("vx-token: LISTEN_FDS ")
    assert "hint: " in done.stderr


def test_the_address_is_the_first_tcp_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "s"))
        assert client_url([unix, tcp]) == f"http://127.0.0.1:{tcp.getsockname()[1]}/v1"
        assert client_url([unix]) == f"unix:{tmp_path}/s"


ACTIVATED = """
    import asyncio, os, signal, sys
    sys.path[:0] = sys.argv[2:]
    from upstreams import Purse, settings_for
    from vx_token.errors import ConfigError
    from vx_token.gateway.app import GatewayApp
    from vx_token.gateway.server import serve
    from vx_token.gateway.settings import Limits, Route
    from vx_token.gateway.inherited import inherited_sockets

    async def main():
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        gateway = GatewayApp(settings_for(Route("p", sys.argv[1]), limits=Limits()), Purse())
        sockets = inherited_sockets(os.environ, os.getpid())
        assert not os.get_inheritable(sockets[0].fileno())
        await serve(gateway, stop=stop, sockets=sockets, inherited=True, ready=lambda url: print(url, flush=True))

    try:
        asyncio.run(main())
    except ConfigError as error:
        print(error)
"""


def activate(listening: socket.socket, url: str) -> "subprocess.Popen[str]":
    """Start a gateway as systemd does: the socket is its descriptor 3, and LISTEN_PID is its own id."""
    launcher = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
        "os.execv(sys.executable, [sys.executable, '-c', *sys.argv[2:]])"
    )
    fd = str(listening.fileno())
    argv = [sys.executable, "-c", launcher, fd, textwrap.dedent(ACTIVATED), url, *sys.path]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, pass_fds=[listening.fileno()])


def test_restarts_under_socket_activation_refuse_no_connection() -> None:
    done = threading.Event()
    statuses: list[int] = []

    def ask() -> None:
        while not done.is_set():
            with socket.create_connection(("127.0.0.1", port), 30) as raw:
                head = "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n"
                raw.sendall(f"{head}Authorization: Bearer {KEY}\r\n\r\n{{}}".encode())
                statuses.append(int(raw.recv(65536).split()[1]))

    with socket.create_server(("127.0.0.1", 0)) as listening, upstream() as server:
        port = listening.getsockname()[1]
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        for last in (False, False, True):
            process = activate(listening, server.url)
            assert process.stdout is not None
            assert process.stdout.readline().strip() == f"http://127.0.0.1:{port}/v1"
            seen = len(statuses)
            until(lambda seen=seen: len(statuses) > seen + 5)  # type: ignore[misc]
            if last:
                done.set()
                asking.join(30)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            process.stdout.close()
    assert set(statuses) == {200}


def test_a_stop_under_socket_activation_breaks_no_kept_connection() -> None:
    """Neither one that is idle, nor one whose answer began before the stop; new ones are served on meanwhile."""
    go_on = threading.Event()

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        if request.path.endswith("slow"):
            await response.write(b"begun")
            await asyncio.to_thread(go_on.wait, 30)
        await response.write_eof(b"done")
        return response

    def ask(connection: http.client.HTTPConnection, path: str = "/v1/x") -> http.client.HTTPResponse:
        connection.request("POST", path, b"{}", {"Authorization": f"Bearer {KEY}"})
        return connection.getresponse()

    def moving() -> bool:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            return ask(connection).headers["Connection"] == "close"

    with socket.create_server(("127.0.0.1", 0)) as listening, upstream(slow) as server:
        port = listening.getsockname()[1]
        process = activate(listening, server.url)
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline()
            idle, busy = (http.client.HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(2))
            with contextlib.closing(idle), contextlib.closing(busy):
                assert ask(idle).read() == b"done"
                streamed = ask(busy, "/v1/slow")
                process.send_signal(signal.SIGTERM)
                until(moving)
                for last in (ask(idle), ask(idle)):  # it is the client that leaves, so nothing can cross its request
                    assert last.headers["Connection"] == "close"
                    assert last.read() == b"done"
                go_on.set()
                assert streamed.read() == b"begundone"
                last = ask(busy)
                assert last.headers["Connection"] == "close"
                assert last.read() == b"done"
            assert process.wait(20) == 0


def test_an_activated_socket_beyond_loopback_must_be_named_in_the_configuration() -> None:
    with socket.create_server(("0.0.0.0", 0)) as everywhere, socket.create_server(("127.0.0.2", 0)) as local:
        check_inherited([local], Gateway())
        with pytest.raises(ConfigError, match=r"0\.0\.0\.0, which gateway\.listen does not name"):
            check_inherited([local, everywhere], Gateway(listen=(("172.17.0.1", everywhere.getsockname()[1]),)))


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, ""),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "proxy:3128", "HTTPS_PROXY": "x"}, "http://proxy:3128"),
        ({"http_proxy": "http://other"}, ""),
        ({"ALL_PROXY": "http://all"}, "http://all"),
        ({"https_proxy": "p", "NO_PROXY": "example.com, .googleapis.com"}, ""),
        ({"https_proxy": "p", "NO_PROXY": "*"}, ""),
        ({"https_proxy": "p", "no_proxy": "apis.com,googleapis.co"}, "http://p"),
    ],
)
def test_the_environments_proxy_is_used(environ: dict[str, str], proxy: str) -> None:
    assert proxy_for("https://aiplatform.googleapis.com/v1/projects", environ) == proxy
    assert proxy_for("https://localhost:8443/v1", environ) == ""


def test_a_proxy_of_another_kind_is_refused_with_a_hint() -> None:
    environ = {"ALL_PROXY": "socks5://user:secret@proxy:1080"}
    with pytest.raises(ConfigError, match="cannot use a socks5 proxy") as error:
        proxy_for("https://aiplatform.googleapis.com/v1/projects", environ)
    assert "NO_PROXY" in error.value.hint
    assert proxy_for("http://127.0.0.1:8443/v1", environ) == ""
