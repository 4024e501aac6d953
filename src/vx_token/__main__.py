"""The entry of the command `vx-token`: the fast path first, the whole program otherwise."""

import os
import sys
import time

from vx_token.cli import fastpath


def main() -> None:
    """Run `vx-token`, for the console script and for `python -m vx_token`."""
    line = fastpath.answer(sys.argv, os.environ, time.time())
    if line is not None and _print(line):
        return
    try:
        from vx_token.cli.main import run
    except (OSError, MemoryError, ImportError) as error:  # a limit on open files or memory
        sys.exit(_print_limit(error))
    status = run(sys.argv[1:])
    if status == 130:  # Ctrl-C: requests may still run in threads, which can crash while the interpreter ends
        os._exit(status)
    sys.exit(status)


def _print_limit(error: BaseException) -> int:
    """Print the error of a system limit and return its exit status; raise any other error again."""
    from vx_token.errors import shortage

    limit = shortage(error)
    if limit is None:
        raise error
    os.write(2, f"vx-token: {limit.message}\nhint: {limit.hint}\n".encode())
    return limit.exit_code


def _print(text: str) -> bool:
    """Whether stdout accepted `text`; if not, the whole program fails in the same way and prints the error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (OSError, AttributeError):  # a closed pipe, a full disk; no stdout at all
        return False
    return True


if __name__ == "__main__":
    main()
