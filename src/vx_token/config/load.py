"""Loads the configuration: settings from the file, the environment and the command line, each of them checked."""

import os
import sys
import tomllib
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from vx_token.config.fields import (
    Check,
    InvalidError,
    boolean,
    choice,
    commands,
    credential_path,
    duration,
    exports,
    file_format,
    file_mode,
    headers,
    host_names,
    integer,
    location,
    mapping,
    matching,
    output_path,
    tables,
    text,
    texts,
    url,
)
from vx_token.config.listen import as_settings, listen
from vx_token.config.model import METADATA, Config, Gateway, OutputFile, Profile
from vx_token.errors import ConfigError, did_you_mean
from vx_token.system import paths, stamps

NAME = matching(
    r"(?!v1$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
    "letters, digits, '.', '_' and '-', starting with a letter or digit; not v1, which is the gateway's own path",
)

PROFILE_KEYS: Mapping[str, Check] = {
    "project": matching(r"[a-z0-9][a-z0-9.:-]*", "a project id such as my-project"),
    "location": location,
    "endpoint": matching(r"[A-Za-z0-9_-]+", '"openapi" or the id of a deployed endpoint'),
    "base_url": url,
    "api_version": choice("v1", "v1beta1"),
    "credentials": credential_path,
    "account": matching(r"[^\s']+", '"active", or an account that `gcloud auth list` shows'),
    "impersonate": matching(r"[^\s/:@']+@[^\s/:@']+", "a service account's e-mail address"),
    "lifetime": duration(1, 12 * 3600, "1h"),
    "scopes": texts,
    "quota_project": matching(r"[a-z0-9][a-z0-9.:-]*", "a project id"),
    "model": matching(r"[^\s']+", "a model id such as google/gemini-2.5-flash"),
    "mode": choice("direct", "gateway"),
    "refresh_margin": duration(1, 12 * 3600, "20m"),
    "export": exports,
    "files": tables,
    "on_refresh": commands,
    "on_login_needed": commands,
    "aliases": mapping,
    "models": texts,
    "list_publishers": texts,
    "publisher": matching(r"[a-z0-9-]+", "a publisher such as google"),
    "headers": headers,
}
# For these an empty string means "not set", as in the documented defaults.
EMPTY_IS_UNSET = {
    "project", "base_url", "credentials", "account", "impersonate", "quota_project", "model", "refresh_margin",
    "publisher",
}  # fmt: skip

FILE_KEYS: Mapping[str, Check] = {"path": output_path, "format": file_format, "mode": file_mode, "adopt": boolean}

GATEWAY_KEYS: Mapping[str, Check] = {
    "enabled": boolean,
    "host": choice("127.0.0.1", "::1", "localhost"),
    "port": integer(1, 65535),
    "unix_socket": text,
    "listen": listen,
    "allowed_hosts": host_names,
    "access_log": boolean,
    "allowed_origins": texts,
    "metrics_open": boolean,
    "ca_file": text,
    "thought_signatures": boolean,
    "thought_signature_stand_in": boolean,
    "thought_signature_models": texts,
}

TOKEN_KEYS = frozenset({"credentials", "account", "impersonate", "lifetime", "scopes", "quota_project"})
"""The settings that decide which token is fetched."""

_MAX_SOCKET_PATH = 107 if sys.platform == "linux" else 103  # bytes: unix(7), without the final zero

_OURS, _GOOGLE = "VX_TOKEN_", "GOOGLE_CLOUD_"  # prefixes of variables
_ENVIRONMENT_LISTS = {"scopes", "export", "models", "list_publishers"}
_FILE_ONLY = {"aliases", "headers", "files"}

VARIABLES = frozenset(
    {f"{_OURS}{key.upper()}" for key in PROFILE_KEYS if key not in _FILE_ONLY}
    | {f"{_OURS}{name}" for name in ("CONFIG", "RUNTIME_DIR", "PROFILE", "STATUS", "HOOK", "EXPIRES_AT", "DEBUG")}
    # What on_refresh and on_login_needed receive.
    | {f"{_OURS}{name}" for name in ("EVENT", "TOKEN_FILE", "HEADER_FILE", "ENV_FILE", "NOTICE")}
)
"""The variables of vx-token."""


def load_config(environ: Mapping[str, str], argv: Mapping[str, str] | None = None) -> Config:
    """Read the configuration file, if it exists; the environment and the command line override it.

    Args:
        environ: the program's environment.
        argv: settings given as options; `profile` names the profile in use, the others apply to it.

    Raises:
        ConfigError: the file cannot be read, or a value is invalid.
    """
    path = paths.config_file(environ)
    stamp = stamps.stamp(path)  # taken before reading, so that a change in between is detected
    hint = "check the file, or set VX_TOKEN_CONFIG to another one"
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
    environ = {**environ, "HOME": str(paths.home_dir(environ))}
    return replace(parse_config(content, path, environ, argv or {}, paths.working_folder(environ)), stamp=stamp)


def parse_config(
    content: str, path: Path, environ: Mapping[str, str], argv: Mapping[str, str], working_folder: Path
) -> Config:
    """Parse the configuration; a pure function.

    Args:
        content: TOML. An empty document gives the profile `default` from GOOGLE_CLOUD_PROJECT and _LOCATION.
        path: the file, for messages; relative paths in it start at its folder.
        environ: the environment; its HOME replaces `~`.
        argv: settings given as options, as for `load_config`.
        working_folder: where relative paths in the environment and in options start.

    Raises:
        ConfigError: the message names file and key, the hint gives the allowed values.
    """
    try:
        document = tomllib.loads(content)
    except (ValueError, RecursionError) as error:  # a number of 5000 digits is a plain ValueError
        raise ConfigError(
            f"{path} is not valid TOML: {error}", "strings need quotes; see: vx-token help configuration"
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
    folders = _Folders(path.parent, working_folder, Path(environ.get("HOME", "/")))
    overrides: list[_Source] = [("option --", _options(argv)), (_OURS, _overrides(environ))]
    for name, table in tables.items():
        source = _GOOGLE if from_google else f"{path}: profiles.{name}.", _table(table, path, f"profiles.{name}")
        profiles[name] = _profile(name, source, overrides if name == in_use else [], folders)
    _require_distinct_files(profiles.values(), path)
    overridden = not all(TOKEN_KEYS.isdisjoint(settings) for _, settings in overrides)
    config = Config(path, profiles, default, _gateway(document.get("gateway"), path, folders), overridden=overridden)
    config.profile(chosen)  # raises when there is no such profile
    return config


class _Folders(NamedTuple):
    """The folders where paths in settings start."""

    config: Path
    working: Path
    home: Path

    def absolute(self, value: str, *, from_file: bool) -> str:
        """Return the absolute path of a setting, which is from the configuration file or not."""
        if value.startswith("~/"):
            return str(self.home / value[2:])
        return os.path.normpath((self.config if from_file else self.working) / value)


def _from_google(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        "project": environ.get("GOOGLE_CLOUD_PROJECT", ""),
        "location": environ.get("GOOGLE_CLOUD_LOCATION", ""),
    }


def _default(value: object, tables: Mapping[str, object], path: Path) -> str:
    if value is None:
        if "default" in tables or len(tables) == 1:
            return "default" if "default" in tables else next(iter(tables))
        raise ConfigError(f"{path}: default_profile is missing", f"set it to one of: {', '.join(sorted(tables))}")
    if not isinstance(value, str) or value not in tables:
        hint = f"{did_you_mean(str(value), tables)}profiles there: {', '.join(sorted(tables))}"
        raise ConfigError(f"{path}: default_profile is not the name of a profile: {value!r}", hint)
    return value


_Source = tuple[str, Mapping[str, Any]]  # settings, and the prefix of their names in messages


def _profile(name: str, source: _Source, overrides: list[_Source], folders: _Folders) -> Profile:
    """Return the profile `name` of `source`; the first of `overrides` wins over the others."""
    origin, table = source
    _known(table, PROFILE_KEYS, origin)
    sources = [*overrides, source]
    layers = ChainMap(*(dict(values) for _, values in sources))
    settings: dict[str, Any] = {}
    for key, value in layers.items():
        if value == "" and key in EMPTY_IS_UNSET:
            settings[key] = Profile.__dataclass_fields__[key].default if key != "publisher" else ""
            continue
        prefix = next(prefix for prefix, values in sources if key in values)
        settings[key] = _checked(PROFILE_KEYS[key], value, _spelling(prefix, key))
    settings["files"] = _output_files(settings.get("files", ()), f"{origin}files", folders)
    _keep_one_login(settings, sources)
    if settings.get("credentials") not in (None, "", METADATA):
        from_file = not any("credentials" in values for _, values in overrides)
        settings["credentials"] = folders.absolute(settings["credentials"], from_file=from_file)
    if not settings.get("project") and not settings.get("base_url"):
        if origin == _GOOGLE:
            hint = 'run "vx-token setup", or set GOOGLE_CLOUD_PROJECT'
            raise ConfigError("no Google Cloud project is set", hint)
        hint = "set project there, or GOOGLE_CLOUD_PROJECT when there is no configuration file"
        raise ConfigError(f"{origin}project is missing", hint)
    return Profile(name, **settings)


def _output_files(items: Iterable[Mapping[str, Any]], where: str, folders: _Folders) -> tuple[OutputFile, ...]:
    files: list[OutputFile] = []
    for number, table in enumerate(items, 1):
        prefix = f"{where} number {number}: "
        _known(table, FILE_KEYS, prefix)
        if "path" not in table:
            raise ConfigError(f"{prefix}path is missing", 'set it to a path such as "~/.config/tool/key"')
        checked = {key: _checked(FILE_KEYS[key], value, prefix + key) for key, value in table.items()}
        checked["path"] = folders.absolute(checked["path"], from_file=True)
        files.append(OutputFile(**checked))
    return tuple(files)


def _require_distinct_files(profiles: Iterable[Profile], path: Path) -> None:
    """Raise ConfigError when two of the profiles' files have one path, because each would replace the other."""
    names: dict[str, str] = {}
    for profile in profiles:
        for file in profile.files:
            if file.path in names:
                where = f"{path}: profiles.{names[file.path]}.files and profiles.{profile.name}.files"
                raise ConfigError(f"{where} both write {file.path}", "give each file a path of its own")
            names[file.path] = profile.name


def _keep_one_login(settings: dict[str, Any], sources: list[_Source]) -> None:
    """Drop the login that a stronger source replaces: `credentials` and `account` exclude each other.

    Raises:
        ConfigError: one source names both.
    """
    both = {"credentials", "account"}
    if not all(settings.get(key) for key in both):
        return
    prefix, values = next(source for source in sources if any(source[1].get(key) for key in both))
    if all(values.get(key) for key in both):
        hint = "remove one: credentials is a file, account is a login of gcloud auth login"
        raise ConfigError(f"{_spelling(prefix, 'account')} cannot be combined with credentials", hint)
    settings["account" if values.get("credentials") else "credentials"] = ""


def _options(argv: Mapping[str, str]) -> dict[str, Any]:
    return {key: value for key, value in argv.items() if key in PROFILE_KEYS}


def _overrides(environ: Mapping[str, str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for key in PROFILE_KEYS:
        value = environ.get(f"VX_TOKEN_{key.upper()}")
        if value and key not in _FILE_ONLY:
            settings[key] = value.replace(",", " ").split() if key in _ENVIRONMENT_LISTS else value
    return settings


def _spelling(prefix: str, key: str) -> str:
    if prefix in (_OURS, _GOOGLE):
        return prefix + key.upper()
    return prefix + (key.replace("_", "-") if prefix == "option --" else key)


def _gateway(value: object, path: Path, folders: _Folders) -> Gateway:
    if value is None:
        return Gateway()
    table = _table(value, path, "gateway")
    _known(table, GATEWAY_KEYS, f"{path}: gateway.")
    checked = {key: _checked(GATEWAY_KEYS[key], item, f"{path}: gateway.{key}") for key, item in table.items()}
    _apply_listen(checked, f"{path}: gateway.listen")
    for key in ("unix_socket", "ca_file"):
        if checked.get(key):
            checked[key] = folders.absolute(checked[key], from_file=True)
    if len(os.fsencode(checked.get("unix_socket", ""))) > _MAX_SOCKET_PATH:
        hint = f"allowed: a path of at most {_MAX_SOCKET_PATH} bytes, such as one in /tmp or in XDG_RUNTIME_DIR"
        raise ConfigError(f"{path}: gateway.unix_socket is too long for a socket: {checked['unix_socket']}", hint)
    return Gateway(**{"enabled": True} | checked)


def _apply_listen(checked: dict[str, Any], name: str) -> None:
    """Replace `listen` by the settings that it stands for.

    Raises:
        ConfigError: `host`, `port` or `unix_socket` is set as well, or no allowed host is named.
    """
    if "listen" not in checked:
        return
    if others := checked.keys() & {"host", "port", "unix_socket"}:
        hint = f"remove gateway.{min(others)}, and write its value into gateway.listen"
        raise ConfigError(f"{name} replaces gateway.{min(others)}, and both are set", hint)
    try:
        checked |= as_settings(checked["listen"], checked.get("allowed_hosts", ()))
    except InvalidError as error:
        raise ConfigError(f"{name} {error.problem}", f"allowed: {error.allowed}") from None


def _table(value: object, path: Path, key: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {key} must be a table", f"write [{key}] on a separate line")
    return value


def _known(table: Mapping[str, object], keys: Mapping[str, object] | set[str], prefix: str) -> None:
    for key in table:
        if key not in keys:
            shown = key if key.isprintable() else repr(key)
            hint = did_you_mean(key, keys) or _elsewhere(key)
            raise ConfigError(f"{prefix}{shown} is not a known key", f"{hint}known keys: {', '.join(sorted(keys))}")


def _elsewhere(key: str) -> str:
    """Return the similar key of another table, because a key is often written above the header of its table."""
    tables: Mapping[str, Mapping[str, Check]] = {
        "[profiles.NAME]": PROFILE_KEYS,
        "[gateway]": GATEWAY_KEYS,
        "[[profiles.NAME.files]]": FILE_KEYS,
    }
    for place, keys in tables.items():
        if hint := did_you_mean(key, keys):
            return f"{hint[:-2]} in {place}? "
    return ""


def _checked(check: Callable[[object], Any], value: object, where: str) -> Any:
    try:
        return check(value)
    except InvalidError as error:
        raise ConfigError(f"{where} {error.problem}", f"allowed: {error.allowed}") from None
