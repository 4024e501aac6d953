"""Measures Envoy, nginx, Caddy and the gateway side by side, with their examples; prints a table as JSON.

Each sends requests to the same nginx, which stands for Google and answers at once. Only the rate limits are raised.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import bench_gateway
import psutil
from bench_gateway import ANSWER, BODY, DIRECT, LUA, UPSTREAM, Load, load
from bench_memory import resident
from blocks import table
from fleet_world import CADDY, ENVOY, EXAMPLES, NAMES, NJS, RELOADED, World, world

from vx_token.emulator import running

ENGINES = (ENVOY, RELOADED, NJS, CADDY)
GATEWAY = "vx-token's gateway"
LIMITS = (
    ("/etc/nginx/vertex/http.conf", "rate=100r/s", "rate=1000000r/s"),
    ("/etc/nginx/vertex/location.conf", "burst=200", "burst=1000000"),
    (
        "/etc/envoy/envoy.yaml",
        "max_tokens: 200, tokens_per_fill: 100,",
        "max_tokens: 1000000, tokens_per_fill: 1000000,",
    ),
    (
        "/etc/envoy/envoy.yaml",
        "max_tokens: 2000, tokens_per_fill: 2000,",
        "max_tokens: 1000000, tokens_per_fill: 1000000,",
    ),
)


def raise_limits() -> None:
    """Raise the rate limits of the examples.

    Raises:
        SystemExit: an example has another limit.
    """
    for name, limit, raised in LIMITS:
        text = Path(name).read_text()
        if limit not in text:
            raise SystemExit(f"{name} does not contain {limit}")
        Path(name).write_text(text.replace(limit, raised))


def begin(box: World, folder: Path, stack: contextlib.ExitStack) -> dict[str, tuple[str, str, psutil.Process | None]]:
    """Start everything; return URL, key and process by name."""
    google = stack.enter_context(running(lifetime=3600))
    for example in ("envoy", "caddy", "nginx"):  # the last one's config.toml has all that the others need
        box.install(example, google)
    raise_limits()
    pem = box.authority.issue_cert(*NAMES).private_key_and_cert_chain_pem
    pem.write_to_path(str(folder / "cert.pem"))
    upstream = bench_gateway.nginx(folder, "upstream", UPSTREAM, port=443, answer=ANSWER)
    stack.enter_context(bench_gateway.process(443, upstream, folder / "upstream.out"))
    box.start_daemon()
    for engine in ENGINES:
        box.start_engine(engine)
    running_ones = {
        engine.name: (engine.url, engine.key, psutil.Process(box.processes[engine.name].pid)) for engine in ENGINES
    }
    key = Path("/etc/vx-token/gateway.key").read_text()
    gateway = ("http://127.0.0.1:8490/v1/chat/completions", key, psutil.Process(box.processes["vx-token"].pid))
    return {DIRECT: (f"https://{NAMES[0]}/", key, None), GATEWAY: gateway, **running_ones}


def measure(servers: dict[str, tuple[str, str, psutil.Process | None]], folder: Path, rounds: int) -> str:
    """Return the table of some interleaved rounds."""
    before = os.getloadavg()[0]
    scripts = {name: folder / str(number) for number, name in enumerate(servers)}
    for name, (_, key, _) in servers.items():
        scripts[name].mkdir()
        (scripts[name] / "post.lua").write_text(LUA.format(body=BODY.replace("gemini", "google/gemini"), key=key))
    busy: dict[str, list[Load]] = {name: [] for name in servers}
    alone: dict[str, list[Load]] = {name: [] for name in servers}
    for name, (url, _, _) in servers.items():
        load(url, 32, scripts[name], None)
    for _ in range(rounds):
        for name, (url, _, server) in servers.items():
            busy[name].append(load(url, 32, scripts[name], server))
            alone[name].append(load(url, 1, scripts[name], server))
            sys.stderr.write(f"{name}: {busy[name][-1].rate:.0f} requests/s, {alone[name][-1].median:.2f} ms\n")
    rate = {name: statistics.median(each.rate for each in loads) for name, loads in busy.items()}
    cpu = {name: statistics.median(each.cpu for each in loads) for name, loads in busy.items()}
    added = {name: statistics.median(each.median for each in loads) for name, loads in alone.items()}
    added = {name: median - added[DIRECT] for name, median in added.items()}
    head = (
        "",
        "requests/s at 32 connections",
        "x gateway",
        "added p50 at 1",
        "x gateway",
        "processor time a request",
        "MiB",
    )
    rows = [(DIRECT, f"{rate[DIRECT]:,.0f}", "", "", "", "", "")]
    for name, (_, _, server) in servers.items():
        if server is not None:
            faster, slower = rate[name] / rate[GATEWAY], added[name] / added[GATEWAY]
            memory = f"{resident(server):.0f}"
            cells = (
                f"{rate[name]:,.0f}",
                f"{faster:.1f}",
                f"{added[name]:.2f} ms",
                f"{slower:.2f}",
                f"{cpu[name]:.0f} µs",
            )
            rows.append((name, *cells, memory))
    machine = f"{os.cpu_count()} cores, load average {before:.1f}, {rounds} rounds of {bench_gateway.SECONDS} s."
    return f"{machine}\n\n{table(head, *rows)}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with world() as box, tempfile.TemporaryDirectory(dir="/run") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        assert set(EXAMPLES) == {"envoy", "nginx", "caddy"}
        sys.stdout.write(json.dumps(measure(begin(box, folder, stack), folder, rounds)))


if __name__ == "__main__":
    main()
