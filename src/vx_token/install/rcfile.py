"""The marked block of ours in a shell's start-up file."""

import re

from vx_token.errors import ConfigError

BEGIN = "# >>> vx-token >>>"
END = "# <<< vx-token <<<"

BY_HAND = f"remove the lines {BEGIN!r} and {END!r} by hand"

_BLOCK = re.compile(rb"^" + BEGIN.encode() + rb"\n.*?^" + END.encode() + rb"(?:\n|\Z)", re.MULTILINE | re.DOTALL)
_MARK = re.compile(rb"^(?:" + BEGIN.encode() + rb"|" + END.encode() + rb")\r?$", re.MULTILINE)


def block(lines: str) -> bytes:
    """The block around these lines."""
    return f"{BEGIN}\n# Kept by `vx-token setup`; `vx-token setup --undo` takes it out.\n{lines}{END}\n".encode()


def present(data: bytes) -> bool:
    """Whether there is a block of ours."""
    return _BLOCK.search(data) is not None


def inserted(data: bytes, new: bytes) -> bytes:
    """The content with our block, in its old place or at the end.

    A file whose last line is open keeps it so: the block then ends without a newline, which tells `removed` that the
    newline before the block is ours as well.

    Raises:
        ConfigError: see `removed`.
    """
    _check(data)
    found = _BLOCK.search(data)
    if found is None:
        return data + new if not data or data.endswith(b"\n") else data + b"\n" + new.removesuffix(b"\n")
    mine = new if found[0].endswith(b"\n") else new.removesuffix(b"\n")
    return data[: found.start()] + mine + _BLOCK.sub(b"", data[found.end() :])


def removed(data: bytes) -> bytes:
    """The content without our block, byte for byte what it was before.

    Raises:
        ConfigError: only one end of the block is there.
    """
    _check(data)
    for found in reversed([*_BLOCK.finditer(data)]):
        start = found.start() if found[0].endswith(b"\n") else max(0, found.start() - 1)
        data = data[:start] + data[found.end() :]
    return data


def torn(data: bytes) -> bool:
    """Whether a block of ours lost one of its ends."""
    return _MARK.search(_BLOCK.sub(b"", data)) is not None


def _check(data: bytes) -> None:
    if torn(data):
        raise ConfigError("a block of ours in a start-up file lost one of its ends", BY_HAND)
