"""The gateway, a bare aiohttp proxy and nginx before one fast TLS upstream, in interleaved rounds."""

import asyncio
import contextlib
import os
import platform
import re
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
import trustme
from aiohttp import web

from vx_token.gateway.app import Gateway
from vx_token.gateway.server import serve
from vx_token.gateway.settings import GatewaySettings, Route
from vx_token.gateway.sockets import allow_many_files
from vx_token.tokens import Token

KEY = "vx-local-bench"
ANSWER = '{"choices":[{"message":{"content":"Hello"}}],"usage":{"completion_tokens":7,"prompt_tokens":5}}'
BODY = '{"messages":[{"role":"user","content":"Say hello."}],"model":"gemini-2.5-flash","temperature":0.2}'
SECONDS = 3  # of each load
STREAMS = 1000
BARE = "bare aiohttp"

NGINX = """
daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.log crit;
worker_rlimit_nofile 8192; events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  {server}
}}
"""
UPSTREAM = """
server {{
  listen 127.0.0.1:{port} ssl; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/cert.pem;
  location / {{ default_type application/json; return 200 '{answer}'; }}
}}
"""
PROXY = """
upstream up {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 100000000; }}
upstream sse {{ server 127.0.0.1:{streams}; keepalive 64; }}
server {{
  listen 127.0.0.1:{port};
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
  proxy_set_header Authorization "Bearer t";
  proxy_ssl_trusted_certificate {folder}/ca.pem; proxy_ssl_verify on;
  proxy_ssl_name localhost; proxy_ssl_server_name on;
  location / {{ proxy_pass https://up/; }}
  location /v1/stream {{ proxy_pass https://sse/stream; }}
}}
"""
LUA = """
wrk.method = "POST"
wrk.body = '{body}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
done = function(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.status + errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format("RESULT %d %d %d %d\\n",
    summary.requests, summary.duration, latency:percentile(50), failed))
end
"""


class Purse:
    """One token that lives long."""

    token = Token("ya29.bench", time.time() + 3600, time.time())

    def current(self, profile: str) -> Token:  # noqa: ARG002 - one token for all
        """The token."""
        return self.token

    async def fresh(self, profile: str, rejected: str | None) -> Token:  # noqa: ARG002 - one token for all
        """The token."""
        return self.token


async def serve_gateway(port: int, upstream: str, folder: Path) -> None:
    """The gateway with everything on: aliases, publisher prefix, metrics, usage."""
    streams = Route("streams", upstream.replace(upstream.rsplit(":", 1)[1], os.environ["STREAMS_PORT"]))
    route = Route("bench", upstream, aliases={"gpt-4o": "google/gemini-2.5-pro"}, publisher="google")
    settings = GatewaySettings(
        {"bench": route, "streams": streams}, "bench", lambda key: key == KEY, port=port, ca_file=folder / "ca.pem"
    )
    await serve(Gateway(settings, Purse()), stop=asyncio.Event())


async def serve_bare(port: int, upstream: str, folder: Path) -> None:
    """What thirty lines of aiohttp do."""
    allow_many_files()
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=context), auto_decompress=False)
    streams = upstream.replace(upstream.rsplit(":", 1)[1], os.environ["STREAMS_PORT"])

    async def handle(request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name not in {"Host", "Content-Length"}}
        headers["Authorization"] = f"Bearer {Purse.token.value}"
        base = streams if "stream" in request.path else upstream
        url = base + request.path_qs.removeprefix("/streams").removeprefix("/v1")
        async with session.request(
            request.method, url, headers=headers, data=await request.read() or None, allow_redirects=False
        ) as answer:
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


async def serve_streams(port: int, folder: Path) -> None:
    """SSE: as many chunks as asked, each with the instant it was written at."""
    allow_many_files()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem")

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(int(request.query["chunks"])):
            await response.write(b"data: %d\n\n" % time.monotonic_ns())
            await asyncio.sleep(float(request.query["pause"]))
        return response

    app = web.Application()
    app.router.add_route("*", "/stream", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context, backlog=1024).start()
    await asyncio.Event().wait()


def free_port() -> int:
    """A port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def process(port: int, *argv: str, **environ: str) -> Iterator[psutil.Process]:
    """A server process, ready when its port answers."""
    # What a server says when the load ends in the middle of requests is of no interest.
    child = subprocess.Popen(argv, env={**os.environ, **environ}, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait(10)


def resident(server: psutil.Process) -> float:
    """MiB of a process and its children."""
    return float(sum(each.memory_info().rss for each in [server, *server.children(recursive=True)])) / 2**20


def nginx(folder: Path, name: str, server: str) -> tuple[str, ...]:
    """The command of an nginx with one server."""
    path = folder / f"{name}.conf"
    path.write_text(NGINX.format(folder=folder, name=name, server=server))
    return ("nginx", "-c", str(path), "-p", str(folder), "-e", str(folder / "error.log"))


@dataclass(frozen=True)
class Load:
    """What one run of the load generator found."""

    rate: float  # requests per second
    median: float  # milliseconds
    cpu: float  # microseconds of the server's processor time for each request


def load(url: str, connections: int, folder: Path, server: psutil.Process | None) -> Load:
    """Keep `connections` busy for some seconds."""
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "-s", str(folder / "post.lua"), url]
    before = processor(server)
    out = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    requests, micros, median, errors = map(int, re.findall(r"\d+", out.rsplit("RESULT", 1)[1]))
    if errors:
        raise SystemExit(f"{url}: {errors} errors")
    return Load(requests / micros * 1e6, median / 1000, (processor(server) - before) * 1e6 / requests)


def processor(server: psutil.Process | None) -> float:
    """Seconds of processor time of a process and its children."""
    if server is None:
        return 0.0
    return float(sum(sum(each.cpu_times()[:2]) for each in [server, *server.children(recursive=True)]))


async def stream(session: aiohttp.ClientSession, url: str, chunks: int, pause: float) -> list[float]:
    """Milliseconds from upstream's write to our read, of each chunk."""
    async with session.post(f"{url}?chunks={chunks}&pause={pause}", data=b"{}", ssl=False) as answer:
        answer.raise_for_status()
        lines = [(time.monotonic_ns(), line) async for line in answer.content if line.startswith(b"data: ")]
    if len(lines) != chunks:
        raise SystemExit(f"{url}: {len(lines)} of {chunks} chunks")
    return [(read - int(line[6:])) / 1e6 for read, line in lines]


def session() -> aiohttp.ClientSession:
    """A client with the local key and no limit."""
    headers = {"Authorization": f"Bearer {KEY}"}
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers)


async def chunk_delays(url: str) -> tuple[float, float]:
    """Median milliseconds until the first chunk, counted from the request, and of each later chunk's way."""
    firsts, rest = [], []
    async with session() as client:
        for _ in range(40):
            started = time.monotonic()
            async with client.post(f"{url}?chunks=1&pause=0", data=b"{}", ssl=False) as answer:
                await answer.content.readany()
                firsts.append((time.monotonic() - started) * 1000)
                await answer.read()
        for _ in range(5):
            rest += (await stream(client, url, 60, 0.005))[1:]
    return statistics.median(firsts), statistics.median(rest)


async def crowd(url: str, server: psutil.Process) -> float:
    """MiB more while 1,000 streams are open; each must bring all its chunks."""
    before = resident(server)
    peak = before
    async with session() as client:
        tasks = [asyncio.create_task(stream(client, url, 12, 0.5)) for _ in range(STREAMS)]
        while not all(task.done() for task in tasks):
            peak = max(peak, resident(server))
            await asyncio.sleep(0.2)
        for task in tasks:
            task.result()
    return peak - before


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def row(name: str, *cells: str) -> str:
    """One line of a table."""
    return f"| {name} | " + " | ".join(cells) + " |"


def measure(urls: dict[str, str], servers: dict[str, psutil.Process], folder: Path, rounds: int) -> None:
    """All the tables."""
    idle = {name: resident(server) for name, server in servers.items()}
    busy: dict[str, list[Load]] = {name: [] for name in urls}
    alone: dict[str, list[Load]] = {name: [] for name in urls}
    for url in urls.values():
        load(url, 32, folder, None)
    for _ in range(rounds):
        for name, url in urls.items():
            busy[name].append(load(url, 32, folder, servers.get(name)))
            alone[name].append(load(url, 1, folder, servers.get(name)))
    rate = {name: statistics.median(each.rate for each in loads) for name, loads in busy.items()}
    cpu = {name: statistics.median(each.cpu for each in loads) for name, loads in busy.items()}
    median = {name: statistics.median(each.median for each in loads) for name, loads in alone.items()}
    added = {name: median[name] - median["upstream itself"] for name in servers}
    say("| | requests/s at 32 connections | x bare | processor time a request | added p50 at 1 | x bare | idle MiB |")
    say("|---|---|---|---|---|---|---|")
    say(row("upstream itself", f"{rate['upstream itself']:,.0f}", "", "", "", "", ""))
    for name in servers:
        times = f"{rate[name] / rate[BARE]:.2f}"
        slower = f"{added[name] / added[BARE]:.2f}"
        say(
            row(
                name,
                f"{rate[name]:,.0f}",
                times,
                f"{cpu[name]:.0f} µs",
                f"{added[name]:.2f} ms",
                slower,
                f"{idle[name]:.0f}",
            )
        )


def measure_streams(urls: dict[str, str], servers: dict[str, psutil.Process], rounds: int) -> None:
    """First chunk, each chunk, and a thousand at once."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in urls}
    for _ in range(rounds):
        for name, url in urls.items():
            found[name].append(asyncio.run(chunk_delays(url)))
    medians = {
        name: [statistics.median(values) for values in zip(*pairs, strict=True)] for name, pairs in found.items()
    }
    say("\n| | added p50, first chunk | added p50, later chunks | KiB per open stream | MiB more after 2 x 1,000 |")
    say("|---|---|---|---|---|")
    direct = medians["upstream itself"]
    before = {name: resident(server) for name, server in servers.items()}
    grown = {name: asyncio.run(crowd(urls[name], server)) for name, server in servers.items()}
    for name, server in servers.items():
        asyncio.run(crowd(urls[name], server))
    time.sleep(130)  # the gateway gives memory back after a minute of quiet
    for name, server in servers.items():
        first, later = (mine - theirs for mine, theirs in zip(medians[name], direct, strict=True))
        size = f"{grown[name] * 1024 / STREAMS:.0f}"
        say(row(name, f"{first:.2f} ms", f"{later:.2f} ms", size, f"{resident(server) - before[name]:.0f}"))


def main(rounds: int) -> None:
    """Start everything on free ports, measure, stop everything."""
    allow_many_files()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(folder / "cert.pem"))
        (folder / "post.lua").write_text(LUA.format(body=BODY, key=KEY))
        upstream, streams = free_port(), free_port()
        argv = nginx(folder, "upstream", UPSTREAM.format(folder=folder, port=upstream, answer=ANSWER))
        stack.enter_context(process(upstream, *argv))
        me = (sys.executable, __file__)
        stack.enter_context(process(streams, *me, "streams", str(streams), "", name))
        base = f"https://localhost:{upstream}"
        urls = {"upstream itself": base}
        feeds = {"upstream itself": f"https://localhost:{streams}/stream"}
        servers = {}
        for kind in ("gateway", BARE, "nginx"):
            port = free_port()
            command: tuple[str, ...] = (*me, kind.split()[0], str(port), base, name)
            if kind == "nginx":
                proxy = PROXY.format(folder=folder, port=port, upstream=upstream, streams=streams)
                command = nginx(folder, "proxy", proxy)
            servers[kind] = stack.enter_context(process(port, *command, STREAMS_PORT=str(streams)))
            urls[kind] = f"http://127.0.0.1:{port}/v1/chat/completions"
            feeds[kind] = f"http://127.0.0.1:{port}{'/streams' if kind == 'gateway' else ''}/v1/stream"
        say(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()},")
        say(f"aiohttp {aiohttp.__version__}; {rounds} interleaved rounds of {SECONDS} s\n")
        measure(urls, servers, folder, rounds)
        measure_streams(feeds, servers, rounds)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        kind, port, upstream, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
        if kind == "streams":
            asyncio.run(serve_streams(port, folder))
        asyncio.run((serve_gateway if kind == "gateway" else serve_bare)(port, upstream, folder))
    if not shutil.which("nginx") or not shutil.which("wrk"):
        raise SystemExit("needs nginx and wrk")
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
