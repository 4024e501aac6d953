"""How this program was installed, and the commands that add an optional part to that installation and remove it."""

import importlib.util
import json
import shlex
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

NAME = "vx-token"


@dataclass(frozen=True, slots=True)
class Installation:
    """How this program was installed.

    Attributes:
        prefix: the folder of the virtual environment, or of Python itself.
        python: the path of the interpreter.
        source: what an installer was given: a folder, a URL, or the name of the distribution.
        manager: the program that manages this environment: `pipx`, `uv`, `pip`, or `system` for a Python in which
            pip must not install (PEP 668).
        has_pip: whether pip can be run in this environment.
    """

    prefix: Path
    python: str
    source: str
    manager: str
    has_pip: bool = True


def add_command(extra: str, requirements: Sequence[str], installed: Installation) -> str:
    """Return the command that installs an extra; it works from any folder and needs no other release.

    Args:
        extra: the name of the extra.
        requirements: what the extra consists of.
        installed: the installation to extend.
    """
    whole = f"{installed.source}[{extra}]"
    parts = list(requirements) or [whole]
    if installed.manager == "pipx":
        # Injected packages survive `pipx upgrade`, and need no release of vx-token itself.
        return shlex.join(["pipx", "inject", installed.prefix.name, *parts])
    if installed.manager == "uv":
        return shlex.join(["uv", "tool", "install", "--force", whole])
    if installed.manager == "system":
        return shlex.join(["pipx", "install", whole])
    if not installed.has_pip:
        return shlex.join(["uv", "pip", "install", "--python", installed.python, *parts])
    return shlex.join([installed.python, "-m", "pip", "install", *parts])


def remove_command(installed: Installation) -> str:
    """Return the command that uninstalls the program; "" where the system's package manager may have installed it."""
    if installed.manager == "pipx":
        return shlex.join(["pipx", "uninstall", installed.prefix.name])
    if installed.manager == "uv":
        return shlex.join(["uv", "tool", "uninstall", NAME])
    if installed.manager == "system":
        return ""
    if not installed.has_pip:
        return shlex.join(["uv", "pip", "uninstall", "--python", installed.python, NAME])
    return shlex.join([installed.python, "-m", "pip", "uninstall", NAME])


def how_to_remove() -> str:
    """Return the sentence that tells how to uninstall the program, after `setup --undo`."""
    command = remove_command(installation())
    how = f"run: {command}" if command else "use the package manager that installed it"
    return f"to remove the program as well, {how}"


def how_to_add(extra: str) -> str:
    """Return the hint for an extra that is missing in this installation."""
    installed = installation()
    hint = f"run: {add_command(extra, _requirements(extra), installed)}"
    return f"{hint} (pip must not install into this Python)" if installed.manager == "system" else hint


def installation() -> Installation:
    """Detect how this program was installed."""
    prefix = Path(sys.prefix)
    has_pip = importlib.util.find_spec("pip") is not None
    return Installation(prefix, sys.executable, _source(), _manager(prefix), has_pip)


def _manager(prefix: Path) -> str:
    if (prefix / "pipx_metadata.json").exists():
        return "pipx"
    if (prefix / "uv-receipt.toml").exists():
        return "uv"
    managed = (Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED").exists()
    return "system" if managed and sys.prefix == sys.base_prefix else "pip"


def _requirements(extra: str) -> list[str]:
    """Return the requirements of an extra, from the metadata of the distribution; empty without metadata."""
    from importlib import metadata

    try:
        lines = metadata.requires(NAME) or []
    except metadata.PackageNotFoundError:
        return []
    split = [line.partition(";") for line in lines]
    return [name.strip() for name, _, marker in split if f"extra=='{extra}'" in _plain(marker)]


def _plain(marker: str) -> str:
    return marker.replace(" ", "").replace('"', "'")


def _source() -> str:
    """Return what was installed, as the installer recorded it in direct_url.json (PEP 610)."""
    from importlib import metadata

    try:
        url = json.loads(metadata.distribution(NAME).read_text("direct_url.json") or "{}").get("url", "")
    except (metadata.PackageNotFoundError, ValueError, AttributeError):
        return NAME
    parts = urlsplit(str(url))
    # Of other URLs only the name is certain: they may contain a password, and need a form of their own for extras.
    return unquote(parts.path) if parts.scheme == "file" else NAME
