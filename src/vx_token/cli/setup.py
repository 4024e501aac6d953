"""The command `vx-token setup`."""

import json
import os
import shlex
import sys
from typing import TYPE_CHECKING

import click

from vx_token.cli import help as cli_help
from vx_token.cli import output, wiring
from vx_token.cli import service as cli_service
from vx_token.cli.progress import waiting
from vx_token.cli.prompt import Terminal
from vx_token.config.load import load_config
from vx_token.errors import UsageError, VxTokenError
from vx_token.system import shipped
from vx_token.system.clock import SystemClock

if TYPE_CHECKING:
    from vx_token.install.setup import SetupPlan
    from vx_token.install.setup_io import SetupContext, SetupOptions


class _InterruptedError(VxTokenError):
    """Ctrl-C, or the end of the input, stopped setup."""

    exit_code = 130


@click.command(cls=cli_help.Command)
@click.option("--project", metavar="ID", help="The Google Cloud project.")
@click.option("--location", metavar="NAME", help="global, us, eu or a region.")
@click.option("--credentials", metavar="FILE", help="A credential file, instead of the gcloud login.")
@click.option("--account", metavar="ACCOUNT", help="An account of gcloud, or `active`: instead of a credential file.")
@click.option("--base-url", metavar="URL", help="The base URL, instead of one made from project and location.")
@click.option("--model", metavar="ID", help="The model, such as google/gemini-2.5-flash.")
@click.option("--mode", type=click.Choice(["direct", "gateway"]), help="Whether tools get the token or a local key.")
@click.option("--profile", metavar="NAME", help="The profile to set up.  [default: the default profile]")
@click.option(
    "--shell",
    "kind",
    type=click.Choice([*shipped.HOOKS, "none"]),
    help="The shell to set up.  [default: your login shell]",
)
@click.option("--hook/--no-hook", default=None, help="Whether new shells load the hook.")
@click.option("--service/--no-service", default=None, help="Whether to install the service.")
@click.option("--desktop", is_flag=True, help="Set the gateway's URL and key in programs that no shell starts, too.")
@click.option("--offline", is_flag=True, help="Make no test request at the end.")
@click.option("--yes", is_flag=True, help="Use all defaults and ask no questions.")
@click.option("--dry-run", is_flag=True, help="Show what would change, but change nothing.")
@click.option("--undo", is_flag=True, help="Undo all changes of setup; with --desktop, only that one.")
@output.with_quiet
def setup(
    profile: str | None,
    kind: str | None,
    hook: bool | None,
    service: bool | None,
    desktop: bool,
    offline: bool,
    yes: bool,
    dry_run: bool,
    undo: bool,
    **values: str | None,
) -> None:
    """Set up the configuration, the shell hook and the service.

    At the end it asks the model for a few words. Without an answer the exit status is 1; everything is set up then.

    \b
    Example:
      vx-token setup
      vx-token setup --yes --project my-project --location us-central1
      vx-token setup --mode gateway --desktop
      vx-token setup --undo
    """
    from vx_token.install.setup_io import SetupOptions

    if not (yes or dry_run or sys.stdin.isatty()):
        raise UsageError("setup asks questions, but stdin is not a terminal", "add --yes to use all defaults")
    context, done = _context(yes=yes, dry_run=dry_run), list[str]()
    given = {key: value for key, value in values.items() if value}
    options = SetupOptions(profile or "", given, kind or "", hook, service, offline, desktop)
    try:
        if undo:
            _undo(context, done, yes=yes, dry_run=dry_run, only_desktop=desktop)
        else:
            _setup(options, context, done, yes=yes, dry_run=dry_run)
    except (click.Abort, KeyboardInterrupt):
        again = "vx-token setup --undo" if undo else "vx-token setup"
        if not done:
            raise _InterruptedError("interrupted; nothing changed", f"run it again: {again}") from None
        hint = f"to complete it, run it again: {again}" + ("" if undo else "; to take it back: vx-token setup --undo")
        raise _InterruptedError(f"interrupted; done so far: {', '.join(done)}", hint) from None


def _context(*, yes: bool, dry_run: bool) -> "SetupContext":
    from vx_token.install import desktop
    from vx_token.install.setup_io import DefaultPrompter, SetupContext

    show = output.report if yes and not dry_run else output.show  # --quiet hides nothing that a person is asked about

    def test(name: str) -> str:
        from vx_token.install.first_request import first_request

        settings = load_config(os.environ, {"profile": name})
        return first_request(settings.profile(name), wiring.refresher(settings), dict(os.environ))

    return SetupContext(
        environ=dict(os.environ),
        echo=lambda text: show(output.runnable(text)),
        prompter=DefaultPrompter() if yes or dry_run else Terminal(),
        service=cli_service.manager_for,
        test=test,
        now=SystemClock().now,
        run=_run,
        session=desktop.session(os.environ, sys.platform, os.getuid()),
        run_with=desktop.runner(dict(os.environ)),
        waiting=waiting,
    )


def _run(argv: list[str]) -> int:
    """Run a program at the terminal."""
    import subprocess

    return subprocess.run(argv, check=False).returncode


def _setup(options: "SetupOptions", context: "SetupContext", done: list[str], *, yes: bool, dry_run: bool) -> None:
    from vx_token.install import setup as work

    plan = work.prepare(options, context)
    context.echo(str(plan) or "there is nothing to change")
    if dry_run:
        return
    if str(plan) and not yes and not context.prompter.confirm("Do this?"):
        context.echo("nothing changed")
        return
    try:
        work.perform(plan, context, done)
    except VxTokenError:
        if done:
            context.echo(f"done so far: {', '.join(done)}; to take it back: vx-token setup --undo")
        raise
    _test(plan, options, context)


def _test(plan: "SetupPlan", options: "SetupOptions", context: "SetupContext") -> None:
    """Make the first request and show what to do next.

    Raises:
        VxTokenError: the model did not answer; the hint is the command that helps.
    """
    again = f"vx-token doctor --live{_profile_option(plan)}"
    if options.offline:
        context.echo(f"no request was made (--offline); test it later: {again}\n{next_steps(plan)}")
        return
    try:
        with context.waiting("waiting for an answer of the model"):
            line = context.test(plan.profile)
    except VxTokenError:
        context.echo(f"vx-token is set up, but the test request failed\ntest again: {again}\n{UNDO}")
        raise
    context.echo(f"{line}\n\n{next_steps(plan)}\nfind problems: {again}\n{UNDO}")


UNDO = "undo everything: vx-token setup --undo"


def next_steps(plan: "SetupPlan") -> str:
    """Return the commands by which the user sees it work, for the profile that was set up."""
    from vx_token.vertex.probe import probed_model

    profile = plan.config.profile(plan.profile)
    body = json.dumps({"model": probed_model(profile), "messages": [{"role": "user", "content": "hello"}]})
    data = f"\\\n    -H 'Content-Type: application/json' \\\n    -d {shlex.quote(body)}"
    if not plan.shell:
        header = f'-H @"$(vx-token path header{_profile_option(plan)})"'
        return f"try it:\n  vx-token status\n  curl {profile.url}/chat/completions {header} {data}"
    use = f"\n  vx-token-use {shlex.quote(plan.profile)}" if _profile_option(plan) else ""
    key = '"$OPENAI_BASE_URL/chat/completions" -H "Authorization: Bearer $OPENAI_API_KEY"'
    return f"try it, in a new shell:\n  vx-token status{use}\n  curl {key} {data}"


def _profile_option(plan: "SetupPlan") -> str:
    return "" if plan.profile == plan.config.default_profile else f" --profile {shlex.quote(plan.profile)}"


def _undo(context: "SetupContext", done: list[str], *, yes: bool, dry_run: bool, only_desktop: bool) -> None:
    from vx_token.install import setup as work
    from vx_token.system import installation

    steps = work.undo_steps(context, only_desktop=only_desktop)
    remark, rest = ("", "") if only_desktop else (work.kept_files(context), f"\n{installation.how_to_remove()}")
    if not steps:
        context.echo(f"{remark or 'there is nothing to undo'}{rest}")
        return
    context.echo("\n".join(filter(None, [*(str(step).rstrip("\n") for step in steps), remark])))
    if dry_run:
        return
    if not (yes or context.prompter.confirm("Do this?")):
        context.echo("nothing changed")
        return
    work.undo(steps, context, done)
    context.echo("done" if only_desktop else f"done; open shells keep the hook until they exit{rest}")
