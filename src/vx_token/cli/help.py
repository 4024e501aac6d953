"""Help texts that end with an example, after the options."""

import inspect
from typing import Any

import click

MARK = "\b\nExample:"


class Command(click.Command):
    """A command whose docstring's last paragraph, its example, becomes the end of its help."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        # Cleaned here, because Python 3.13 takes the indentation away itself and older ones do not.
        text, mark, example = inspect.cleandoc(attributes.get("help") or "").partition(MARK)
        if mark:
            attributes |= {"help": text.rstrip(), "epilog": mark + example}
        super().__init__(*args, **attributes)


class Group(Command, click.Group):
    """The same for a group and all that is in it."""

    command_class = Command
    group_class = type

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Without a command: help on stderr and exit 2, which click's versions do not agree on."""
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)
