"""Shows the whole thing on loopback: a Google, a throw-away login, the real daemon, and stock clients."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vx_token.emulator import Emulator, running
from vx_token.errors import TemporaryError

LIFETIME = 10.0
"""Seconds a token of the demo lives."""

LENGTH = 32.0
"""Seconds the clients are driven: more than three lives."""

CLIENT = """
import sys, openai
try:
    answer = openai.OpenAI(max_retries=0).chat.completions.create(
        model="google/gemini-2.5-flash", messages=[{"role": "user", "content": "hello"}])
    print("200" if answer.choices[0].message.content else "empty answer")
except openai.APIStatusError as error:
    print(error.status_code)
"""
"""A stock client: it reads OPENAI_API_KEY and OPENAI_BASE_URL and knows nothing of us."""

SOURCED = '. "$1"; shift; exec "$@"'


@dataclass
class Stage:
    """Where the demo plays: folders of its own, an environment of its own."""

    root: Path
    google: Emulator
    say: Callable[[str], None]
    environ: dict[str, str] = field(default_factory=dict)

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
        """Write the configuration and make the login that it names."""
        self.google.service_account(self.root / "account.json")
        (self.root / "config.toml").write_text(
            f'[profiles.demo]\nbase_url = "{self.google.base_url()}"\ncredentials = "account.json"\n', encoding="utf-8"
        )

    def run(self, *command: str, **extra: str) -> str:
        """The last line that a program prints, in the demo's environment."""
        done = subprocess.run(
            command, env=self.environ | extra, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        lines = done.stdout.strip().splitlines()
        return lines[-1] if lines else f"failed ({done.returncode})"


def run(say: Callable[[str], None], length: float = LENGTH) -> bool:
    """Play the demo; true when every client of ours was served and the naive one died as it does in life.

    Args:
        say: prints a line.
        length: seconds to drive the clients for.

    Raises:
        TemporaryError: the daemon of the demo brings no token.
    """
    say("vx-token demo: all of this happens on this machine; your own settings, logins and files are not touched.")
    with (
        _ending_tidily(),
        tempfile.TemporaryDirectory(prefix="vx-token-demo-") as folder,
        running(lifetime=LIFETIME) as google,
    ):
        stage = Stage(Path(folder), google, say)
        say(f"1. A Google on loopback: {google.url}; its tokens live {LIFETIME:.0f} seconds, not an hour.")
        stage.configure()
        say("2. A throw-away service account, and a configuration that names it.")
        with _daemon(stage):
            say("3. The daemon (vx-token run) is up and has fetched a token.")
            say(f"4. For {length:.0f} seconds, stock clients ask the same API:")
            return _drive(stage, length)


@contextlib.contextmanager
def _ending_tidily() -> Iterator[None]:
    """Let a signal that ends us, such as a closed terminal's, end the daemon and remove the folder first."""

    def leave(number: int, _: object) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
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
        end = time.monotonic() + 20
        while not (stage.files / "token").exists():
            if process.poll() is not None or time.monotonic() > end:
                raise TemporaryError("the demo's daemon brings no token", log.read_text(encoding="utf-8")[-500:])
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)


def _drive(stage: Stage, length: float) -> bool:
    curl = shutil.which("curl")
    ways = ["naive: key read once", "new command (env.sh)", "curl -H @header", "vx-token print"]
    stage.say("   time  token  " + "  ".join(way.ljust(20) for way in ways))
    once = (stage.files / "token").read_text(encoding="utf-8")
    naive = {"OPENAI_API_KEY": once, "OPENAI_BASE_URL": stage.google.base_url()}
    start, answers = time.monotonic(), []
    while time.monotonic() - start < length:
        lives = len(stage.google.issued)
        row = (
            stage.run(sys.executable, "-c", CLIENT, **naive),
            stage.run("sh", "-c", SOURCED, "sh", str(stage.files / "env.sh"), sys.executable, "-c", CLIENT),
            _curl(stage, curl) if curl else "no curl here",
            _print(stage),
        )
        answers.append(row)
        marks = [("ok   " if answer == "200" else "DEAD ") + answer for answer in row]
        clock = f"{time.monotonic() - start:5.1f} s"
        stage.say(f" {clock}  #{lives:<4}  " + "  ".join(mark.ljust(20) for mark in marks).rstrip())
    return _summary(stage, len(stage.google.issued), answers, ways)


def _curl(stage: Stage, curl: str) -> str:
    body = '{"model":"google/gemini-2.5-flash","messages":[{"role":"user","content":"hello"}]}'
    url = stage.google.base_url() + "/chat/completions"
    headers = ["-H", f"@{stage.files / 'header'}", "-H", "content-type: application/json"]
    return stage.run(curl, "-sS", "-o", os.devnull, "-w", "%{http_code}\n", *headers, "-d", body, url)


def _print(stage: Stage) -> str:
    token = stage.run(sys.executable, "-P", "-m", "vx_token", "print")
    curl_config = {"OPENAI_API_KEY": token, "OPENAI_BASE_URL": stage.google.base_url()}
    return stage.run(sys.executable, "-c", CLIENT, **curl_config)


def _summary(stage: Stage, lives: int, answers: list[tuple[str, str, str, str]], ways: list[str]) -> bool:
    stage.say(f"5. {lives} token lives, {stage.google.count('token')} requests to the token endpoint:")
    for number, way in enumerate(ways):
        served = sum(answer[number] == "200" for answer in answers)
        stage.say(f"   {way:<22} {served} of {len(answers)} answered")
    naive = [answer[0] for answer in answers]
    ours = [answer[number] for answer in answers for number in (1, 2, 3)]
    good = lives >= 3 and "401" in naive and all(answer in ("200", "no curl here") for answer in ours)
    stage.say(
        "The naive client died with its token; the others never noticed." if good else "That is not as it should be."
    )
    return good
