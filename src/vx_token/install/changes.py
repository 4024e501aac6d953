"""Installation steps as data: files to write or remove and commands to run, for a dry run or to perform."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vx_token.errors import VxTokenError
from vx_token.system import atomic
from vx_token.system.file_edit import remove_empty_parents

ProgramRunner = Callable[[list[str]], subprocess.CompletedProcess[str]]
"""Runs a program to completion and captures its output; raises FileNotFoundError if it is not installed."""


@dataclass(frozen=True, slots=True)
class MakeFolder:
    """Creates a private folder (0700) and its parents."""

    path: Path

    def __str__(self) -> str:
        return f"create the folder {self.path}"

    def perform(self, run: ProgramRunner) -> None:  # noqa: ARG002 - all steps have the same signature
        """Create the folder; an existing one stays unchanged."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Writes a file (0600) that belongs to vx-token."""

    path: Path
    text: str = field(repr=False)  # because it may contain a proxy's password

    def __str__(self) -> str:
        lines = _redacted(self.text).splitlines()
        return f"write {self.path}\n" + "".join(f"    {line}".rstrip() + "\n" for line in lines)

    def perform(self, run: ProgramRunner) -> None:
        """Write the file and create its folder."""
        MakeFolder(self.path.parent).perform(run)
        atomic.write(self.path, self.text.encode())


@dataclass(frozen=True, slots=True)
class RemoveFile:
    """Removes a file or, with `tree`, a folder and its content; then empty parent folders below `below`."""

    path: Path
    below: Path
    tree: bool = False

    def __str__(self) -> str:
        return f"remove {self.path}"

    def perform(self, run: ProgramRunner) -> None:  # noqa: ARG002 - all steps have the same signature
        """Remove the path; a symbolic link itself is removed, not its target."""
        if self.tree and self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)
        remove_empty_parents(self.path, self.below)


@dataclass(frozen=True, slots=True)
class RunCommand:
    """Runs a command; with `ignore_failure` its exit status is ignored."""

    argv: tuple[str, ...]
    ignore_failure: bool = False

    def __str__(self) -> str:
        return f"run {shlex.join(self.argv)}"

    def perform(self, run: ProgramRunner) -> None:
        """Run the command.

        Raises:
            VxTokenError: the command failed; the message ends with the last line of its output.
        """
        done = run_program(run, *self.argv)
        if done.returncode != 0 and not self.ignore_failure:
            output = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
            raise VxTokenError(f"{shlex.join(self.argv)}: {output[-1]}", "see: vx-token service status")


Step = MakeFolder | WriteFile | RemoveFile | RunCommand


def show(steps: Iterable[Step]) -> str:
    """Describe the steps for a dry run; passwords in proxy URLs are redacted."""
    return "".join(f"{step}".rstrip("\n") + "\n" for step in steps)


def perform(steps: Iterable[Step], run: ProgramRunner) -> None:
    """Perform the steps in order and stop at the first error.

    Raises:
        VxTokenError: a command failed.
        OSError: a file could not be changed.
    """
    for step in steps:
        step.perform(run)


def run_program(run: ProgramRunner, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program; one that is not installed gives status 127, as in a shell."""
    try:
        return run(list(argv))
    except FileNotFoundError:
        return subprocess.CompletedProcess(argv, 127, "", f"{argv[0]}: not found")


def _redacted(text: str) -> str:
    """Replace passwords in URLs; a proxy's may contain any character, and its URL may lack a scheme."""
    proxies = re.sub(r"(?i)(_proxy(?:=|</key>\s*<string>)(?:\w+://)?).*@", r"\1***@", text)
    return re.sub(r"://[^\s/@]+@", "://***@", proxies)
