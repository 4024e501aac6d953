"""Plans the configuration: detects or asks for a profile's settings and adds them to the file."""

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
from vx_token.install import changes
from vx_token.install.changes import EditFile
from vx_token.install.setup_io import SetupContext, SetupOptions
from vx_token.system import paths


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
        ConfigError: the file is invalid, or cannot be edited safely.
        UsageError: a setting is not known and there is no prompt.
    """
    path = paths.config_file(context.environ)
    old = changes.read_if_exists(path)
    text = _text(path, old)
    tables = _tables(text, path)
    name = options.profile or _default(text, path, tables)
    chosen = dict(options.values)
    login = _login(Profile(name, credentials=_credentials(chosen, tables.get(name, {}), path)), context)
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


def _credentials(options: dict[str, str], table: Mapping[str, Any], path: Path) -> str:
    """Return the credential file in use; a relative path in `options` is made absolute in place."""
    if value := options.get("credentials"):
        options["credentials"] = str(Path(value).expanduser().absolute())
        return options["credentials"]
    value = str(table.get("credentials", ""))
    return str(path.parent / Path(value).expanduser()) if value else ""


def _login(profile: Profile, context: SetupContext) -> CredentialFile | None:
    path = credential_file(profile, context.environ)
    if path is None:
        if metadata_likely(context.environ):
            context.echo("login      this machine's metadata server")
            return None
        raise LoginNeededError("no Google login was found", f"run: {google_errors.LOGIN} (then again: vx-token setup)")
    credentials = describe(path)
    if credentials.problem:
        hint = f"name another by --credentials, or run: {google_errors.LOGIN}"
        raise ConfigError(f"the credential file {path} {credentials.problem}", hint)
    context.echo(f"login      {credentials.account or credentials.kind} ({path})")
    return credentials


def _changed_values(options: Mapping[str, str], table: Mapping[str, Any]) -> dict[str, str]:
    return {key: value for key, value in options.items() if table.get(key) != value}


def _detected_values(options: Mapping[str, str], login: CredentialFile | None, context: SetupContext) -> dict[str, str]:
    if options.get("base_url"):
        return dict(options)
    active = gcloud.active(context.environ)
    environ, configuration = context.environ, f"gcloud's configuration {active.name}"
    project = _first(
        (options.get("project"), "--project"),
        (environ.get("VX_TOKEN_PROJECT"), "VX_TOKEN_PROJECT"),
        (environ.get("GOOGLE_CLOUD_PROJECT"), "GOOGLE_CLOUD_PROJECT"),
        (login.project if login else "", "the login's own"),
        (active.project, configuration),
    )
    location = _first(
        (options.get("location"), "--location"),
        (environ.get("VX_TOKEN_LOCATION"), "VX_TOKEN_LOCATION"),
        (environ.get("GOOGLE_CLOUD_LOCATION"), "GOOGLE_CLOUD_LOCATION"),
        (active.region, configuration),
    )
    values = {
        "project": _show_value("project", project, context) or context.prompter.value("the Google Cloud project", ""),
        "location": _show_value("location", location, context)
        or context.prompter.value("the location (global, us, eu or a region)", "global"),
    }
    return {**values, **options}


def _first(*sources: tuple[str | None, str]) -> tuple[str, str]:
    return next(((value, source) for value, source in sources if value), ("", ""))


def _show_value(key: str, detected: tuple[str, str], context: SetupContext) -> str:
    value, source = detected
    if value:
        context.echo(f"{key:<10} {value} ({source})")
    return value


def _extended(text: str, path: Path, name: str, values: Mapping[str, str]) -> str:
    if not values:
        return text
    try:
        return toml_edit.with_profile(text, name, values)
    except ValueError:
        lines = ", ".join(f'{key} = "{value}"' for key, value in values.items())
        hint = f"write into its profile {name!r} by hand: {lines}"
        raise ConfigError(f"{path} has a TOML form that setup cannot edit", hint) from None
