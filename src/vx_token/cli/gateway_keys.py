"""The commands `vx-token gateway key, keys, revoke, rotate-key` and `tail`."""

import os
import time
from collections.abc import Callable

import click

from vx_token.cli import help as cli_help
from vx_token.cli import output, wiring
from vx_token.config import duration
from vx_token.config.load import load_config
from vx_token.config.model import Config
from vx_token.errors import UsageError
from vx_token.gateway import address

_PAUSE = 0.5  # seconds between two queries of `tail`


@click.command(cls=cli_help.Command)
@click.option("--name", metavar="NAME", help="The key of this name, created if it does not exist.")
@click.option("--profile", "profiles", multiple=True, metavar="NAME", help="Limit a new key to a profile; repeatable.")
def key(name: str | None, profiles: tuple[str, ...]) -> None:
    """Print the local key, which tools in gateway mode need.

    Use it in the "key command" setting of tools. The key is valid on this machine only. A tool with a key of its own
    is counted separately, and its key can be revoked alone.

    \b
    Example:
      export OPENAI_API_KEY="$(vx-token gateway key)"
      vx-token gateway key --name aider --profile gemini
    """
    if name is None and profiles:
        raise UsageError("--profile limits a key that has a name", "add: --name NAME")
    if name is None:
        click.echo(address.local_key(os.environ))
        return
    allowed = None
    if profiles:
        settings = load_config(os.environ)
        allowed = frozenset(settings.profile(profile).name for profile in profiles)
    click.echo(address.named_key(os.environ, name, allowed))


@click.command(cls=cli_help.Command)
def keys() -> None:
    """List the local keys with their use since the gateway started.

    \b
    Example:
      vx-token gateway keys
    """
    from vx_token.gateway import statusz
    from vx_token.report import gateway_use

    gateway = statusz.query(running_gateway(load_config(os.environ)), _local_key)
    output.show(gateway_use.keys_table(address.key_owners(os.environ), gateway))


@click.command(cls=cli_help.Command)
@click.argument("name")
@output.with_quiet
def revoke(name: str) -> None:
    """Revoke the local key NAME; all other keys stay valid.

    \b
    Example:
      vx-token gateway revoke aider
    """
    address.revoke_key(os.environ, name)
    output.report(f"revoked the key {name}")


@click.command("rotate-key", cls=cli_help.Command)
@click.option("--grace", default="1h", show_default=True, metavar="DURATION", help="How long the old key stays valid.")
@output.with_quiet
def rotate_key(grace: str) -> None:
    """Create a new local key, and retire the old one.

    The old key stays valid for the grace period. Keys that have a name do not change.

    \b
    Example:
      vx-token gateway rotate-key --grace 0s
    """
    seconds = duration.seconds(grace)
    if seconds is None:
        raise click.BadParameter(f"{grace!r} is not a duration such as 1h", param_hint="--grace")
    settings = load_config(os.environ)
    address.rotate_key(os.environ, seconds)
    _publish(settings)
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + seconds))
    output.report(f"created a new local key; the old one stays valid until {until}")


@click.command(cls=cli_help.Command)
@click.option("--no-follow", is_flag=True, help="Print the last requests, then exit.")
def tail(no_follow: bool) -> None:
    """Print the gateway's last requests, then each new one.

    Bodies are never printed.

    FIRST is the time until Google's answer begins, TOKENS those of prompt and answer.

    \b
    Example:
      vx-token gateway tail
    """
    gateway = running_gateway(load_config(os.environ))
    follow(lambda after: _recent(gateway, after), output.show, None if no_follow else lambda: time.sleep(_PAUSE))


Recent = Callable[[int], tuple[float, list[dict[str, object]]]]


def follow(recent: Recent, show: Callable[[str], None], pause: Callable[[], None] | None) -> None:
    """Show the last requests, then each new one after a pause; without `pause` only the last ones.

    Args:
        recent: returns the start of the gateway and its requests after a number.
        show: prints a line.
        pause: waits until the next query.

    Raises:
        TemporaryError: the gateway does not answer.
    """
    from vx_token.report import gateway_use

    show(gateway_use.requests_heading())
    started_at, number = 0.0, 0
    while True:
        since, requests = recent(number)
        if since != started_at and number:  # a restarted gateway counts from 1
            since, requests = recent(0)
        started_at = since
        for request in requests:
            show(gateway_use.request_line(request))
            number = int(str(request["number"]))
        if pause is None:
            return
        pause()


def _recent(gateway: str, after: int) -> tuple[float, list[dict[str, object]]]:
    from vx_token.gateway import statusz

    started_at, requests = statusz.recent(gateway, _local_key, after)
    return started_at, [dict(request) for request in requests]


def _local_key() -> str:
    return address.local_key(os.environ)


def running_gateway(settings: Config) -> str:
    """Return the address of the daemon's gateway, or the configured one."""
    from vx_token.daemon import info

    running = info.read(wiring.publisher(settings).store.root) or {}
    return str(running.get("gateway") or address.base_url(settings, settings.default_profile))


def _publish(settings: Config) -> None:
    """Write the new key to the files that shells read."""
    publisher = wiring.publisher(settings)
    for profile in settings.profiles.values():
        state = publisher.store.read(profile.name)
        if profile.mode == "gateway" and state.attempts:
            publisher.publish(profile, state)
