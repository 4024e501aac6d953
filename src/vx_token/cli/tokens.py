"""The commands that print a token or run a command with it: print, env, exec, refresh."""

import os
import sys
from typing import Any

import click

from vx_token.cli import gateway as cli_gateway
from vx_token.cli import help as cli_help
from vx_token.cli import output
from vx_token.cli.execute import become
from vx_token.cli.options import Ttl, load, with_profile
from vx_token.config import duration
from vx_token.config.model import Config, Profile
from vx_token.errors import VxTokenError, error_of
from vx_token.gateway import address, statusz
from vx_token.outputs import exports, shell
from vx_token.system import hardening
from vx_token.tokens import lifetime
from vx_token.tokens.refresh import Refresher


@click.command("print", cls=cli_help.Command)
@with_profile
@click.option(
    "--min-ttl",
    type=Ttl(),
    metavar="DURATION",
    help="The least lifetime of the token; wait for a refresh if needed.  [default: 5m, without waiting]",
)
@click.option("--format", "form", type=click.Choice(["token", "header", "json"]), default="token", show_default=True)
def print_(min_ttl: float | None, form: str, **options: Any) -> None:
    """Print a fresh token and nothing else.

    Use it in scripts and in the "key command" setting of tools.

    \b
    Example:
      curl -H "$(vx-token print --format header)" "$OPENAI_BASE_URL/chat/completions" …
    """
    _, refresher, profile = load(options)
    strict = min_ttl is not None
    token = refresher.current(profile, lifetime.DEFAULT_MIN_TTL if min_ttl is None else min_ttl, strict)
    hardening.forbid_own_core_dumps()
    click.echo(exports.printed(profile, token, form, refresher.clock.now()))


@click.command(cls=cli_help.Command)
@with_profile
@click.option("--shell", "kind", type=click.Choice(shell.SHELLS), default="sh", show_default=True)
def env(kind: str, **options: Any) -> None:
    """Print the variables that tools read, such as OPENAI_API_KEY.

    \b
    Example:
      eval "$(vx-token env)"
      vx-token env --shell fish | source
      docker run --env-file <(vx-token env --shell dotenv) …
    """
    variables = _variables(*load(options))
    hardening.forbid_own_core_dumps()
    click.echo(shell.assignments(kind, variables), nl=False)


def _variables(settings: Config, refresher: Refresher, profile: Profile) -> dict[str, str]:
    key, url = address.lookup(settings, os.environ)(profile)
    # In gateway mode no token is fetched, because the local key does not expire and the gateway refreshes the token.
    token = refresher.store.read(profile.name).live(refresher.clock.now()) if key else refresher.current(profile)
    urls = exports.gateway_urls(settings, profile, lambda each: address.base_url(settings, each.name)) if key else ()
    variables = exports.variables(profile, token, key, url, urls)
    return variables | (
        address.no_proxy_variables(os.environ, settings.gateway.host) if profile.mode == "gateway" else {}
    )


@click.command("exec", cls=cli_help.Command, context_settings={"allow_interspersed_args": False})
@with_profile
@click.option("--gateway", is_flag=True, help="Start a gateway for COMMAND, which then runs longer than a token.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def exec_(command: tuple[str, ...], gateway: bool, **options: Any) -> None:
    """Run COMMAND with the variables set, in place of this process.

    \b
    Example:
      vx-token exec --profile gemini -- python3 summarize.py
      vx-token exec --gateway -- jupyter lab
    """
    try:
        if not command[0]:
            raise FileNotFoundError  # an empty name would match the folders in PATH
        settings, refresher, profile = load(options)
        if gateway or (profile.mode == "gateway" and not _served(settings, profile)):
            sys.exit(cli_gateway.run_behind(settings, refresher, profile, command))
        chosen = {"VX_TOKEN_PROFILE": options["profile"]} if options["profile"] else {}  # for the hook in a shell
        become(command, output.environment({**os.environ, **chosen, **_variables(settings, refresher, profile)}))
    except FileNotFoundError:
        output.show(f"vx-token: command not found: {command[0]!r}\nhint: check the name and PATH", err=True)
        sys.exit(127)
    except OSError as error:
        output.show(
            f"vx-token: cannot run {command[0]!r}: {error.strerror}\nhint: check that it is an executable program",
            err=True,
        )
        sys.exit(126)


def _served(settings: Config, profile: Profile) -> bool:
    """Whether the user's own gateway answers at the configured address; another program must not get key and prompt."""
    url = address.base_url(settings, profile.name)
    try:
        answers, whose, uid = statusz.probe(url)
    except OSError:
        return False
    if whose is statusz.Owner.OTHER_USER:
        text = f"vx-token: another user (uid {uid}) listens at {url}; {profile.name} gets a private gateway"
        output.show(f"{text}\nhint: change `gateway.port` in the configuration", err=True)
    return answers


@click.command(cls=cli_help.Command)
@with_profile
@click.option("--all", "every", is_flag=True, help="Refresh every profile.")
@output.with_quiet
def refresh(every: bool, **options: Any) -> None:
    """Fetch a new token from Google now.

    \b
    Example:
      vx-token refresh --profile gemini
      vx-token refresh --all --quiet         in a cron job
    """
    settings, refresher, profile = load(options)
    failed: list[tuple[str, VxTokenError]] = []
    for each in settings.profiles.values() if every else [profile]:
        try:
            output.report(f"{each.name}: fresh token, {duration.shown(_refreshed(refresher, each))} left")
        except VxTokenError as problem:
            failed.append((each.name, problem))
    for name, error in failed[:-1]:
        output.show(f"vx-token: {name}: {error.message}\nhint: {error.hint}", err=True)
    if failed:
        raise failed[-1][1]


def _refreshed(refresher: Refresher, profile: Profile) -> float:
    """Refresh the profile's token and return the new token's remaining lifetime in seconds."""
    from vx_token.cli.progress import waiting

    with waiting("waiting for Google's answer"):
        state = refresher.refresh(profile)
    hardening.forbid_own_core_dumps()
    if state.failure is not None:
        raise error_of(state.failure, refresher.clock.now())
    if error := refresher.store.unsaved(profile.name):
        raise refresher.unwritable(profile, error)  # the new token is lost when this process exits
    return state.token.remaining(refresher.clock.now()) if state.token else 0
