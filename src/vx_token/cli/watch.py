"""The screen of `status --watch`: shows one frame a second, and leaves the terminal as it was."""

import contextlib
import functools
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable
from typing import Any

from vx_token.cli import output
from vx_token.errors import ConfigError
from vx_token.report import live_view
from vx_token.report.color import Paint
from vx_token.report.status import Status
from vx_token.system.clock import SystemClock

Read = Callable[[], tuple[Status, bool, ConfigError | None]]

# The alternate screen, no cursor, and no line wrap, which would move every line below a long one.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
# Terminals that know synchronized output (mode 2026) show a frame at once; others ignore the marks.
_BEGIN, _END = "\x1b[?2026h\x1b[H", "\x1b[J\x1b[?2026l"
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def run(read: Read, paint: Paint) -> int:
    """Show the status until q (0) or a signal (128 + its number); return the exit status."""
    clock, history = SystemClock(), live_view.History()
    utf = (sys.stdout.encoding or "").lower().startswith("utf")
    style = live_view.Style(paint, live_view.Signs() if utf else live_view.ASCII, output.runnable)
    with _Screen() as screen:
        while True:
            status, down, _ = read()
            now = clock.now()
            history = history.observe(status, now)
            frame = functools.partial(live_view.frame, history, now, style=style, down=down)
            ended = screen.show(frame, 1.0)
            if ended is not None:
                return ended


class _Screen:
    """The terminal while the view is shown: alternate screen, no echo, and signals as bytes in a pipe."""

    def __enter__(self) -> "_Screen":
        self._keyboard = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._signals, self._wakeup = os.pipe()
        os.set_blocking(self._wakeup, False)
        handled = (*_ENDING, signal.SIGWINCH, signal.SIGTSTP)
        self._before = {number: signal.signal(number, lambda *_: None) for number in handled}
        self._old_wakeup = signal.set_wakeup_fd(self._wakeup)
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        self._release()
        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._signals)
        os.close(self._wakeup)

    def show(self, frame: Callable[[int, int], list[str]], seconds: float) -> int | None:
        """Draw the frame, again after each change of the size; return the exit status, None after `seconds`."""
        end = time.monotonic() + seconds
        while True:
            self._draw(frame(*_size()))
            remaining = end - time.monotonic()
            inputs = [self._signals] if self._keyboard is None else [self._signals, self._keyboard]
            ready, _, _ = select.select(inputs, [], [], max(0.0, remaining))
            if not ready:
                return None
            for number in os.read(self._signals, 64) if self._signals in ready else b"":
                if number in _ENDING:
                    return 128 + number
                if number == signal.SIGTSTP:
                    self._suspend()
            if self._keyboard in ready:
                keys = os.read(self._keyboard, 64)
                if b"q" in keys or not keys:  # no key: the terminal was closed
                    return 0

    def _draw(self, lines: list[str]) -> None:
        _write(_BEGIN + "\x1b[K\r\n".join(lines) + "\x1b[K" + _END)

    def _take(self) -> None:
        self._mode: list[Any] | None = None
        if self._keyboard is not None:
            self._mode = termios.tcgetattr(self._keyboard)
            tty.setcbreak(self._keyboard, termios.TCSADRAIN)
        _write(_ENTER)

    def _release(self) -> None:
        with contextlib.suppress(OSError, termios.error):  # the terminal may be gone
            _write(_LEAVE)
        with contextlib.suppress(OSError, termios.error):
            if self._keyboard is not None and self._mode is not None:
                termios.tcsetattr(self._keyboard, termios.TCSADRAIN, self._mode)

    def _suspend(self) -> None:
        """Stop as Ctrl-Z asks, with the terminal as it was; SIGCONT continues here."""
        self._release()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _size() -> tuple[int, int]:
    size = os.get_terminal_size(sys.stdout.fileno())
    return size.columns or 80, size.lines or 24  # some serial lines have the size 0
