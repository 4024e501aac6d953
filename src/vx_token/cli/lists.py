"""What `models` and `endpoints` share: the profile's account, progress on a terminal, and settings of a new profile."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from vx_token.cli import options, output
from vx_token.config import vertex
from vx_token.config.load import load_config
from vx_token.system import hardening

if TYPE_CHECKING:
    from vx_token.config.model import Config, Profile
    from vx_token.vertex.known import KnownFile
    from vx_token.vertex.lists import Account


def account(profile: str | None, *, allow_new: bool = False) -> "tuple[Config, Account, KnownFile]":
    """Return the configuration, the profile with its token and login, and the profile's known file.

    Args:
        profile: its name, None for the one in use.
        allow_new: whether a name that is not configured means the default profile's project and login.

    Raises:
        VxTokenError: there is no such profile, or no token can be fetched.
    """
    from vx_token.credentials import credential_file
    from vx_token.credentials.google_errors import Login
    from vx_token.errors import VxTokenError
    from vx_token.vertex.known import KnownFile
    from vx_token.vertex.lists import Account, place_of

    if allow_new and profile not in load_config(os.environ).profiles:
        profile = None
    settings, refresher, chosen = options.load({"profile": profile})
    place_of(chosen)
    token = refresher.current(chosen)
    hardening.forbid_own_core_dumps()
    login = Login(token.kind, account=token.account)
    with contextlib.suppress(VxTokenError):  # the token is from the store, and its login is no longer there
        login = credential_file.find(chosen, os.environ)[0]
    return settings, Account(dict(os.environ), chosen, token, login), KnownFile(os.environ, chosen.name)


LOGIN_SETTINGS = ("credentials", "account", "impersonate", "quota_project", "mode")
"""Settings that a new profile gets from the profile in use, where that has them."""


def login_settings(profile: "Profile") -> dict[str, str | None]:
    """Return the settings of a new profile with the same login."""
    defaults = type(profile)("")
    values = {name: getattr(profile, name) for name in LOGIN_SETTINGS}
    return {name: value for name, value in values.items() if value != getattr(defaults, name)}


def openapi_url(account: "Account") -> str | None:
    """Return the `base_url` with which the account's profile reaches Google's models; None where it needs none."""
    place = account.place
    if place.universe == vertex.UNIVERSE:
        return None
    return vertex.Place(place.root, place.version, place.project, place.location, "openapi").url


def users(settings: "Config") -> dict[str, str]:
    """Return the profile that uses each deployed endpoint, by the endpoint's id."""
    from vx_token.vertex.models import own_endpoint

    return {own_endpoint(each): each.name for each in settings.profiles.values() if own_endpoint(each)}


def warn_unknown(locations: Iterable[str]) -> None:
    """Print a warning for each location that Google did not list, with the nearest one."""
    for location in locations:
        warning, hint = vertex.warning(vertex.base_url("p", location, "openapi", "v1"))
        if warning:
            output.show(f"vx-token: {warning}\nhint: {hint}", err=True)


def progress(what: str) -> Callable[[int, int], None]:
    """Return a function that shows progress on a terminal; a list that is answered at once shows none."""

    def show(done: int, total: int) -> None:
        if total > 1 and sys.stderr and sys.stderr.isatty():
            end = "\r\033[K" if done == total else ""
            click.echo(f"\r{done} of {total} {what}{end}", err=True, nl=False)

    return show
