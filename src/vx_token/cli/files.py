"""The commands that print a shipped file or the path of a file: hook, completion, help, path."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from vx_token.cli import help as cli_help
from vx_token.cli.options import given
from vx_token.config.load import load_config
from vx_token.errors import UsageError, did_you_mean
from vx_token.outputs import shell
from vx_token.system import paths, shipped


@click.command(cls=cli_help.Command)
@click.argument("shell_name", metavar="SHELL", type=click.Choice(shipped.HOOKS))
def hook(shell_name: str) -> None:
    """Print the line that loads the hook into a shell.

    The hook keeps the shell's variables fresh.

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

    `vx-token setup` loads it together with the hook.

    \b
    Example:
      vx-token completion bash > ~/.local/share/bash-completion/completions/vx-token
      vx-token completion zsh > ~/.zfunc/_vx-token
      vx-token completion fish > ~/.config/fish/completions/vx-token.fish
    """
    click.echo(shipped.completion_file(shell_name).read_text(encoding="utf-8"), nl=False)


@click.command("help", cls=cli_help.Command)
@click.argument("topic", nargs=-1)
@click.pass_context
def help_(ctx: click.Context, topic: tuple[str, ...]) -> None:
    """Show a page of the documentation, or the help of a command.

    Without a topic, list the pages.

    \b
    Example:
      vx-token help
      vx-token help troubleshooting
      vx-token help service install
    """
    pages, root = shipped.pages(), ctx.find_root()
    if not topic:
        width = max(map(len, pages), default=0)
        click.echo("".join(f"{name:<{width}}  {_title(page)}\n" for name, page in pages.items()), nl=False)
    elif len(topic) == 1 and topic[0] in pages:
        os.environ.setdefault("LESS", "FRX")  # as git sets it: less ends by itself if the page fits on the screen
        click.echo_via_pager(pages[topic[0]].read_text(encoding="utf-8").rstrip("\n"))
    elif (found := _command(root, topic)) is not None:
        click.echo(found.get_help())
    else:
        names = [*pages, *(root.command.commands if isinstance(root.command, click.Group) else ())]
        suggestion = did_you_mean(topic[0], names)
        raise UsageError(f"there is no help on {' '.join(topic)!r}", f"{suggestion}list the topics: vx-token help")


def _title(page: Path) -> str:
    """Return the page's first heading."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return next((line.removeprefix("# ") for line in lines if line.startswith("# ")), "")


def _command(context: click.Context, words: tuple[str, ...]) -> click.Context | None:
    """Return the context of the command that these words name, None if there is none."""
    for word in words:
        command = context.command.get_command(context, word) if isinstance(context.command, click.Group) else None
        if command is None:
            return None
        context = click.Context(command, context, word)
    return context


def _socket() -> Path:
    configured = load_config(os.environ).gateway.unix_socket
    return Path(configured) if configured else paths.runtime_dir(os.environ) / ".gateway.sock"


PLACES: Mapping[str, Callable[[], object]] = {
    "config": lambda: paths.config_file(os.environ),
    "runtime": lambda: paths.runtime_dir(os.environ),
    "default": lambda: paths.runtime_dir(os.environ) / "default",
    "gateway.sock": _socket,
    "state": lambda: paths.state_dir(os.environ),
    **{f"hook-{kind}": (lambda kind=kind: shipped.hook_file(kind)) for kind in shipped.HOOKS},  # type: ignore[misc]
}
STATE_FILES = ("files", "gateway.key", "known", "service.log", "setup.json")
FILES = ("token", "header", "env.sh", "env.fish", "state.json", "lock", "peek", "events.json")


@click.command(cls=cli_help.Command)
@click.option("--profile", metavar="NAME", help="The profile of the file.")
@click.argument("name", metavar="NAME", type=click.Choice([*PLACES, *STATE_FILES, *FILES]))
def path(name: str, profile: str | None) -> None:
    """Print the path of a file or folder.

    `vx-token help configuration` explains each file.

    \b
    Example:
      curl -H @"$(vx-token path header)" …
      less "$(vx-token path config)"
    """
    if name in PLACES:
        click.echo(PLACES[name]())
        return
    if name in STATE_FILES:
        click.echo(paths.state_dir(os.environ) / name)
        return
    chosen = profile or os.environ.get("VX_TOKEN_PROFILE")
    folder = load_config(os.environ, given({"profile": profile})).profile(chosen).name if chosen else "default"
    click.echo(paths.runtime_dir(os.environ) / folder / name)
