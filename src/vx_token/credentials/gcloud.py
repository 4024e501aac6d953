"""Reads gcloud's active configuration from its files, because starting gcloud takes a second and may prompt."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vx_token.system import paths

ACTIVE = "active"
"""The value of the setting `account` for the account of gcloud's active configuration."""

ACTIVE_VARIABLES = ("CLOUDSDK_CORE_ACCOUNT", "CLOUDSDK_ACTIVE_CONFIG_NAME")
"""The variables that choose gcloud's active account, in gcloud's order."""

UNIVERSE_VARIABLE = "CLOUDSDK_CORE_UNIVERSE_DOMAIN"

_ACTIVE_FILE = "active_config"
_GOOGLE = "googleapis.com"


@dataclass(frozen=True, slots=True)
class Active:
    """The active configuration; an unset property is ""."""

    name: str = ""
    project: str = ""
    region: str = ""
    account: str = ""
    impersonate: str = ""


def active(environ: Mapping[str, str]) -> Active:
    """Return the configuration that gcloud would use now; environment variables override its properties.

    The order is gcloud's: CLOUDSDK_ACTIVE_CONFIG_NAME, the file `active_config`, the name `default`; the name NONE
    means an empty configuration. An unreadable file counts as empty, because callers have other sources.
    """
    name = _name(environ)
    parsed = _parse(_text(configuration_file(environ)))
    core = parsed.get("core", {})
    account = environ.get("CLOUDSDK_CORE_ACCOUNT") or core.get("account", "")
    universe = environ.get(UNIVERSE_VARIABLE) or core.get("universe_domain", _GOOGLE)
    return Active(
        name,
        environ.get("CLOUDSDK_CORE_PROJECT") or core.get("project", ""),
        environ.get("CLOUDSDK_AI_REGION") or parsed.get("ai", {}).get("region", ""),
        # The form of the database's key, as in googlecloudsdk/core/credentials/creds.py of gcloud 528.
        f"{account}#{universe}" if account and universe != _GOOGLE else account,
        parsed.get("auth", {}).get("impersonate_service_account", ""),
    )


def active_file(environ: Mapping[str, str]) -> Path:
    """Return the file that names the active configuration."""
    return paths.gcloud_dir(environ) / _ACTIVE_FILE


def configuration_file(environ: Mapping[str, str]) -> Path:
    """Return the file of the active configuration, which need not exist."""
    name = _name(environ)
    # gcloud's own rule for names; anything else could lead out of its folder.
    known = re.fullmatch(r"[a-z][-a-z0-9]*", name)
    return paths.gcloud_dir(environ) / "configurations" / f"config_{name if known else 'NONE'}"


def login_files(database: str | Path, configuration: str | Path) -> tuple[str, ...]:
    """Return the files that decide which login an account has, the database first.

    Args:
        database: gcloud's database of logins; SQLite may keep the newest changes in a second file beside it.
        configuration: the file of the configuration that names the account; "" if the profile names it.
    """
    chosen = (str(Path(database).with_name(_ACTIVE_FILE)), str(configuration)) if configuration else ()
    return (str(database), f"{database}-wal", *chosen)


def _name(environ: Mapping[str, str]) -> str:
    return environ.get("CLOUDSDK_ACTIVE_CONFIG_NAME") or _text(active_file(environ)).strip() or "default"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _parse(text: str) -> Mapping[str, Mapping[str, str]]:
    import configparser

    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return {}
    return {section: dict(parser[section]) for section in parser.sections()}
