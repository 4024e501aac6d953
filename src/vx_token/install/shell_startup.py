"""Which files each shell reads when it starts, in which order, and what ours and others' lines in them mean."""

import os
import pwd
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vx_token.system import shipped

_LOADS = re.compile(r"vx-token\s+hook\b|vx-token\.(?:bash|zsh|fish)\b")
_READS_BASHRC = re.compile(r"(?:^|[\s;&])(?:\.|source)\s+\S*\.bashrc\b")
_NAME = re.compile(r"(OPENAI_(?:API_KEY|BASE_URL|API_BASE|API_BASE_URL))(=|$)")
_FUNCTION = re.compile(r"\s*(?:function\s|[\w-]+\s*\(\s*\))")
_BEFORE_A_COMMAND = {"then", "do", "else", "{", "!", "time", "begin", "and", "or", "builtin", "command"}


@dataclass(frozen=True, slots=True)
class Found:
    """What a start-up file holds, by line numbers from 1.

    Attributes:
        loading: the lines that load the hook.
        sets: the variables that it keeps, by the lines that set them.
        reads: the line that has bash read .bashrc, 0 for none.
    """

    loading: tuple[int, ...] = ()
    sets: Mapping[int, str] = field(default_factory=dict)
    reads: int = 0

    @property
    def loads(self) -> int:
        """The line that loads the hook at last, 0 for none."""
        return max(self.loading, default=0)


def scan(text: str) -> Found:
    """Look for the hook and for the variables it keeps; comments do not count."""
    lines = {number: line for number, line in enumerate(text.splitlines(), 1) if not line.lstrip().startswith("#")}
    return Found(
        tuple(number for number, line in lines.items() if _LOADS.search(line)),
        {number: name for number, line in lines.items() if (name := _set_by(line))},
        next((number for number, line in lines.items() if _READS_BASHRC.search(line)), 0),
    )


def _set_by(line: str) -> str:
    """The variable that a line sets for all that follows, not for one command alone; "" for none."""
    if "OPENAI_" not in line or _FUNCTION.match(line):
        return ""
    return next(filter(None, map(_set_by_command, _commands(line))), "")


def _set_by_command(words: list[str]) -> str:
    while words and words[0] in _BEFORE_A_COMMAND:
        words = words[1:]
    first, *others = words or [""]
    if first == "set":  # fish
        options = [word for word in others if word.startswith("-")]
        name = next((word for word in others if not word.startswith("-")), "")
        looks = any(re.match(r"-[a-zU]*[eqSn]|--(erase|query|show|names)", option) for option in options)
        return name if _NAME.fullmatch(name) and not looks else ""
    if first not in {"export", "typeset", "declare", "readonly"} and not all(re.match(r"\w+=", word) for word in words):
        return ""
    return next((found[1] for word in words if (found := _NAME.match(word)) and found[2]), "")


def _commands(line: str) -> Iterator[list[str]]:
    """The words of each simple command of a line, about as a shell parts them."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()")
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        for word in lexer:
            if word and word[0] in ";&|()":
                yield words
                words = []
            else:
                words.append(word)
    except ValueError:  # a quotation that goes on in the next line
        words = re.sub("[\"']", "", line).split()
    yield words


def later(environ: Mapping[str, str], where: Mapping[Path, Found]) -> Iterator[tuple[Path, int, str]]:
    """The lines, and the variables they set, that some shell reads after it has loaded the hook."""
    for order in (*([(path, 0, _END)] for path in where), *_orders(environ, where)):
        loaded = False
        for path, start, end in order:
            found = where.get(path, Found())
            for number in sorted({*found.loading, *found.sets}):
                if start < number <= end:
                    loaded = loaded or number in found.loading
                    if loaded and number in found.sets:
                        yield path, number, found.sets[number]


_END = sys.maxsize


def _orders(environ: Mapping[str, str], where: Mapping[Path, Found]) -> Iterator[list[tuple[Path, int, int]]]:
    """What a login shell of each kind reads, one after another: files, and from after which line to which."""
    bashrc = home(environ) / ".bashrc"
    login = next((path for name in _BASH_LOGIN if (path := home(environ) / name) in where), bashrc)
    if there := where.get(login, Found()).reads:
        yield [(login, 0, there), (bashrc, 0, _END), (login, there, _END)]
    yield [(path, 0, _END) for path in _zsh_files(environ)]
    yield [(path, 0, _END) for path in _fish_files(environ)]


_PLAIN = ("", "sh", "dash", "false", "nologin")
"""Login shells of accounts for which nobody chose one: useradd's default, and those that let nobody in."""


def login_shell(environ: Mapping[str, str]) -> str:
    """The user's shell if there is a hook for it, else ""; for an account without a choice bash, where it is there."""
    name = Path(environ.get("SHELL") or _on_record()).name
    if name in _PLAIN and shutil.which("bash", path=environ.get("PATH")):
        return "bash"
    return name if name in shipped.HOOKS else ""


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
    bash = [home(environ) / name for name in (".bashrc", *_BASH_LOGIN)]
    return [*bash, *_zsh_files(environ), *_fish_files(environ)]


_BASH_LOGIN = (".bash_profile", ".bash_login", ".profile")
"""bash reads the first of them in a login shell. Most load .bashrc, and most of those return early without a prompt."""


def _zsh(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("ZDOTDIR") or home(environ))


def _zsh_files(environ: Mapping[str, str]) -> list[Path]:
    return [_zsh(environ) / name for name in (".zshenv", ".zprofile", ".zshrc", ".zlogin")]


def _fish(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_CONFIG_HOME") or home(environ) / ".config") / "fish"


def _fish_files(environ: Mapping[str, str]) -> list[Path]:
    return [*sorted(_fish(environ).glob("conf.d/*.fish")), _fish(environ) / "config.fish"]


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
