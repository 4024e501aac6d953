"""The rule for the runtime folder's path, which shells follow too; it imports no pathlib."""

import os
import sys
from _collections_abc import Mapping  # as os does: collections.abc would load all of collections

from vx_token.system.safe_path import belongs_to_us


def runtime_path(environ: Mapping[str, str]) -> str:
    """Return the path of the runtime folder: VX_TOKEN_RUNTIME_DIR, else `vx-token` in the folder for such folders.

    That folder is `user_folder`, else `fallback_folder`. The hooks and completions repeat this rule, because they
    start no program; `tests/shell/test_runtime_folder.py` holds all copies equal.
    """
    return environ.get("VX_TOKEN_RUNTIME_DIR") or f"{user_folder(environ) or fallback_folder(environ)}/vx-token"


def user_folder(environ: Mapping[str, str]) -> str:
    """Return the first of XDG_RUNTIME_DIR and /run/user/UID that is a folder of this user; "" for none."""
    folders = [environ.get("XDG_RUNTIME_DIR", "")]
    if sys.platform != "darwin":
        folders.append(f"/run/user/{os.geteuid()}")
    return next((folder for folder in folders if folder.startswith("/") and belongs_to_us(folder)), "")


def fallback_folder(environ: Mapping[str, str]) -> str:
    """Return where systems without such a folder keep temporary files of one user; it may not exist yet."""
    if sys.platform == "darwin":
        return f"{environ.get('HOME') or os.path.expanduser('~')}/Library/Caches/TemporaryItems"  # noqa: PTH111
    for name in ("TMPDIR", "TEMP", "TMP"):
        folder = environ.get(name, "")
        if folder.startswith("/") and os.path.isdir(folder) and os.access(folder, os.W_OK):  # noqa: PTH112
            return f"{folder}/runtime-{os.geteuid()}"
    return f"/tmp/runtime-{os.geteuid()}"  # noqa: S108 - used only after a check that it is ours
