"""Keys and URLs that a user has set already, which the hook will replace in new shells."""

from collections.abc import Mapping
from pathlib import Path

from vx_token.install import shell_startup

NAMES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_BASE_URL")


def replaced(environ: Mapping[str, str], texts: Mapping[Path, str]) -> list[str]:
    """Return a line for each variable that this shell or a start-up file sets, without its value.

    Args:
        environ: the environment; values that vx-token exported itself do not count.
        texts: the contents of the start-up files.
    """
    ours = "VX_TOKEN_EXPIRES_AT" in environ
    here = [f"{name} is set in this shell" for name in NAMES if environ.get(name) and not ours]
    sets = {path: shell_startup.scan(text).sets for path, text in texts.items()}
    return here + [
        f"{name} is set by {path} line {number}" for path, lines in sets.items() for number, name in lines.items()
    ]
