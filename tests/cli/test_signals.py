"""A test run started by nohup or in the background tests the same as one started at a terminal."""

import os
import subprocess
import sys

from sandbox import REPOSITORY, SOURCE

IGNORING = """
import signal
ignored = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
for number in ignored:
    signal.signal(number, signal.SIG_IGN)
import conftest
print([number.name for number in ignored if signal.getsignal(number) == signal.SIG_IGN])
"""


def test_signals_that_a_background_run_ignores_reach_the_programs_of_the_tests() -> None:
    environ = {**os.environ, "PYTHONPATH": f"{SOURCE}:{REPOSITORY / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", IGNORING], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
