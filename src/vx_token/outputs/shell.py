"""Quotes variable assignments for each shell, and the line that loads a shell hook."""

import json
import re
import shlex
from collections.abc import Callable, Mapping

from vx_token.system.shipped import hook_file

# A shell expands a tilde at the start of a word, and after a colon or an equals sign.
_BARE = re.compile(r"(?:[A-Za-z0-9_@%+=:,./-]|(?<=[A-Za-z0-9_@%+,./~-])~)+")


def posix(name: str, value: str) -> str:
    """`export NAME='value'` for sh, bash and zsh."""
    return f"export {name}='" + value.replace("'", "'\\''") + "'"


def fish(name: str, value: str) -> str:
    """`set -gx NAME 'value'` for fish, whose single quotes know two escapes."""
    return f"set -gx {name} '" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def dotenv(name: str, value: str) -> str:
    """`NAME=value`: bare where that is safe, as `docker --env-file` and systemd take quotes for a part of the value."""
    return f"{name}={value if _BARE.fullmatch(value) else shlex.quote(value)}"


LINE: Mapping[str, Callable[[str, str], str]] = {
    "sh": posix,
    "bash": posix,
    "zsh": posix,
    "fish": fish,
    "dotenv": dotenv,
}

SHELLS = (*LINE, "json")


def assignments(kind: str, variables: Mapping[str, str]) -> str:
    """All `variables` for the shell `kind`, one line each, or one JSON object."""
    if kind == "json":
        return json.dumps(variables, indent=2) + "\n"
    return "".join(LINE[kind](name, value) + "\n" for name, value in variables.items())


def hook(kind: str) -> str:
    """The line that loads the shipped hook file, for `eval` in bash and zsh and for `source` in fish.

    A shell parses the whole text of an `eval` before it runs any of it, so nothing in that text can protect the rest of
    it from the user's aliases and options. Hence one simple command of quoted words, which no alias can replace; the
    file is then read command by command.
    """
    path = str(hook_file(kind))
    if kind == "fish":
        return "builtin source '" + path.replace("\\", "\\\\").replace("'", "\\'") + "'\n"
    return "'builtin' 'source' '" + path.replace("'", "'\\''") + "'\n"
