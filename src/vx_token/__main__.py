"""The command's entry: the quick answer first, the whole program otherwise."""

import os
import sys
import time

from vx_token import peek


def main() -> None:
    """Run `vx-token`; the console script and `python -m vx_token` both come here."""
    quick = peek.answer(sys.argv, os.environ, time.time())
    if quick is not None:
        sys.stdout.write(quick)
        sys.stdout.flush()
        return
    from vx_token.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
