"""Edits of the configuration's TOML that keep comments and every other byte."""

import copy
import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

Table = dict[str, Any]


Values = Mapping[str, str | None]


def with_profile(text: str, name: str, values: Values) -> str:
    """Return the configuration `text` with these values in the profile `name`, which is added when it is missing.

    Args:
        text: a valid configuration, or "".
        name: the profile.
        values: its settings, all of them strings; None removes a setting.

    Raises:
        ValueError: the file's style cannot be edited safely; the user must edit it.
        tomllib.TOMLDecodeError: it is not TOML (a subclass of ValueError).
    """
    before = tomllib.loads(text)
    profiles = before.get("profiles", {})
    header = _header(text, name) if name in profiles else None
    if header:
        result = _changed(text, header.end(), values)
    else:
        lines = [_line(key, value) for key, value in values.items() if value is not None]
        result = _joined(text, "".join(lines), name)
    if profiles and name not in profiles and "default_profile" not in before:
        # A single profile is the default implicitly; with two, default_profile is required.
        result = _line("default_profile", "default" if "default" in profiles else next(iter(profiles))) + result
    if tomllib.loads(result) != _wanted(before, name, values):
        raise ValueError("the edited file would have other values than intended")
    return result


def _wanted(before: Table, name: str, values: Values) -> Table:
    after: Table = copy.deepcopy(before)
    profiles: Table = after.setdefault("profiles", {})
    if profiles and name not in profiles:
        after.setdefault("default_profile", "default" if "default" in profiles else next(iter(profiles)))
    profile: Table = profiles.setdefault(name, {})
    profile.update(values)
    profiles[name] = {key: value for key, value in profile.items() if value is not None}
    return after


def _header(text: str, name: str) -> re.Match[str] | None:
    plain = re.escape(name)
    return re.search(rf"""^[ \t]*\[[ \t]*profiles[ \t]*\.[ \t]*["']?{plain}["']?[ \t]*\].*\n?""", text, re.MULTILINE)


def _joined(text: str, lines: str, name: str) -> str:
    key = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    return f"{text}{gap}[profiles.{key}]\n{lines}"


def _changed(text: str, start: int, values: Values) -> str:
    following = re.search(r"^[ \t]*\[", text[start:], re.MULTILINE)
    end = start + following.start() if following else len(text)
    section = text[start:end]
    for key, value in values.items():
        section = _set(section, key, value)
    head = text[:start] if text[:start].endswith("\n") else text[:start] + "\n"
    return head + section + text[end:]


def _set(section: str, key: str, value: str | None) -> str:
    old = re.search(rf"""^[ \t]*{key}[ \t]*=[ \t]*("[^"\n]*"|'[^'\n]*')(.*\n?)""", section, re.MULTILINE)
    if value is None:
        return section[: old.start()] + section[old.end() :] if old else section
    if old is None:
        return _line(key, value) + section
    return section[: old.start(1)] + json.dumps(value, ensure_ascii=False) + section[old.end(1) :]


def _line(key: str, value: str) -> str:
    return f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
