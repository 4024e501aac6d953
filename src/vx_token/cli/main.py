"""The command line: each command reads its options, calls one function and prints what that returns."""

import errno
import os
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from vx_token import __version__
from vx_token.cli import connect as cli_connect
from vx_token.cli import doctor as cli_doctor
from vx_token.cli import endpoints, files, models, output, status, tokens, wiring
from vx_token.cli import gateway as cli_gateway
from vx_token.cli import help as cli_help
from vx_token.cli import service as cli_service
from vx_token.cli import setup as cli_setup
from vx_token.cli.color import painter, with_color
from vx_token.cli.color import show as show_colored
from vx_token.cli.options import given, with_profile
from vx_token.config.load import load_config
from vx_token.config.model import Config
from vx_token.errors import ConfigError, TemporaryError, UsageError, VxTokenError, shortage
from vx_token.outputs.publisher import Publisher
from vx_token.system.clock import SystemClock
from vx_token.tokens.refresh import Refresher

if TYPE_CHECKING:
    from vx_token.tokens.store import Store

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def run(argv: list[str]) -> int:
    """Run the command line and return the exit status; every error is one line and one hint on stderr."""
    stdout = output.prepare()
    status = _run(argv)
    problem = output.finish(stdout)
    if problem is None:
        return status
    if problem.errno == errno.EPIPE:  # the status of a program that SIGPIPE ends
        return 128 + signal.SIGPIPE
    hint = "free some space, or redirect the output to another place"
    return _fail(TemporaryError(f"cannot write the output: {problem.strerror}", hint), TemporaryError.exit_code)


def _run(argv: list[str]) -> int:
    try:
        return int(cli.main(argv, prog_name="vx-token", standalone_mode=False) or 0)
    except click.exceptions.Exit as done:
        return done.exit_code
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except click.Abort:
        return _fail(UsageError("interrupted"), 130)
    except click.UsageError as error:
        return _fail(UsageError(cli_help.message(error), cli_help.hint(error)), 2)
    except click.ClickException as error:
        return _fail(UsageError(error.format_message(), "see: vx-token --help"), 2)
    except VxTokenError as error:
        return _fail(error, error.exit_code)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if output.failed(error):
            return 1  # `run` prints the error and its own status
        if os.environ.get("VX_TOKEN_DEBUG"):
            raise
        if limit := shortage(error):
            return _fail(limit, limit.exit_code)
        # Without the error's message, because it may quote a secret.
        hint = "please report it; VX_TOKEN_DEBUG=1 shows the traceback"
        return _fail(VxTokenError(f"internal error: {type(error).__name__}", hint), 1)


def _fail(error: VxTokenError, status: int) -> int:
    try:
        output.show(f"vx-token: {error.message}", err=True)
        if error.hint:
            output.show(f"hint: {output.runnable(error.hint)}", err=True)
    except OSError:  # stderr is closed, so only the exit status is left
        output.mute_errors()
    return status


@click.group(cls=cli_help.Group, context_settings=SETTINGS)
@click.version_option(__version__, "-V", "--version", message="vx-token %(version)s")
def cli() -> None:
    """Keep a fresh Google access token where OpenAI-based tools read their key.

    \b
    Example:
      eval "$(vx-token env)"        set the variables in this shell
      vx-token exec -- COMMAND      run one command with them
      vx-token run                  keep tokens fresh
    """


@cli.command("run")
@click.option(
    "--log-format",
    type=click.Choice(["text", "systemd", "json"]),
    help="The form of log lines.  [default: systemd in its journal, else text]",
)
@click.option(
    "--gateway", is_flag=True, help="Serve the loopback gateway, even if the configuration does not enable it."
)
@with_profile
def run_(log_format: str | None, gateway: bool, **options: Any) -> None:
    """Keep every profile's token fresh, in the foreground.

    \b
    Example:
      vx-token run                  run in a terminal; Ctrl-C stops it
      vx-token service install      run as a service
    """
    from vx_token.daemon import daemon, sd_notify
    from vx_token.system import log

    overrides = given(options)

    def load() -> Config:
        settings = load_config(os.environ, overrides)
        return settings.with_gateway(enabled=True) if gateway else settings

    events = log.Log(log.form(log_format or "", os.environ))
    stores: list[Store] = []

    def outputs(settings: Config) -> Publisher:
        # One store for keepers, gateway and reloads, because it holds what could not be written to disk.
        publisher = wiring.publisher(settings, *stores)
        stores[:] = [publisher.store]
        return publisher

    def make(settings: Config) -> Refresher:
        # No other process is the daemon, so no other process keeps the files.
        refresher = wiring.refresher(settings, outputs(settings).store)
        return replace(refresher, attended=lambda: False, lockless=True)

    notifier = sd_notify.notifier(os.environ, os.getpid())
    try:
        daemon.run(load, make, outputs, dict(os.environ), SystemClock(), events, notifier)
    except VxTokenError as error:
        if events.form == "text":
            raise
        events.event("error", f"{error.message}; {error.hint}")  # in the log's form, because a program may read it
        sys.exit(error.exit_code)


@cli.command()
@click.option("--seconds", type=click.FloatRange(24, 600), default=32.0, show_default=True, help="How long it runs.")
@with_color
def demo(seconds: float, color: str) -> None:
    """Show vx-token at work on this machine, without an account.

    It uses no network and changes none of your files.

    \b
    Example:
      vx-token demo
    """
    try:
        import openai  # noqa: F401 - the stock client that the demo drives

        from vx_token.cli import demo as cli_demo
    except ImportError as error:
        from vx_token.system import installation

        raise ConfigError(f"the demo needs {error.name}", installation.how_to_add("demo")) from None
    if not cli_demo.run(lambda line: show_colored(f"{line}\n"), seconds, painter(color)):
        sys.exit(1)


for each in (
    tokens.print_,
    tokens.env,
    tokens.exec_,
    tokens.refresh,
    status.status,
    files.hook,
    files.completion,
    files.path,
    files.help_,
):
    cli.add_command(each)
cli.add_command(models.models)
cli.add_command(endpoints.endpoints)
cli.add_command(cli_gateway.gateway)
cli.add_command(cli_service.service)
cli.add_command(cli_setup.setup)
cli.add_command(cli_connect.connect)
cli.add_command(cli_doctor.doctor)
cli.sections = {
    "Everyday": ("status", "exec", "refresh", "doctor", "help"),
    "Models": ("models", "endpoints"),
    "Set-up": ("setup", "connect", "service", "run", "hook", "completion", "demo"),
    "Gateway": ("gateway",),
    "For scripts": ("print", "env", "path"),
}
