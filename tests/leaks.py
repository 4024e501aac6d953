"""Finds secrets in everything that a run of vx-token leaves: output, files, and what processes were started with."""

import base64
import contextlib
import functools
import json
import re
import socket
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sandbox import Box
from vx_token.emulator import Emulator

_SECRET_KEYS = ("refresh_token", "client_secret", "private_key")
_PART = 24  # characters at either end of a secret that count as the whole
_LOOK = 0.2  # seconds between two looks at the files
_STRING = r'"(?:[^"\\]|\\.)*"(?:\.\.\.)?'
_LIST = re.compile(rf"\[((?:{_STRING}(?:, )?)*)\]")
_ITEM = re.compile(_STRING)
_TEMPORARY = re.compile(r"\.([^/]+)\.[0-9a-f]{12}$")  # as `atomic.write` calls a file before it is renamed
MARKS = (b"ya29.", b"vx-local-", b"PRIVATE KEY", b"1//")
"""How tokens, local keys, private keys and refresh tokens begin; for files that exist for a moment only."""


@dataclass(frozen=True)
class Secret:
    """A value to look for, and its kind: `token`, `local key` or the key of a credential file."""

    kind: str
    value: str = field(repr=False)

    @functools.cached_property
    def forms(self) -> frozenset[bytes]:
        """The value whole, both its ends, and as a URL or base64 would show it."""
        plain = {self.value, quote(self.value, safe=""), base64.b64encode(self.value.encode()).decode()}
        ends = {self.value[:_PART], self.value[-_PART:]} if len(self.value) > 2 * _PART else set()
        return frozenset(form.encode() for form in plain | ends)


def in_credentials(path: Path) -> set[Secret]:
    """The secrets of a credential file, at any depth; a private key counts by each of its lines."""

    def search(value: Any) -> Iterator[Secret]:
        for key, inner in value.items() if isinstance(value, dict) else ():
            if key in _SECRET_KEYS and isinstance(inner, str):
                lines = [line for line in inner.splitlines() if len(line) == 64] or [inner]
                yield from (Secret(key, line) for line in lines)
            yield from search(inner)

    return set(search(json.loads(path.read_text())))


def issued(google: Emulator) -> set[Secret]:
    """Every token that was handed out."""
    return {Secret("token", token.value) for token in google.issued}


def found(secrets: Iterable[Secret], content: bytes) -> set[Secret]:
    """The secrets that a content shows, whole or in part."""
    return {secret for secret in secrets if any(form in content for form in secret.forms)}


@dataclass(frozen=True, slots=True)
class Start:
    """A program as it was started."""

    argv: list[str]
    environ: dict[str, str] = field(repr=False)


class TracedBox(Box):
    """A box in which strace records every program that a command starts, with its arguments and environment."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, executed=True)
        self.traces = root.parent / f"{root.name}-traces"
        self.traces.mkdir()

    def command(self, *words: str) -> list[str]:
        trace = self.traces / f"{len(list(self.traces.iterdir()))}.trace"
        trace.touch()
        # -D: the command itself is the child, so that it gets the signals.
        options = ["-D", "-f", "-qqq", "-v", "-s", "1000000", "-e", "trace=execve", "-e", "signal=none"]
        return ["strace", *options, "-o", str(trace), *super().command(*words)]

    def starts(self) -> list[Start]:
        """Every program that was started, without failed attempts."""
        lines = [line for trace in self.traces.iterdir() for line in trace.read_text(errors="replace").splitlines()]
        starts = []
        for line in lines:
            if "execve(" in line and " = 0" in line:
                argv, environ = ([_plain(item) for item in _ITEM.findall(each)] for each in _LIST.findall(line)[:2])
                starts.append(Start(argv, dict(item.partition("=")[::2] for item in environ)))
        return starts


def _plain(item: str) -> str:
    return item.removesuffix("...")[1:-1].encode().decode("unicode_escape")


@dataclass(slots=True)
class FileWatch:
    """The files that showed the mark of a secret at any moment, with each mode that they had."""

    root: Path
    modes: dict[str, set[int]] = field(default_factory=dict)
    looks: int = 0

    def look(self) -> None:
        """Read each file once."""
        self.looks += 1
        for path in self.root.rglob("*"):
            with contextlib.suppress(OSError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and any(mark in path.read_bytes() for mark in MARKS):
                    name = _TEMPORARY.sub(r"\1", str(path.relative_to(self.root)))
                    self.modes.setdefault(name, set()).add(stat.S_IMODE(status.st_mode))


@contextmanager
def watching(root: Path) -> Iterator[FileWatch]:
    """Look at all files below `root` again and again."""
    watch, done = FileWatch(root), threading.Event()

    def work() -> None:
        while not done.wait(_LOOK):
            watch.look()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield watch
    finally:
        done.set()
        thread.join()


@contextmanager
def service_manager(path: Path) -> Iterator[list[bytes]]:
    """A service manager's socket at `path`, and all messages that it gets."""
    messages: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(path))

        def work() -> None:
            while (message := end.recv(65536)) != b"end":
                messages.append(message)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield messages
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
                own.sendto(b"end", str(path))
            thread.join()
