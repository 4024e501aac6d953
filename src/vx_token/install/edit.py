"""A change to a file that is the user's own: its link, its mode and all else in it stay."""

import contextlib
import difflib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vx_token.errors import ConfigError
from vx_token.install.changes import Runner
from vx_token.system import atomic, paths


@dataclass(frozen=True, slots=True)
class Edit:
    """A file's content before and after; None when there is no file.

    Attributes:
        path: the file, or a link to it: what it leads to is changed, as dotfiles managers expect.
        old: what was found.
        new: what it becomes; None removes it, and the folders that this leaves empty, up to `below`.
        mode: for a file that is made.
        below: where removing folders ends.
    """

    path: Path
    old: bytes | None
    new: bytes | None
    mode: int = 0o600
    below: Path | None = None

    def __str__(self) -> str:
        if self.new is None:
            return f"remove {self.path}"
        return f"{'change' if self.old is not None else 'write'} {self.path}\n" + "".join(self._lines())

    def _lines(self) -> Iterator[str]:
        before, after = (_shown(content) for content in (self.old, self.new))
        for line in difflib.ndiff(before, after):
            if line[:1] in "+-":
                yield f"    {line}".rstrip() + "\n"

    def perform(self, run: Runner | None = None) -> None:  # noqa: ARG002 - every step is performed alike
        """Do it.

        Raises:
            ConfigError: the file changed since it was read, or cannot be written.
        """
        if read(self.path) != self.old:
            raise ConfigError(f"{self.path} was changed meanwhile; it is left alone", "run it again")
        try:
            self._write() if self.new is not None else self._remove()
        except OSError as error:
            hint = "make the change shown above where that file is made from, or leave it out"
            raise ConfigError(f"cannot change {self.path}: {error.strerror}", hint) from None

    def _write(self) -> None:
        assert self.new is not None
        target = self.path.resolve()
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = self.mode if self.old is None else stat.S_IMODE(target.stat().st_mode)
        atomic.write(target, self.new, mode)

    def _remove(self) -> None:
        target = self.path.resolve()  # a link that led nowhere before leads nowhere again
        target.unlink(missing_ok=True)
        end = self.below.resolve() if self.below else None
        with contextlib.suppress(OSError):  # the first folder that is not empty ends it
            for folder in target.parents:
                if end is None or folder == end or not folder.is_relative_to(end):
                    break
                folder.rmdir()


def read(path: Path) -> bytes | None:
    """The content, None when there is no such file.

    Raises:
        ConfigError: it is there and cannot be read.
    """
    try:
        return paths.content(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", "make it a readable file") from None


def _shown(content: bytes | None) -> list[str]:
    return (content or b"").decode("utf-8", "backslashreplace").splitlines()
