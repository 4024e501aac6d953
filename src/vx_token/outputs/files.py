"""The files that tools read, each derived from a profile's State by a row of SINKS."""

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from vx_token.config.model import Profile
from vx_token.credentials.token import Token
from vx_token.errors import ConfigError, printable
from vx_token.outputs import print_cache, shell
from vx_token.outputs.exports import header_lines, variables
from vx_token.system import atomic
from vx_token.system.private_file import private_text
from vx_token.tokens.lifetime import DEFAULT_MIN_TTL, required_life
from vx_token.tokens.model import State, condition


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a sink is made from.

    `config` is the configuration's path and stamp, empty when `peek` must not answer for it; `key` and `url` are the
    gateway's, empty in direct mode; `trouble` is why they cannot be had; `former` is the token that the files may still
    hold when the new one cannot be written.
    """

    profile: Profile
    state: State
    now: float
    config: tuple[str, str]
    key: str = ""
    url: str = ""
    trouble: str = ""
    former: Token | None = None

    @property
    def valid(self) -> list[str]:
        """The secrets that may stand in a file which cannot be replaced."""
        live = [self.token] if self.token else []
        if self.token and self.former and self.former.alive(self.now) and _same_account(self.token, self.former):
            live.append(self.former)
        return [*(token.value for token in live), *filter(None, [self.key])]

    @property
    def token(self) -> Token | None:
        """The token while it is alive."""
        return self.state.live(self.now)


def _token(facts: Facts) -> str | None:
    return facts.token.value if facts.token else None


def _header(facts: Facts) -> str | None:
    return header_lines(facts.token) if facts.token else None


def _peek(facts: Facts) -> str | None:
    token, origin = facts.token, facts.state.made_from or facts.state.origin
    if token is None or origin is None or not facts.config[0]:
        return None
    made_from = (origin.path, origin.stamp)
    if not "".join((*facts.config, *made_from)).isprintable():
        return None  # a path of more than one line, or of bytes that are no UTF-8
    named = bool(facts.profile.credentials)
    usable = (token.issued_at - 60, token.expires_at - required_life(DEFAULT_MIN_TTL, token.lifetime))
    return print_cache.render(facts.config, made_from, named, usable, token.value)


def _env(kind: str, shell_kind: str) -> Callable[[Facts], str]:
    def render(facts: Facts) -> str:
        if facts.trouble:
            raise ConfigError(facts.trouble, "")
        token, word = facts.token, condition(facts.state, facts.now)
        lines = [
            f"# vx-token {kind} 1",
            f"# profile: {facts.profile.name}",
            f"# status: {word}",
            f"# expires: {int(token.expires_at) if token else 0}",
            f"# mode: {'gateway' if facts.key else 'direct'}",
        ]
        failure = facts.state.failure
        if word == "login" and failure is not None:
            lines.append("# notice: " + printable(f"{failure.message}; {failure.hint}").rstrip("; "))
        exports = variables(facts.profile, token, facts.key, facts.url)
        return "\n".join(lines) + "\n" + shell.assignments(shell_kind, exports) + "# end\n"

    return render


SINKS: Mapping[str, Callable[[Facts], str | None]] = {
    "token": _token,
    "header": _header,
    "env.sh": _env("env.sh", "sh"),
    "env.fish": _env("env.fish", "fish"),
    "peek": _peek,
}
"""File name -> its content; None means that there must be no such file."""


def publish(folder: Path, facts: Facts) -> dict[str, str]:
    """Bring every sink up to date; a file that is right already is left alone. A broken one stops no other.

    Returns:
        What is wrong, by sink.
    """
    found: dict[str, str] = {}
    for name, render in SINKS.items():
        try:
            _bring(folder / name, render(facts), facts.valid)
        except OSError as error:
            found[name] = f"cannot write {folder / name}: {error.strerror}"
        except ConfigError as error:
            found[name] = error.message
    return found


def problems(folder: Path, facts: Facts) -> dict[str, str]:
    """What a reader would find wrong, by sink; changes nothing."""
    found: dict[str, str] = {}
    for name, render in SINKS.items():
        try:
            if name != "peek" and not _right(folder / name, render(facts)):
                found[name] = f"{folder / name} is not up to date"
        except ConfigError as error:
            found[name] = error.message
    return found


def _right(path: Path, content: str | None) -> bool:
    try:
        found = private_text(path)
        return found == content and path.lstat().st_mode & 0o777 == 0o600
    except FileNotFoundError:
        return content is None
    except (OSError, ValueError):
        return False


def withdraw(folder: Path) -> None:
    """Take every secret out of the files; needs neither lock, nor space, nor a descriptor."""
    for name in SINKS:
        with contextlib.suppress(OSError):
            _remove(folder / name)


def _bring(path: Path, content: str | None, valid: Collection[str]) -> None:
    if _right(path, content):
        return
    if content is None:
        _remove(path)
        return
    try:
        atomic.write(path, content.encode())
    except OSError:
        if not _outlived(path, valid):
            raise
        _remove(path)
        atomic.write(path, content.encode())  # there may be room now


def _outlived(path: Path, valid: Collection[str]) -> bool:
    """Whether a file that cannot be replaced is better not there: it holds no secret that still counts."""
    try:
        text = private_text(path)
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return not valid
    return not any(secret in text for secret in valid)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise
        os.truncate(path, 0)  # the folder is not writable, but the file is


def _same_account(one: Token, other: Token) -> bool:
    return (one.kind, one.account, one.quota_project) == (other.kind, other.account, other.quota_project)
