"""Proves a connection: the tool itself asks for one answer through its own settings."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from http import HTTPStatus

from vx_token.errors import VxTokenError, printable
from vx_token.tools.model import Access, Tool

TIMEOUT = 180.0
"""Seconds for the answer; tools written for Node start slowly."""

_KEPT = 300  # characters of a tool's last words in an error

Asked = Callable[[], dict[int, int] | None]
"""Returns the HTTP status of each request for an answer with the tool's key, by number; None without a gateway."""


def program(tool: Tool, environ: Mapping[str, str]) -> str:
    """Return the path of the tool's program; "" if it is not installed."""
    paths = (shutil.which(name, path=environ.get("PATH")) for name in tool.programs)
    return next((path for path in paths if path), "")


def prove(tool: Tool, access: Access, environ: Mapping[str, str], asked: Asked | None) -> str:
    """Run the tool once without the variables that shells export, and return a line about its answer.

    Args:
        tool: the tool, which has a `request`.
        access: what its settings got.
        environ: the environment.
        asked: returns what the gateway has answered; None in direct mode, where exit status 0 and an output are the
            proof.

    Raises:
        VxTokenError: there was no answer.
    """
    assert tool.request is not None
    command = [program(tool, environ), *tool.request(access)]
    before = asked() if asked else None
    if asked and before is None:
        raise VxTokenError("the gateway is not running", "start it: vx-token service install (or: vx-token gateway)")
    clean = {name: value for name, value in environ.items() if not name.startswith("OPENAI_")}
    again = f"see what it prints: {tool.example(access) if tool.example else command[0]}"
    with tempfile.TemporaryDirectory(prefix="vx-token-") as folder:
        try:
            done = subprocess.run(
                command, cwd=folder, env=clean, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                errors="replace", timeout=TIMEOUT, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise VxTokenError(f"{tool.title} did not answer within {TIMEOUT:.0f} s", again) from None
        except OSError as error:
            raise VxTokenError(f"cannot start {command[0]}: {error.strerror}", again) from None
    after = asked() if asked else None
    if before is not None and after is not None:  # some tools exit with 0 after an error
        statuses = [status for number, status in after.items() if number not in before]
        if any(status < HTTPStatus.BAD_REQUEST for status in statuses):
            return f"{tool.title} asked {access.model} through the gateway with its key {access.name}: answered"
        reason = f"HTTP status {statuses[-1]}" if statuses else "it sent no request through the gateway"
    elif done.returncode == 0 and done.stdout.strip():
        return f"{tool.title} asked {access.model}: answered"
    else:
        reason = f"exit status {done.returncode}"
    last = " ".join((done.stderr.strip() or done.stdout.strip()).replace(access.key or "\0", "***").split())
    raise VxTokenError(f"{tool.title}: {reason}: {printable(last[-_KEPT:])}", f"vx-token doctor --live, and {again}")
