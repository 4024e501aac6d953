"""Paths of the files that ship with the package: hooks, completions, units, documentation."""

from pathlib import Path

from vx_token.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent.parent
_ROOTS = (_PACKAGE, _PACKAGE.parent.parent)  # of a wheel, of a checkout

HOOKS = ("bash", "zsh", "fish")


def hook_file(kind: str) -> Path:
    """Return the path of a shell's hook."""
    return shipped(f"shell/vx-token.{kind}")


def completion_file(kind: str) -> Path:
    """Return the path of a shell's completion; zsh prescribes the name of its file."""
    return shipped("shell/completions/_vx-token" if kind == "zsh" else f"shell/completions/vx-token.{kind}")


def pages() -> dict[str, Path]:
    """Return the pages of the documentation by name."""
    for root in _ROOTS:
        if pages := {page.stem: page for page in sorted((root / "docs").glob("*.md"))}:
            return pages
    return {}


def man_pages() -> list[Path]:
    """Return the manual pages."""
    folder = shipped("man/vx-token.1").parent
    return sorted(folder.glob("*.1"))


def shipped(name: str) -> Path:
    """Return the path of a shipped file: inside the package in a wheel, at the root of a checkout.

    Raises:
        ConfigError: the installation is incomplete.
    """
    for root in _ROOTS:
        if (root / name).is_file():
            return root / name
    raise ConfigError(f"this installation has no {name}", "install vx-token again")
