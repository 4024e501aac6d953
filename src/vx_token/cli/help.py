"""Help texts of commands, with the example after the options."""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import click

from vx_token.errors import did_you_mean

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
    sections: Mapping[str, Sequence[str]] = {}
    """Headings of the list of commands, each with its commands in order; without any there is one list."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one line for each command, below the headings; nothing is cut off."""
        listed = [name for names in self.sections.values() for name in names]
        others = [name for name in self.list_commands(ctx) if name not in listed]
        width = max(map(len, self.commands), default=0)
        for heading, names in {**self.sections, "More" if listed else "Commands": others}.items():
            rows = [(name.ljust(width), self.commands[name].get_short_help_str(limit=1000)) for name in names]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Without a command, print the help on stderr and exit with 2, as only some versions of click do."""
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; the error for an unknown name has the similar names, as only some versions of click do."""
        if not ctx.resilient_parsing and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise NoSuchCommandError(args[0], self, ctx)
        return super().resolve_command(ctx, args)


class NoSuchCommandError(click.UsageError):
    """The group has no such command."""

    def __init__(self, name: str, group: click.Group, ctx: click.Context) -> None:
        super().__init__(f"No such command {name!r}", ctx)
        self.name, self.known = name, group.list_commands(ctx)


def message(error: click.UsageError) -> str:
    """Return the error on one line; click spreads choices over several lines."""
    text = error.message if isinstance(error, click.NoSuchOption) else error.format_message()
    return " ".join(text.split()).rstrip(".")


def hint(error: click.UsageError) -> str:
    """Return what to do: the similar command or option, and the help that lists all of them."""
    see = f"see: {error.ctx.command_path if error.ctx else 'vx-token'} --help"
    if isinstance(error, NoSuchCommandError):
        return did_you_mean(error.name, error.known) + see
    if isinstance(error, click.NoSuchOption) and error.ctx:
        own = _options(error.ctx.command)
        group = error.ctx.command if isinstance(error.ctx.command, click.Group) else None
        owners = [name for name, each in group.commands.items() if error.option_name in _options(each)] if group else []
        if owners:
            return f"put {error.option_name} after the command; {see}"
        return did_you_mean(error.option_name, own) + see
    if isinstance(error, click.BadParameter) and error.param and isinstance(error.param.type, click.Choice):
        value = re.match("'(.*?)'", error.message)  # as click quotes it
        return did_you_mean(value[1] if value else "", map(str, error.param.type.choices)) + see
    return see


def _options(command: click.Command) -> list[str]:
    """Return the names of a command's options."""
    names = [
        name for each in command.params if isinstance(each, click.Option) for name in (*each.opts, *each.secondary_opts)
    ]
    return [*names, "--help"]
