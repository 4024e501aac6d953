"""The path of the configuration file, computed without importing pathlib."""

import os
import sys
from _collections_abc import Mapping  # as os does: collections.abc would load all of collections


def config_path(environ: Mapping[str, str]) -> str:
    """Return the path of the configuration file: VX_TOKEN_CONFIG, else Linux's; "" where only platformdirs knows it."""
    if explicit := environ.get("VX_TOKEN_CONFIG"):
        return os.path.abspath(explicit)
    if sys.platform != "linux":
        return ""
    base = environ.get("XDG_CONFIG_HOME") or environ.get("HOME", "") + "/.config"
    return f"{base}/vx-token/config.toml" if base.startswith("/") and base != "/.config" else ""
