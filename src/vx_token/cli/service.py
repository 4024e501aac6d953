"""The commands `vx-token service …`: install, control and show the background service."""

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from vx_token.cli import help as cli_help
from vx_token.cli import output
from vx_token.cli.color import painter, with_color
from vx_token.cli.color import show as show_colored
from vx_token.cli.execute import become
from vx_token.cli.progress import waiting
from vx_token.config.load import load_config
from vx_token.config.model import Config
from vx_token.errors import VxTokenError, printable
from vx_token.gateway import address
from vx_token.system import paths

if TYPE_CHECKING:
    from vx_token.install import service as install_service
    from vx_token.install.changes import Step


@click.group(cls=cli_help.Group)
def service() -> None:
    """Install and control the service that keeps tokens fresh.

    The service starts at login.

    \b
    Example:
      vx-token service install
      vx-token service status
    """


def manager_for(settings: Config | None) -> "install_service.ServiceManager":
    """Return this machine's service manager, for this user and program; only `install` needs settings."""
    import subprocess

    from vx_token.install import launchd, no_manager, systemd
    from vx_token.install import service as install_service

    def run_program(argv: list[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    gateway = settings.gateway if settings and address.is_wanted(settings) else None
    runtime = paths.runtime_dir(os.environ)
    ours = install_service.ServiceSpec(
        command=install_service.command(sys.argv[0], sys.executable),
        home=paths.home_dir(os.environ),
        environ=install_service.environment(os.environ, paths.working_folder(os.environ)),
        runtime=runtime,
        state=paths.state_dir(os.environ),
        writable=install_service.writable(settings) if settings else (),
        listen=install_service.listen(gateway, runtime) if gateway else (),
    )
    if sys.platform == "darwin":
        return launchd.Launchd(ours, run_program, os.getuid())
    return systemd.detect(ours, run_program, no_manager.this_place(os.environ))


def _manager() -> "install_service.ServiceManager":
    """Return the manager for commands that work with an invalid configuration, too."""
    return manager_for(None)


def _installed() -> "install_service.ServiceManager":
    """Return the manager; raise ConfigError when the service is not installed."""
    from vx_token.install import service as install_service

    manager = _manager()
    manager.check()
    install_service.require_installed(manager.status())
    return manager


def _start(manager: "install_service.ServiceManager", steps: "list[Step]") -> None:
    """Perform steps that start the service, and print its state."""
    with waiting("waiting for the service and its first token"):
        state = manager.apply(steps, time.time)
    output.report(state)


DRY_RUN = click.option("--dry-run", is_flag=True, help="Show what would be done, but do nothing.")


@service.command("install")
@DRY_RUN
@output.with_quiet
def install(dry_run: bool) -> None:
    """Install or update the service, and wait until it has a token.

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
    if dry_run:
        output.show(changes.show(steps).rstrip())
        return
    _start(manager, steps)


@service.command("uninstall")
@DRY_RUN
@output.with_quiet
def uninstall(dry_run: bool) -> None:
    """Stop the service and remove its files, its tokens and its log.

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
    with waiting("stopping the service"):
        changes.perform(steps, manager.run)
    output.report("the service is uninstalled")


@service.command("start")
@output.with_quiet
def start() -> None:
    """Start the service, and wait until it has a token.

    \b
    Example:
      vx-token service start && vx-token status
    """
    manager = _installed()
    _start(manager, manager.control("start"))


@service.command("restart")
@output.with_quiet
def restart() -> None:
    """Restart the service; tokens stay available meanwhile.

    Do this after an upgrade.

    \b
    Example:
      vx-token service restart
    """
    manager = _installed()
    _start(manager, manager.control("restart"))


@service.command("stop")
@output.with_quiet
def stop() -> None:
    """Stop the service until the next login.

    Its tokens stay available until they expire.

    \b
    Example:
      vx-token service stop
    """
    from vx_token.install import changes

    manager = _installed()
    with waiting("stopping the service"):
        changes.perform(manager.control("stop"), manager.run)
    output.report("the service is stopped")


@service.command("status")
@with_color
def service_status(color: str) -> None:
    """Show whether the service is running.

    `vx-token status` shows its tokens.

    \b
    Example:
      vx-token service status || vx-token service logs
    """
    from vx_token.install import service as install_service

    status = _manager().status()
    output.show(f"file:    {status.file if status.installed else 'not installed'}")
    active = painter(color)("running" if status.running else "fail", printable(status.active))
    show_colored(f"state:   {active}" + (f", process {status.pid}\n" if status.pid else "\n"))
    output.show(f"message: {status.text}" if status.text else "message: none")
    install_service.require_running(status)


@service.command("logs")
@click.option("--lines", "-n", default=50, show_default=True, help="How many lines to show.")
@click.option("--follow", "-f", is_flag=True, help="Show new lines until Ctrl-C.")
def service_logs(lines: int, follow: bool) -> None:
    """Show the service's log.

    \b
    Example:
      vx-token service logs -n 100
      vx-token service logs --follow
    """
    argv = _manager().logs(lines, follow=follow)
    become(argv, os.environb)
