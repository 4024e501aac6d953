"""`status --watch` in a terminal emulator: it changes in place, fits every size and leaves nothing behind."""

import signal
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pexpect
import psutil
import pyte
import pytest

from sandbox import Box, until


class Terminal:
    """A process on a pseudo-terminal, and the screen that it draws."""

    def __init__(self, box: Box, columns: int, rows: int, **environ: str) -> None:
        argv = box.command("status", "--watch")
        env = box.environ | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"} | environ
        self.child = pexpect.spawn(argv[0], argv[1:], env=env, dimensions=(rows, columns), encoding="utf-8", echo=True)
        self.before = termios.tcgetattr(self.child.child_fd)
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.Stream(self.screen)
        self.raw = ""

    def until(self, text: str, seconds: float = 20.0) -> list[str]:
        """Wait until the screen shows a text, and return its lines."""
        end = time.monotonic() + seconds
        while not any(text in line for line in self.screen.display):
            assert time.monotonic() < end, "\n".join(self.screen.display)
            self.read()
        return [line.rstrip() for line in self.screen.display]

    def read(self) -> None:
        try:
            part = self.child.read_nonblocking(65536, 0.2)
        except pexpect.TIMEOUT:
            return
        self.raw += part
        self.stream.feed(part.replace("\x1b[?2026h", "").replace("\x1b[?2026l", ""))

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        self.child.setwinsize(rows, columns)

    def ended(self) -> int:
        """The exit status."""
        self.raw += str(self.child.read())
        after = termios.tcgetattr(self.child.child_fd)
        self.child.close()
        assert after == self.before
        assert self.raw.endswith("\x1b[?7h\x1b[?25h\x1b[?1049l")
        assert self.child.exitstatus is not None
        return int(self.child.exitstatus)


@contextmanager
def terminal(box: Box, columns: int = 90, rows: int = 20, **environ: str) -> Iterator[Terminal]:
    shown = Terminal(box, columns, rows, **environ)
    try:
        yield shown
    finally:
        shown.child.close(force=True)


def test_it_shows_changes_in_place_and_fits_every_size(signed_in: Box) -> None:
    signed_in.refresh()
    with terminal(signed_in) as shown:
        lines = shown.until("q or Ctrl-C ends")
        assert lines[0].startswith("vx-token ")
        assert lines[2].startswith("gemini  fresh")
        assert "█" in lines[2]
        assert lines[2].endswith("left")
        assert lines[-1] == "q or Ctrl-C ends"
        signed_in.refresh()
        assert any("gemini: refreshed, " in line for line in shown.until("gemini: refreshed, "))
        shown.resize(50, 9)
        shown.raw = ""
        shown.read()
        lines = shown.until("q or Ctrl-C ends")
        assert len(lines[2]) <= 50
        assert lines[8] == "q or Ctrl-C ends"
        # Nothing is erased before it is drawn again: each frame begins at the top and overwrites the last one.
        assert "\x1b[2J" not in shown.raw
        assert "\n\n" not in shown.raw
        shown.child.send("xyz")
        shown.child.send("q")
        assert shown.ended() == 0
        assert "xyz" not in shown.raw


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_cleanly(signed_in: Box, number: signal.Signals) -> None:
    with terminal(signed_in) as shown:
        shown.until("q or Ctrl-C ends")
        if number == signal.SIGINT:
            shown.child.sendintr()
        else:
            shown.child.kill(number)
        assert shown.ended() == 128 + number


def test_a_stopped_view_gives_the_terminal_back(signed_in: Box) -> None:
    with terminal(signed_in) as shown:
        shown.until("q or Ctrl-C ends")
        shown.child.sendcontrol("z")
        while not shown.raw.endswith("\x1b[?1049l"):
            shown.read()
        program = psutil.Process(shown.child.pid)
        until(lambda: program.status() == psutil.STATUS_STOPPED)  # it stops itself after it has left the screen
        shown.child.kill(signal.SIGCONT)
        shown.raw = ""
        while "q or Ctrl-C ends" not in shown.raw:
            shown.read()
        assert shown.raw.startswith("\x1b[?1049h")
        shown.child.send("q")
        assert shown.ended() == 0


def test_a_dumb_terminal_gets_plain_text(signed_in: Box) -> None:
    with terminal(signed_in, TERM="dumb") as shown:
        shown.child.expect_exact("PROFILE")
        shown.child.expect_exact("PROFILE")
        assert "\x1b" not in str(shown.child.before)


def test_a_locale_without_blocks_gets_ascii(signed_in: Box) -> None:
    signed_in.refresh()
    with terminal(signed_in, LC_ALL="en_US.ISO-8859-1", PYTHONIOENCODING="latin-1") as shown:
        lines = shown.until("q or Ctrl-C ends")
        assert "=" in lines[2]
