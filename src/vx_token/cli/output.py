"""What is written to stdout: in every locale, and not lost in silence."""

import codecs
import io
import os
import sys
from collections.abc import Mapping
from typing import TextIO

import click

from vx_token.errors import printable

LOSSLESS = "vx-token-lossless"


def show(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print lines for people; no text from outside may steer their terminal."""
    click.echo("\n".join(map(printable, text.split("\n"))), err=err, nl=nl)


def _lossless(error: UnicodeError) -> tuple[bytes, int]:
    """What the locale cannot say becomes UTF-8, and what it could not read the bytes that it was."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return error.object[error.start : error.end].encode("utf-8", "surrogateescape"), error.end


codecs.register_error(LOSSLESS, _lossless)


def environment(environ: Mapping[str, str]) -> dict[bytes, bytes]:
    """An environment for another program; it may hold what the locale cannot say, such as a model's name."""
    encoding = sys.getfilesystemencoding()
    return {name.encode(encoding, LOSSLESS): value.encode(encoding, LOSSLESS) for name, value in environ.items()}


class _Stdout(io.TextIOWrapper):
    """Takes every text, and remembers why it could not be written."""

    trouble: OSError | None = None

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self.trouble = error
            raise

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self.trouble = error
            raise


def prepare() -> TextIO | None:
    """Let stdout take every text."""
    before = sys.stdout
    if isinstance(before, io.TextIOWrapper):
        # In plain ASCII click would take an encoding of its own, with "?" for what does not fit.
        encoding = "utf-8" if codecs.lookup(before.encoding).name == "ascii" else before.encoding
        sys.stdout = _Stdout(before.buffer, encoding, LOSSLESS, None, before.line_buffering, before.write_through)
    return sys.stdout


def finish(stdout: TextIO | None) -> OSError | None:
    """Write out what waits for `stdout`; return why that, or something before it, could not be written.

    It is what `prepare` returned: click replaces sys.stdout after EPIPE by one that reports nothing.
    """
    trouble = _flushed(stdout)
    if isinstance(stdout, _Stdout):
        trouble = stdout.trouble or trouble
    if trouble is not None:
        _mute(1)
    return trouble


def failed(error: Exception) -> bool:
    """Whether it tells that stdout could not be written."""
    return isinstance(sys.stdout, _Stdout) and error is sys.stdout.trouble


def mute_errors() -> None:
    """After stderr has failed."""
    _mute(2)


def _flushed(stream: TextIO | None) -> OSError | None:
    try:
        if stream is not None:
            stream.flush()
    except OSError as error:
        return error
    return None


def _mute(descriptor: int) -> None:
    """The interpreter tries again at its end, and would complain."""
    void = os.open(os.devnull, os.O_WRONLY)
    os.dup2(void, descriptor)
    os.close(void)
