"""The option --color, and whether a terminal wants colours."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from vx_token.report.color import Paint, colored, plain


def with_color(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option --color as the argument `color`."""
    return click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        help="When to colour states; auto: on a terminal.",
    )(function)


def wanted(choice: str, environ: Mapping[str, str], terminal: bool) -> bool:
    """Whether to use colours.

    Args:
        choice: the option --color, which beats the environment.
        environ: NO_COLOR (no-color.org) beats FORCE_COLOR (force-color.org), and both beat TERM, as in Python itself.
        terminal: whether the output is a terminal.
    """
    if choice != "auto":
        return choice == "always"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return environ["FORCE_COLOR"] != "0"
    return terminal and environ.get("TERM", "dumb") not in ("", "dumb")


def painter(choice: str) -> Paint:
    """Return the function that colours what stdout shows."""
    return colored if wanted(choice, os.environ, sys.stdout is not None and sys.stdout.isatty()) else plain


def show(text: str) -> None:
    """Print text whose parts are printable, with its colours."""
    click.echo(text, nl=False, color=True)
