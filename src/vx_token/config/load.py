"""Reads the configuration: settings from file, environment and command line, checked key by key."""

import os
import sys
import tomllib
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vx_token.config.fields import (
    Check,
    InvalidError,
    boolean,
    choice,
    commands,
    duration,
    exports,
    headers,
    integer,
    mapping,
    matching,
    text,
    texts,
    url,
)
from vx_token.config.model import Config, Gateway, Profile
from vx_token.errors import ConfigError
from vx_token.system import paths, stamps

NAME = matching(
    r"(?!v1$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
    "letters, digits, '.', '_' and '-', starting with a letter or digit; not v1, which is the gateway's own path",
)

PROFILE_KEYS: Mapping[str, Check] = {
    "project": matching(r"[a-z0-9][a-z0-9.:-]*", "a project id such as my-project"),
    "location": matching(r"[a-z][a-z0-9-]*", "global, us, eu or a region such as us-central1"),
    "endpoint": matching(r"[A-Za-z0-9_-]+", '"openapi" or the id of a deployed endpoint'),
    "base_url": url,
    "api_version": choice("v1", "v1beta1"),
    "credentials": text,
    "impersonate": matching(r"[^\s/:@']+@[^\s/:@']+", "a service account's e-mail address"),
    "lifetime": duration(1, 12 * 3600, "1h"),
    "scopes": texts,
    "quota_project": matching(r"[a-z0-9][a-z0-9.:-]*", "a project id"),
    "model": matching(r"[^\s']+", "a model id such as google/gemini-2.5-flash"),
    "mode": choice("direct", "gateway"),
    "refresh_margin": duration(1, 12 * 3600, "20m"),
    "export": exports,
    "on_refresh": commands,
    "on_login_needed": commands,
    "aliases": mapping,
    "models": texts,
    "publisher": matching(r"[a-z0-9-]+", "a publisher such as google"),
    "headers": headers,
}
# For these an empty text means "not set", as in the documented defaults.
EMPTY_IS_UNSET = {
    "project", "base_url", "credentials", "impersonate", "quota_project", "model", "refresh_margin", "publisher",
}  # fmt: skip

GATEWAY_KEYS: Mapping[str, Check] = {
    "enabled": boolean,
    "host": choice("127.0.0.1", "::1", "localhost"),
    "port": integer(1, 65535),
    "unix_socket": text,
    "access_log": boolean,
    "allowed_origins": texts,
    "metrics_open": boolean,
    "ca_file": text,
}

TOKEN_KEYS = frozenset({"credentials", "impersonate", "lifetime", "scopes", "quota_project"})
"""The settings by which one token differs from another."""

_LONGEST_SOCKET = 107 if sys.platform == "linux" else 103  # bytes: unix(7), less the zero at the end

_OURS, _GOOGLE = "VX_TOKEN_", "GOOGLE_CLOUD_"  # what variables begin with
_ENVIRONMENT_LISTS = {"scopes", "export", "models"}
_FILE_ONLY = {"aliases", "headers"}


def load_config(environ: Mapping[str, str], argv: Mapping[str, str] | None = None) -> Config:
    """Read the configuration file, if there is one, under the environment and the command line.

    Args:
        environ: the program's environment.
        argv: settings given as options; `profile` names the profile in use, the others apply to it.

    Raises:
        ConfigError: the file cannot be read, or a value is wrong.
    """
    path = paths.config_file(environ)
    stamp = stamps.stamp(path)  # before it is read: a change in between must show
    hint = "check the file, or name another by VX_TOKEN_CONFIG"
    try:
        content = paths.content(path).decode("utf-8-sig")
    except FileNotFoundError:
        if environ.get("VX_TOKEN_CONFIG"):
            raise ConfigError(f"the configuration file {path} does not exist", hint) from None
        content = ""
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text", hint) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint) from None
    return replace(parse_config(content, path, environ, argv or {}), stamp=stamp)


def parse_config(content: str, path: Path, environ: Mapping[str, str], argv: Mapping[str, str]) -> Config:
    """Make a Config of TOML text; pure. An empty text gives the profile `default` from Google's own variables.

    Raises:
        ConfigError: one sentence that names file and key, and the allowed values as the hint.
    """
    try:
        document = tomllib.loads(content)
    except (ValueError, RecursionError) as error:  # not only TOMLDecodeError: think of a number of 5000 digits
        raise ConfigError(
            f"{path} is not valid TOML: {error}", "strings need quotes; see docs/configuration.md"
        ) from None
    _known(document, {"default_profile", "profiles", "gateway"}, f"{path}: ")
    tables = _table(document.get("profiles", {}), path, "profiles")
    from_google = not tables
    if from_google:
        tables = {"default": {k: v for k, v in _from_google(environ).items() if v}}
    for name in tables:
        _checked(NAME, name, f"{path}: the profile name {name!r}")
    default = _default(document.get("default_profile"), tables, path)
    chosen = argv.get("profile") or environ.get("VX_TOKEN_PROFILE") or default
    in_use = default if chosen == "default" and chosen not in tables else chosen
    profiles = {}
    for name, table in tables.items():
        source = _GOOGLE if from_google else f"{path}: profiles.{name}.", _table(table, path, f"profiles.{name}")
        profiles[name] = _profile(name, source, path, environ, argv if name == in_use else None)
    overridden = not TOKEN_KEYS.isdisjoint(_options(argv).keys() | _overrides(environ).keys())
    config = Config(path, profiles, default, _gateway(document.get("gateway"), path, environ), overridden=overridden)
    config.profile(chosen)
    return config


def _from_google(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        "project": environ.get("GOOGLE_CLOUD_PROJECT", ""),
        "location": environ.get("GOOGLE_CLOUD_LOCATION", ""),
    }


def _default(value: object, tables: Mapping[str, object], path: Path) -> str:
    if value is None:
        if "default" in tables or len(tables) == 1:
            return "default" if "default" in tables else next(iter(tables))
        raise ConfigError(f"{path}: default_profile is missing", f"name one of: {', '.join(sorted(tables))}")
    if not isinstance(value, str) or value not in tables:
        hint = f"profiles there: {', '.join(sorted(tables))}"
        raise ConfigError(f"{path}: default_profile names no profile: {value!r}", hint)
    return value


def _profile(
    name: str,
    source: tuple[str, Mapping[str, Any]],
    path: Path,
    environ: Mapping[str, str],
    argv: Mapping[str, str] | None,
) -> Profile:
    origin, table = source
    _known(table, PROFILE_KEYS, origin)
    sources = [source]
    if argv is not None:  # the profile in use: the environment and the command line speak of it
        sources = [("option --", _options(argv)), (_OURS, _overrides(environ)), *sources]
    layers = ChainMap(*(dict(values) for _, values in sources))
    settings: dict[str, Any] = {}
    for key, value in layers.items():
        if value == "" and key in EMPTY_IS_UNSET:
            settings[key] = Profile.__dataclass_fields__[key].default if key != "publisher" else ""
            continue
        prefix = next(prefix for prefix, values in sources if key in values)
        settings[key] = _checked(PROFILE_KEYS[key], value, _spelling(prefix, key))
    if settings.get("credentials"):
        from_file = not any("credentials" in values for _, values in sources if values is not table)
        settings["credentials"] = str(_absolute(settings["credentials"], path, environ, from_file))
    if not settings.get("project") and not settings.get("base_url"):
        if origin == _GOOGLE:
            hint = 'run "vx-token setup", or set GOOGLE_CLOUD_PROJECT'
            raise ConfigError("no Google Cloud project is known", hint)
        hint = "set project there, or GOOGLE_CLOUD_PROJECT when there is no configuration file"
        raise ConfigError(f"{origin}project is missing", hint)
    return Profile(name, **settings)


def _options(argv: Mapping[str, str]) -> dict[str, Any]:
    return {key: value for key, value in argv.items() if key in PROFILE_KEYS}


def _overrides(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in PROFILE_KEYS:
        value = environ.get(f"VX_TOKEN_{key.upper()}")
        if value and key not in _FILE_ONLY:
            found[key] = value.replace(",", " ").split() if key in _ENVIRONMENT_LISTS else value
    return found


def _spelling(prefix: str, key: str) -> str:
    if prefix in (_OURS, _GOOGLE):
        return prefix + key.upper()
    return prefix + (key.replace("_", "-") if prefix == "option --" else key)


def _absolute(value: str, config: Path, environ: Mapping[str, str], from_file: bool) -> Path:
    if value.startswith("~/"):
        return Path(environ.get("HOME") or Path.home()) / value[2:]
    return Path(os.path.normpath((config.parent if from_file else Path.cwd()) / value))


def _gateway(value: object, path: Path, environ: Mapping[str, str]) -> Gateway:
    if value is None:
        return Gateway()
    table = _table(value, path, "gateway")
    _known(table, GATEWAY_KEYS, f"{path}: gateway.")
    checked = {key: _checked(GATEWAY_KEYS[key], item, f"{path}: gateway.{key}") for key, item in table.items()}
    for key in ("unix_socket", "ca_file"):
        if checked.get(key):
            checked[key] = str(_absolute(checked[key], path, environ, from_file=True))
    if len(os.fsencode(checked.get("unix_socket", ""))) > _LONGEST_SOCKET:
        hint = f"allowed: a path of at most {_LONGEST_SOCKET} bytes, such as one in /tmp or in XDG_RUNTIME_DIR"
        raise ConfigError(f"{path}: gateway.unix_socket is too long for a socket: {checked['unix_socket']}", hint)
    return Gateway(**{"enabled": True} | checked)


def _table(value: object, path: Path, key: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {key} must be a table", f"write [{key}] on a line of its own")
    return value


def _known(table: Mapping[str, object], keys: Mapping[str, object] | set[str], prefix: str) -> None:
    for key in table:
        if key not in keys:
            shown = key if key.isprintable() else repr(key)
            raise ConfigError(f"{prefix}{shown} is not a known key", f"known keys: {', '.join(sorted(keys))}")


def _checked(check: Callable[[object], Any], value: object, where: str) -> Any:
    try:
        return check(value)
    except InvalidError as error:
        raise ConfigError(f"{where} {error.wrong}", f"allowed: {error.allowed}") from None
