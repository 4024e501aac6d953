"""The command's entry: the quick answer first, the whole program otherwise."""

import os
import sys
import time

from vx_token import peek


def main() -> None:
    """Run `vx-token`; the console script and `python -m vx_token` both come here."""
    quick = peek.answer(sys.argv, os.environ, time.time())
    if quick is not None and _said(quick):
        return
    from vx_token.cli.main import run

    sys.exit(run(sys.argv[1:]))


def _said(text: str) -> bool:
    """Whether stdout took it; if not, the whole program meets the same trouble and tells of it."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (OSError, AttributeError):  # a reader that went away, a full disk; no stdout at all
        return False
    return True


if __name__ == "__main__":
    main()
