"""The command line: each command reads its options, calls one function and prints what that returns."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from vx_token import __version__, config, endpoint, here, paths, peek, shell, sinks, values
from vx_token.cli import gateway as cli_gateway
from vx_token.cli import help as cli_help
from vx_token.cli import service as cli_service
from vx_token.cli import setup as cli_setup
from vx_token.clock import SystemClock
from vx_token.config import Config
from vx_token.errors import ConfigError, UsageError, VxTokenError
from vx_token.refresh import Refresher, error_of
from vx_token.store import Store

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def run(argv: list[str]) -> int:
    """Run the command line and return the exit status; every error is one line and one hint on stderr."""
    try:
        return int(cli.main(argv, prog_name="vx-token", standalone_mode=False) or 0)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.Abort:
        return _fail(UsageError("interrupted"), 130)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "vx-token"
        message = " ".join(error.format_message().split()).rstrip(".")  # click spreads choices over lines
        return _fail(UsageError(message, f"see: {command} --help"), 2)
    except click.ClickException as error:
        return _fail(UsageError(error.format_message(), "see: vx-token --help"), 2)
    except VxTokenError as error:
        return _fail(error, error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains at its end
        return 141
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if os.environ.get("VX_TOKEN_DEBUG"):
            raise
        # Not its text: it may quote anything.
        hint = "please report it; VX_TOKEN_DEBUG=1 shows where"
        return _fail(VxTokenError(f"internal error: {type(error).__name__}", hint), 1)


def _fail(error: VxTokenError, status: int) -> int:
    click.echo(f"vx-token: {error.message}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)
    return status


def with_profile(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options by which a command names its profile and overrides that profile's settings."""
    options = [
        click.option("--profile", metavar="NAME", help="The profile to use."),
        click.option("--project", metavar="ID", help="Another project than the profile's."),
        click.option("--location", metavar="NAME", help="Another location than the profile's."),
        click.option("--endpoint", metavar="ID", help="Another endpoint than the profile's."),
        click.option("--base-url", metavar="URL", help="Another base URL than the profile's."),
        click.option("--credentials", metavar="FILE", help="Another credential file than the profile's."),
        click.option("--impersonate", metavar="EMAIL", help="Another service account than the profile's."),
        click.option("--model", metavar="ID", help="Another model than the profile's."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


class Ttl(click.ParamType[float]):
    """A duration such as `5m`, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it; a bare number counts as seconds."""
        if isinstance(value, float):
            return value
        found = values.seconds(value) if not (value.isascii() and value.isdigit()) else float(value)
        if found is None or found > 12 * 3600:
            self.fail(f"{value!r} is no duration such as 90s, 5m or 1h30m, up to 12h", param, ctx)
        return found


def _given(options: Mapping[str, Any]) -> dict[str, str]:
    return {key: value for key, value in options.items() if value is not None}


def _load(options: Mapping[str, Any]) -> tuple[Config, Refresher, config.Profile]:
    given = _given(options)
    settings = config.load(os.environ, given)
    name = given.pop("profile", None) or os.environ.get("VX_TOKEN_PROFILE")
    # What an option changes for one call must not stand in the files that all other tools read.
    store = Store(paths.aside(paths.runtime_dir(os.environ), given)) if given else None
    return settings, here.refresher(settings, store), settings.profile(name)


@click.group(cls=cli_help.Group, context_settings=SETTINGS)
@click.version_option(__version__, "-V", "--version", message="vx-token %(version)s")
def cli() -> None:
    """Keep a live Google access token where OpenAI-based tools look for their key.

    \b
    Example:
      eval "$(vx-token env)"        this shell, now
      vx-token exec -- aider        one command
      vx-token run                  keep it fresh from now on
    """


@cli.command("print")
@with_profile
@click.option("--min-ttl", type=Ttl(), metavar="DURATION", help="Refresh first when less life is left.  [default: 5m]")
@click.option("--format", "form", type=click.Choice(["token", "header", "json"]), default="token", show_default=True)
def print_(min_ttl: float | None, form: str, **options: Any) -> None:
    """Print a token with life left, and nothing else; made to be called by tools.

    \b
    Example:
      curl -H "$(vx-token print --format header)" "$OPENAI_BASE_URL/chat/completions" …
    """
    _, refresher, profile = _load(options)
    strict = min_ttl is not None
    token = refresher.current(profile, peek.DEFAULT_MIN_TTL if min_ttl is None else min_ttl, strict)
    click.echo(sinks.printed(profile, token, form, refresher.clock.now()))


@cli.command()
@with_profile
@click.option("--shell", "kind", type=click.Choice(shell.SHELLS), default="sh", show_default=True)
def env(kind: str, **options: Any) -> None:
    """Print assignments of the variables that tools read.

    \b
    Example:
      eval "$(vx-token env)"
      vx-token env --shell fish | source
      docker run --env-file <(vx-token env --shell dotenv) …
    """
    click.echo(shell.assignments(kind, _variables(options)), nl=False)


def _variables(options: Mapping[str, Any]) -> dict[str, str]:
    _, refresher, profile = _load(options)
    token = refresher.current(profile)
    found = sinks.variables(profile, token, *refresher.endpoint(profile))
    return found | (endpoint.beside_a_proxy(os.environ) if profile.mode == "gateway" else {})


@cli.command("exec", context_settings={"ignore_unknown_options": False})
@with_profile
@click.option("--gateway", is_flag=True, help="Serve COMMAND from a gateway of its own, so that it outlives tokens.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def exec_(command: tuple[str, ...], gateway: bool, **options: Any) -> None:
    """Replace this process by COMMAND with the variables set.

    \b
    Example:
      vx-token exec --profile gemini -- aider --model openai/google/gemini-2.5-flash
      vx-token exec --gateway -- jupyter lab
    """
    try:
        if gateway:
            settings, refresher, profile = _load(options)
            sys.exit(cli_gateway.run_behind(settings, refresher, profile, command))
        os.execvpe(command[0], command, {**os.environ, **_variables(options)})
    except FileNotFoundError:
        click.echo(f"vx-token: there is no command {command[0]!r}\nhint: check the name and PATH", err=True)
        sys.exit(127)
    except OSError as error:
        click.echo(f"vx-token: cannot run {command[0]!r}: {error.strerror}\nhint: is it a program?", err=True)
        sys.exit(126)


@cli.command()
@with_profile
@click.option("--all", "every", is_flag=True, help="Refresh every profile.")
def refresh(every: bool, **options: Any) -> None:
    """Ask Google for a new token now.

    \b
    Example:
      vx-token refresh --profile gemini
    """
    settings, refresher, profile = _load(options)
    for each in settings.profiles.values() if every else [profile]:
        state = refresher.refresh(each)
        if state.failure is not None:
            raise error_of(state.failure)
        left = state.token.remaining(refresher.clock.now()) if state.token else 0
        click.echo(f"{each.name}: fresh token, {values.shown(left)} left")


@cli.command("run")
@click.option("--log-format", type=click.Choice(["text", "systemd", "json"]), help="Default: what the place expects.")
@click.option("--gateway", is_flag=True, help="Serve the loopback gateway too, configured or not.")
@with_profile
def run_(log_format: str | None, gateway: bool, **options: Any) -> None:
    """Keep every profile's token fresh, in the foreground, until told to stop.

    \b
    Example:
      vx-token run                  in a terminal; Ctrl-C stops it
      vx-token service install      as a service
    """
    from vx_token import daemon, log
    from vx_token.service import notify as systemd

    given = _given(options)

    def load() -> Config:
        found = config.load(os.environ, given)
        return config.with_gateway(found, enabled=True) if gateway else found

    daemon.Daemon(
        load=load,
        make=here.refresher,
        environ=dict(os.environ),
        clock=SystemClock(),
        log=log.Log(log.form(log_format or "", os.environ)),
        notifier=systemd.notifier(os.environ, os.getpid()),
    ).run()


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="The same as one JSON object.")
@click.option("--watch", is_flag=True, help="Show it again every second until Ctrl-C.")
def status(as_json: bool, watch: bool) -> None:
    """Show each profile's token: life left, last and next refresh, and what to do when something is wrong.

    \b
    Example:
      vx-token status --json | jq '.profiles[].expires_in'
    """
    from vx_token import status as view

    clock = SystemClock()
    while True:
        found, problem = _status()
        text = view.as_json(found) if as_json else view.as_text(found, clock.now())
        click.echo(("\x1b[H\x1b[J" if watch and not as_json else "") + text, nl=False)
        if not watch:
            break
        view.wait(1.0)
    if problem is not None:
        raise problem


def _status() -> tuple[Any, ConfigError | None]:
    from vx_token import status as view

    store, now, path = Store(paths.runtime_dir(os.environ)), SystemClock().now(), paths.config_file(os.environ)
    try:
        settings = config.load(os.environ)
    except ConfigError as error:
        return view.gather(store, now, error, None, path), error
    return view.gather(store, now, settings, here.refresher(settings), path, lambda: endpoint.key(os.environ)), None


@cli.command()
@click.argument("shell_name", metavar="SHELL", type=click.Choice(shell.HOOKS))
def hook(shell_name: str) -> None:
    """Print the shell hook that keeps a live shell's variables fresh.

    \b
    Example:
      eval "$(vx-token hook bash)"             in ~/.bashrc
      eval "$(vx-token hook zsh)"              in ~/.zshrc
      vx-token hook fish | source              in ~/.config/fish/config.fish
    """
    click.echo(shell.hook(shell_name), nl=False)


@cli.command()
@click.argument("shell_name", metavar="SHELL", type=click.Choice(shell.HOOKS))
def completion(shell_name: str) -> None:
    """Print the completion of commands, options and profiles; it starts no program when you press Tab.

    \b
    Example:
      vx-token completion bash > ~/.local/share/bash-completion/completions/vx-token
      vx-token completion zsh > ~/.zfunc/_vx-token
      vx-token completion fish > ~/.config/fish/completions/vx-token.fish
    """
    click.echo(shell.completion_file(shell_name).read_text(encoding="utf-8"), nl=False)


PLACES: Mapping[str, Callable[[], object]] = {
    "config": lambda: paths.config_file(os.environ),
    "runtime": lambda: paths.runtime_dir(os.environ),
    **{f"hook-{kind}": (lambda kind=kind: shell.hook_file(kind)) for kind in shell.HOOKS},  # type: ignore[misc]
}
FILES = ("token", "header", "env.sh", "env.fish", "state.json", "lock")


@cli.command()
@click.option("--profile", metavar="NAME", help="The profile whose file it is.")
@click.argument("name", type=click.Choice([*PLACES, *FILES]))
def path(name: str, profile: str | None) -> None:
    """Print where a thing is kept.

    \b
    Example:
      curl -H @"$(vx-token path header)" …
    """
    if name in PLACES:
        click.echo(PLACES[name]())
        return
    chosen = profile or os.environ.get("VX_TOKEN_PROFILE")
    folder = config.load(os.environ, _given({"profile": profile})).profile(chosen).name if chosen else "default"
    click.echo(paths.runtime_dir(os.environ) / folder / name)


@cli.command()
@click.option("--seconds", type=click.FloatRange(1, 600), default=32.0, show_default=True, help="How long to show it.")
def demo(seconds: float) -> None:
    """Show it all on this machine: no account, no network, nothing of yours touched.

    \b
    Example:
      vx-token demo
    """
    try:
        import openai  # noqa: F401 - the stock client that the demo drives

        from vx_token import demo as story
    except ImportError as error:
        raise ConfigError(f"the demo needs {error.name}", "install it: pip install 'vx-token[demo]'") from None
    if not story.run(click.echo, seconds):
        sys.exit(1)


cli.add_command(cli_gateway.gateway)
cli.add_command(cli_service.service)
cli_setup.add(cli)
