"""Help texts of commands, with the example after the options."""

import inspect
from typing import Any

import click

MARK = "\b\nExample:"


class Command(click.Command):
    """A command that shows its docstring's last paragraph, the example, at the end of its help."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        # cleandoc, because only Python 3.13 and later remove the indentation of docstrings.
        text, mark, example = inspect.cleandoc(attributes.get("help") or "").partition(MARK)
        if mark:
            attributes |= {"help": text.rstrip(), "epilog": mark + example}
        super().__init__(*args, **attributes)


class Group(Command, click.Group):
    """A group whose commands are of this kind, too."""

    command_class = Command
    group_class = type

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Without a command, print the help on stderr and exit with 2, as only some versions of click do."""
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)
