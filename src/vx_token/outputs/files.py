"""The output files that tools read, each rendered from a profile's state by a row of SINKS."""

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from vx_token.config.model import Profile
from vx_token.credentials import gcloud
from vx_token.credentials.token import Token
from vx_token.errors import ConfigError, printable
from vx_token.outputs import print_cache, shell
from vx_token.outputs.exports import header_lines, variables
from vx_token.system import atomic
from vx_token.system.private_file import private_text
from vx_token.tokens.lifetime import DEFAULT_MIN_TTL, required_life
from vx_token.tokens.model import State, condition


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The inputs of a profile's output files at one time.

    Attributes:
        profile: the profile.
        state: its state.
        now: epoch seconds.
        config: the configuration file's path and stamp; empty if the print cache must not answer for it.
        key: the gateway's key, empty in direct mode.
        url: the gateway's URL, empty in direct mode.
        urls: the gateway's URLs of this and the other profiles in gateway mode; empty in direct mode.
        key_problem: the error that prevents reading the key, or "".
        former: the token that the files may still contain, if the new state could not be written.
    """

    profile: Profile
    state: State
    now: float
    config: tuple[str, str]
    key: str = ""
    url: str = ""
    urls: tuple[str, ...] = ()
    key_problem: str = ""
    former: Token | None = None

    @property
    def valid(self) -> list[str]:
        """The secrets that may stay in a file that cannot be replaced."""
        live = [self.token] if self.token else []
        if self.token and self.former and self.former.alive(self.now) and _same_account(self.token, self.former):
            live.append(self.former)
        return [*(token.value for token in live), *filter(None, [self.key])]

    @property
    def token(self) -> Token | None:
        """The token while it is alive."""
        return self.state.live(self.now)


def _token(snapshot: Snapshot) -> str | None:
    return snapshot.token.value if snapshot.token else None


def _header(snapshot: Snapshot) -> str | None:
    return header_lines(snapshot.token) if snapshot.token else None


def _print_cache(snapshot: Snapshot) -> str | None:
    token, origin = snapshot.token, snapshot.state.made_from or snapshot.state.origin
    if token is None or origin is None or not snapshot.config[0]:
        return None
    login = _login_choice(snapshot.profile)
    if login == "active" and not origin.configuration:
        return None  # a variable chose the account, and other shells may not have it
    if not "".join((*snapshot.config, *origin.files, origin.stamp)).isprintable():
        return None  # a path of more than one line, or of bytes that are no UTF-8
    usable = (token.issued_at - 60, token.expires_at - required_life(DEFAULT_MIN_TTL, token.lifetime))
    return print_cache.render(snapshot.config, (origin.files, origin.stamp), login, usable, token.value)


def _login_choice(profile: Profile) -> str:
    """Return what chooses the profile's login, in the words of `print_cache`."""
    if profile.account:
        return "active" if profile.account == gcloud.ACTIVE else "account"
    return "named" if profile.credentials else "found"


def _env(kind: str, shell_kind: str) -> Callable[[Snapshot], str]:
    def render(snapshot: Snapshot) -> str:
        if snapshot.key_problem:
            raise ConfigError(snapshot.key_problem, "")
        token, word = snapshot.token, condition(snapshot.state, snapshot.now)
        lines = [
            f"# vx-token {kind} 1",
            f"# profile: {snapshot.profile.name}",
            f"# status: {word}",
            f"# expires: {int(token.expires_at) if token else 0}",
            f"# mode: {'gateway' if snapshot.key else 'direct'}",
        ]
        failure = snapshot.state.failure
        if word == "login" and failure is not None:
            lines.append("# notice: " + printable(f"{failure.message}; {failure.hint}").rstrip("; "))
        exports = variables(snapshot.profile, token, snapshot.key, snapshot.url, snapshot.urls)
        return "\n".join(lines) + "\n" + shell.assignments(shell_kind, exports) + "# end\n"

    return render


SINKS: Mapping[str, Callable[[Snapshot], str | None]] = {
    "token": _token,
    "header": _header,
    "env.sh": _env("env.sh", "sh"),
    "env.fish": _env("env.fish", "fish"),
    "peek": _print_cache,
}
"""File name -> function that renders its content; None means that the file must not exist."""


def publish(folder: Path, snapshot: Snapshot) -> dict[str, str]:
    """Update each file that differs from its content; an error in one file does not stop the others.

    Returns:
        The errors by file name.
    """
    errors: dict[str, str] = {}
    for name, render in SINKS.items():
        try:
            update(folder / name, render(snapshot), snapshot.valid)
        except OSError as error:
            errors[name] = f"cannot write {folder / name}: {error.strerror}"
        except ConfigError as error:
            errors[name] = error.message
    return errors


def problems(folder: Path, snapshot: Snapshot) -> dict[str, str]:
    """Return the outdated or unreadable files with a message, by file name; changes nothing."""
    errors: dict[str, str] = {}
    for name, render in SINKS.items():
        try:
            if name != "peek" and not up_to_date(folder / name, render(snapshot)):
                errors[name] = f"{folder / name} is not up to date"
        except ConfigError as error:
            errors[name] = error.message
    return errors


def up_to_date(path: Path, content: str | None, mode: int = 0o600) -> bool:
    """Whether the file has this content and mode; None means that it does not exist."""
    try:
        return private_text(path) == content and path.lstat().st_mode & 0o777 == mode
    except FileNotFoundError:
        return content is None
    except (OSError, ValueError):
        return False


def withdraw(folder: Path) -> None:
    """Remove every secret from the files; needs no lock, no disk space and no open file."""
    for name in SINKS:
        with contextlib.suppress(OSError):
            _remove(folder / name)


def update(path: Path, content: str | None, valid: Collection[str], mode: int = 0o600) -> None:
    """Replace the file unless it is up to date; None removes it.

    Raises:
        OSError: it cannot be replaced; it has been removed if it contained none of the `valid` secrets.
    """
    if up_to_date(path, content, mode):
        return
    if content is None:
        _remove(path)
        return
    try:
        atomic.write(path, content.encode(), mode)
    except OSError:
        if not removable(path, valid):
            raise
        _remove(path)
        atomic.write(path, content.encode(), mode)  # the removal may have freed space


def removable(path: Path, valid: Collection[str]) -> bool:
    """Whether a file that cannot be replaced should be removed, because it contains no valid secret."""
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
