"""Runs commands in processes that are forked from one with everything imported, which saves 0.1 to 0.4 s for each."""

import functools
import multiprocessing
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path
from typing import Self

import vx_token
from vx_token import __main__
from vx_token.cli import wiring
from vx_token.config.model import Profile
from vx_token.credentials import google_worker
from vx_token.credentials.token import Token

FORKS = multiprocessing.get_context("forkserver")
_OURS = (each.name for each in pkgutil.walk_packages(vx_token.__path__, "vx_token."))
_GOOGLES = ("google.auth.transport.requests", "google.oauth2.credentials", "google.oauth2.service_account")
FORKS.set_forkserver_preload(
    ["forked", *(name for name in _OURS if not name.endswith("__main__")), *_GOOGLES, "watchdog.observers"]
)


def fetch_here(profile: Profile, environ: Mapping[str, str], *_: object) -> Token:
    """Fetch a token with google-auth in this process, where vx-token itself does it in a child."""
    return google_worker.fetch(profile, environ)


class Command:
    """`vx-token WORDS` in a process of its own; the part of subprocess.Popen that tests use.

    Its refreshes happen in this process, where an executed vx-token starts a child for each (`fetch_here`).
    """

    def __init__(
        self,
        words: tuple[str, ...],
        environ: Mapping[str, str],
        cwd: Path,
        log: Path | None = None,
        stdin: str = os.devnull,
    ) -> None:
        """Start it; messages go to the end of `log`, or else like the output to `communicate`."""
        self.args = words
        self._captured = [tempfile.NamedTemporaryFile() for _ in range(2)] if log is None else []  # noqa: SIM115
        outputs = [Path(file.name) for file in self._captured] if log is None else [Path(os.devnull), log]
        self._texts = ("", "")
        _serve()
        self._process = FORKS.Process(target=_become, args=(words, dict(environ), cwd, *outputs, Path(stdin)))
        self._process.start()

    @property
    def pid(self) -> int:
        found = self._process.pid
        assert found is not None
        return found

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; what it wrote to stdout and stderr."""
        self.wait(timeout)
        if self._captured:
            self._texts = self.written()
            self.close()
        return self._texts

    def written(self) -> tuple[str, str]:
        """What it wrote so far to stdout and stderr."""
        out, err = (Path(file.name).read_text() for file in self._captured)
        return out, err

    def close(self) -> None:
        for file in self._captured:
            file.close()
        self._captured = []

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self.close()


@functools.cache
def _serve() -> None:
    """Start the process to fork from, once; it imports from where this one does."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        os.environ.update({"PYTHONPATH": before} if before is not None else {})


def _become(words: tuple[str, ...], environ: dict[str, str], cwd: Path, out: Path, err: Path, stdin: Path) -> None:
    move_in(words, environ, cwd, out, err, stdin)
    __main__.main()


def move_in(
    words: tuple[str, ...], environ: dict[str, str], cwd: Path, out: Path, err: Path, stdin: Path = Path(os.devnull)
) -> None:
    """Turn this process, forked for that, into one that can call `vx_token.__main__.main` for these words."""
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(cwd)
    for number, path in enumerate((stdin, out, err)):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - multiprocessing's own reads another descriptor
    sys.argv = [str(__main__.__file__), *words]
    warnings.simplefilter("error")
    vars(wiring)["fetch_token"] = fetch_here
    vars(google_worker)["_write"] = lambda _: None  # what a child tells its parent is nothing for our standard output
