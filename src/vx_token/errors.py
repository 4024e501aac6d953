"""What can go wrong, as few kinds as somebody decides by."""

import errno


def printable(text: str) -> str:
    """Return `text` on one line, with "?" for each line break and each character that steers a terminal.

    For everything from outside: credential files, server answers, file names. A line break there could forge a line of
    ours, such as a hint.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else "?" for each in text)


class VxTokenError(Exception):
    """A failure told to a person: one sentence, one hint, one exit status; both printable.

    Neither text may ever hold a secret: they are printed, logged and stored.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = printable(message), printable(hint)
        super().__init__(self.message)


class UsageError(VxTokenError):
    """The command line asks for something that does not exist."""

    exit_code = 2


class ConfigError(VxTokenError):
    """The configuration, a credential file's place or a folder's safety is wrong; no retry helps."""

    exit_code = 3


class AddressError(ConfigError):
    """The gateway's port or socket is used by another program, or refused by the system; a later try may succeed."""


class LoginNeededError(VxTokenError):
    """Google refuses this identity for good: only a human helps, by the command in the hint."""

    exit_code = 4


class TemporaryError(VxTokenError):
    """Worth a retry; `retry_after` is the pause in seconds that the server asked for, when it did."""

    exit_code = 5

    def __init__(self, message: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


def shortage(error: BaseException) -> TemporaryError | None:
    """Return the error for a limit of the system that was reached: open files, memory, threads; None for others."""
    number = error.errno if isinstance(error, OSError) else 0
    if number in (errno.EMFILE, errno.ENFILE):
        return TemporaryError("too many open files", "raise the limit of open files: ulimit -n")
    no_room = isinstance(error, ImportError) and "failed to map segment" in str(error)  # ld.so's words
    if isinstance(error, MemoryError) or number == errno.ENOMEM or no_room:
        return TemporaryError("not enough memory", "raise the memory limit (ulimit -v), or end other programs")
    no_thread = isinstance(error, RuntimeError) and "start new thread" in str(error)
    if no_thread or number == errno.EAGAIN:
        hint = "raise the limits of memory (ulimit -v) and processes (ulimit -u)"
        return TemporaryError("no more threads or processes can be started", hint)
    return None
