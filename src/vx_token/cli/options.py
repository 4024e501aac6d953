"""The options by which a command names its profile, and what they lead to."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from vx_token import config, here, paths, values
from vx_token.refresh import Refresher
from vx_token.settings import Config, Profile
from vx_token.store import Store

if TYPE_CHECKING:
    _Duration = click.ParamType[float]
else:
    _Duration = click.ParamType  # not generic before click 8.4


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


class Ttl(_Duration):
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


def given(options: Mapping[str, Any]) -> dict[str, str]:
    """What was given on the command line."""
    return {key: value for key, value in options.items() if value is not None}


def load(options: Mapping[str, Any]) -> tuple[Config, Refresher, Profile]:
    """The configuration in force, its refresher, and the profile meant.

    Raises:
        VxTokenError: the configuration is wrong, or there is no such profile.
    """
    told = given(options)
    settings = config.load(os.environ, told)
    name = told.pop("profile", None) or os.environ.get("VX_TOKEN_PROFILE")
    profile, refresher = settings.profile(name), here.refresher(settings)
    # What an option changes for one call must not stand in the files that all other tools read; nor what a variable
    # of this shell alone changes, in those that a daemon keeps.
    if not told and refresher.contested(profile):
        told = asdict(refresher.origin(profile)) | {"stamp": ""}
    if told:
        refresher = replace(refresher, store=Store(paths.aside(refresher.store.root, told)))
    return settings, refresher, profile
