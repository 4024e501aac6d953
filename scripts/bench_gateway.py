"""The gateway, a bare aiohttp proxy, nginx and peers before one fast TLS upstream, in interleaved rounds."""

import argparse
import asyncio
import contextlib
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import bench_memory
import bench_peers
import blocks
import psutil
import trustme
from bench_memory import resident
from bench_servers import KEY

from vx_token.emulator import Emulator, running
from vx_token.gateway.sockets import max_connections

HERE = Path(__file__).resolve().parent
ANSWER = (
    '{"id":"c","object":"chat.completion","created":1,"model":"google/gemini-2.5-flash","choices":[{"index":0,'
    '"finish_reason":"stop","message":{"role":"assistant","content":"Hello"}}],'
    '"usage":{"completion_tokens":7,"prompt_tokens":5,"total_tokens":12}}'
)
BODY = '{"messages":[{"role":"user","content":"Say hello."}],"model":"gemini-2.5-flash","temperature":0.2}'
SECONDS = 3  # of each load
DIRECT, GATEWAY, BARE, BARE_UVLOOP = "upstream itself", "gateway", "bare aiohttp", "bare aiohttp on uvloop"

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


def free_port() -> int:
    """A port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def process(port: int, argv: tuple[str, ...], log: Path, **options: object) -> Iterator[psutil.Process]:
    """A server process, ready when its port answers."""
    with log.open("wb") as out:
        child = subprocess.Popen(argv, stdout=out, stderr=out, **options)
    try:
        end = time.monotonic() + 60
        while not _listens(port):
            if child.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{argv[0]} does not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait(30)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def nginx(folder: Path, name: str, server: str, **values: object) -> tuple[str, ...]:
    """The command of an nginx with one server."""
    path = folder / f"{name}.conf"
    path.write_text(NGINX.format(folder=folder, name=name, server=server.format(folder=folder, **values)))
    return ("nginx", "-c", str(path), "-p", str(folder), "-e", str(folder / "error.log"))


@dataclass(frozen=True)
class Load:
    """What one run of the load generator found."""

    rate: float  # requests per second
    median: float  # milliseconds
    cpu: float  # microseconds of the server's processor time for each request


def load(url: str, connections: int, folder: Path, server: psutil.Process | None) -> Load:
    """Keep `connections` busy for some seconds."""
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--timeout", "20s", "-s", str(folder / "post.lua"), url]
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


async def chunk_delays(url: str) -> tuple[float, float]:
    """Median milliseconds until the first chunk, counted from the request, and of each later chunk's way."""
    firsts, rest = [], []
    async with bench_memory.session() as client:
        for _ in range(40):
            started = time.monotonic()
            async with client.post(f"{url}?chunks=1&pause=0", data=b"{}", ssl=False) as answer:
                await answer.content.readany()
                firsts.append((time.monotonic() - started) * 1000)
                await answer.read()
        for _ in range(5):
            rest += (await bench_memory.stream(client, url, 60, 0.005))[1:]
    return statistics.median(firsts), statistics.median(rest)


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@dataclass
class Stage:
    """What runs, and where: URLs of single answers and of streams, and the processes, by name."""

    folder: Path
    google: Emulator
    stack: contextlib.ExitStack
    urls: dict[str, str] = field(default_factory=dict)
    feeds: dict[str, str] = field(default_factory=dict)
    servers: dict[str, psutil.Process] = field(default_factory=dict)

    def begin(self) -> None:
        """Start the upstreams, and before them the gateway, bare aiohttp and nginx."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.folder / "ca.pem"))
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(self.folder / "cert.pem"))
        (self.folder / "post.lua").write_text(LUA.format(body=BODY, key=KEY))
        upstream, streams = free_port(), free_port()
        self._start("upstream", upstream, nginx(self.folder, "upstream", UPSTREAM, port=upstream, answer=ANSWER))
        self.urls[DIRECT], base = f"https://localhost:{upstream}", f"https://localhost:{streams}"
        self.feeds[DIRECT] = f"{base}/stream"
        self._start("streams", streams, self._ours("streams", streams, base))
        for kind in (GATEWAY, BARE, BARE_UVLOOP, "nginx"):
            port = free_port()
            if kind == "nginx":
                argv = nginx(self.folder, "proxy", PROXY, port=port, upstream=upstream, streams=streams)
            else:
                argv = self._ours({GATEWAY: "gateway", BARE: "bare", BARE_UVLOOP: "uvloop"}[kind], port, base)
            self.servers[kind] = self._start(kind, port, argv)
            self.urls[kind] = f"http://127.0.0.1:{port}/v1/chat/completions"
            self.feeds[kind] = f"http://127.0.0.1:{port}{'/streams' if kind == GATEWAY else ''}/v1/stream"

    def begin_peers(self, venvs: Path | None) -> None:
        """Start those that are installed."""
        account = self.folder / "account.json"
        self.google.service_account(account)
        for name, venv in bench_peers.installed(venvs).items():
            if venv is None:
                say(f"{name}: not installed")
                continue
            port = free_port()
            peer = bench_peers.peer(name, venv, self.folder, port, self.urls[DIRECT], account)
            shown = f"{name} {bench_peers.version(venv, name)}"
            self.servers[shown] = self._start(name, port, peer.argv, env=peer.environ, cwd=peer.folder)
            self.urls[shown] = f"http://127.0.0.1:{port}/v1/chat/completions"

    def _ours(self, kind: str, port: int, streams: str) -> tuple[str, ...]:
        script = str(HERE / "bench_servers.py")
        return (sys.executable, script, kind, str(port), self.urls[DIRECT], streams, str(self.folder))

    def _start(self, name: str, port: int, argv: tuple[str, ...], **options: object) -> psutil.Process:
        return self.stack.enter_context(process(port, argv, self.folder / f"{name}.out", **options))


def measure(stage: Stage, rounds: int) -> str:
    """Throughput, latency and memory of all, as a table."""
    busy: dict[str, list[Load]] = {name: [] for name in stage.urls}
    alone: dict[str, list[Load]] = {name: [] for name in stage.urls}
    idle = {name: resident(server) for name, server in stage.servers.items()}
    for url in stage.urls.values():
        load(url, 32, stage.folder, None)
    for number in range(rounds):
        for name, url in stage.urls.items():
            busy[name].append(load(url, 32, stage.folder, stage.servers.get(name)))
            alone[name].append(load(url, 1, stage.folder, stage.servers.get(name)))
        say(f"round {number + 1} of {rounds}")
    rates = {name: [each.rate for each in loads] for name, loads in busy.items()}
    added = {name: less([each.median for each in loads], alone[DIRECT]) for name, loads in alone.items()}
    head = ("", "requests/s at 32 connections", "x bare", "processor time a request", "added p50 at 1", "x bare")

    def row(name: str) -> tuple[str, ...]:
        rate, extra = statistics.median(rates[name]), statistics.median(added[name])
        spent = f"{statistics.median(each.cpu for each in busy[name]):,.0f} µs"
        faster, slower = ratio(rates[name], rates[BARE]), ratio(added[name], added[BARE])
        return (name, f"{rate:,.0f}", faster, spent, f"{extra:.2f} ms", slower, f"{idle[name]:.0f}")

    upstream = (DIRECT, f"{statistics.median(rates[DIRECT]):,.0f}", "", "", "", "", "")
    lines = [blocks.table((*head, "idle MiB"), upstream, *map(row, stage.servers)), ""]
    lines += [f"* gateway / {name}: {ratio(rates[GATEWAY], rates[name])}" for name in stage.servers if name != GATEWAY]
    return "\n".join([*lines[:2], "Requests per second, round by round:", "", *lines[2:]])


def less(medians: list[float], direct: list[Load]) -> list[float]:
    """What a way adds to upstream's latency, round by round."""
    return [mine - theirs.median for mine, theirs in zip(medians, direct, strict=True)]


def ratio(ours: list[float], theirs: list[float]) -> str:
    """The ratio of each round: the median, the least and the most."""
    return blocks.spread([mine / other for mine, other in zip(ours, theirs, strict=True)], "{:.2f}")


def measure_streams(stage: Stage, rounds: int) -> str:
    """First chunk, each chunk, and a thousand at once, as a table and a sentence."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in stage.feeds}
    for number in range(rounds):
        for name, url in stage.feeds.items():
            found[name].append(asyncio.run(chunk_delays(url)))
        say(f"streams, round {number + 1} of {rounds}")
    servers = {name: server for name, server in stage.servers.items() if name in stage.feeds}
    bursts = {
        name: bench_memory.Bursts(stage.feeds[name], server, stage.folder if name == GATEWAY else None)
        for name, server in servers.items()
    }
    bench_memory.play(bursts.values())
    head = ("", "added p50, first chunk", "added p50, later chunks", "KiB per open stream", "MiB, and after each 1,000")
    rows = []
    for name, burst in bursts.items():
        delays = [
            [mine[which] - theirs[which] for mine, theirs in zip(found[name], found[DIRECT], strict=True)]
            for which in (0, 1)
        ]
        sizes = ", ".join(f"{size:.0f}" for size in burst.sizes)
        rows.append((name, *(f"{blocks.spread(each, '{:.2f}')} ms" for each in delays), f"{burst.each:.0f}", sizes))
    kept = ", ".join(f"{each / 1024:,.0f}" for each in bursts[GATEWAY].in_use)
    heap = f"KiB of the gateway's heap in use, before the first thousand and after each: {kept}."
    return f"{blocks.table(head, *rows)}\n\n{heap}"


def main(asked: argparse.Namespace) -> None:
    """Start everything on free ports, measure, stop everything."""
    max_connections()
    with tempfile.TemporaryDirectory() as name, running(lifetime=86400) as google, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        stage = Stage(folder, google, stack)
        stage.begin()
        if asked.rounds:
            stage.begin_peers(asked.peers)
        machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, aiohttp {version('aiohttp')}"
        rounds = f"{asked.rounds} interleaved rounds of {SECONDS} s, load average before: {os.getloadavg()[0]:.1f}"
        made = f"{blocks.made('scripts/bench-gateway')}: {rounds}.\n{machine}."
        for block, measurement in {"servers": measure, "streams": measure_streams}.items() if asked.rounds else ():
            text = f"{measurement(stage, asked.rounds)}\n\n{made}"
            say(f"\n{text}\n")
            if asked.write:
                blocks.write("benchmarks-gateway.md", block, text)
        if asked.minutes:
            say("\n" + bench_memory.last(stage.feeds[GATEWAY], stage.servers[GATEWAY], asked.minutes * 60))


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="0 leaves the tables out")
    parser.add_argument("--minutes", type=float, default=0.0, help="of streams without a pause, to see memory grow")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks-gateway.md")
    parser.add_argument(
        "--peers",
        type=lambda name: Path(name).absolute(),
        help="a folder of virtual environments, each with the peer of its name",
    )
    return parser.parse_args()


if __name__ == "__main__":
    if not shutil.which("nginx") or not shutil.which("wrk"):
        raise SystemExit("needs nginx and wrk")
    main(options())
