"""The command's entry: the quick answer first, the whole program otherwise."""

import os
import sys
import time

from vx_token.cli import fastpath


def main() -> None:
    """Run `vx-token`; the console script and `python -m vx_token` both come here."""
    quick = fastpath.answer(sys.argv, os.environ, time.time())
    if quick is not None and _said(quick):
        return
    try:
        from vx_token.cli.main import run
    except (OSError, MemoryError, ImportError) as error:  # a limit on open files or memory
        sys.exit(_no_room(error))
    sys.exit(run(sys.argv[1:]))


def _no_room(error: BaseException) -> int:
    from vx_token.errors import shortage

    limit = shortage(error)
    if limit is None:
        raise error
    os.write(2, f"vx-token: {limit.message}\nhint: {limit.hint}\n".encode())
    return limit.exit_code


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
