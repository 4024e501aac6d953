"""A command at a terminal, where a person answers its questions."""

import pexpect

from sandbox import Box


def at_terminal(box: Box, *words: str) -> "pexpect.spawn[str]":
    """Start `vx-token WORDS`."""
    argv = box.command(*words)
    return pexpect.spawn(argv[0], argv[1:], env=box.environ, cwd=str(box.root), encoding="utf-8", timeout=20)


def ended(terminal: "pexpect.spawn[str]") -> int:
    """Wait for the end of the command, and return its exit status."""
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus is not None
    return terminal.exitstatus
