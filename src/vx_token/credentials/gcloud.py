"""Reads gcloud's active configuration from its files, because starting gcloud takes a second and may prompt."""

import configparser
import re
from collections.abc import Mapping
from dataclasses import dataclass

from vx_token.system import paths


@dataclass(frozen=True, slots=True)
class Active:
    """The active configuration; an unset property is ""."""

    name: str = ""
    project: str = ""
    region: str = ""


def active(environ: Mapping[str, str]) -> Active:
    """Return the configuration that gcloud would use now; environment variables override its properties.

    The order is gcloud's: CLOUDSDK_ACTIVE_CONFIG_NAME, the file `active_config`, the name `default`; the name NONE
    means an empty configuration. An unreadable file counts as empty, because callers have other sources.
    """
    name = environ.get("CLOUDSDK_ACTIVE_CONFIG_NAME") or _text(environ, "active_config").strip() or "default"
    # gcloud's own rule for names; anything else could lead out of its folder.
    known = re.fullmatch(r"[a-z][-a-z0-9]*", name)
    parsed = _parse(_text(environ, f"configurations/config_{name}")) if known else {}
    return Active(
        name,
        environ.get("CLOUDSDK_CORE_PROJECT") or parsed.get("core", {}).get("project", ""),
        environ.get("CLOUDSDK_AI_REGION") or parsed.get("ai", {}).get("region", ""),
    )


def _text(environ: Mapping[str, str], name: str) -> str:
    try:
        return (paths.gcloud_dir(environ) / name).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _parse(text: str) -> Mapping[str, Mapping[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return {}
    return {section: dict(parser[section]) for section in parser.sections()}
