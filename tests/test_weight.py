"""What each command loads, and what it must not: start-up time and the daemon's memory are made of imports."""

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sandbox import Box, until

HEAVY = {
    "google.auth",
    "requests",
    "aiohttp",
    "asyncio",
    "ssl",
    "cryptography",
    "openai",
    "sqlite3",
    "_hashlib",
    "email",
}

LIGHT = {
    "vx_token",
    "vx_token.__main__",
    "vx_token.cli",
    "vx_token.cli.fastpath",
    "vx_token.gateway",
    "vx_token.gateway.key_file",
    "vx_token.outputs",
    "vx_token.outputs.print_cache",
    "vx_token.system",
    "vx_token.system.config_path",
    "vx_token.system.daemon_lock",
    "vx_token.system.runtime_path",
    "vx_token.system.safe_path",
    "vx_token.system.stamps",
    "vx_token.tokens",
    "vx_token.tokens.lifetime",
}
"""The modules that `print` may load: each imports only what the interpreter has loaded anyway."""


def loaded(log: str) -> set[str]:
    """The modules in the output of `python -X importtime`."""
    return set(re.findall(r"^import time: +\d+ \| +\d+ \| +(\S+)$", log, re.MULTILINE))


def run(box: Box, code: str, *words: str) -> set[str]:
    """What a piece of code loads, run to its end with these arguments."""
    argv = [sys.executable, "-X", "importtime", "-P", "-c", code, *words]
    done = subprocess.run(
        argv, env=box.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    return loaded(done.stderr)


def imports(box: Box, *words: str) -> set[str]:
    """What a command loads when it is started as pip's script does."""
    return run(box, "import sys; from vx_token.__main__ import main; sys.exit(main())", *words)


@pytest.fixture
def published(signed_in: Box) -> Box:
    signed_in.refresh()
    return signed_in


@pytest.mark.parametrize(
    "words",
    [
        ["print"],
        ["print", "--format", "json"],
        ["env"],
        ["env", "--shell", "json"],
        ["hook", "bash"],
        ["status"],
        ["status", "--json"],
        ["path", "token"],
        ["path", "config"],
        ["refresh"],
        ["--version"],
        ["--help"],
    ],
    ids=" ".join,
)
def test_no_command_that_is_run_often_loads_anything_heavy(published: Box, words: list[str]) -> None:
    found = imports(published, *words)
    assert "vx_token.cli.fastpath" in found
    assert not found & HEAVY


def test_only_the_live_view_loads_the_live_view(published: Box) -> None:
    assert not imports(published, "status") & {"vx_token.cli.watch", "vx_token.report.live_view", "termios"}


def test_a_fresh_print_loads_hardly_more_than_the_interpreter(published: Box) -> None:
    more = imports(published, "print") - run(published, "import sys")
    ours = {name for name in more if name.startswith("vx_token")}
    assert ours <= LIGHT
    assert not more & {"click", "json", "dataclasses", "pathlib", "typing", "re", "platformdirs", "tomllib"}
    assert len(more - ours) < 5, more


def test_the_local_key_loads_hardly_more_than_the_interpreter(signed_in: Box) -> None:
    assert signed_in.vx("gateway", "key").returncode == 0
    more = imports(signed_in, "gateway", "key") - run(signed_in, "import sys")
    ours = {name for name in more if name.startswith("vx_token")}
    assert ours <= LIGHT
    assert len(more - ours) < 5, more


def test_a_print_that_must_ask_google_leaves_the_weight_to_its_child(signed_in: Box) -> None:
    assert not imports(signed_in, "print") & HEAVY


def test_the_daemon_loads_neither_googles_library_nor_an_event_loop(signed_in: Box, tmp_path: Path) -> None:
    log = tmp_path / "imports.log"
    argv = [sys.executable, "-X", "importtime", "-P", "-m", "vx_token", "run"]
    with log.open("w") as stderr, subprocess.Popen(argv, env=signed_in.environ, stderr=stderr) as process:
        try:
            first = until(lambda: signed_in.read("token"), 30, what="a token")
            process.send_signal(1)  # SIGHUP: read everything anew, and refresh
            until(lambda: signed_in.read("token") not in ("", first), 30, what="another token")
        finally:
            process.terminate()
            assert process.wait(10) == 0
    found = loaded(log.read_text())
    assert {"vx_token.daemon.daemon", "watchdog"} <= found
    assert not found & HEAVY


def test_the_daemon_needs_at_most_2_8_times_the_memory_of_the_interpreter(signed_in: Box) -> None:
    bare = [sys.executable, "-I", "-c", "print(flush=True); input()"]
    daemon = [sys.executable, "-P", "-m", "vx_token", "run"]
    with subprocess.Popen(bare, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        floor = psutil.Process(process.pid).memory_info().rss
        process.kill()
    with subprocess.Popen(daemon, env=signed_in.environ, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: signed_in.read("token"), 30, what="a token")
            resident = psutil.Process(process.pid).memory_info().rss
        finally:
            process.terminate()
    assert resident <= 2.8 * floor
