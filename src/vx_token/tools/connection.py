"""Plans the edits that connect a tool, and those that take them back."""

import contextlib
import stat
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vx_token.errors import ConfigError
from vx_token.system import file_edit
from vx_token.system.file_edit import EditFile
from vx_token.tools import document, settings
from vx_token.tools.document import NotEditableError
from vx_token.tools.model import Access, SettingsFile
from vx_token.tools.record import FileRecord, Record, checksum
from vx_token.tools.settings import Applied

_SHOWN = 8  # characters; a shorter string under a name such as `key` is no secret


@dataclass(frozen=True, slots=True)
class Plan:
    """Edits of settings files, and the record that undo needs afterwards."""

    edits: tuple[EditFile, ...]
    files: tuple[FileRecord, ...]


def plan(files: Sequence[SettingsFile], access: Access, earlier: Record | None) -> Plan:
    """Return the edits that connect a tool.

    Args:
        files: the tool's settings files.
        access: what they get.
        earlier: the record of an earlier connection, whose settings are replaced.

    Raises:
        NotEditableError: a file cannot be edited safely; the text must be pasted.
        ConfigError: a file cannot be read.
    """
    before = {file.path: file for file in earlier.files} if earlier else {}
    planned = [_planned(file, access, before.pop(file.path, None)) for file in files]
    gone = [edit for file in before.values() if (edit := _undone(file).edit)]
    edits = [edit for edit, _ in planned if edit.old != edit.new or edit.new_mode is not None]
    return Plan((*gone, *edits), tuple(record for _, record in planned))


def in_repositories(plan: Plan, key: str) -> Iterator[tuple[Path, Path]]:
    """Yield the files that get a key inside a git repository, as many dotfiles are, and the repository's folder."""
    for edit in (edit for edit in plan.edits if key and edit.new and key.encode() in edit.new):
        for folder in edit.path.resolve().parents:
            if (folder / ".git").exists():
                yield edit.path, folder
                break


def _planned(file: SettingsFile, access: Access, earlier: FileRecord | None) -> tuple[EditFile, FileRecord]:
    old = file_edit.read_if_exists(file.path)
    base, applied = old, list[Applied]()
    mode = _mode(file.path)
    if earlier and old is not None:
        base = _without(earlier, old)
        mode = earlier.mode

    def put(content: Any) -> Any:
        after, entries = settings.apply(content, file.settings)
        applied.extend(entries)
        return after

    try:
        new = document.changed(base, file.form, put)
    except NotEditableError as error:
        raise NotEditableError(f"{file.path}: {error}") from None
    current = _mode(file.path)
    has_key = bool(access.key) and access.key.encode() in new
    tightened = current & 0o700 if has_key and current is not None and current & 0o077 else None
    folders = earlier.folders if earlier else tuple(_missing(file.path))
    entry = FileRecord(file.path, file.form, base, mode, checksum(new), tuple(applied), folders, file.only_secrets)
    hidden = _secrets(entry, old, new) | ({access.key} if access.key else set())
    return EditFile(file.path, old, new, new_mode=tightened, hidden=hidden), entry


def problem(record: Record, keys: Container[str]) -> str:
    """Return what has broken a tool's connection since; "" if nothing has.

    Args:
        record: the connection.
        keys: the names of the local keys.
    """
    if record.key and record.key not in keys:
        return f"its local key {record.key} was revoked"
    return next(filter(None, map(_changed, record.files)), "")


def _changed(file: FileRecord) -> str:
    content = file_edit.read_if_exists(file.path)
    if content is None:
        return f"{file.path} is gone"
    if checksum(content) == file.after:
        return ""
    try:
        values = document.parsed(content, file.form)
    except NotEditableError:
        return f"{file.path} is no {file.form.upper()} that vx-token can read"
    lost = [".".join(each.setting.path) for each in file.applied if not settings.is_present(values, each)]
    return f"{file.path}: vx-token's setting {lost[0] or 'in the list'} was changed or removed" if lost else ""


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None


def _missing(path: Path) -> Iterator[Path]:
    """Yield the folders that must be created for a file, the innermost first."""
    for folder in path.resolve().parents:
        if folder.exists():
            return
        yield folder


@dataclass(frozen=True, slots=True)
class Undo:
    """How one file is taken back.

    Attributes:
        file: its record.
        edit: the edit, None when nothing is left to take out.
        kept: our settings that were changed since, and stay.
    """

    file: FileRecord
    edit: EditFile | None
    kept: tuple[str, ...] = ()

    def perform(self) -> None:
        """Edit the file, and remove the folders that were created for it if they are empty."""
        if self.edit:
            self.edit.perform()
        for folder in self.file.folders:
            try:
                folder.rmdir()
            except OSError:
                return


def undo(record: Record, environ: Mapping[str, str]) -> list[Undo]:
    """Return how each file of a connected tool is taken back.

    Raises:
        ConfigError: a file that was changed since cannot be edited.
    """
    steps = []
    for file in record.files:
        try:
            steps.append(_undone(file))
        except NotEditableError as error:
            backup = record.backup(environ, file)
            hint = f"take vx-token's settings out by hand{f'; the file before is {backup}' if backup else ''}"
            raise ConfigError(f"cannot edit {file.path}: {error}", hint) from None
    return steps


def _undone(file: FileRecord) -> Undo:
    old = file_edit.read_if_exists(file.path)
    if old is None or old == file.before:
        return Undo(file, None)
    kept: list[str] = []
    new = _without(file, old, kept)
    wrote = file.mode & 0o700 if file.mode is not None else None
    mode = file.mode if file.mode is not None and _mode(file.path) == wrote != file.mode else None
    return Undo(file, EditFile(file.path, old, new, new_mode=mode, hidden=_secrets(file, old, new)), tuple(kept))


def _secrets(file: FileRecord, *contents: bytes | None) -> frozenset[str]:
    hidden: set[str] = set()
    for content in contents:
        with contextlib.suppress(NotEditableError):
            hidden |= set(settings.secrets(document.parsed(content, file.form), is_secret=file.only_secrets))
    return frozenset(each for each in hidden if len(each) >= _SHOWN)


def _without(file: FileRecord, content: bytes, kept: list[str] | None = None) -> bytes | None:
    """Return a file's content without our settings; None when it did not exist and nothing else is in it."""
    if checksum(content) == file.after:
        return file.before
    rest: list[Any] = []

    def take(values: Any) -> Any:
        if values is not None:
            changed_since = settings.withdraw(values, file.applied, is_own_file=file.before is None)
            if kept is not None:
                kept.extend(changed_since)
        rest.append(values)
        return values

    new = document.changed(content, file.form, take)
    return None if file.before is None and not rest[-1] else new
