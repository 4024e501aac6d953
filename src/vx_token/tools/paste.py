"""The text to paste into a settings file that cannot be edited safely, without a key."""

from collections.abc import Sequence
from typing import Any

from vx_token.tools import document, settings
from vx_token.tools.model import Access, SettingsFile

KEY = "KEY"


def text(files: Sequence[SettingsFile], access: Access) -> str:
    """Return what each file gets, as if it were empty; KEY replaces the key."""
    return "\n".join(_part(file, access) for file in files)


def _part(file: SettingsFile, access: Access) -> str:
    def put(values: Any) -> Any:
        return settings.apply(values, file.settings)[0]

    content = document.changed(None, file.form, put).decode()
    return f"# {file.path}\n{content.replace(access.key, KEY) if access.key else content}"
