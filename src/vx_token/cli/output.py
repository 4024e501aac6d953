"""Output on stdout and stderr: in every locale, and with errors that are detected."""

import codecs
import io
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import click

from vx_token.errors import printable

LOSSLESS = "vx-token-lossless"
QUIET = "vx_token.quiet"  # in click's context


def show(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print lines for people, without terminal control characters."""
    click.echo("\n".join(map(printable, text.split("\n"))), err=err, nl=nl)


def _remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta[QUIET] = value


def with_quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option --quiet, by which `report` prints nothing."""
    option = click.option(
        "--quiet", "-q", is_flag=True, expose_value=False, callback=_remember, help="Print errors only."
    )
    return option(function)


def report(text: str) -> None:
    """Print what a command has done, unless the option --quiet is given."""
    context = click.get_current_context(silent=True)
    if context is None or not context.meta.get(QUIET):
        show(text)


def runnable(text: str) -> str:
    """Return the text with the program's path in its commands where `vx-token` alone would start none or another one.

    That is so in a virtual environment that is not active. Lines of a difference stay as they are written to a file.
    """
    program = os.path.abspath(sys.argv[0])
    if os.path.basename(program) != "vx-token" or os.sep not in sys.argv[0] or _in_path(program):
        return text
    command = re.compile(r"(^ +|: (?:nohup )?|[(\"])vx-token (?=[a-z-])")

    def with_path(line: str) -> str:
        return command.sub(lambda match: f"{match[1]}{shlex.quote(program)} ", line)

    return "\n".join(line if re.match(" +[+-] ", line) else with_path(line) for line in text.split("\n"))


def _in_path(program: str) -> bool:
    first = shutil.which("vx-token")
    return first is not None and os.path.exists(program) and os.path.samefile(first, program)


def _lossless(error: UnicodeError) -> tuple[bytes, int]:
    """Encode unencodable text as UTF-8, and undecodable bytes as themselves."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return error.object[error.start : error.end].encode("utf-8", "surrogateescape"), error.end


codecs.register_error(LOSSLESS, _lossless)


def environment(environ: Mapping[str, str]) -> dict[bytes, bytes]:
    """Encode an environment for another program, including text that the locale cannot encode."""
    encoding = sys.getfilesystemencoding()
    return {name.encode(encoding, LOSSLESS): value.encode(encoding, LOSSLESS) for name, value in environ.items()}


class _Stdout(io.TextIOWrapper):
    """A stdout that records the last write error, because click hides it."""

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
    """Replace sys.stdout by one that encodes every string and records write errors; return it."""
    before = sys.stdout
    if before is None:  # it is closed; what is written must fail, and not vanish
        refusing = io.FileIO(os.open(os.devnull, os.O_RDONLY), "w")
        sys.stdout = _Stdout(io.BufferedWriter(refusing), "utf-8", LOSSLESS)
    elif isinstance(before, io.TextIOWrapper):
        # Not ASCII, for which click would choose another encoding and replace characters by "?".
        encoding = "utf-8" if codecs.lookup(before.encoding).name == "ascii" else before.encoding
        sys.stdout = _Stdout(before.buffer, encoding, LOSSLESS, None, before.line_buffering, before.write_through)
    return sys.stdout


def finish(stdout: TextIO | None) -> OSError | None:
    """Flush `stdout`; return the error of this or an earlier write, None for no error.

    Args:
        stdout: what `prepare` returned, because click replaces sys.stdout after EPIPE.
    """
    trouble = _flushed(stdout)
    if isinstance(stdout, _Stdout):
        trouble = stdout.trouble or trouble
    if trouble is not None:
        _mute(1)
    return trouble


def failed(error: Exception) -> bool:
    """Whether this is the error of a write to stdout."""
    return isinstance(sys.stdout, _Stdout) and error is sys.stdout.trouble


def mute_errors() -> None:
    """Discard all further output on stderr, after a write to it has failed."""
    _mute(2)


def _flushed(stream: TextIO | None) -> OSError | None:
    try:
        if stream is not None:
            stream.flush()
    except OSError as error:
        return error
    return None


def _mute(descriptor: int) -> None:
    # Otherwise the interpreter flushes the stream again at exit and prints the error.
    void = os.open(os.devnull, os.O_WRONLY)
    os.dup2(void, descriptor)
    os.close(void)
