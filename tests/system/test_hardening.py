"""No process that keeps a token can be dumped, or read by another process of the same user."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest

from sandbox import Box, until
from vx_token.emulator import Emulator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has processes that are not dumpable")

# Root may read every process by its capabilities; the reader and the process that it reads do without them.
LOWERED = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
SLEEP = ["sleep", "60"]


def readable(pid: int) -> bool:
    """Whether an ordinary process of the same user may read the memory of process `pid`, by what the kernel says."""
    argv = [*LOWERED, "cat", f"/proc/{pid}/environ"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "Permission denied" in done.stderr, done.stderr
    return done.returncode == 0


def start(box: Box, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*LOWERED, *box.command(*words)],
        env=box.environ,
        cwd=box.root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_reader_of_these_tests_can_read(require: Callable[[str], str]) -> None:
    require("setpriv")
    with subprocess.Popen([*LOWERED, *SLEEP]) as process:
        assert until(lambda: readable(process.pid))
        process.kill()


@pytest.mark.parametrize("words", [["run"], ["gateway", "--port", "0"], ["exec", "--gateway", *SLEEP]], ids=" ".join)
def test_a_process_that_keeps_a_token_cannot_be_dumped(signed_in: Box, words: list[str]) -> None:
    with start(signed_in, *words) as process:
        try:
            running = psutil.Process(process.pid)
            until(lambda: running.cmdline()[:4] == signed_in.command(), 30, "the end of setpriv, which nobody can read")
            until(lambda: not readable(process.pid), 30, "not dumpable")
            assert psutil.Process(process.pid).rlimit(psutil.RLIMIT_CORE)[0] == 0
        finally:
            process.terminate()


@pytest.mark.parametrize("words", [["print", "--format", "json"], ["env"], ["refresh"]], ids=" ".join)
def test_a_command_that_has_a_token_cannot_be_dumped(signed_in: Box, words: list[str]) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))  # a full pipe, at which the command waits with the token in its memory
    os.set_blocking(writer, True)
    argv = [*LOWERED, *signed_in.command(*words)]
    with subprocess.Popen(argv, env=signed_in.environ, cwd=signed_in.root, stdout=writer) as process:
        try:
            running = psutil.Process(process.pid)
            until(lambda: running.cmdline()[:4] == signed_in.command(), 30, "the end of setpriv, which nobody can read")
            until(lambda: not readable(process.pid), 30, "not dumpable")
            assert running.rlimit(psutil.RLIMIT_CORE)[0] == 0
        finally:
            process.kill()
            os.close(reader)
            os.close(writer)


def test_the_command_behind_a_gateway_keeps_its_own_limit_and_can_be_dumped(signed_in: Box) -> None:
    command = "ulimit -c; ulimit -Hc; echo $$; exec sleep 60"
    limits = subprocess.run(["sh", "-c", "ulimit -c; ulimit -Hc"], capture_output=True, text=True, check=True)
    with start(signed_in, "exec", "--gateway", "--", "sh", "-c", command) as process:
        try:
            assert process.stdout is not None
            soft, hard, pid = (process.stdout.readline().strip() for _ in range(3))
            assert readable(int(pid))
            assert not readable(process.pid)
            assert (soft, hard) == tuple(limits.stdout.split())
        finally:
            process.terminate()


def test_the_child_that_asks_google_cannot_be_dumped(signed_in: Box, google: Emulator) -> None:
    google.fail("token", 1, kind="hang")
    with start(signed_in, "refresh") as process:
        try:
            [child] = until(lambda: psutil.Process(process.pid).children(), 30)
            until(lambda: not readable(child.pid), 30, "not dumpable")
        finally:
            process.terminate()
