"""The commands that print a shipped file or the path of a file: hook, completion, path."""

import os
from collections.abc import Callable, Mapping

import click

from vx_token.cli import help as cli_help
from vx_token.cli.options import given
from vx_token.config.load import load_config
from vx_token.outputs import shell
from vx_token.system import paths, shipped


@click.command(cls=cli_help.Command)
@click.argument("shell_name", metavar="SHELL", type=click.Choice(shipped.HOOKS))
def hook(shell_name: str) -> None:
    """Print the line that loads the hook, which keeps a shell's variables fresh.

    \b
    Example:
      eval "$(vx-token hook bash)"             in ~/.bashrc
      eval "$(vx-token hook zsh)"              in ~/.zshrc
      vx-token hook fish | source              in ~/.config/fish/config.fish
    """
    click.echo(shell.hook(shell_name), nl=False)


@click.command(cls=cli_help.Command)
@click.argument("shell_name", metavar="SHELL", type=click.Choice(shipped.HOOKS))
def completion(shell_name: str) -> None:
    """Print the shell completion of commands, options and profiles.

    \b
    Example:
      vx-token completion bash > ~/.local/share/bash-completion/completions/vx-token
      vx-token completion zsh > ~/.zfunc/_vx-token
      vx-token completion fish > ~/.config/fish/completions/vx-token.fish
    """
    click.echo(shipped.completion_file(shell_name).read_text(encoding="utf-8"), nl=False)


PLACES: Mapping[str, Callable[[], object]] = {
    "config": lambda: paths.config_file(os.environ),
    "runtime": lambda: paths.runtime_dir(os.environ),
    **{f"hook-{kind}": (lambda kind=kind: shipped.hook_file(kind)) for kind in shipped.HOOKS},  # type: ignore[misc]
}
FILES = ("token", "header", "env.sh", "env.fish", "state.json", "lock")


@click.command(cls=cli_help.Command)
@click.option("--profile", metavar="NAME", help="The profile of the file.")
@click.argument("name", type=click.Choice([*PLACES, *FILES]))
def path(name: str, profile: str | None) -> None:
    """Print the path of a file or folder.

    \b
    Example:
      curl -H @"$(vx-token path header)" …
    """
    if name in PLACES:
        click.echo(PLACES[name]())
        return
    chosen = profile or os.environ.get("VX_TOKEN_PROFILE")
    folder = load_config(os.environ, given({"profile": profile})).profile(chosen).name if chosen else "default"
    click.echo(paths.runtime_dir(os.environ) / folder / name)
