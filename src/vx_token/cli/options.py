"""The options that choose a profile and override its settings, and the loading of that profile."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from vx_token.cli import wiring
from vx_token.config import duration
from vx_token.config.load import load_config
from vx_token.config.model import Config, Profile
from vx_token.errors import ConfigError
from vx_token.system import paths
from vx_token.tokens.refresh import Refresher
from vx_token.tokens.store import Store

if TYPE_CHECKING:
    _Duration = click.ParamType[float]
else:
    _Duration = click.ParamType  # not generic before click 8.4


def with_profile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose a profile and override its settings."""
    options = [
        click.option("--profile", metavar="NAME", help="The profile to use."),
        click.option("--project", metavar="ID", help="The Google Cloud project, instead of the profile's."),
        click.option("--location", metavar="NAME", help="The location, instead of the profile's."),
        click.option("--endpoint", metavar="ID", help="The endpoint, instead of the profile's."),
        click.option("--base-url", metavar="URL", help="The base URL, instead of the profile's."),
        click.option("--credentials", metavar="FILE", help="The credential file, instead of the profile's."),
        click.option("--account", metavar="ACCOUNT", help="The account of gcloud, instead of the profile's login."),
        click.option(
            "--impersonate", metavar="EMAIL", help="The service account to impersonate, instead of the profile's."
        ),
        click.option("--model", metavar="ID", help="The model, instead of the profile's."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


class Ttl(_Duration):
    """A duration such as `5m`, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse the duration; a number without a unit is seconds."""
        if isinstance(value, float):
            return value
        amount = duration.seconds(value) if not (value.isascii() and value.isdigit()) else float(value)
        if amount is None or amount > 12 * 3600:
            self.fail(f"{value!r} is not a duration such as 90s, 5m or 1h30m, up to 12h", param, ctx)
        return amount


def given(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the options that the command line contains."""
    return {key: value for key, value in options.items() if value is not None}


def load(options: Mapping[str, Any]) -> tuple[Config, Refresher, Profile]:
    """The configuration in force, its refresher, and the profile meant.

    Raises:
        VxTokenError: the configuration is wrong, or there is no such profile.
    """
    overrides = given(options)
    settings = load_config(os.environ, overrides)
    profile = settings.profile(overrides.pop("profile", None) or os.environ.get("VX_TOKEN_PROFILE"))
    plain = _without_options(overrides, profile.name) or settings
    refresher = wiring.refresher(plain)
    # Other tools read the profile's files, so these must not contain the token of a login that an option or a
    # variable of this shell names and the daemon does not know. Such a token gets a separate folder.
    ownership = refresher.ownership
    origin, configured = ownership.origin(profile), ownership.origin(plain.profile(profile.name))
    conflicts = ownership.conflicts(profile, lambda: refresher.store.read(profile.name).origin)
    if (plain is settings and overrides) or origin != configured or conflicts:
        made_from = {"settings": origin.settings, "path": origin.path, "account": origin.account}
        store, attended = Store(paths.aside(refresher.store.root, made_from)), refresher.attended
        return settings, replace(wiring.refresher(settings, store), attended=attended), profile
    return settings, refresher, profile


def _without_options(overrides: Mapping[str, str], profile: str) -> Config | None:
    """The configuration as it is without the options that were given; None when it needs them."""
    if not overrides:
        return None
    try:
        return load_config(os.environ, {"profile": profile})
    except ConfigError:
        return None
