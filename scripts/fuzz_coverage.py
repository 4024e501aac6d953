"""Feeds one target of tests/fuzz_targets.py with inputs that reach new code, by atheris; a failure ends with status 1.

Usage: fuzz_coverage.py TARGET -runs=N [OPTION OF LIBFUZZER …]
"""

import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
with atheris.instrument_imports(include=["vx_token"]):
    import fuzz_targets


def main() -> None:
    """Run the fuzzer, from the target's seeds."""
    target, seeds = fuzz_targets.TARGETS[sys.argv[1]]
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds):
            (Path(folder) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *sys.argv[2:], folder], target)
        atheris.Fuzz()


main()
