"""Where the configuration file is, found without importing pathlib."""

import os
import sys
from _collections_abc import Mapping  # as os does: collections.abc would load all of collections


def config_path(environ: Mapping[str, str]) -> str:
    """Where the configuration is looked for on Linux; "" where only platformdirs can tell."""
    if explicit := environ.get("VX_TOKEN_CONFIG"):
        return os.path.abspath(explicit)
    if sys.platform != "linux":
        return ""
    base = environ.get("XDG_CONFIG_HOME") or environ.get("HOME", "") + "/.config"
    return f"{base}/vx-token/config.toml" if base.startswith("/") and base != "/.config" else ""
