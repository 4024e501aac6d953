"""The marked vx-token block in a shell start-up file: insert it, replace it, remove it."""

import re

from vx_token.errors import ConfigError

BEGIN = "# >>> vx-token >>>"
END = "# <<< vx-token <<<"

REMOVE_HINT = f"remove the lines {BEGIN!r} and {END!r} by hand"

_BLOCK = re.compile(rb"^" + BEGIN.encode() + rb"\n.*?^" + END.encode() + rb"(?:\n|\Z)", re.MULTILINE | re.DOTALL)
_MARKER = re.compile(rb"^(?:" + BEGIN.encode() + rb"|" + END.encode() + rb")\r?$", re.MULTILINE)


def block(lines: str) -> bytes:
    """Return the block around these lines."""
    return f"{BEGIN}\n# Managed by `vx-token setup`; `vx-token setup --undo` removes it.\n{lines}{END}\n".encode()


def has_block(data: bytes) -> bool:
    """Return whether the content has a complete block."""
    return _BLOCK.search(data) is not None


def with_block(data: bytes, new: bytes) -> bytes:
    """Return the content with the block, in place of the old one or at the end.

    If the last line has no newline, one is inserted before the block and the block ends without one. By that missing
    newline `without_block` detects that the inserted one must be removed too.

    Raises:
        ConfigError: see `without_block`.
    """
    _check(data)
    old = _BLOCK.search(data)
    if old is None:
        return data + new if not data or data.endswith(b"\n") else data + b"\n" + new.removesuffix(b"\n")
    replacement = new if old[0].endswith(b"\n") else new.removesuffix(b"\n")
    return data[: old.start()] + replacement + _BLOCK.sub(b"", data[old.end() :])


def without_block(data: bytes) -> bytes:
    """Return the content without the block, byte for byte as it was before.

    Raises:
        ConfigError: only one marker of the block is present.
    """
    _check(data)
    for old in reversed([*_BLOCK.finditer(data)]):
        start = old.start() if old[0].endswith(b"\n") else max(0, old.start() - 1)
        data = data[:start] + data[old.end() :]
    return data


def is_incomplete(data: bytes) -> bool:
    """Return whether a marker is present without its counterpart."""
    return _MARKER.search(_BLOCK.sub(b"", data)) is not None


def _check(data: bytes) -> None:
    if is_incomplete(data):
        raise ConfigError("the vx-token block in a start-up file is incomplete", REMOVE_HINT)
