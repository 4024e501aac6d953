"""The commands `vx-token service …`."""

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from vx_token.cli import help as cli_help
from vx_token.cli import output
from vx_token.cli.execute import become
from vx_token.config.load import load_config
from vx_token.config.model import Config
from vx_token.errors import VxTokenError
from vx_token.gateway import address
from vx_token.system import paths

if TYPE_CHECKING:
    from vx_token.install import service as install_service


@click.group(cls=cli_help.Group)
def service() -> None:
    """Have vx-token started at every login and kept running.

    \b
    Example:
      vx-token service install
      vx-token service status
    """


def manager_for(settings: Config | None) -> "install_service.Manager":
    """The service manager of this machine, for this user and program; without settings for all verbs but install."""
    import subprocess
    from pathlib import Path

    from vx_token.install import launchd, systemd
    from vx_token.install import service as install_service

    def run_program(argv: list[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    gateway = settings.gateway if settings and address.is_wanted(settings) else None
    runtime = paths.runtime_dir(os.environ)
    ours = install_service.Agent(
        command=install_service.command(sys.argv[0], sys.executable),
        home=Path.home(),
        environ=install_service.environment(os.environ, paths.working_folder(os.environ)),
        runtime=runtime,
        state=paths.state_dir(os.environ),
        listen=install_service.listen(gateway.host, gateway.port, gateway.unix_socket, runtime) if gateway else (),
    )
    if sys.platform == "darwin":
        return launchd.Launchd(ours, run_program, os.getuid())
    return systemd.here(ours, run_program)


def _manager() -> "install_service.Manager":
    """For all verbs but install, which work under a wrong configuration too."""
    return manager_for(None)


def _installed() -> "install_service.Manager":
    """For the verbs that need something to act on."""
    from vx_token.install import service as install_service

    manager = _manager()
    manager.check()
    install_service.installed(manager.standing())
    return manager


DRY_RUN = click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")


@service.command("install")
@DRY_RUN
def install(dry_run: bool) -> None:
    """Install, or bring up to date, the service; returns when it has a token, or says what is wrong.

    \b
    Example:
      vx-token service install --dry-run
    """
    from vx_token.install import changes

    manager = manager_for(load_config(os.environ))
    try:
        manager.check()
    except VxTokenError as error:
        if not dry_run:
            raise
        output.show(f"note: {error.message}; shown as for a machine without user namespaces", err=True)
    steps = manager.install()
    output.show(changes.show(steps).rstrip() if dry_run else manager.carry_out(steps, time.time))


@service.command("uninstall")
@DRY_RUN
def uninstall(dry_run: bool) -> None:
    """Stop the service and take away all that it left: its files, its tokens, its log.

    \b
    Example:
      vx-token service uninstall --dry-run
    """
    from vx_token.install import changes

    manager = _manager()
    steps = manager.uninstall()
    if dry_run:
        output.show(changes.show(steps).rstrip())
        return
    changes.perform(steps, manager.run)
    output.show("the service is gone")


@service.command("start")
def start() -> None:
    """Start it; returns when it has a token, or says what is wrong.

    \b
    Example:
      vx-token service start && vx-token status
    """
    manager = _installed()
    output.show(manager.carry_out(manager.verb("start"), time.time))


@service.command("restart")
def restart() -> None:
    """Restart it; the last tokens stay in place meanwhile.

    \b
    Example:
      vx-token service restart       after an upgrade, for instance
    """
    manager = _installed()
    output.show(manager.carry_out(manager.verb("restart"), time.time))


@service.command("stop")
def stop() -> None:
    """Stop it until the next login; the last tokens stay until their end.

    \b
    Example:
      vx-token service stop
    """
    from vx_token.install import changes

    manager = _installed()
    changes.perform(manager.verb("stop"), manager.run)
    output.show("the service is stopped")


@service.command("status")
def service_status() -> None:
    """Say whether the service runs; `vx-token status` tells of its tokens.

    \b
    Example:
      vx-token service status || vx-token service logs
    """
    from vx_token.install import service as install_service

    found = _manager().standing()
    output.show(f"file:    {found.file if found.installed else 'not installed'}")
    output.show(f"state:   {found.active}" + (f", process {found.pid}" if found.pid else ""))
    output.show(f"says:    {found.text}" if found.text else "says:    nothing")
    install_service.running(found)


@service.command("logs")
@click.option("--lines", "-n", default=50, show_default=True, help="How many.")
@click.option("--follow", "-f", is_flag=True, help="Go on until Ctrl-C.")
def service_logs(lines: int, follow: bool) -> None:
    """Show what the service wrote.

    \b
    Example:
      vx-token service logs -n 100
      vx-token service logs --follow
    """
    argv = _manager().logs(lines, follow=follow)
    become(argv, os.environb)
