"""Applies the doctor's safe fixes: the commands that its checks name, each run once, in their order."""

import os
import shlex
import subprocess
from collections.abc import Iterable, Sequence

from vx_token.report.doctor_facts import Check


def commands(checks: Iterable[Check]) -> list[tuple[str, ...]]:
    """Return the commands that solve the checks' problems."""
    return list(dict.fromkeys(check.fix for check in checks if check.fix))


def shown(command: Sequence[str]) -> str:
    """Return a command as it is typed."""
    return shlex.join(command)


def perform(command: Sequence[str], program: Sequence[str]) -> bool:
    """Run a command, whose output the user sees, and return whether it succeeded.

    Args:
        command: the argv; its first word `vx-token` means this program.
        program: the argv that starts this program.
    """
    argv = [*program, *command[1:]] if command[0] == "vx-token" else list(command)
    try:
        return subprocess.run(argv, stdin=subprocess.DEVNULL, env=os.environ, check=False).returncode == 0
    except OSError:
        return False
