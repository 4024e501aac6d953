"""The command `vx-token status`."""

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from vx_token.cli import help as cli_help
from vx_token.cli import output, wiring
from vx_token.cli.color import painter, with_color
from vx_token.cli.color import show as show_colored
from vx_token.config.load import load_config
from vx_token.errors import ConfigError
from vx_token.gateway import address
from vx_token.system import paths
from vx_token.system.clock import SystemClock
from vx_token.tokens.store import Store

if TYPE_CHECKING:
    from vx_token.report.status import Status


@click.command(cls=cli_help.Command)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--watch", is_flag=True, help="Show it live, until q or Ctrl-C.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing; the exit status is the answer.")
@with_color
def status(as_json: bool, watch: bool, quiet: bool, color: str) -> None:
    """Show each profile's token, with its problems and hints.

    The exit status is 1 when a login is needed, when a refresh failed and no token is left, or when your service or
    gateway is not running.

    \b
    Example:
      vx-token status --watch
      vx-token status --json | jq '.profiles[].expires_in'
      vx-token status --quiet || vx-token doctor
    """
    from vx_token.report import status as report_status

    if watch and not as_json and _on_screen():
        from vx_token.cli import watch as cli_watch

        sys.exit(cli_watch.run(_status, painter(color)))
    while True:
        current, down, problem = _status()
        if not quiet:
            _print(current, down, "" if as_json else color)
        if not watch:
            break
        time.sleep(1.0)
    if problem is not None:
        raise problem
    if report_status.failed(current, down=down):
        sys.exit(1)


def _print(current: "Status", down: bool, color: str) -> None:
    """Print the status as text, or for no colour choice as JSON."""
    from vx_token.report import status as report_status

    if not color:
        output.show(report_status.as_json(current), nl=False)
        return
    text = report_status.as_text(current, SystemClock().now(), down=down, paint=painter(color))
    show_colored(output.runnable(text) if sys.stdout.isatty() else text)  # in a pipe each word is a contract


def _on_screen() -> bool:
    """Whether stdout is a terminal that can move the cursor."""
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")


def _installed() -> bool:
    """Whether the service's file exists for this user; the service manager is not asked."""
    from vx_token.install import launchd, systemd

    home = paths.home_dir(os.environ)
    if sys.platform == "darwin":
        return launchd.property_list(home).exists()
    return any((folder / systemd.UNIT).exists() for folder in systemd.folders(home, os.environ))


def _status() -> "tuple[Status, bool, ConfigError | None]":
    """Read the status, whether the installed service is not running, and the configuration's error."""
    current, problem = _read()
    return current, current.daemon is None and _installed(), problem


def _read() -> "tuple[Status, ConfigError | None]":
    from vx_token.report import status as report_status

    store, now, path = Store(paths.runtime_dir(os.environ)), SystemClock().now(), paths.config_file(os.environ)

    def key() -> str:
        return address.local_key(os.environ)

    try:
        settings = load_config(os.environ)
    except ConfigError as error:
        return report_status.gather(store, now, error, None, path, key), error
    return report_status.gather(store, now, settings, wiring.publisher(settings, store), path, key), None
