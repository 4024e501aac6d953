"""Plans the configuration: detects or asks for a profile's settings and adds them to the file."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vx_token.config import load, toml_edit, vertex
from vx_token.config.fields import InvalidError
from vx_token.config.load import parse_config
from vx_token.config.locations import LOCATIONS, nearest
from vx_token.config.model import Config
from vx_token.credentials import gcloud
from vx_token.credentials.credential_file import CredentialFile
from vx_token.errors import ConfigError
from vx_token.install.setup_io import SetupContext, SetupOptions
from vx_token.install.setup_login import find_login
from vx_token.system import file_edit, paths
from vx_token.system.file_edit import EditFile


@dataclass(frozen=True, slots=True)
class ConfigPlan:
    """The new configuration, the profile that is set up, and the edit of the file, if one is needed."""

    config: Config
    profile: str
    edit: EditFile | None


def plan_config(options: SetupOptions, context: SetupContext) -> ConfigPlan:
    """Detect the login and the profile's settings, ask for missing ones, and return the plan without writing.

    Raises:
        LoginNeededError: there is no Google login; the hint is the command that logs in.
        ConfigError: the file or an option is invalid, or the file cannot be edited safely.
        UsageError: a setting is not known and there is no prompt.
    """
    path = paths.config_file(context.environ)
    old = file_edit.read_if_exists(path)
    text = _text(path, old)
    tables = _tables(text, path)
    if options.profile and (problem := _problem(load.NAME, options.profile)):
        raise ConfigError(f"option --profile {problem[0]}", f"allowed: {problem[1]}")
    name = options.profile or _default(text, path, tables)
    chosen = dict(options.values)
    table = tables.get(name, {})
    login = find_login(chosen, table, path, context)
    for key, other in (("account", "credentials"), ("credentials", "account")):
        if chosen.get(key) and table.get(other):
            chosen[other] = ""  # they exclude each other
    values = _changed_values(chosen, tables[name]) if name in tables else _detected_values(chosen, login, context)
    new = _extended(text, path, name, values)
    config = parse_config(new, path, _home_only(context.environ), {"profile": name, **chosen}, path.parent)
    edit = EditFile(path, old, new.encode(), below=paths.home_dir(context.environ)) if values else None
    return ConfigPlan(config, name, edit)


def _text(path: Path, data: bytes | None) -> str:
    try:
        return (data or b"").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text", "check the file, or name another by VX_TOKEN_CONFIG") from None


def _tables(text: str, path: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        tables = tomllib.loads(text).get("profiles", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", "correct it, then run setup again") from None
    return tables if isinstance(tables, dict) else {}


def _home_only(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without settings, because the file must be valid without them."""
    return {"HOME": str(paths.home_dir(environ))}


def _default(text: str, path: Path, tables: Mapping[str, object]) -> str:
    return parse_config(text, path, {}, {}, path.parent).default_profile if tables else "default"


def _changed_values(options: Mapping[str, str], table: Mapping[str, Any]) -> dict[str, str]:
    return {key: value for key, value in options.items() if table.get(key) != value}


def _detected_values(options: Mapping[str, str], login: CredentialFile | None, context: SetupContext) -> dict[str, str]:
    if options.get("base_url"):
        return dict(options)
    active = gcloud.active(context.environ)
    environ, configuration = context.environ, f"gcloud's configuration {active.name}"
    project = _first(
        (environ.get("VX_TOKEN_PROJECT"), "VX_TOKEN_PROJECT"),
        (environ.get("GOOGLE_CLOUD_PROJECT"), "GOOGLE_CLOUD_PROJECT"),
        (login.project if login else "", "the login's own"),
        (active.project, configuration),
    )
    location = _first(
        (environ.get("VX_TOKEN_LOCATION"), "VX_TOKEN_LOCATION"),
        (environ.get("GOOGLE_CLOUD_LOCATION"), "GOOGLE_CLOUD_LOCATION"),
        (active.region, configuration),
    )
    values = {
        "project": _setting("project", options, project, ("the Google Cloud project", ""), context),
        "location": _setting(
            "location", options, location, ("the location (global, us, eu or a region)", "global"), context
        ),
    }
    return {**values, **options}


def _first(*sources: tuple[str | None, str]) -> tuple[str, str]:
    return next(((value, source) for value, source in sources if value), ("", ""))


def _setting(
    key: str, options: Mapping[str, str], detected: tuple[str, str], prompt: tuple[str, str], context: SetupContext
) -> str:
    """Return the option, else the detected value if it is valid, else a valid answer."""
    if value := options.get(key):  # an invalid one is reported later, by the option's name
        context.echo(f"{key:<10} {value} (--{key})")
        return value
    value, source = detected
    problem = _invalid(key, value) if value else None
    if value and not problem:
        context.echo(f"{key:<10} {value} ({source})")
        return value
    if problem and not context.prompter.interactive:
        raise ConfigError(f"{source} {problem[0]}", f"allowed: {problem[1]}; or pass --{key}")
    if problem:
        context.echo(f"{key:<10} {source} {problem[0]}; allowed: {problem[1]}")
    while True:
        value = context.prompter.value(*prompt).strip()
        if problem := _invalid(key, value):
            context.echo(f"the {key} {problem[0]}; allowed: {problem[1]}")
        elif key != "location" or value in LOCATIONS or _is_meant(value, context):
            return value


def _is_meant(location: str, context: SetupContext) -> bool:
    """Ask about a location that Google had not listed when this version was made, because it may be a typing error."""
    near = nearest(location)
    context.echo(f"{location} is not a location that this version knows" + (f"; did you mean {near}?" if near else ""))
    return context.prompter.confirm(f"Use {location} all the same?")


def _invalid(key: str, value: str) -> tuple[str, str] | None:
    """Return why a value is invalid, as the end of a sentence, and what is allowed; None for a valid one."""
    if key == "location" and not vertex.is_location(value):
        return f"has an invalid value: {value!r}", "global, us, eu or a region such as us-central1"
    return _problem(load.PROFILE_KEYS[key], value)


def _problem(check: Callable[[object], Any], value: str) -> tuple[str, str] | None:
    try:
        check(value)
    except InvalidError as error:
        return error.problem, error.allowed
    return None


def _extended(text: str, path: Path, name: str, values: Mapping[str, str]) -> str:
    if not values:
        return text
    try:
        return toml_edit.with_profile(text, name, values)
    except ValueError:
        lines = ", ".join(f'{key} = "{value}"' for key, value in values.items())
        hint = f"write into its profile {name!r} by hand: {lines}"
        raise ConfigError(f"{path} has a TOML form that setup cannot edit", hint) from None
