"""The demo, as a newcomer runs it."""

import re
import signal
import subprocess

import psutil
import pytest

from sandbox import Box, until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ended_early_it_leaves_nothing(box: Box, number: signal.Signals) -> None:
    (box.root / "tmp").mkdir()
    box.environ["TMPDIR"] = str(box.root / "tmp")
    with box.start("demo", stdout=subprocess.PIPE) as demo:
        assert demo.stdout is not None
        daemon = next(line for line in demo.stdout if line.startswith("3. "))
        assert daemon
        own = [each.pid for each in psutil.Process(demo.pid).children(recursive=True)]
        demo.send_signal(number)
        demo.stdout.read()
        assert demo.wait(15) == 128 + number
    assert own
    # What a process of ours had started itself is the system's to collect, which may take it a moment.
    until(lambda: not any(psutil.pid_exists(pid) for pid in own), 5)
    assert not list((box.root / "tmp").iterdir())


@pytest.mark.slow
def test_the_demo_outlives_tokens_and_touches_nothing_of_the_users(box: Box) -> None:
    done = box.vx("demo", "--seconds", "40", timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DEAD 401" in done.stdout
    gateway = next(line for line in done.stdout.splitlines() if line.startswith("   gateway key once"))
    served, of = re.findall(r"\d+", gateway)
    assert served == of
    assert "the others did not" in done.stdout
    assert "ya29." not in done.stdout + done.stderr
    assert not list(box.home.rglob("*"))
    assert not box.runtime.exists()
    assert not box.config.exists()
