"""Links to the shipped manual pages from the user's folder of such pages, where `man` finds them.

A link, unlike a copy, is never older than the program.
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vx_token.install.changes import ProgramRunner
from vx_token.system import paths, shipped
from vx_token.system.file_edit import remove_empty_parents


@dataclass(frozen=True, slots=True)
class LinkPages:
    """Creates or corrects links; `links` is the target of each by its path."""

    links: Mapping[Path, Path]

    @property
    def path(self) -> Path:
        """One of the links, which are all in one folder."""
        return next(iter(self.links))

    def __str__(self) -> str:
        return f"link {len(self.links)} manual pages into {self.path.parent}"

    def perform(self, run: ProgramRunner | None = None) -> None:  # noqa: ARG002 - all steps have the same signature
        """Create the links.

        Raises:
            OSError: the folder is not writable.
        """
        for link, target in self.links.items():
            link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(target)


@dataclass(frozen=True, slots=True)
class UnlinkPages:
    """Removes links, and then empty parent folders below `below`."""

    links: tuple[Path, ...]
    below: Path

    @property
    def path(self) -> Path:
        """One of the links, which are all in one folder."""
        return self.links[0]

    def __str__(self) -> str:
        return f"remove {len(self.links)} manual pages from {self.path.parent}"

    def perform(self, run: ProgramRunner | None = None) -> None:  # noqa: ARG002 - all steps have the same signature
        """Remove the links."""
        for link in self.links:
            link.unlink(missing_ok=True)
        remove_empty_parents(self.path, self.below)


def missing(environ: Mapping[str, str]) -> LinkPages | None:
    """Return the step that links the pages which are not linked yet; files and links of others stay."""
    folder = _folder(environ)
    wanted = {folder / page.name: page for page in shipped.man_pages()}
    links = {
        link: page
        for link, page in wanted.items()
        if not os.path.lexists(link) or (_is_ours(link) and link.readlink() != page)
    }
    return LinkPages(links) if links else None


def removal(environ: Mapping[str, str]) -> UnlinkPages | None:
    """Return the step that removes the links, None if there are none."""
    links = tuple(link for link in sorted(_folder(environ).glob("vx-token*.1")) if _is_ours(link))
    return UnlinkPages(links, paths.home_dir(environ)) if links else None


def _folder(environ: Mapping[str, str]) -> Path:
    """Return the folder that `man` searches for users with ~/.local/bin in PATH; XDG_DATA_HOME has no effect on man."""
    return paths.home_dir(environ) / ".local" / "share" / "man" / "man1"


def _is_ours(link: Path) -> bool:
    """Whether this is a link of `missing`, also of an older installation; those of pipx lead to a folder `man1`."""
    with contextlib.suppress(OSError):
        return link.readlink().parent.name == "man"
    return False
