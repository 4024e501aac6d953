"""Shell start-up files: which ones each shell reads, in which order, and what they set."""

import os
import pwd
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vx_token.system import paths, shipped

_LOADS = re.compile(r"vx-token\s+hook\b|vx-token\.(?:bash|zsh|fish)\b")
_READS_BASHRC = re.compile(r"(?:^|[\s;&])(?:\.|source)\s+\S*\.bashrc\b")
_NAME = re.compile(r"(OPENAI_(?:API_KEY|BASE_URL|API_BASE|API_BASE_URL))(=|$)")
_FUNCTION = re.compile(r"\s*(?:function\s|[\w-]+\s*\(\s*\))")
_BEFORE_A_COMMAND = {"then", "do", "else", "{", "!", "time", "begin", "and", "or", "builtin", "command"}


@dataclass(frozen=True, slots=True)
class StartupScan:
    """What a start-up file contains, by line numbers from 1.

    Attributes:
        loading: lines that load the hook.
        sets: variables of the hook that the file sets, by line.
        reads: the line that sources .bashrc, 0 for none.
    """

    loading: tuple[int, ...] = ()
    sets: Mapping[int, str] = field(default_factory=dict)
    reads: int = 0

    @property
    def loads(self) -> int:
        """The last line that loads the hook, 0 for none."""
        return max(self.loading, default=0)


def scan(text: str) -> StartupScan:
    """Search the text for the hook and its variables; comments are ignored."""
    lines = {number: line for number, line in enumerate(text.splitlines(), 1) if not line.lstrip().startswith("#")}
    return StartupScan(
        tuple(number for number, line in lines.items() if _LOADS.search(line)),
        {number: name for number, line in lines.items() if (name := _set_by(line))},
        next((number for number, line in lines.items() if _READS_BASHRC.search(line)), 0),
    )


def _set_by(line: str) -> str:
    """Return the variable that a line sets for the whole shell, not only for one command; "" for none."""
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
        queries = any(re.match(r"-[a-zU]*[eqSn]|--(erase|query|show|names)", option) for option in options)
        return name if _NAME.fullmatch(name) and not queries else ""
    if first not in {"export", "typeset", "declare", "readonly"} and not all(re.match(r"\w+=", word) for word in words):
        return ""
    return next((match[1] for word in words if (match := _NAME.match(word)) and match[2]), "")


def _commands(line: str) -> Iterator[list[str]]:
    """Split a line into simple commands and their words, approximately as a shell does."""
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
    except ValueError:  # a quoted string that continues on the next line
        words = re.sub("[\"']", "", line).split()
    yield words


def settings_after_hook(
    environ: Mapping[str, str], where: Mapping[Path, StartupScan]
) -> Iterator[tuple[Path, int, str]]:
    """Yield file, line and variable of each setting that some shell reads after it has loaded the hook."""
    for order in (*([(path, 0, _END)] for path in where), *_orders(environ, where)):
        loaded = False
        for path, start, end in order:
            scanned = where.get(path, StartupScan())
            for number in sorted({*scanned.loading, *scanned.sets}):
                if start < number <= end:
                    loaded = loaded or number in scanned.loading
                    if loaded and number in scanned.sets:
                        yield path, number, scanned.sets[number]


_END = sys.maxsize


def _orders(environ: Mapping[str, str], where: Mapping[Path, StartupScan]) -> Iterator[list[tuple[Path, int, int]]]:
    """Yield what a login shell of each kind reads, in order: file, the line after which, and the last line."""
    bashrc = paths.home_dir(environ) / ".bashrc"
    login = next((path for name in _BASH_LOGIN if (path := paths.home_dir(environ) / name) in where), bashrc)
    if source_line := where.get(login, StartupScan()).reads:
        yield [(login, 0, source_line), (bashrc, 0, _END), (login, source_line, _END)]
    yield [(path, 0, _END) for path in _zsh_files(environ)]
    yield [(path, 0, _END) for path in _fish_files(environ)]


_DEFAULT_SHELLS = ("", "sh", "dash", "false", "nologin")
"""Login shells of accounts without a chosen shell: the default of useradd, and those that forbid a login."""


def login_shell(environ: Mapping[str, str]) -> str:
    """Return the user's shell if it has a hook, else ""; bash, if installed, for an account without a chosen shell."""
    name = Path(environ.get("SHELL") or _account_shell()).name
    if name in _DEFAULT_SHELLS and shutil.which("bash", path=environ.get("PATH")):
        return "bash"
    return name if name in shipped.HOOKS else ""


def _account_shell() -> str:
    """Return the login shell from the user database, because cron, services and `env -i` do not set SHELL."""
    try:
        return pwd.getpwuid(os.getuid()).pw_shell
    except KeyError:
        return ""


def files(environ: Mapping[str, str]) -> list[Path]:
    """Return every start-up file that may load a hook, whether it exists or not."""
    bash = [paths.home_dir(environ) / name for name in (".bashrc", *_BASH_LOGIN)]
    return [*bash, *_zsh_files(environ), *_fish_files(environ)]


_BASH_LOGIN = (".bash_profile", ".bash_login", ".profile")
"""A login bash reads the first of these that exists; usually it sources .bashrc."""


def _zsh(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("ZDOTDIR") or paths.home_dir(environ))


def _zsh_files(environ: Mapping[str, str]) -> list[Path]:
    return [_zsh(environ) / name for name in (".zshenv", ".zprofile", ".zshrc", ".zlogin")]


def _fish(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_CONFIG_HOME") or paths.home_dir(environ) / ".config") / "fish"


def _fish_files(environ: Mapping[str, str]) -> list[Path]:
    return [*sorted(_fish(environ).glob("conf.d/*.fish")), _fish(environ) / "config.fish"]


def _bash(environ: Mapping[str, str]) -> list[Path]:
    folder = paths.home_dir(environ)
    login = next((folder / name for name in _BASH_LOGIN if (folder / name).exists()), folder / ".profile")
    return [folder / ".bashrc", login]


HOOK_TARGETS: Mapping[str, Callable[[Mapping[str, str]], list[Path]]] = {
    "bash": _bash,
    "zsh": lambda environ: [_zsh(environ) / ".zshrc"],
    "fish": lambda environ: [_fish(environ) / "conf.d" / "vx-token.fish"],
}
"""Files into which setup inserts the hook, for login shells and other interactive shells."""


def lines(kind: str, hook: Path, completion: Path) -> str:
    """Return lines that source the hook file directly, without Python; if an upgrade moved it, `vx-token hook`.

    The completion is registered, and read when it is first used.
    """
    text = str(hook)
    if kind == "fish":
        quoted, folder = _fish_quoted(text), _fish_quoted(str(completion.parent))
        return (
            f"if test -r {quoted}\n    source {quoted}\n"
            f"    contains -- {folder} $fish_complete_path\n"
            f"    or set -g fish_complete_path $fish_complete_path {folder}\n"
            "else if command -q vx-token\n    vx-token hook fish | source\nend\n"
        )
    quoted = shlex.quote(text)
    # Test the shell first, because other shells read ~/.profile too.
    return (
        f'if [ -z "${{{kind.upper()}_VERSION-}}" ]; then\n  :\n'
        f"elif [ -r {quoted} ]; then\n  . {quoted}\n{_COMPLETION[kind](completion)}"
        f'elif command -v vx-token >/dev/null; then\n  eval "$(vx-token hook {kind})"\nfi\n'
    )


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _bash_completion(file: Path) -> str:
    # By the status 124 bash tries again, with the completion that the file has registered.
    return (
        f"  __vx_token_load_completion() {{ . {shlex.quote(str(file))} && return 124; }}\n"
        "  complete -F __vx_token_load_completion vx-token\n"
    )


def _zsh_completion(file: Path) -> str:
    # A compinit that runs later finds the file in FPATH; after one that ran before it must be registered.
    folder = shlex.quote(str(file.parent))
    return (
        f'  case ":$FPATH:" in *:{folder}:*) ;; *) FPATH="$FPATH":{folder} ;; esac\n'
        "  if command -v compdef >/dev/null; then autoload -Uz _vx-token && compdef _vx-token vx-token; fi\n"
    )


_COMPLETION: Mapping[str, Callable[[Path], str]] = {"bash": _bash_completion, "zsh": _zsh_completion}
