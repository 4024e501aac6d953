"""What the configuration should say: found, asked for, and set without disturbing the rest of the file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vx_token.config import toml_edit
from vx_token.config.load import parse_config
from vx_token.config.model import Config, Profile
from vx_token.credentials import gcloud, google_errors
from vx_token.credentials.credential_file import CredentialFile, credential_file, describe, metadata_likely
from vx_token.errors import ConfigError, LoginNeededError
from vx_token.install import edit, shell_startup
from vx_token.install.edit import Edit
from vx_token.install.setup_io import Wishes, World
from vx_token.system import paths


@dataclass(frozen=True, slots=True)
class Target:
    """The configuration as it should be, the profile that is set up, and the change that leads there, if any."""

    config: Config
    profile: str
    change: Edit | None


def target(wishes: Wishes, world: World) -> Target:
    """Find the login and what else the profile needs, asking where nothing tells; changes nothing.

    Raises:
        LoginNeededError: there is no Google login; the hint is the one command.
        ConfigError: the file is wrong, or cannot be changed with certainty.
        UsageError: something is not known and nobody answers.
    """
    path = paths.config_file(world.environ)
    old = edit.read(path)
    text = _text(path, old)
    tables = _tables(text, path)
    name = wishes.profile or _default(text, path, tables)
    given = dict(wishes.values)
    login = _login(Profile(name, credentials=_credentials(given, tables.get(name, {}), path)), world)
    values = _missing(given, tables[name]) if name in tables else _found(given, login, world)
    new = _extended(text, path, name, values)
    config = parse_config(new, path, _quiet(world.environ), {"profile": name, **given}, path.parent)
    change = Edit(path, old, new.encode(), below=shell_startup.home(world.environ)) if values else None
    return Target(config, name, change)


def _text(path: Path, data: bytes | None) -> str:
    try:
        return (data or b"").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text", "check the file, or name another by VX_TOKEN_CONFIG") from None


def _tables(text: str, path: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        tables = tomllib.loads(text).get("profiles", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", "mend it, then run setup again") from None
    return tables if isinstance(tables, dict) else {}


def _quiet(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without settings: what is written must be right without them."""
    return {"HOME": str(paths.home_dir(environ))}


def _default(text: str, path: Path, tables: Mapping[str, object]) -> str:
    return parse_config(text, path, {}, {}, path.parent).default_profile if tables else "default"


def _credentials(given: dict[str, str], table: Mapping[str, Any], path: Path) -> str:
    """The credential file in use; a relative one that was given is made absolute in place."""
    if value := given.get("credentials"):
        given["credentials"] = str(Path(value).expanduser().absolute())
        return given["credentials"]
    value = str(table.get("credentials", ""))
    return str(path.parent / Path(value).expanduser()) if value else ""


def _login(profile: Profile, world: World) -> CredentialFile | None:
    path = credential_file(profile, world.environ)
    if path is None:
        if metadata_likely(world.environ):
            world.say("login      this machine's metadata server")
            return None
        raise LoginNeededError(
            "no Google login was found", f"run: {google_errors.LOGIN} (and then again: vx-token setup)"
        )
    found = describe(path)
    if found.problem:
        hint = f"name another by --credentials, or run: {google_errors.LOGIN}"
        raise ConfigError(f"the credential file {path} {found.problem}", hint)
    world.say(f"login      {found.account or found.kind} ({path})")
    return found


def _missing(given: Mapping[str, str], table: Mapping[str, Any]) -> dict[str, str]:
    return {key: value for key, value in given.items() if table.get(key) != value}


def _found(given: Mapping[str, str], login: CredentialFile | None, world: World) -> dict[str, str]:
    if given.get("base_url"):
        return dict(given)
    active = gcloud.active(world.environ)
    environ, configuration = world.environ, f"gcloud's configuration {active.name}"
    project = _first(
        (given.get("project"), "--project"),
        (environ.get("VX_TOKEN_PROJECT"), "VX_TOKEN_PROJECT"),
        (environ.get("GOOGLE_CLOUD_PROJECT"), "GOOGLE_CLOUD_PROJECT"),
        (login.project if login else "", "the login's own"),
        (active.project, configuration),
    )
    location = _first(
        (given.get("location"), "--location"),
        (environ.get("VX_TOKEN_LOCATION"), "VX_TOKEN_LOCATION"),
        (environ.get("GOOGLE_CLOUD_LOCATION"), "GOOGLE_CLOUD_LOCATION"),
        (active.region, configuration),
    )
    asked = {
        "project": _told("project", project, world) or world.ask.text("the Google Cloud project", ""),
        "location": _told("location", location, world)
        or world.ask.text("the location (global, us, eu or a region)", "global"),
    }
    return {**asked, **given}


def _first(*places: tuple[str | None, str]) -> tuple[str, str]:
    return next(((value, where) for value, where in places if value), ("", ""))


def _told(what: str, found: tuple[str, str], world: World) -> str:
    if found[0]:
        world.say(f"{what:<10} {found[0]} ({found[1]})")
    return found[0]


def _extended(text: str, path: Path, name: str, values: Mapping[str, str]) -> str:
    if not values:
        return text
    try:
        return toml_edit.with_profile(text, name, values)
    except ValueError:
        wanted = ", ".join(f'{key} = "{value}"' for key, value in values.items())
        hint = f"write into its profile {name!r} by hand: {wanted}"
        raise ConfigError(f"{path} is written in a way that setup does not change", hint) from None
