"""Find the files that ship beside the package: hooks, completions, units."""

from pathlib import Path

from vx_token.errors import ConfigError

HOOKS = ("bash", "zsh", "fish")


def hook_file(kind: str) -> Path:
    """Where the shipped hook lies."""
    return shipped(f"shell/vx-token.{kind}")


def completion_file(kind: str) -> Path:
    """Where the shipped completion lies; zsh finds its by the name."""
    return shipped("shell/completions/_vx-token" if kind == "zsh" else f"shell/completions/vx-token.{kind}")


def shipped(name: str) -> Path:
    """A file that ships beside the package: in the wheel inside it, in a checkout at its root.

    Raises:
        ConfigError: the installation is not whole.
    """
    package = Path(__file__).resolve().parent.parent
    for root in (package, package.parent.parent):
        if (root / name).is_file():
            return root / name
    raise ConfigError(f"this installation has no {name}", "install vx-token again")
