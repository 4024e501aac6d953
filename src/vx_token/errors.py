"""The kinds of error, their exit codes, and the one mapping between an error and its recorded form."""

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

LONGEST_RETRY_AFTER = 3600.0
"""Maximum Retry-After (seconds) that is honoured."""


def printable(text: str) -> str:
    """Return `text` on one line, with "?" for each line break and each terminal control character.

    Every string from outside (credential files, server answers, file names) passes through here, because a line break
    in it could forge a line of vx-token, such as a hint.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else "?" for each in text)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `did you mean 'X'? ` for the known name that is most similar, "" when none is similar."""
    from difflib import get_close_matches

    matches = get_close_matches(name, list(known), 1)
    return f"did you mean {matches[0]!r}? " if matches else ""


class VxTokenError(Exception):
    """An error shown to the user: a message, a hint and an exit status.

    Message and hint are printed, logged and stored, so they must never contain a secret.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = printable(message), printable(hint)
        super().__init__(self.message)


class UsageError(VxTokenError):
    """The command line is invalid."""

    exit_code = 2


class ConfigError(VxTokenError):
    """The configuration, the path of a credential file or the safety of a folder is wrong; no retry helps."""

    exit_code = 3


class AddressError(ConfigError):
    """The gateway's port or socket is in use, or the system refuses it; a retry may succeed."""


class LoginNeededError(VxTokenError):
    """Google refuses this identity until the user runs the login command in the hint."""

    exit_code = 4


class TemporaryError(VxTokenError):
    """A temporary failure, worth a retry; `retry_after` is the pause in seconds that the server asked for, or None."""

    exit_code = 5

    def __init__(self, message: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Failure:
    """The recorded form of an error, which contains no secret.

    Attributes:
        kind: `temporary`, `login` or `config`.
        message: one sentence.
        hint: what the user should do.
        retry_at: the earliest retry that the server allows, epoch seconds, or None.
    """

    kind: str
    message: str
    hint: str = ""
    retry_at: float | None = None


_RECORDED: Mapping[str, type[VxTokenError]] = {"config": ConfigError, "login": LoginNeededError}


def failure_of(error: VxTokenError, now: float) -> Failure:
    """Return the recorded form of `error`, raised at `now` (epoch seconds)."""
    kind = next((name for name, each in _RECORDED.items() if error.exit_code == each.exit_code), "temporary")
    pause = error.retry_after if isinstance(error, TemporaryError) else None
    if not isinstance(pause, int | float) or not 0 <= pause < float("inf"):  # also excludes NaN
        pause = None
    retry_at = now + min(pause, LONGEST_RETRY_AFTER) if pause is not None else None
    return Failure(kind, _encodable(error.message), _encodable(error.hint), retry_at)


def error_of(failure: Failure | None, now: float) -> VxTokenError:
    """Return the error that `failure` records; its `retry_after` counts from `now` (epoch seconds)."""
    if failure is None:
        return TemporaryError("there is no token yet", "run: vx-token refresh")
    if failure.kind in _RECORDED:
        return _RECORDED[failure.kind](failure.message, failure.hint)
    pause = failure.retry_at - now if failure.retry_at is not None else 0.0
    return TemporaryError(failure.message, failure.hint, min(pause, LONGEST_RETRY_AFTER) if pause > 0 else None)


def _encodable(text: str) -> str:
    """Replace what UTF-8 cannot encode: a path may contain bytes that are not UTF-8."""
    return text.encode(errors="replace").decode()


def shortage(error: BaseException) -> TemporaryError | None:
    """Return the error to show when a system limit was reached (open files, memory, threads); None for other errors."""
    number = error.errno if isinstance(error, OSError) else 0
    if number in (errno.EMFILE, errno.ENFILE):
        return TemporaryError("too many open files", "raise the limit of open files: ulimit -n")
    unmapped = isinstance(error, ImportError) and "failed to map segment" in str(error)  # the message of ld.so
    if isinstance(error, MemoryError) or number == errno.ENOMEM or unmapped:
        return TemporaryError("not enough memory", "raise the memory limit (ulimit -v), or close other programs")
    no_thread = isinstance(error, RuntimeError) and "start new thread" in str(error)
    if no_thread or number == errno.EAGAIN:
        hint = "raise the limits of memory (ulimit -v) and processes (ulimit -u)"
        return TemporaryError("no more threads or processes can be started", hint)
    return None
