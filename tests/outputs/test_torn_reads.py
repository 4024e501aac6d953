"""No reader ever sees a part of a file, however fast it is replaced."""

import re
import subprocess
import sys

from sandbox import REPOSITORY, Box


def test_no_read_is_torn_while_the_files_are_replaced(box: Box) -> None:
    argv = [sys.executable, str(REPOSITORY / "scripts" / "bench-torn"), "100000"]
    done = subprocess.run(argv, env=box.environ, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = re.match(r"[\d,]{7,} reads in \d+ s while all files were replaced ([\d,]+) times: 0 torn\.\n", done.stdout)
    assert found
    assert int(found[1].replace(",", "")) >= 200
