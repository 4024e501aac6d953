"""A machine for an example: namespaces where Google's names lead to an emulator, with vx-token and engines in them."""

import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from vx_token.emulator import Emulator

CHECKOUT = Path("/mnt")  # where the checkout is in the namespace, whatever folder it is in otherwise
USER = "65532"  # vx-token and the engines run as this user and group
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
NAMES = ("aiplatform.googleapis.com", "us-central1-aiplatform.googleapis.com")
PROFILES = ("default", "tuned")
ENVIRON = {
    "PATH": "/run/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/run/home",
    "PYTHONPATH": str(CHECKOUT / "src"),
    "VX_TOKEN_CONFIG": "/etc/vx-token/config.toml",
    "VX_TOKEN_RUNTIME_DIR": "/run/vx-token",
    "REQUESTS_CA_BUNDLE": str(BUNDLE),
    "SSL_CERT_FILE": str(BUNDLE),
}
BODY = b'{"model": "google/gemini-2.5-flash", "messages": [{"role": "user", "content": "Say hello."}]}'


@dataclass(frozen=True)
class Engine:
    """A reverse proxy.

    Attributes:
        name: in tables.
        port: where its example listens.
        argv: the command.
        clients: the file with the clients' keys.
        heals: whether a request that Google answers with 401 is sent again with another token.
        reads: whether it notices that the token file is gone.
        limits: whether its example limits the requests of a client.
    """

    name: str
    port: int
    argv: tuple[str, ...]
    clients: str
    heals: bool = True
    reads: bool = True
    limits: bool = True

    @property
    def key(self) -> str:
        """The key of the one client, which the commands of the README created."""
        return next(word for word in Path(self.clients).read_text().replace('"', " ").split() if len(word) == 64)

    @property
    def url(self) -> str:
        """Of the profile `default`."""
        return f"http://127.0.0.1:{self.port}/v1/chat/completions"

    @property
    def tuned_url(self) -> str:
        """Of the profile `tuned`."""
        return f"http://127.0.0.1:{self.port}/tuned/v1/chat/completions"


NGINX = ("nginx", "-e", "stderr", "-g", "daemon off;", "-c")
NGINX_CLIENTS = "/etc/nginx/vertex/clients"
ENVOY = Engine(
    "Envoy",
    8491,
    ("envoy", "-c", "/etc/envoy/envoy.yaml", "--disable-hot-restart", "-l", "warning"),
    "/etc/envoy/clients.yaml",
    heals=False,
    reads=False,
)
RELOADED = Engine("nginx, reloaded", 8492, (*NGINX, "/etc/nginx/vertex/nginx.conf"), NGINX_CLIENTS)
NJS = Engine("nginx with njs", 8493, (*NGINX, "/etc/nginx/vertex/njs.conf"), NGINX_CLIENTS)
CADDY = Engine("Caddy", 8494, ("caddy", "run", "--config", "/etc/caddy/Caddyfile"), "/etc/caddy/clients", limits=False)
EXAMPLES: dict[str, tuple[str, tuple[Engine, ...]]] = {
    "envoy": ("/etc/envoy", (ENVOY,)),
    "nginx": ("/etc/nginx/vertex", (RELOADED, NJS)),
    "caddy": ("/etc/caddy", (CADDY,)),
}


def until(holds: Callable[[], bool], what: str, seconds: float = 180.0) -> None:
    """Wait.

    Raises:
        SystemExit: it does not hold in time.
    """
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.02)


def ask(url: str, key: str, body: bytes = BODY) -> int:
    """Return the status of one request on a connection of its own; 0 if there was no response."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:  # noqa: S310
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@dataclass
class World:
    """The namespaces that this process is in, prepared for some examples.

    Attributes:
        authority: signs the certificate of Google's names.
        tls: how the emulator serves them.
        processes: what runs, by name.
    """

    authority: trustme.CA = field(default_factory=trustme.CA)
    tls: ssl.SSLContext = field(default_factory=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Replace /etc, /run and /dev/shm by folders in memory, and bring loopback up."""
        checkout = Path.cwd()
        run(
            "ip link set lo up",
            "mount --bind . /mnt",
            "mount -t tmpfs -o mode=755 fleet /run",
            "mount -t tmpfs -o mode=1777 fleet /dev/shm",
            "mkdir /run/etc /run/bin /run/home /run/vx-token /run/nginx-vertex",
            "cp -a /etc/. /run/etc",
            "mount --bind /run/etc /etc",
            "mkdir -p /etc/vx-token",
            f"chown -R {USER}:{USER} /run/home /run/vx-token /run/nginx-vertex /etc/vx-token",
            "chmod 700 /run/vx-token /run/nginx-vertex",
        )
        if not checkout.exists():  # it was in /run or /dev/shm
            checkout.mkdir(parents=True)
            run(f"mount --bind {CHECKOUT} {checkout}")
        self._open(Path(sys.base_prefix))
        Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0")
        Path("/etc/hosts").write_text(f"127.0.0.1 localhost {' '.join(NAMES)}\n")
        self.present(*NAMES)
        self.trust(self.authority)
        vx = f'#!/bin/sh\nexec {CHECKOUT}/.venv/bin/python -P -m vx_token "$@"\n'
        Path("/run/bin/vx-token").write_text(vx)
        Path("/run/bin/vx-token").chmod(0o755)
        fleet = CHECKOUT / ".fleet"
        Path("/run/bin/envoy").symlink_to(next(fleet.glob("lib/python3*/site-packages/envoy/_bin/envoy")))
        Path("/run/bin/caddy").symlink_to(fleet / "bin/caddy")

    def _open(self, path: Path) -> None:
        """Let the unprivileged user reach the interpreter, though it may be in a home folder of mode 0700."""
        closed = next((each for each in reversed(path.parents) if not each.stat().st_mode & 0o001), None)
        if closed is None:
            return
        checkout = Path.cwd()  # its modules must stay where they were imported from
        kept = {place: Path("/run") / name for place, name in ((path, "python"), (checkout, "checkout"))}
        for source, copy in kept.items():
            copy.mkdir()
            run(f"mount --bind {source} {copy}")
        run(f"mount -t tmpfs -o mode=755 fleet {closed}")
        for source, copy in kept.items():
            source.mkdir(parents=True, exist_ok=True)
            run(f"mount --bind {copy} {source}")

    def present(self, *names: str) -> None:
        """Let the emulator present a certificate for these names from now on."""
        self.authority.issue_cert(*names, "127.0.0.1", "localhost").configure_cert(self.tls)

    def trust(self, authority: trustme.CA) -> None:
        """Make this authority the only one that the system trusts."""
        BUNDLE.unlink(missing_ok=True)
        authority.cert_pem.write_to_path(str(BUNDLE))

    def install(self, example: str, google: Emulator) -> None:
        """Copy an example's files to where it expects them, and run the commands of its README."""
        place, _ = EXAMPLES[example]
        folder = CHECKOUT / "examples" / example
        shutil.copytree(folder, place, ignore=shutil.ignore_patterns("README.md", "config.toml"), dirs_exist_ok=True)
        shutil.copy(folder / "config.toml", "/etc/vx-token/config.toml")
        google.service_account(Path("/etc/vx-token/key.json"))
        run(f"chown -R {USER}:{USER} {place} /etc/vx-token")
        block = (folder / "README.md").read_text().split("```sh\n")[1].split("```")[0]
        subprocess.run([*as_user("sh", "-euc", block)], env=ENVIRON, cwd="/", check=True)

    def start(self, name: str, *argv: str) -> None:
        """Start a program as the unprivileged user; what it prints goes to a log."""
        self.log(name).touch()
        shutil.chown(self.log(name), int(USER), int(USER))  # nginx opens its standard output again
        with self.log(name).open("ab") as out:
            self.processes[name] = subprocess.Popen(as_user(*argv), env=ENVIRON, cwd="/", stdout=out, stderr=out)

    def start_engine(self, engine: Engine) -> None:
        """Start an engine, and wait until it listens."""
        self.start(engine.name, *engine.argv)
        until(lambda: ask(engine.url, "unknown") != 0, f"{engine.name} answers")

    def start_daemon(self) -> None:
        """Start vx-token, and wait for the first tokens."""
        self.start("vx-token", "vx-token", "run")
        tokens = [Path(f"/run/vx-token/{profile}/token") for profile in PROFILES]
        until(lambda: all(path.exists() for path in tokens), "the first tokens are there")
        if "[gateway]" in Path(ENVIRON["VX_TOKEN_CONFIG"]).read_text():
            until(lambda: ask("http://127.0.0.1:8490/v1/chat/completions", "") != 0, "the gateway listens")

    def stop(self, name: str) -> None:
        """Stop a program."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log(self, name: str) -> Path:
        """Where a program's output goes."""
        return Path(f"/run/{name.replace(' ', '-')}.log")

    def said(self, name: str) -> str:
        """The first errors and the end of a program's output."""
        text = self.log(name).read_text(errors="replace") if self.log(name).exists() else ""
        errors = [line for line in text.splitlines() if "[error]" in line or "[alert]" in line or '"error"' in line]
        return "\n".join([*errors[:10], text[-1000:]])


def run(*commands: str) -> None:
    """Run commands whose words contain no blanks."""
    for command in commands:
        subprocess.run(command.split(), check=True)


def as_user(*argv: str) -> list[str]:
    """The command as the unprivileged user."""
    return ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", "--no-new-privs", *argv]


@contextlib.contextmanager
def world() -> Iterator[World]:
    """Prepare this process's namespaces; stop at the end what was started in them."""
    found = World()
    found.prepare()
    os.environ.pop("SSL_CERT_FILE", None)
    try:
        yield found
    except BaseException:
        for name in found.processes:
            sys.stderr.write(f"--- {name}\n{found.said(name)}\n")
        raise
    finally:
        for name in list(found.processes):
            found.stop(name)
