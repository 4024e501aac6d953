"""`vx-token gateway …`, and `exec --gateway`: the loopback gateway alone, without the daemon."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import click

from vx_token import config, endpoint, log, paths, values
from vx_token.clock import SystemClock
from vx_token.config import Config, Profile
from vx_token.errors import ConfigError
from vx_token.mint import mint
from vx_token.refresh import Refresher
from vx_token.store import Store


def link(settings: Config, lines: log.Log, port: int | None = None) -> Any:
    """A gateway that refreshes tokens itself, not yet started.

    Raises:
        ConfigError: the extra is not installed.
    """
    try:
        from vx_token import gateway_link
    except ImportError as error:
        hint = "install it: pip install 'vx-token[gateway]'"
        raise ConfigError(f"the gateway needs {error.name}", hint) from None
    environ = dict(os.environ)
    store = Store(paths.runtime_dir(environ))
    refresher = Refresher(store, SystemClock(), mint, environ, settings, endpoint.local(settings, environ))
    sockets = gateway_link.activated(environ) if port is None else []
    return gateway_link.Link(settings, refresher, lines, port, sockets)


@click.group(invoke_without_command=True)
@click.option("--port", type=click.IntRange(0, 65535), help="Another port than the configured; 0 takes a free one.")
@click.option("--access-log", is_flag=True, help="One line a request, without bodies and keys.")
@click.pass_context
def gateway(context: click.Context, port: int | None, access_log: bool) -> None:
    """Serve the loopback gateway in the foreground, without the daemon.

    \b
    Example:
      vx-token gateway
      OPENAI_BASE_URL=http://127.0.0.1:8490/v1 OPENAI_API_KEY=$(vx-token gateway key) aider
    """
    if context.invoked_subcommand is not None:
        return
    settings = config.load(os.environ, {})
    if access_log:
        settings = config.with_gateway(settings, access_log=True)
    lines = log.Log(log.form("", os.environ))
    serving = link(settings, lines, port)
    stop = _on_signals()
    address = serving.start()
    lines.event("info", f"the gateway serves {address}")
    while not stop:
        signal.pause()
    serving.stop()
    lines.event("info", "stopped")


def _on_signals() -> list[int]:
    found: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: found.append(received))
    return found


@gateway.command()
def key() -> None:
    """Print the local key: worth nothing outside of this machine.

    \b
    Example:
      export OPENAI_API_KEY="$(vx-token gateway key)"
    """
    click.echo(endpoint.key(os.environ))


@gateway.command("rotate-key")
@click.option("--grace", default="1h", show_default=True, metavar="DURATION", help="How long the old key still counts.")
def rotate_key(grace: str) -> None:
    """Make a new local key; tools that hold the old one have until the grace period's end.

    \b
    Example:
      vx-token gateway rotate-key --grace 0s
    """
    from vx_token.gateway_key import rotate_key as rotate

    seconds = values.seconds(grace)
    if seconds is None:
        raise click.BadParameter(f"{grace!r} is no duration such as 1h", param_hint="--grace")
    rotate(paths.state_dir(os.environ), seconds)
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + seconds))
    click.echo(f"there is a new local key; the old one counts until {until}")


def run_behind(settings: Config, profile: Profile, command: tuple[str, ...], variables: Mapping[str, str]) -> int:
    """Run `command` behind a gateway of its own on a free port; its exit status, 128 + N for a signal N.

    `variables` are those of direct mode: key and URLs are replaced by the gateway's.
    """
    serving = link(settings, log.Log(log.form("", os.environ)), port=0)
    address = serving.start().removesuffix("/v1")
    url = endpoint.url(settings, profile.name, address)
    bases = ("OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_BASE_URL")
    ours = {**variables, "OPENAI_API_KEY": endpoint.key(os.environ), **dict.fromkeys(bases, url)}
    try:
        return _supervise(command, {**os.environ, **ours, **endpoint.beside_a_proxy(os.environ)})
    finally:
        serving.stop()


def _supervise(command: tuple[str, ...], environ: dict[str, str]) -> int:
    # The terminal's own signals reach the child by itself; we outlive it to pass its status on.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda *_: None)
    with subprocess.Popen(command, env=environ) as child:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT):
            signal.signal(number, lambda received, _: child.send_signal(received))
        status = child.wait()
    sys.stdout.flush()
    return status if status >= 0 else 128 - status
