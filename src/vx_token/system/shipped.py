"""Paths of the files that ship with the package: hooks, completions, units."""

from pathlib import Path

from vx_token.errors import ConfigError

HOOKS = ("bash", "zsh", "fish")


def hook_file(kind: str) -> Path:
    """Return the path of a shell's hook."""
    return shipped(f"shell/vx-token.{kind}")


def completion_file(kind: str) -> Path:
    """Return the path of a shell's completion; zsh prescribes the name of its file."""
    return shipped("shell/completions/_vx-token" if kind == "zsh" else f"shell/completions/vx-token.{kind}")


def shipped(name: str) -> Path:
    """Return the path of a shipped file: inside the package in a wheel, at the root of a checkout.

    Raises:
        ConfigError: the installation is incomplete.
    """
    package = Path(__file__).resolve().parent.parent
    for root in (package, package.parent.parent):
        if (root / name).is_file():
            return root / name
    raise ConfigError(f"this installation has no {name}", "install vx-token again")
