"""The command `vx-token status`."""

import os
import sys
from typing import Any

import click

from vx_token.cli import help as cli_help
from vx_token.cli import output, wiring
from vx_token.config.load import load_config
from vx_token.errors import ConfigError
from vx_token.gateway import address
from vx_token.system import paths
from vx_token.system.clock import SystemClock
from vx_token.tokens.store import Store


@click.command(cls=cli_help.Command)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--watch", is_flag=True, help="Repeat every second until Ctrl-C.")
def status(as_json: bool, watch: bool) -> None:
    """Show each profile's token: lifetime left, last and next refresh, problems and hints.

    The exit status is 1 when a login is needed, or when your service or gateway is not running.

    \b
    Example:
      vx-token status --json | jq '.profiles[].expires_in'
    """
    from vx_token.report import status as report_status

    clock = SystemClock()
    while True:
        current, problem = _status()
        down = current.daemon is None and _installed()
        text = report_status.as_json(current) if as_json else report_status.as_text(current, clock.now(), down=down)
        click.echo("\x1b[H\x1b[J" if watch and not as_json else "", nl=False)
        output.show(text, nl=False)
        if not watch:
            break
        report_status.wait(1.0)
    if problem is not None:
        raise problem
    if report_status.failed(current, down=down):
        sys.exit(1)


def _installed() -> bool:
    """Whether the service's file exists for this user; the service manager is not asked."""
    from vx_token.install import launchd, systemd

    home = paths.home_dir(os.environ)
    if sys.platform == "darwin":
        return launchd.property_list(home).exists()
    return any((folder / systemd.UNIT).exists() for folder in systemd.folders(home, os.environ))


def _status() -> tuple[Any, ConfigError | None]:
    from vx_token.report import status as report_status

    store, now, path = Store(paths.runtime_dir(os.environ)), SystemClock().now(), paths.config_file(os.environ)
    try:
        settings = load_config(os.environ)
    except ConfigError as error:
        return report_status.gather(store, now, error, None, path), error
    return report_status.gather(
        store, now, settings, wiring.publisher(settings, store), path, lambda: address.local_key(os.environ)
    ), None
