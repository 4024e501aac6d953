"""Records what setup changed, so that undo reverts exactly that."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vx_token.system import atomic, file_edit, paths
from vx_token.system.file_edit import EditFile

RECORD_FILE = "setup.json"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Record:
    """Everything that setup has changed so far.

    Attributes:
        config: the configuration file that setup wrote, "" for none.
        before: the file's text before, None when there was no file.
        after: the SHA-256 of the content that setup wrote.
        hooks: start-up files with a block, and whether setup created them.
        service: whether setup installed the service.
        folders: folders that setup created; undo removes those that are empty.
    """

    config: str = ""
    before: str | None = None
    after: str = ""
    hooks: Mapping[Path, bool] = field(default_factory=dict)
    service: bool = False
    folders: frozenset[Path] = frozenset()

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Record":
        """Read the record; a missing, invalid or newer file gives an empty record.

        Raises:
            ConfigError: the file exists and is not readable; an undo without it would be incomplete for ever.
        """
        data = file_edit.read_if_exists(_path(environ))
        try:
            content = json.loads(data or b"")
            if content.pop("version") != VERSION:
                return cls()
            hooks = {Path(path): bool(created) for path, created in content.pop("hooks").items()}
            folders = frozenset(map(Path, content.pop("folders")))
            return cls(**content, hooks=hooks, folders=folders)
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls()

    def with_changes(
        self, config: EditFile | None, hooks: tuple[EditFile, ...], folders: frozenset[Path], *, service: bool
    ) -> "Record":
        """Return the record with these changes; undo restores the first recorded content of each file."""
        created = {each.path: self.hooks.get(each.path, each.old is None) for each in hooks}
        record = replace(
            self, hooks={**self.hooks, **created}, folders=self.folders | folders, service=self.service or service
        )
        if config is None or config.new is None:
            return record
        before = None if config.old is None else config.old.decode("utf-8-sig")
        if self.config == str(config.path) and config.old is not None and _sum(config.old) == self.after:
            before = self.before
        return replace(record, config=str(config.path), before=before, after=_sum(config.new))

    def write(self, environ: Mapping[str, str]) -> None:
        """Save the record, unless it is empty."""
        if self == Record():
            return
        content = {
            "version": VERSION,
            "config": self.config,
            "before": self.before,
            "after": self.after,
            "hooks": {str(path): created for path, created in self.hooks.items()},
            "service": self.service,
            "folders": sorted(map(str, self.folders)),
        }
        path = _path(environ)
        EditFile(path, file_edit.read_if_exists(path), (json.dumps(content, indent=1) + "\n").encode()).perform()

    def restoration(self, home: Path) -> EditFile | None:
        """Return the step that restores the configuration; None when the user has changed it since."""
        old = file_edit.read_if_exists(Path(self.config)) if self.config else None
        if old is None or _sum(old) != self.after:
            return None
        return EditFile(Path(self.config), old, None if self.before is None else self.before.encode(), below=home)

    def leftovers(self, environ: Mapping[str, str]) -> list[Path]:
        """Return the temporary files of a setup that was killed while it wrote one of its files."""
        written = [*([Path(self.config)] if self.config else []), *self.hooks, _path(environ)]
        return [each for path in written for each in atomic.leftovers(path.resolve())]

    def removal(self, environ: Mapping[str, str], home: Path) -> list[EditFile]:
        """Return the step that removes the record."""
        path = _path(environ)
        old = file_edit.read_if_exists(path)
        return [] if old is None else [EditFile(path, old, None, below=home)]


def _path(environ: Mapping[str, str]) -> Path:
    return paths.state_dir(environ) / RECORD_FILE


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
