"""`doctor --fix` shows the commands that are safe, asks, runs them, and examines again."""

import stat

import pytest

from sandbox import Box
from terminals import at_terminal, ended
from vx_token.emulator import Emulator
from vx_token.report import doctor_fix
from vx_token.report.doctor_facts import Check


def mode(box: Box) -> int:
    return stat.S_IMODE(box.key.stat().st_mode)


@pytest.fixture
def careless(signed_in: Box) -> Box:
    """A credential file that other users can read, and no token."""
    signed_in.key.chmod(0o644)
    return signed_in


def test_the_same_command_is_run_once() -> None:
    fix = ("vx-token", "refresh")
    checks = [Check("a", "fail", "x", "h", fix), Check("b", "fail", "y", "h", fix), Check("c", "warn", "z", "h")]
    assert doctor_fix.commands(checks) == [fix]


def test_it_applies_what_is_safe_and_examines_again(careless: Box, google: Emulator) -> None:
    done = careless.vx("doctor", "--fix", "--yes")
    before, after = done.stdout.split("\nto run:\n")
    assert "other users can read it" in before
    assert after.startswith(
        f"  chmod 600 {careless.key}\n  vx-token refresh --profile gemini\n"
        f"$ chmod 600 {careless.key}\n$ vx-token refresh --profile gemini\ngemini: fresh token, "
    )
    assert "other users can read it" not in after
    assert "ok    token gemini" in after
    assert (mode(careless), google.count("token")) == (0o600, 1)
    again = careless.vx("doctor", "--fix", "--yes").stdout
    assert again.endswith("\nnothing here can be fixed automatically; the hints above say what to do\n")


def test_without_a_terminal_it_shows_and_changes_nothing(careless: Box) -> None:
    done = careless.vx("doctor", "--fix")
    assert (done.returncode, mode(careless)) == (2, 0o644)
    assert f"to run:\n  chmod 600 {careless.key}\n" in done.stdout
    assert done.stderr.splitlines()[-1] == "hint: add --yes"


def test_at_a_terminal_no_means_no(careless: Box) -> None:
    terminal = at_terminal(careless, "doctor", "--fix")
    terminal.expect_exact("Do this? [Y/n]: ")
    terminal.sendline("n")
    assert ended(terminal) == 0
    assert mode(careless) == 0o644


def test_json_and_fix_exclude_each_other(careless: Box) -> None:
    done = careless.vx("doctor", "--fix", "--json", "--yes")
    assert (done.returncode, done.stdout, mode(careless)) == (2, "", 0o644)
