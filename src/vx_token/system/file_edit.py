"""Edits of the user's files: as a difference to show, and performed without overwriting anyone's later change."""

import contextlib
import difflib
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vx_token.errors import ConfigError
from vx_token.system import atomic, paths

MASK = "********"


@dataclass(frozen=True, slots=True)
class EditFile:
    """Changes a file of the user's: symbolic links, its mode and the rest of its content are preserved.

    Attributes:
        path: the file, or a symbolic link whose target is changed, as dotfiles managers expect.
        old: the content that was read, None when there was no file.
        new: the new content; None removes the file and then empty parent folders below `below`.
        mode: the mode of a new file.
        below: the folder at which removing empty parents stops.
        new_mode: the mode that an existing file gets; None keeps its own.
        hidden: strings that are not shown, such as keys.
    """

    path: Path
    old: bytes | None = field(repr=False)
    new: bytes | None = field(repr=False)
    mode: int = 0o600
    below: Path | None = None
    new_mode: int | None = None
    hidden: frozenset[str] = field(default=frozenset(), repr=False)

    def __str__(self) -> str:
        if self.new is None:
            return f"remove {self.path}"
        return f"{'change' if self.old is not None else 'write'} {self.path}\n" + "".join(self._diff())

    def _diff(self) -> Iterator[str]:
        if self.new_mode is not None:
            yield f"    mode {stat.S_IMODE(self.path.stat().st_mode):04o} becomes {self.new_mode:04o}\n"
        before, after = ((content or b"").decode("utf-8", "backslashreplace") for content in (self.old, self.new))
        for line in difflib.ndiff(before.splitlines(), after.splitlines()):
            if line[:1] in "+-":
                yield f"    {self._masked(line)}".rstrip() + "\n"

    def _masked(self, line: str) -> str:
        for secret in sorted(self.hidden, key=len, reverse=True):
            line = line.replace(secret, MASK)
        return line

    def perform(self, run: object = None) -> None:  # noqa: ARG002 - the signature of all steps of setup
        """Write or remove the file.

        Raises:
            ConfigError: the file has changed since it was read, or is not writable.
        """
        if read_if_exists(self.path) != self.old:
            raise ConfigError(f"{self.path} was changed meanwhile; vx-token did not overwrite it", "run it again")
        try:
            self._write() if self.new is not None else self._remove()
        except OSError as error:
            hint = "make the change shown above where that file is generated, or omit it"
            raise ConfigError(f"cannot change {self.path}: {error.strerror}", hint) from None

    def _write(self) -> None:
        assert self.new is not None
        target = self.path.resolve()
        new_folders = [folder for folder in target.parents if not folder.exists()]
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = self.mode
            if self.old is not None:
                mode = stat.S_IMODE(target.stat().st_mode) if self.new_mode is None else self.new_mode
            atomic.write(target, self.new, mode)
        except OSError:
            for folder in new_folders:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise

    def _remove(self) -> None:
        target = self.path.resolve()  # a symbolic link that was dangling before setup is dangling again
        target.unlink(missing_ok=True)
        if self.below:
            remove_empty_parents(target, self.below.resolve())


def read_if_exists(path: Path) -> bytes | None:
    """Read a file, None when it does not exist.

    Raises:
        ConfigError: the file exists and is not readable.
    """
    try:
        return paths.content(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", "make it a readable file") from None


def remove_empty_parents(path: Path, below: Path) -> None:
    """Remove the empty folders above `path` and below `below`."""
    with contextlib.suppress(OSError):  # rmdir fails at the first folder that is not empty
        for folder in path.parents:
            if not folder.is_relative_to(below) or folder == below:
                break
            folder.rmdir()
