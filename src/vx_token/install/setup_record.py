"""What setup did, on record, so that undo takes back that and nothing else."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vx_token.install import edit
from vx_token.install.edit import Edit
from vx_token.system import paths

NAME = "setup.json"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Record:
    """All that setup has changed so far.

    Attributes:
        config: the configuration file that it wrote, "" for none.
        before: that file's text before, None when there was no file.
        after: the SHA-256 of what it wrote.
        hooks: the start-up files it put a block into, and whether it made them.
        service: whether it installed the service.
        folders: the folders that it made, which go when they are empty again.
    """

    config: str = ""
    before: str | None = None
    after: str = ""
    hooks: Mapping[Path, bool] = field(default_factory=dict)
    service: bool = False
    folders: frozenset[Path] = frozenset()

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Record":
        """The record; a missing, torn or future one counts as nothing done."""
        try:
            content = json.loads(_path(environ).read_text(encoding="utf-8"))
            if content.pop("version") != VERSION:
                return cls()
            hooks = {Path(path): bool(made) for path, made in content.pop("hooks").items()}
            folders = frozenset(map(Path, content.pop("folders")))
            return cls(**content, hooks=hooks, folders=folders)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return cls()

    def noted(
        self, config: Edit | None, hooks: tuple[Edit, ...], folders: frozenset[Path], *, service: bool
    ) -> "Record":
        """The record with these changes; the first look of each file is the one that undo goes back to."""
        made = {each.path: self.hooks.get(each.path, each.old is None) for each in hooks}
        record = replace(
            self, hooks={**self.hooks, **made}, folders=self.folders | folders, service=self.service or service
        )
        if config is None or config.new is None:
            return record
        before = None if config.old is None else config.old.decode("utf-8-sig")
        if self.config == str(config.path) and config.old is not None and _sum(config.old) == self.after:
            before = self.before
        return replace(record, config=str(config.path), before=before, after=_sum(config.new))

    def write(self, environ: Mapping[str, str]) -> None:
        """Keep it; an empty record is not written."""
        if self == Record():
            return
        content = {
            "version": VERSION,
            "config": self.config,
            "before": self.before,
            "after": self.after,
            "hooks": {str(path): made for path, made in self.hooks.items()},
            "service": self.service,
            "folders": sorted(map(str, self.folders)),
        }
        path = _path(environ)
        Edit(path, edit.read(path), (json.dumps(content, indent=1) + "\n").encode()).perform()

    def restored(self, home: Path) -> Edit | None:
        """The step back to the configuration before; None when it is no longer what setup wrote."""
        old = edit.read(Path(self.config)) if self.config else None
        if old is None or _sum(old) != self.after:
            return None
        return Edit(Path(self.config), old, None if self.before is None else self.before.encode(), below=home)

    def forgotten(self, environ: Mapping[str, str], home: Path) -> list[Edit]:
        """The step that takes the record itself away."""
        path = _path(environ)
        old = edit.read(path)
        return [] if old is None else [Edit(path, old, None, below=home)]


def _path(environ: Mapping[str, str]) -> Path:
    return paths.state_dir(environ) / NAME


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
