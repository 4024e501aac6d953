"""Changes to a user's machine as data: shown, or done step by step."""

import contextlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vx_token.errors import VxTokenError
from vx_token.system import atomic

Runner = Callable[[list[str]], subprocess.CompletedProcess[str]]
"""Runs a program to its end and answers its status and text; FileNotFoundError when there is none of that name."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Make a folder of the user's own (0700), and what leads to it."""

    path: Path

    def __str__(self) -> str:
        return f"make the folder {self.path}"

    def perform(self, run: Runner) -> None:  # noqa: ARG002 - every step is performed alike
        """Do it; a folder that is there stays as it is."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)


@dataclass(frozen=True, slots=True)
class Write:
    """Bring a file (0600) to this content."""

    path: Path
    text: str = field(repr=False)  # it may hold a proxy's password

    def __str__(self) -> str:
        return f"write {self.path}\n" + "".join(f"    {line}".rstrip() + "\n" for line in _told(self.text).splitlines())

    def perform(self, run: Runner) -> None:
        """Do it."""
        Folder(self.path.parent).perform(run)
        atomic.write(self.path, self.text.encode())


@dataclass(frozen=True, slots=True)
class Remove:
    """Take away a file or, with `tree`, a folder with all that is in it, and the folders that this leaves empty."""

    path: Path
    below: Path
    tree: bool = False

    def __str__(self) -> str:
        return f"remove {self.path}"

    def perform(self, run: Runner) -> None:  # noqa: ARG002 - every step is performed alike
        """Do it; a link is removed, never followed. Folders up to `below` go when they have become empty."""
        if self.tree and self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the first that is not empty ends it
            for folder in self.path.parents:
                if not folder.is_relative_to(self.below) or folder == self.below:
                    break
                folder.rmdir()


@dataclass(frozen=True, slots=True)
class Run:
    """Run a program; with `harmless` its failure is none of ours."""

    argv: tuple[str, ...]
    harmless: bool = False

    def __str__(self) -> str:
        return f"run {shlex.join(self.argv)}"

    def perform(self, run: Runner) -> None:
        """Do it.

        Raises:
            VxTokenError: it failed; the text is what it said.
        """
        done = call(run, *self.argv)
        if done.returncode != 0 and not self.harmless:
            said = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
            raise VxTokenError(f"{shlex.join(self.argv)}: {said[-1]}", "see: vx-token service status")


Step = Folder | Write | Remove | Run


def show(steps: Iterable[Step]) -> str:
    """What would be done, for a person to read; a password inside a proxy's URL is not shown."""
    return "".join(f"{step}".rstrip("\n") + "\n" for step in steps)


def perform(steps: Iterable[Step], run: Runner) -> None:
    """Do it, in order; the first failure ends it.

    Raises:
        VxTokenError: a program failed.
        OSError: a file could not be changed.
    """
    for step in steps:
        step.perform(run)


def call(run: Runner, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program; one that is not installed counts as failed with status 127, as in a shell."""
    try:
        return run(list(argv))
    except FileNotFoundError:
        return subprocess.CompletedProcess(argv, 127, "", f"{argv[0]}: not found")


def _told(text: str) -> str:
    """Without passwords: a proxy's may hold anything, and no scheme need precede it."""
    proxies = re.sub(r"(?i)(_proxy(?:=|</key>\s*<string>)(?:\w+://)?).*@", r"\1***@", text)
    return re.sub(r"://[^\s/@]+@", "://***@", proxies)
