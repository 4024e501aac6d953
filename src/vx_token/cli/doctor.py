"""The command `vx-token doctor`."""

import os
import sys
from typing import TYPE_CHECKING

import click

from vx_token.cli import help as cli_help
from vx_token.cli import output, wiring
from vx_token.cli import service as cli_service
from vx_token.cli.color import painter, with_color
from vx_token.cli.color import show as show_colored
from vx_token.cli.progress import waiting
from vx_token.cli.prompt import Terminal
from vx_token.config.load import load_config
from vx_token.errors import ConfigError, UsageError
from vx_token.system import paths
from vx_token.system.clock import SystemClock
from vx_token.tokens.store import Store

if TYPE_CHECKING:
    from vx_token.config.model import Config
    from vx_token.install.service import ServiceStatus
    from vx_token.report.doctor_facts import Check, DoctorFacts


@click.command(cls=cli_help.Command)
@click.option("--profile", metavar="NAME", help="The profile this shell uses.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--fix", is_flag=True, help="Show the commands that safely solve problems, ask, and run them.")
@click.option("--yes", is_flag=True, help="With --fix: do not ask.")
@click.option("--live", is_flag=True, help="Also check scopes, the clock and a tiny completion by requests to Google.")
@click.option("--quiet", "-q", is_flag=True, help="Print only warnings and failures.")
@with_color
@click.pass_context
def doctor(
    ctx: click.Context, profile: str | None, as_json: bool, live: bool, fix: bool, yes: bool, quiet: bool, color: str
) -> None:
    """Check for known problems and print how to solve each.

    The exit status is 1 when a check fails.

    \b
    Example:
      vx-token doctor
      vx-token doctor --live
      vx-token doctor --fix
      vx-token doctor --json | jq '.checks[] | select(.ok == "fail")'
    """
    from vx_token.report import doctor as work

    if fix and as_json:
        raise UsageError("--fix and --json exclude each other", "run: vx-token doctor --fix, then with --json")
    checks, paint = _examined(profile, live=live), painter(color)
    if as_json:
        output.show(work.as_json(checks), nl=False)
    else:
        show_colored(output.runnable(work.as_text(checks, paint, quiet=quiet)))
    if fix and _fix(checks, yes=yes):
        checks = _examined(profile, live=live)
        show_colored("\n" + output.runnable(work.as_text(checks, paint, quiet=quiet)))
    ctx.exit(1 if work.failed(checks) else 0)


def _examined(profile: str | None, *, live: bool) -> "list[Check]":
    from vx_token.report import doctor as work

    facts = _facts(profile)
    checks = work.examine(facts)
    if live:
        from vx_token.report import doctor_live

        with waiting("waiting for Google's answers"):
            checks += doctor_live.examine(facts)
    return checks


def _fix(checks: "list[Check]", *, yes: bool) -> bool:
    """Show the safe fixes, ask, and run them; return whether any was run."""
    from vx_token.install import service as install_service
    from vx_token.report import doctor_fix

    commands = doctor_fix.commands(checks)
    if not commands:
        output.show("nothing here can be fixed automatically; the hints above say what to do")
        return False
    output.show("to run:\n" + "\n".join(f"  {doctor_fix.shown(command)}" for command in commands))
    if not (yes or sys.stdin.isatty()):
        raise UsageError("--fix asks before it changes anything, but stdin is not a terminal", "add --yes")
    if not (yes or Terminal().confirm("Do this?")):
        return False
    program = install_service.command(sys.argv[0], sys.executable)
    for command in commands:
        output.show(f"$ {doctor_fix.shown(command)}")
        doctor_fix.perform(command, program)
    return True


def _facts(profile: str | None) -> "DoctorFacts":
    from vx_token.report.doctor_facts import gather

    environ, store = dict(os.environ), Store(paths.runtime_dir(os.environ))
    given = {"profile": profile} if profile else {}
    publisher = None
    try:
        loaded = load_config(environ, given)
        settings: Config | ConfigError = loaded
        publisher = wiring.publisher(loaded, store)
    except ConfigError as error:
        settings = error
    wanted = profile or environ.get("VX_TOKEN_PROFILE")
    folder = paths.working_folder(environ)
    return gather(settings, store, SystemClock(), publisher, environ, folder, wanted, _standing)


def _standing() -> "ServiceStatus | None":
    try:
        return cli_service.manager_for(None).status()
    except ConfigError:  # a variable that no service file can hold; another check reports it where it matters
        return None
