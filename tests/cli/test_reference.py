"""docs/commands.md is what scripts/reference makes of the commands."""

import subprocess
import sys

from sandbox import REPOSITORY


def test_the_reference_fits_the_commands() -> None:
    argv = [sys.executable, str(REPOSITORY / "scripts/reference"), "--check"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
