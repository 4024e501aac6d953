"""Plans a change of one profile's settings in the configuration file: comments stay, and the result is valid."""

import difflib
from collections.abc import Mapping
from pathlib import Path

from vx_token.config import toml_edit
from vx_token.config.load import parse_config
from vx_token.errors import ConfigError
from vx_token.system import file_edit, paths
from vx_token.system.file_edit import EditFile


def plan(path: Path, name: str, values: toml_edit.Values, environ: Mapping[str, str]) -> EditFile | None:
    """Return the edit that gives the profile `name` these values; None when the file has them already.

    Args:
        path: the configuration file, which may be missing.
        name: the profile, which is added when it is missing.
        values: settings; None removes one.
        environ: for the home folder.

    Raises:
        ConfigError: the file cannot be edited safely, or would be invalid.
    """
    old = file_edit.read_if_exists(path)
    try:
        text = (old or b"").decode("utf-8-sig")
        new = toml_edit.with_profile(text, name, values)
    except ValueError:
        lines = ", ".join(f'{key} = "{value}"' for key, value in values.items() if value is not None)
        gone = ", ".join(key for key, value in values.items() if value is None)
        hint = f"write into its profile {name!r} by hand: {lines}; without {gone}"
        raise ConfigError(f"{path} has a TOML form that vx-token cannot edit", hint) from None
    parse_config(new, path, {"HOME": str(paths.home_dir(environ))}, {"profile": name}, path.parent)
    return EditFile(path, old, new.encode()) if new != text else None


def replaced_lines(edit: EditFile) -> list[str]:
    """Return the lines that an edit removes or replaces."""
    before, after = ((content or b"").decode("utf-8", "backslashreplace") for content in (edit.old, edit.new))
    return [line[2:] for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line.startswith("- ")]
