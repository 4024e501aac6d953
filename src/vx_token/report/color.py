"""Colours of states on a terminal; whether they are used is the command line's decision."""

from collections.abc import Callable

Paint = Callable[[str, str], str]
"""Returns a text in the colour of a state."""

_GREEN, _YELLOW, _RED, _DIM, _BOLD = "32", "33", "31", "2", "1"
_SGR = {
    "ok": _GREEN,
    "fresh": _GREEN,
    "running": _GREEN,
    "warn": _YELLOW,
    "retrying": _YELLOW,
    "unknown": _YELLOW,
    "stopped": _YELLOW,
    "fail": _RED,
    "login": _RED,
    "expired": _RED,
    "no token": _RED,
    "past": _DIM,
    "heading": _BOLD,
}
"""Codes of ECMA-48 (SGR) by state; each is legible on a dark and on a light background."""


def plain(_: str, text: str) -> str:
    """Return the text as it is."""
    return text


def colored(state: str, text: str) -> str:
    """Return the text in the state's colour."""
    code = _SGR.get(state)
    return f"\x1b[{code}m{text}\x1b[0m" if code and text else text
