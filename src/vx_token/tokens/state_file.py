"""The format of state.json: JSON with a version, checked field by field when it is read."""

import errno
import json
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from vx_token.credentials.token import Token
from vx_token.errors import Failure
from vx_token.system.private_file import private_text
from vx_token.tokens.model import Origin, State

VERSION = 1

LATEST = 253402300799.0
"""Epoch seconds of the last second of the year 9999, after which no date can be written."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

_BEARER = re.compile(r"[!-~]+")


def encode(profile: str, state: State) -> bytes:
    """Return the file's content."""
    content = {"version": VERSION, "profile": profile, **asdict(state)}
    return json.dumps(content, indent=1, allow_nan=False).encode()


def read(path: Path) -> State:
    """Return the file's state; an empty state for a missing, incomplete or invalid file, or another version's.

    Raises:
        OSError: open files or memory are exhausted, so the file could not be checked.
    """
    try:
        return _decode(json.loads(private_text(path)))
    except OSError as error:
        if error.errno in _EXHAUSTED:
            raise
        return State()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return State()


def _decode(content: dict[str, Any]) -> State:
    if content.pop("version") != VERSION:
        raise ValueError("another version's file")
    content.pop("profile")
    for key, kind in (("token", Token), ("origin", Origin), ("failure", Failure), ("made_from", Origin)):
        if content[key] is not None:
            content[key] = kind(**content[key])
            _check_types(content[key])
    state = State(**content)
    _check_types(state)
    if state.token is not None and not _BEARER.fullmatch(state.token.value):
        raise ValueError("invalid token")
    return state


def _check_types(record: Token | Origin | Failure | State) -> None:
    """Raise TypeError or ValueError for a field of another type than declared, or out of range."""
    for each in fields(record):
        value: object = getattr(record, each.name)
        kind: Any = each.type
        whole = type(value) is int and isinstance(0.0, kind)  # JSON has one type of number
        if not (whole or isinstance(value, kind)):
            raise TypeError(each.name)
        if isinstance(value, int | float) and not -LATEST <= value <= LATEST:  # also excludes NaN
            raise ValueError(each.name)
        if isinstance(value, str):
            value.encode("utf-8", "surrogateescape")  # a path may not be UTF-8; other surrogates cannot be printed
