"""The commands `vx-token setup` and `vx-token doctor`."""

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from vx_token.cli import help as cli_help
from vx_token.cli import output, wiring
from vx_token.cli import service as cli_service
from vx_token.cli.color import painter, with_color
from vx_token.cli.color import show as show_colored
from vx_token.config.duration import shown
from vx_token.config.load import load_config
from vx_token.errors import ConfigError, UsageError
from vx_token.system import paths, shipped
from vx_token.system.clock import SystemClock
from vx_token.tokens.store import Store

if TYPE_CHECKING:
    from vx_token.config.model import Config
    from vx_token.install.service import ServiceStatus
    from vx_token.install.setup_io import SetupContext
    from vx_token.report.doctor_facts import Check, Surroundings

TEST = """
test it, in a new shell:
  vx-token status
  curl "$OPENAI_BASE_URL/chat/completions" -H "Authorization: Bearer $OPENAI_API_KEY" \\
    -H 'Content-Type: application/json' \\
    -d '{"model": "google/gemini-2.5-flash", "messages": [{"role": "user", "content": "hello"}]}'
find problems:     vx-token doctor --live
undo everything:   vx-token setup --undo"""


class _Terminal:
    """Asks questions at the terminal."""

    def value(self, question: str, default: str) -> str:
        """Return the typed answer, or the default."""
        return str(click.prompt(question, default=default or None))

    def confirm(self, question: str) -> bool:
        """Return whether the user agrees, which is the default."""
        return click.confirm(question, default=True)


@click.command(cls=cli_help.Command)
@click.option("--project", metavar="ID", help="The Google Cloud project.")
@click.option("--location", metavar="NAME", help="global, us, eu or a region.")
@click.option("--credentials", metavar="FILE", help="A credential file, instead of the gcloud login.")
@click.option("--base-url", metavar="URL", help="The base URL, instead of one made from project and location.")
@click.option("--model", metavar="ID", help="The model, such as google/gemini-2.5-flash.")
@click.option("--profile", metavar="NAME", help="The profile to set up.  [default: the default profile]")
@click.option(
    "--shell",
    "kind",
    type=click.Choice([*shipped.HOOKS, "none"]),
    help="The shell to set up.  [default: your login shell]",
)
@click.option("--hook/--no-hook", default=None, help="Whether new shells load the hook.")
@click.option("--service/--no-service", default=None, help="Whether to install the service.")
@click.option("--yes", is_flag=True, help="Use all defaults and ask no questions.")
@click.option("--dry-run", is_flag=True, help="Show what would change, but change nothing.")
@click.option("--undo", is_flag=True, help="Undo all changes of setup.")
@output.with_quiet
def setup(
    profile: str | None,
    kind: str | None,
    hook: bool | None,
    service: bool | None,
    yes: bool,
    dry_run: bool,
    undo: bool,
    **values: str | None,
) -> None:
    """Set up the configuration, the shell hook and the service.

    \b
    Example:
      vx-token setup
      vx-token setup --yes --project my-project --location us-central1
      vx-token setup --undo
    """
    from vx_token.install.setup_io import SetupOptions

    if not (yes or dry_run or sys.stdin.isatty()):
        raise UsageError("setup asks questions, but stdin is not a terminal", "add --yes to use all defaults")
    context = _world(silent=yes or dry_run)
    if undo:
        _undo(context, yes=yes, dry_run=dry_run)
        return
    given = {key: value for key, value in values.items() if value}
    _setup(SetupOptions(profile or "", given, kind or "", hook, service), context, yes=yes, dry_run=dry_run)


def _world(*, silent: bool) -> "SetupContext":
    from vx_token.install.setup_io import DefaultPrompter, SetupContext

    clock, environ = SystemClock(), dict(os.environ)

    def prove(name: str) -> str:
        settings = load_config(os.environ, {"profile": name})
        profile = settings.profile(name)
        token = wiring.refresher(settings).current(profile)
        left = f"{profile.name}: a live token, {shown(token.remaining(clock.now()))} left"
        return left + ("; tools with a key command take: vx-token gateway key" if profile.mode == "gateway" else "")

    ask = DefaultPrompter() if silent else _Terminal()
    return SetupContext(environ, output.report, ask, cli_service.manager_for, prove, clock.now)


def _setup(options: Any, context: "SetupContext", *, yes: bool, dry_run: bool) -> None:
    from vx_token.install import setup as work

    todo = work.prepare(options, context)
    (output.report if yes and not dry_run else output.show)(str(todo) or "everything is in place already")
    if dry_run or (str(todo) and not yes and not context.prompter.confirm("Do this?")):
        return
    work.perform(todo, context)
    output.report(TEST)


def _undo(context: "SetupContext", *, yes: bool, dry_run: bool) -> None:
    from vx_token.install import setup as work

    steps, remark = work.undo_steps(context), work.kept_files(context)
    if not steps:
        output.report(remark or "there is nothing to undo")
        return
    (output.report if yes and not dry_run else output.show)(
        "\n".join(filter(None, [*(str(step).rstrip("\n") for step in steps), remark]))
    )
    if dry_run or not (yes or context.prompter.confirm("Do this?")):
        return
    work.undo(steps, context)
    output.report("done; open shells keep the hook until they exit")


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

    around = _surroundings(profile)
    checks = work.examine(around)
    if live:
        from vx_token.report import doctor_live

        checks += doctor_live.examine(around)
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
    if not (yes or click.confirm("Do this?", default=True)):
        return False
    program = install_service.command(sys.argv[0], sys.executable)
    for command in commands:
        output.show(f"$ {doctor_fix.shown(command)}")
        doctor_fix.perform(command, program)
    return True


def _surroundings(profile: str | None) -> "Surroundings":
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


def add(group: click.Group) -> None:
    """Add these commands to the command line."""
    group.add_command(setup)
    group.add_command(doctor)
