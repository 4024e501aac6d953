"""Stock clients, built once, against the daemon's gateway under socket activation, while everything around it fails."""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blocks

from vx_token.emulator import Emulator, running

SCRIPTS = Path(__file__).resolve().parent
NODE_CLIENT = "openai@6"
NAMES = {
    "openai-python": "the openai client for Python",
    "openai-node": "the openai client for Node",
    "plain": "a plain HTTP client that reads each response to its end",
}
LANES = 8
ACTIVATE = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
    "os.execv(sys.executable, [sys.executable, '-P', '-m', 'vx_token', 'run'])"
)
"""Starts the daemon as systemd does: its descriptor 3 listens, and LISTEN_PID is its own id."""


@dataclass
class Stage:
    """Folders, configuration and environment of the run."""

    root: Path
    google: Emulator

    def __post_init__(self) -> None:
        kept = ("PATH", "LANG", "PYTHONPATH", "VIRTUAL_ENV", "npm_config_cache", "HOME")
        self.environ = {name: os.environ[name] for name in kept if name in os.environ}
        self.npm = dict(self.environ)
        self.environ |= {
            "HOME": str(self.root),
            "VX_TOKEN_CONFIG": str(self.root / "config.toml"),
            "VX_TOKEN_RUNTIME_DIR": str(self.root / "run"),
        }
        self.google.service_account(self.root / "account.json")

    def configure(self, port: int) -> None:
        """One profile, the gateway on."""
        (self.root / "config.toml").write_text(
            f'[profiles.soak]\nbase_url = "{self.google.base_url()}"\ncredentials = "account.json"\n'
            f'publisher = "google"\n[gateway]\nport = {port}\n',
            encoding="utf-8",
        )

    def clients(self, requests: int, plain: int, seconds: float, retries: int) -> list[list[str]]:
        """The commands of the clients that can be had here."""
        arguments = [str(requests), str(seconds), str(LANES), str(retries)]
        found = [[sys.executable, str(SCRIPTS / "soak_client.py"), *arguments]]
        if plain:
            found.append([sys.executable, str(SCRIPTS / "soak_plain.py"), str(plain), str(seconds), str(4 * LANES)])
        if shutil.which("node") and self._npm_install():
            found.append(["node", str(SCRIPTS / "soak_client.mjs"), *arguments])
        return found

    def _npm_install(self) -> bool:
        if (self.root / "node_modules").exists():
            return True
        command = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", NODE_CLIENT]
        return (
            shutil.which("npm") is not None
            and not subprocess.run(
                command, cwd=self.root, env=self.npm, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
            ).returncode
        )


class Daemon:
    """`vx-token run`, started again on the same socket as often as wanted."""

    def __init__(self, stage: Stage, listening: socket.socket) -> None:
        self._stage = stage
        self._listening = listening
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; clients may connect already."""
        fd = self._listening.fileno()
        with (self._stage.root / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", ACTIVATE, str(fd)], env=self._stage.environ, pass_fds=[fd], stderr=log
            )

    def restart(self) -> None:
        """Stop it as `systemctl restart` does, and start the next one."""
        self.stop()
        self.start()

    def reload(self) -> None:
        """SIGHUP."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """Stop it; fails when it does not end well."""
        assert self._process is not None
        self._process.terminate()
        if self._process.wait(30):
            raise SystemExit(f"the daemon ended with {self._process.returncode}")

    def resident(self) -> float:
        """MiB."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status")
        lines = status.read_text().splitlines() if status.exists() else []
        return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def trouble(google: Emulator, *, upstream: bool) -> None:
    """A tenth of all refreshes fails; with `upstream`, it resets and is overloaded at times: clients must try again.

    Its 401s come from tokens that `disturb` revokes: one for a good token, twice in a row, would rightly be passed on.
    """
    google.fail("token", times=None, probability=0.1, seed=1, status=503)
    if upstream:
        google.fail("chat", times=None, probability=0.01, seed=2, kind="reset")
        google.fail("chat", times=None, probability=0.01, seed=4, status=503)


@contextlib.contextmanager
def played(stage: Stage, *, upstream: bool) -> Iterator[Daemon]:
    """The daemon with its gateway, ready for clients."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        port = listening.getsockname()[1]
        stage.configure(port)
        daemon = Daemon(stage, listening)
        daemon.start()
        try:
            wait_for(f"http://127.0.0.1:{port}/readyz")
            key = next(stage.root.rglob("gateway.key")).read_text()
            stage.environ |= {"OPENAI_API_KEY": key, "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"}
            trouble(stage.google, upstream=upstream)
            yield daemon
        finally:
            daemon.stop()


def wait_for(url: str) -> None:
    """Until the gateway has a token."""
    for _ in range(200):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=30):  # noqa: S310 - our own loopback
            return
        time.sleep(0.1)
    raise SystemExit(f"{url} does not become ready")


def disturb(daemon: Daemon, google: Emulator, seconds: float, restarts: int) -> list[float]:
    """Revoke, reload and restart while the clients work; the daemon's memory at each turn."""
    sizes = []
    turns = max(restarts * 3, 3)
    started = time.monotonic()
    for turn in range(turns):
        # By the clock, not by pauses: a restart after the clients' end would prove nothing.
        time.sleep(max(0.0, started + seconds * (turn + 1) / (turns + 1) - time.monotonic()))
        sizes.append(daemon.resident())
        google.revoke(google.issued[-1].value)
        if turn % 3 == 1:
            daemon.reload()
        elif turn % 3 == 2 and restarts:
            daemon.restart()
    return sizes


def main() -> int:
    """Run it; 0 when both clients saw nothing but whole answers with status 200."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000, help="of each client")
    parser.add_argument("--plain", type=int, default=0, help="requests of a plain HTTP client beside them")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--lifetime", type=float, default=2.5, help="seconds that a token lives")
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument(
        "--retries",
        type=int,
        default=0,
        help="of the clients; with any, upstream fails too, whose failures are passed on. Without, all that goes wrong "
        "on the way is seen",
    )
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks-gateway.md")
    parser.add_argument("--log", type=Path, help="where to keep the daemon's log")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vx-token-soak-") as folder, running(lifetime=asked.lifetime) as google:
        stage = Stage(Path(folder), google)
        commands = stage.clients(asked.requests, asked.plain, asked.seconds, asked.retries)
        with played(stage, upstream=asked.retries > 0) as daemon:
            clients = [
                subprocess.Popen(command, env=stage.environ, cwd=stage.root, stdout=subprocess.PIPE, text=True)
                for command in commands
            ]
            sizes = disturb(daemon, google, asked.seconds, asked.restarts)
            said = [client.communicate(timeout=asked.seconds + 120)[0] for client in clients]
        if asked.log:
            shutil.copy(stage.root / "daemon.log", asked.log)
        saw = [json.loads(answer) if answer else {"answers": {}, "broken": {"died": 1}} for answer in said]
        found = {
            "clients": saw,
            "non_200s": sum(sum(client["answers"].values()) - client["answers"].get("200", 0) for client in saw),
            "connection_failures": sum(sum(client["broken"].values()) for client in saw),
            "retries": asked.retries,
            "token_lives": len(google.issued),
            "token_endpoint_failures": google.count("token", 503),
            "upstream_401s": google.count("chat", 401),
            "upstream_503s": google.count("chat", 503),
            "upstream_resets": google.count("chat", 0),
            "restarts": asked.restarts,
            "daemon_mib": [round(size) for size in sizes],
        }
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    if asked.write:
        blocks.write("benchmarks-gateway.md", "soak", table(found, asked.seconds))
    return int(bool(found["non_200s"] or found["connection_failures"]))


def table(found: dict[str, Any], seconds: float) -> str:
    """Return what was seen, for the page."""
    sizes = found["daemon_mib"]
    counts = {NAMES[client["client"]]: sum(client["answers"].values()) for client in found["clients"]}
    rows = (
        *((f"requests of {name}", f"{count:,}") for name, count in counts.items()),
        ("responses other than 200", found["non_200s"]),
        ("connections that failed", found["connection_failures"]),
        ("token lifetimes", f"{found['token_lives']:,}"),
        ("refreshes that failed", found["token_endpoint_failures"]),
        ("requests that upstream rejected because their token was revoked", f"{found['upstream_401s']:,}"),
        ("restarts of the daemon, and as many reloads", found["restarts"]),
        ("the daemon's resident set", f"{min(sizes)} to {max(sizes)} MiB, of {len(sizes)} reads"),
    )
    made = f"{blocks.made('scripts/soak-gateway')} in {seconds / 60:.0f} minutes."
    return f"{blocks.table(('what', 'seen'), *rows)}\n\n{made}"


if __name__ == "__main__":
    sys.exit(main())
