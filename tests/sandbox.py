"""A user of the tests' own: an empty home, a runtime folder, and the real command in real processes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import forked
from vx_token.config.load import load_config
from vx_token.gateway import address
from vx_token.outputs.publisher import Publisher
from vx_token.system import paths
from vx_token.system.clock import SystemClock
from vx_token.tokens.model import State
from vx_token.tokens.refresh import Refresher
from vx_token.tokens.store import Store

T = TypeVar("T")
EARLY = ("PYTHON", "LANG", "LC_", "LD_", "GLIBC_", "MALLOC_", "TZ")
REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE = REPOSITORY / "src"


def until(condition: Callable[[], T | Literal[False] | None], seconds: float = 30.0, what: str = "") -> T:
    """Wait for the first true result of `condition` and return it; the test fails after `seconds`."""
    end, pause = time.monotonic() + seconds, 0.005
    while not (result := condition()):
        assert time.monotonic() < end, f"did not happen within {seconds} s: {what or condition}"
        time.sleep(pause)
        pause = min(pause * 1.2, 0.05)  # some conditions start a process, which slows down what they wait for
    return result


def allowance() -> float:
    """Return the seconds within which a change must show: one, and more while a busy machine slows a refresh down.

    A refresh starts a child process that loads google-auth, so the time which that takes now is the measure.
    """
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "import google.auth.transport.requests"], check=True)
    return 1.0 + 3 * (time.monotonic() - started)


def slowness() -> float:
    """Return how many times slower this machine adds a million numbers than in 40 ms, at least 1.

    It scales limits of processor time, which would otherwise judge the machine.
    """

    def seconds() -> float:
        started, total = time.thread_time(), 0
        for number in range(1_000_000):
            total += number
        return time.thread_time() - started

    return max(1.0, min(seconds() for _ in range(3)) / 0.04)


def plain_environment(home: Path) -> dict[str, str]:
    """What a fresh login has: nothing of Google's, OpenAI's, ours or a proxy's."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TERM", "SSL_CERT_FILE") if name in os.environ
    }
    return {**kept, "HOME": str(home), "PYTHONPATH": str(SOURCE), "PYTHONWARNINGS": "error"}


@dataclass
class Box:
    """One user; `environ` may be changed by a test.

    Attributes:
        root: the folder for everything of this user's.
        environ: the environment of the commands.
        executed: run each command in an interpreter of its own and each refresh in a child, as users do. Otherwise
            commands are forked from a process that has imported everything (see `forked`), which is far quicker.
    """

    root: Path
    environ: dict[str, str] = field(default_factory=dict)
    executed: bool = False

    def __post_init__(self) -> None:
        self.home.mkdir()
        self.environ = {
            **plain_environment(self.home),
            "VX_TOKEN_CONFIG": str(self.config),
            "VX_TOKEN_RUNTIME_DIR": str(self.runtime),
            **self.environ,
        }

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def config(self) -> Path:
        return self.root / "config.toml"

    @property
    def runtime(self) -> Path:
        return self.root / "run"

    @property
    def inside(self) -> Path:
        """The runtime folder as the tests reach it."""
        return self.runtime

    @property
    def key(self) -> Path:
        """Where `profile` looks for its credentials."""
        return self.root / "credentials.json"

    def profile(self, name: str = "gemini", *, url: str = "https://emulator.invalid/v1", **settings: Any) -> None:
        """Add a profile to the configuration; its credentials are `key` unless told otherwise."""
        text = self.config.read_text() if self.config.exists() else ""
        self.config.write_text(f"{text}\n{self.profile_text(name, url=url, **settings)}")

    def profile_text(self, name: str = "gemini", *, url: str, **settings: Any) -> str:
        """What `profile` adds."""
        values = {"project": "demo", "base_url": url, "credentials": str(self.key), **settings}
        lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None]
        return "\n".join([f"[profiles.{json.dumps(name)}]", *lines, ""])

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-P", "-m", "vx_token", *words]

    def vx(self, *words: str, timeout: float = 60, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run the command to its end, with stdin closed; with an option of `subprocess.run` it is executed."""
        if not options and self._forkable():
            return self._forked(words, timeout)
        return subprocess.run(
            self.command(*words),
            env=self.environ,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            **options,
        )

    def _forked(self, words: tuple[str, ...], timeout: float) -> "subprocess.CompletedProcess[str]":
        with self.fork(*words) as command:
            try:
                out, err = command.communicate(timeout)
            finally:
                command.kill()
        return subprocess.CompletedProcess(words, command.wait(), out, err)

    def fork(self, *words: str) -> forked.Command:
        """Start the command, forked, and leave it running."""
        return forked.Command(words, self.environ, self.root)

    def _forkable(self) -> bool:
        """Whether a fork is the same: the interpreter reads some variables only when it starts."""

        def early(environ: dict[str, str]) -> dict[str, str]:
            return {name: value for name, value in environ.items() if name.startswith(EARLY)}

        return not self.executed and early(self.environ) == early(plain_environment(self.home))

    def refresh(self) -> State:
        """Do what `vx-token refresh` does, in this process: a test that only needs a token starts no interpreters."""
        settings = load_config(self.environ)
        store = Store(paths.runtime_dir(self.environ))
        publisher = Publisher(store, SystemClock(), settings, address.lookup(settings, self.environ))
        refresher = Refresher(store, publisher.clock, forked.fetch_here, self.environ, settings, publisher.publish)
        return refresher.refresh(settings.profile())

    def start(self, *words: str, **options: Any) -> "subprocess.Popen[str]":
        """Start the command and leave it running."""
        return subprocess.Popen(
            self.command(*words),
            env=self.environ,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            text=True,
            **options,
        )

    @contextlib.contextmanager
    def logged(self, *words: str) -> Iterator["subprocess.Popen[str] | forked.Command"]:
        """The command left running, with its messages in `log`."""
        path = self.root / "daemon.log"
        path.touch()
        if self._forkable():
            with forked.Command(words, self.environ, self.root, path) as command:
                yield command
        else:
            with path.open("a") as log, self.start(*words, stderr=log) as process:
                yield process

    @contextlib.contextmanager
    def daemon(self, *words: str) -> Iterator["subprocess.Popen[str] | forked.Command"]:
        """A running daemon, from its first published state to its clean end."""
        with self.logged("run", *words) as process:
            try:
                until(lambda: (self.inside / ".daemon.json").exists() or process.poll() is not None, 60, "daemon start")
                assert process.poll() is None, self.log
                yield process
            finally:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                process.wait(30)

    @property
    def log(self) -> str:
        return (self.root / "daemon.log").read_text()

    def read(self, name: str, profile: str = "gemini") -> str:
        """A runtime file's text, "" while there is none."""
        try:
            return (self.inside / profile / name).read_text()
        except FileNotFoundError:
            return ""

    def status(self) -> dict[str, Any]:
        """`status --json` of the only profile."""
        found: dict[str, Any] = json.loads(self.vx("status", "--json").stdout)["profiles"][0]
        return found
