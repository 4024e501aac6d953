"""The kinds of error, one for each exit status, and the text cleaning that all messages get."""

import errno


def printable(text: str) -> str:
    """Return `text` on one line, with "?" for each line break and each terminal control character.

    Every string from outside (credential files, server answers, file names) passes through here, because a line break
    in it could forge a line of vx-token, such as a hint.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else "?" for each in text)


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
