"""States have a colour where stdout is a terminal, unless the user or the terminal wants none."""

import pexpect
import pytest

from sandbox import Box
from vx_token.cli.color import wanted

XTERM = {"TERM": "xterm"}


@pytest.mark.parametrize(
    ("choice", "environ", "terminal", "colours"),
    [
        ("auto", XTERM, True, True),
        ("auto", XTERM, False, False),
        ("auto", {"TERM": "dumb"}, True, False),
        ("auto", {}, True, False),
        ("auto", XTERM | {"NO_COLOR": "1"}, True, False),
        ("auto", XTERM | {"NO_COLOR": ""}, True, True),
        ("auto", {"FORCE_COLOR": "1"}, False, True),
        ("auto", XTERM | {"FORCE_COLOR": "0"}, True, False),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        ("always", {"TERM": "dumb", "NO_COLOR": "1"}, False, True),
        ("never", XTERM | {"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_who_decides(choice: str, environ: dict[str, str], terminal: bool, colours: bool) -> None:
    assert wanted(choice, environ, terminal) == colours


def seen(box: Box, *words: str, **environ: str) -> str:
    """What a terminal gets."""
    argv = box.command(*words)
    return str(
        pexpect.run(" ".join(argv), env=box.environ | XTERM | environ, cwd=str(box.root), encoding="utf-8", timeout=30)
    )


def test_at_a_terminal_states_are_coloured_and_elsewhere_nothing_is(signed_in: Box) -> None:
    signed_in.refresh()
    shown = seen(signed_in, "status")
    assert "\x1b[32mfresh \x1b[0m" in shown
    assert "\x1b[33mnot running\x1b[0m" in shown
    assert "\x1b" not in seen(signed_in, "status", NO_COLOR="1")
    piped = signed_in.vx("status")
    assert "\x1b" not in piped.stdout
    assert "\x1b[32mfresh \x1b[0m" in signed_in.vx("status", "--color", "always").stdout
    assert "\x1b[33mwarn\x1b[0m  service" in seen(signed_in, "doctor")
    assert "\x1b" not in signed_in.vx("doctor").stdout
    signed_in.environ["FORCE_COLOR"] = "1"
    assert "\x1b[33m" in signed_in.vx("doctor").stdout
    assert "\x1b" not in signed_in.vx("status", "--json").stdout
