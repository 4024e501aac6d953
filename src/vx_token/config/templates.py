"""The formats of a profile's `files`: names, or templates with fields such as `{token}`."""

import re
from collections.abc import Mapping

from vx_token.config import presets
from vx_token.errors import did_you_mean

FORMATS = ("token", "header", "dotenv", "json", "netrc")

FIELDS = (*presets.FIELDS, "expires_at")

_FIELD = re.compile(r"\{([a-z_]+)\}")  # nothing else, so that a template may be JSON


def problem(text: str) -> str:
    """Return why a format is invalid, as the end of a sentence; "" for a valid one."""
    if text in FORMATS:
        return ""
    names = _FIELD.findall(text)
    if not names:
        return f"is neither a format nor a template with a field: {text!r}"
    if unknown := next((name for name in names if name not in FIELDS), ""):
        return f"has an unknown field: {{{unknown}}}; {did_you_mean(unknown, FIELDS)}".rstrip("; ")
    return ""


def empty_fields(text: str, fields: Mapping[str, str]) -> list[str]:
    """Return the fields of a template that have no value; a key that never expires has no `expires_at`."""
    return [name for name in _FIELD.findall(text) if not fields[name] and name != "expires_at"]


def fill(text: str, fields: Mapping[str, str]) -> str:
    """Return the template with its fields replaced; a field inside a value is not replaced again."""
    return _FIELD.sub(lambda match: fields[match[1]], text)
