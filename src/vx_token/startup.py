"""Which file each shell reads when it starts, and what ours and others' lines in it mean."""

import os
import pwd
import re
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vx_token import shell

_LOADS = re.compile(r"vx-token\s+hook\b|vx-token\.(?:bash|zsh|fish)\b")
_SETS = re.compile(
    r"(?:^|[;&|]|\bthen\b|\bdo\b)\s*(?:export\s+|typeset\s+-x\s+|declare\s+-x\s+|set\s+(?:-\S+\s+)*)?"
    r"(OPENAI_(?:API_KEY|BASE_URL|API_BASE|API_BASE_URL))(?:=|\s+\S)"
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a start-up file holds, by line numbers from 1; `loads` is 0 when it does not load the hook."""

    loads: int
    sets: Mapping[int, str]

    @property
    def later(self) -> Mapping[int, str]:
        """The variables that are set after the hook is loaded."""
        return {number: name for number, name in self.sets.items() if self.loads and number > self.loads}


def scan(text: str) -> Found:
    """Look for the hook and for the variables it keeps; comments do not count."""
    lines = {number: line for number, line in enumerate(text.splitlines(), 1) if not line.lstrip().startswith("#")}
    loads = [number for number, line in lines.items() if _LOADS.search(line)]
    sets = {number: found[1] for number, line in lines.items() if (found := _SETS.search(line))}
    return Found(loads[-1] if loads else 0, sets)


_PLAIN = ("", "sh", "dash", "false", "nologin")
"""Login shells of accounts for which nobody chose one: useradd's default, and those that let nobody in."""


def login_shell(environ: Mapping[str, str]) -> str:
    """The user's shell if there is a hook for it, else ""; for an account without a choice bash, where it is there."""
    name = Path(environ.get("SHELL") or _on_record()).name
    if name in _PLAIN and shutil.which("bash", path=environ.get("PATH")):
        return "bash"
    return name if name in shell.HOOKS else ""


def _on_record() -> str:
    """The login shell that the system knows of, where cron, a service or `env -i` tells none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_shell
    except KeyError:
        return ""


def home(environ: Mapping[str, str]) -> Path:
    """The user's home."""
    return Path(environ.get("HOME") or Path.home())


def files(environ: Mapping[str, str]) -> list[Path]:
    """Every start-up file in which a hook may be loaded, there or not."""
    fish = _fish(environ)
    conf_d = sorted(fish.glob("conf.d/*.fish"))
    bash = [home(environ) / name for name in (".bashrc", *_BASH_LOGIN)]
    return [
        *bash,
        *(_zsh(environ) / name for name in (".zshenv", ".zprofile", ".zshrc")),
        fish / "config.fish",
        *conf_d,
    ]


_BASH_LOGIN = (".bash_profile", ".bash_login", ".profile")
"""bash reads the first of them in a login shell. Most load .bashrc, and most of those return early without a prompt."""


def _zsh(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("ZDOTDIR") or home(environ))


def _fish(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_CONFIG_HOME") or home(environ) / ".config") / "fish"


def _bash(environ: Mapping[str, str]) -> list[Path]:
    there = home(environ)
    login = next((there / name for name in _BASH_LOGIN if (there / name).exists()), there / ".profile")
    return [there / ".bashrc", login]


TARGETS: Mapping[str, Callable[[Mapping[str, str]], list[Path]]] = {
    "bash": _bash,
    "zsh": lambda environ: [_zsh(environ) / ".zshrc"],
    "fish": lambda environ: [_fish(environ) / "conf.d" / "vx-token.fish"],
}
"""Where setup puts the hook: files that together reach login shells and others."""


def lines(kind: str, hook: Path) -> str:
    """What loads the hook: the file itself, which costs no Python; after an upgrade moved it, through the command."""
    text = str(hook)
    if kind == "fish":
        quoted = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
        return (
            f"if test -r {quoted}\n    source {quoted}\n"
            "else if command -q vx-token\n    vx-token hook fish | source\nend\n"
        )
    quoted = shlex.quote(text)
    # ~/.profile is read by other shells, too.
    return (
        f'if [ -z "${{{kind.upper()}_VERSION-}}" ]; then\n  :\n'
        f"elif [ -r {quoted} ]; then\n  . {quoted}\n"
        f'elif command -v vx-token >/dev/null; then\n  eval "$(vx-token hook {kind})"\nfi\n'
    )
