"""The demo: a Google emulator on loopback, a temporary login, the real daemon, and unmodified clients."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vx_token.emulator import Emulator, running
from vx_token.errors import TemporaryError
from vx_token.gateway import address
from vx_token.report.color import Paint, plain

LIFETIME = 10.0
"""Seconds until a token of the demo expires."""

LENGTH = 32.0
"""Seconds for which the clients run: more than three token lifetimes."""

CLIENT = """
import sys, openai
try:
    answer = openai.OpenAI(max_retries=0).chat.completions.create(
        model="google/gemini-2.5-flash", messages=[{"role": "user", "content": "hello"}])
    print("200" if answer.choices[0].message.content else "empty answer")
except openai.APIStatusError as error:
    print(error.status_code)
"""
"""An unmodified client, which reads OPENAI_API_KEY and OPENAI_BASE_URL."""

WAYS = ("Google token once", "gateway key once", "new command", "curl -H @header", "vx-token print")
"""The columns: how each client gets its key. The first two keep the key that they read at the start."""

SOURCE_AND_RUN = '. "$1"; shift; exec "$@"'


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass
class Stage:
    """The demo's temporary folder, its emulator and the environment of its programs.

    `say` prints one line; `paint` adds the colours of states.
    """

    root: Path
    google: Emulator
    say: Callable[[str], None]
    paint: Paint = plain
    environ: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=_free_port)

    def __post_init__(self) -> None:
        kept = ("PATH", "LANG", "LC_ALL", "TERM", "PYTHONPATH", "VIRTUAL_ENV")
        self.environ = {name: os.environ[name] for name in kept if name in os.environ}
        self.environ |= {
            "HOME": str(self.root / "home"),
            "VX_TOKEN_CONFIG": str(self.root / "config.toml"),
            "VX_TOKEN_RUNTIME_DIR": str(self.root / "run"),
            "NO_PROXY": "127.0.0.1,localhost",
        }
        (self.root / "home").mkdir()

    @property
    def files(self) -> Path:
        """The default profile's files."""
        return self.root / "run" / "default"

    def configure(self) -> None:
        """Write the configuration and the credential file that it names."""
        self.google.service_account(self.root / "account.json")
        profile = f'[profiles.demo]\nbase_url = "{self.google.base_url()}"\ncredentials = "account.json"\n'
        (self.root / "config.toml").write_text(f"{profile}[gateway]\nport = {self.port}\n", encoding="utf-8")

    def is_ready(self) -> bool:
        """Whether the daemon has a token and serves the gateway."""
        with socket.socket() as probe:
            return (self.files / "token").exists() and probe.connect_ex(("127.0.0.1", self.port)) == 0

    def run(self, *command: str, **extra: str) -> str:
        """Run a program in the demo's environment and return the last line that it prints."""
        done = subprocess.run(
            command, env=self.environ | extra, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        lines = done.stdout.strip().splitlines()
        return lines[-1] if lines else f"failed ({done.returncode})"


def run(say: Callable[[str], None], length: float = LENGTH, paint: Paint = plain) -> bool:
    """Run the demo.

    Args:
        say: prints a line.
        length: seconds for which the clients run.
        paint: colours states.

    Returns:
        Whether the clients with vx-token were always served and the one with a fixed key failed.

    Raises:
        TemporaryError: the demo's daemon fetches no token.
    """
    say("vx-token demo: everything runs on this machine; your settings, logins and files stay unchanged.")
    with (
        _exiting_on_signals(),
        tempfile.TemporaryDirectory(prefix="vx-token-demo-") as folder,
        running(lifetime=LIFETIME) as google,
    ):
        stage = Stage(Path(folder), google, say, paint)
        say(f"1. A Google emulator on loopback: {google.url}; its tokens expire after {LIFETIME:.0f} seconds.")
        stage.configure()
        say("2. A temporary service account, and a configuration that uses it.")
        with _daemon(stage):
            say("3. The daemon (vx-token run) has started, fetched a token and opened the gateway.")
            say(f"4. For {length:.0f} seconds, unmodified clients call the same API:")
            return _drive(stage, length)


@contextlib.contextmanager
def _exiting_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, so that the daemon is stopped and the folder removed."""

    def exit_(number: int, _: object) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, exit_) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _daemon(stage: Stage) -> Iterator[None]:
    log = stage.root / "daemon.log"
    command = [sys.executable, "-P", "-m", "vx_token", "run"]
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(command, env=stage.environ, stdin=subprocess.DEVNULL, stderr=stream)
    try:
        end = time.monotonic() + 60
        while not stage.is_ready():
            if process.poll() is not None or time.monotonic() > end:
                raise TemporaryError("the demo's daemon fetches no token", log.read_text(encoding="utf-8")[-500:])
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)


def _drive(stage: Stage, length: float) -> bool:
    curl = shutil.which("curl")
    stage.say("    time  token  " + "  ".join(way.ljust(17) for way in WAYS).rstrip())
    once = (stage.files / "token").read_text(encoding="utf-8")
    naive = {"OPENAI_API_KEY": once, "OPENAI_BASE_URL": stage.google.base_url()}
    key = address.local_key(stage.environ)
    gateway = {"OPENAI_API_KEY": key, "OPENAI_BASE_URL": f"http://127.0.0.1:{stage.port}/v1"}
    start, answers = time.monotonic(), []
    while time.monotonic() - start < length:
        clock, lives = f"{time.monotonic() - start:5.1f} s", len(stage.google.issued)
        row = (
            stage.run(sys.executable, "-c", CLIENT, **naive),
            stage.run(sys.executable, "-c", CLIENT, **gateway),
            stage.run("sh", "-c", SOURCE_AND_RUN, "sh", str(stage.files / "env.sh"), sys.executable, "-c", CLIENT),
            _curl(stage, curl) if curl else "no curl here",
            _print(stage),
        )
        answers.append(row)
        stage.say(f" {clock}  #{lives:<4}  " + "  ".join(_mark(answer, stage.paint) for answer in row).rstrip())
    return _summary(stage, len(stage.google.issued), answers)


def _mark(answer: str, paint: Paint) -> str:
    state, word = ("ok", "ok   ") if answer == "200" else ("fail", "DEAD ")
    return paint(state, word) + answer.ljust(12)


def _curl(stage: Stage, curl: str) -> str:
    body = '{"model":"google/gemini-2.5-flash","messages":[{"role":"user","content":"hello"}]}'
    url = stage.google.base_url() + "/chat/completions"
    headers = ["-H", f"@{stage.files / 'header'}", "-H", "content-type: application/json"]
    return stage.run(curl, "-sS", "-o", os.devnull, "-w", "%{http_code}\n", *headers, "-d", body, url)


def _print(stage: Stage) -> str:
    token = stage.run(sys.executable, "-P", "-m", "vx_token", "print")
    curl_config = {"OPENAI_API_KEY": token, "OPENAI_BASE_URL": stage.google.base_url()}
    return stage.run(sys.executable, "-c", CLIENT, **curl_config)


def _summary(stage: Stage, lives: int, answers: Sequence[tuple[str, ...]]) -> bool:
    stage.say(f"5. {lives} token lifetimes, {stage.google.count('token')} requests to the token endpoint:")
    for number, way in enumerate(WAYS):
        served = sum(answer[number] == "200" for answer in answers)
        stage.say(f"   {way:<17}  {served} of {len(answers)} answered")
    naive = [answer[0] for answer in answers]
    ours = [answer[number] for answer in answers for number in range(1, len(WAYS))]
    good = lives >= 3 and "401" in naive and all(answer in ("200", "no curl here") for answer in ours)
    success = "The client that kept its first Google token failed when it expired; the others did not."
    stage.say(success if good else "The demo has failed.")
    return good
