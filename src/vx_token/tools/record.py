"""What `vx-token connect` changed, tool by tool, and a backup of each file: private files in the state folder."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vx_token.errors import ConfigError
from vx_token.system import atomic, file_edit, paths
from vx_token.tools.settings import Applied

FOLDER = "connections"
VERSION = 1


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A settings file that was edited.

    Attributes:
        path: the file.
        form: its format.
        before: its content before, None when there was no file.
        mode: its mode before, None when there was no file.
        after: the SHA-256 of the content that was written.
        applied: what was put in.
        folders: the folders that were created for it.
        only_secrets: whether all its values are keys.
    """

    path: Path
    form: str
    before: bytes | None = field(repr=False)
    mode: int | None
    after: str
    applied: tuple[Applied, ...]
    folders: tuple[Path, ...] = ()
    only_secrets: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A connected tool.

    Attributes:
        tool: its name.
        since: when it was connected, in epoch seconds.
        profile: the name of the profile.
        model: the id of the model.
        way: `gateway` or `direct`.
        key: the name of the key that was created for it, "" for none.
        files: its settings files.
    """

    tool: str
    since: float
    profile: str
    model: str
    way: str
    key: str
    files: tuple[FileRecord, ...]

    def write(self, environ: Mapping[str, str]) -> None:
        """Save the record and the backups.

        Raises:
            ConfigError: the state folder cannot be written.
        """
        folder = _folder(environ) / self.tool
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for number, file in enumerate(self.files):
                if file.before is not None:
                    atomic.write(folder / _backup(number, file.path), file.before)
            atomic.write(folder / "record.json", (json.dumps(self._as_json(), indent=1) + "\n").encode())
        except OSError as error:
            raise ConfigError(f"cannot write {folder}: {error.strerror}", "make that folder writable") from None

    def remove(self, environ: Mapping[str, str]) -> None:
        """Remove the record and the backups."""
        folder = _folder(environ) / self.tool
        for number, file in enumerate(self.files):
            (folder / _backup(number, file.path)).unlink(missing_ok=True)
        path = folder / "record.json"
        path.unlink(missing_ok=True)
        file_edit.remove_empty_parents(path, _folder(environ).parent)

    def backup(self, environ: Mapping[str, str], file: FileRecord) -> Path | None:
        """Return where the backup of a file is; None when there was no file."""
        number = self.files.index(file)
        return None if file.before is None else _folder(environ) / self.tool / _backup(number, file.path)

    def _as_json(self) -> dict[str, Any]:
        files = [
            {
                "path": str(file.path),
                "form": file.form,
                "existed": file.before is not None,
                "mode": file.mode,
                "after": file.after,
                "applied": [each.as_json() for each in file.applied],
                "folders": [str(folder) for folder in file.folders],
                "only_secrets": file.only_secrets,
            }
            for file in self.files
        ]
        head = {name: getattr(self, name) for name in ("tool", "since", "profile", "model", "way", "key")}
        return {"version": VERSION, **head, "files": files}


def read(environ: Mapping[str, str], tool: str) -> Record | None:
    """Read the record of a tool; None when it is not connected.

    Raises:
        ConfigError: the record is damaged or of another version.
    """
    folder = _folder(environ) / tool
    content = file_edit.read_if_exists(folder / "record.json")
    if content is None:
        return None
    try:
        fields = json.loads(content)
        if fields.pop("version") != VERSION:
            raise ValueError("another version")
        files = tuple(_file(folder, number, each) for number, each in enumerate(fields.pop("files")))
        return Record(**fields, files=files)
    except (ValueError, TypeError, KeyError, AttributeError, OSError):
        hint = f"take the settings out by hand, then remove that folder; backups are in {folder}"
        raise ConfigError(f"the record {folder / 'record.json'} is damaged", hint) from None


def connected(environ: Mapping[str, str]) -> list[str]:
    """Return the names of the connected tools."""
    return sorted(path.parent.name for path in _folder(environ).glob("*/record.json"))


def checksum(content: bytes) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def _file(folder: Path, number: int, fields: dict[str, Any]) -> FileRecord:
    path = Path(fields["path"])
    return FileRecord(
        path=path,
        form=fields["form"],
        before=paths.content(folder / _backup(number, path)) if fields["existed"] else None,
        mode=fields["mode"],
        after=fields["after"],
        applied=tuple(map(Applied.from_json, fields["applied"])),
        folders=tuple(map(Path, fields["folders"])),
        only_secrets=fields["only_secrets"],
    )


def _folder(environ: Mapping[str, str]) -> Path:
    return paths.state_dir(environ) / FOLDER


def _backup(number: int, path: Path) -> str:
    return f"{number}-{re.sub(r'[^A-Za-z0-9._-]', '_', path.name)}.before"
