"""The files of a profile's setting `files`: written where the user wants them, and recorded to recognise them later."""

import contextlib
import errno
import fcntl
import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from vx_token.config import templates
from vx_token.config.model import OutputFile
from vx_token.errors import ConfigError
from vx_token.outputs import files, shell
from vx_token.outputs.exports import fields, header_lines, variables
from vx_token.outputs.files import Snapshot
from vx_token.system import atomic, safe_path
from vx_token.system.private_file import private_text

FOLDER = "files"
"""The folder of the records, in the state folder."""

KEPT = 4
"""Checksums kept for each file: a process that was killed, or that raced with another, wrote one of the last."""

LOCK_WAIT = 1.0
"""Seconds to wait for another process that writes; a stopped one must not stop this one."""

SERVICE_HINT = "if the service may not write there, run: vx-token service install"

Record = Mapping[str, list[str]]
"""Path -> checksums of the contents that vx-token wrote there."""


def render(file: OutputFile, snapshot: Snapshot) -> str | None:
    """Return the file's content; None means that the file must not exist, because there is no valid key.

    Raises:
        ConfigError: the gateway's key cannot be read, or a field of the template has no value.
    """
    if snapshot.key_problem:
        raise ConfigError(snapshot.key_problem, "")
    profile, token = snapshot.profile, snapshot.token
    values = fields(profile, token, snapshot.key, snapshot.url, snapshot.urls)
    if not values:
        return None
    key = values["token"]
    match file.format:
        case "token":
            return key
        case "header":
            return header_lines(token) if token and not snapshot.key else f"Authorization: Bearer {key}\n"
        case "dotenv":
            return shell.assignments("dotenv", variables(profile, token, snapshot.key, snapshot.url, snapshot.urls))
        case "json":
            names = ("token", "expires_at", "profile", "base_url", "model")
            return json.dumps({name: values[name] or None for name in names}, indent=2) + "\n"
        case "netrc":
            return f"machine {urlsplit(values['base_url']).hostname} login oauth2accesstoken password {key}\n"
    if empty := templates.empty_fields(file.format, values):
        raise ConfigError(f"{file.path} is not written: {empty[0]} is not set, and its template needs it", "")
    return templates.fill(file.format, values)


@dataclass(frozen=True)
class TemplateFiles:
    """The files of one profile.

    Attributes:
        record: the file that records what was written; it outlives a reboot, as the files do.
    """

    record: Path

    def publish(self, snapshot: Snapshot) -> dict[str, str]:
        """Update each file, and remove those that are no longer configured; an error stops no other file.

        Returns:
            The errors by path.
        """
        wanted, errors = snapshot.profile.files, dict[str, str]()
        record = read_record(self.record)
        if record.keys() - {file.path for file in wanted}:
            self.withdraw(keep={file.path for file in wanted})
        for file in wanted:
            try:
                self._update(file, render(file, snapshot), snapshot)
            except OSError as error:
                hint = f"; {SERVICE_HINT}" if error.errno == errno.EROFS else ""
                errors[file.path] = f"cannot write {file.path}: {error.strerror or error}{hint}"
            except ConfigError as error:
                errors[file.path] = error.message
        return errors

    def problems(self, snapshot: Snapshot) -> dict[str, str]:
        """Return the outdated or foreign files with a message, by path; changes nothing."""
        errors, record = dict[str, str](), read_record(self.record)
        for file in snapshot.profile.files:
            try:
                content = render(file, snapshot)
                if content is not None:
                    _require_writable(file, content, record)
                    if not files.up_to_date(Path(file.path), content, file.mode):
                        errors[file.path] = f"{file.path} is not up to date; {SERVICE_HINT}"
                elif _written_by_us(Path(file.path), record):
                    errors[file.path] = f"{file.path} contains an expired token; {SERVICE_HINT}"
            except OSError as error:
                errors[file.path] = f"cannot read {file.path}: {error.strerror or error}"
            except ConfigError as error:
                errors[file.path] = error.message
        return errors

    def withdraw(self, keep: frozenset[str] | set[str] = frozenset()) -> None:
        """Remove all recorded files but those to `keep`; a file that was changed since stays. Needs no lock."""
        record, left = read_record(self.record), dict[str, list[str]]()
        for path, checksums in record.items():
            try:
                if path in keep:
                    left[path] = checksums
                elif _written_by_us(Path(path), record):
                    Path(path).unlink()
            except OSError:
                left[path] = checksums
        with contextlib.suppress(OSError):
            if not left:
                self.record.unlink(missing_ok=True)
                self.record.parent.rmdir()  # fails while other profiles have records
            elif left != record:
                atomic.write(self.record, _encoded(left))

    def _update(self, file: OutputFile, content: str | None, snapshot: Snapshot) -> None:
        path = Path(file.path)
        if content is None:
            if _written_by_us(path, read_record(self.record)):
                files.update(path, None, ())
            return
        if files.up_to_date(path, content, file.mode) and _written_by_us(path, read_record(self.record)):
            return
        with self._locked():
            record = read_record(self.record)
            _require_writable(file, content, record)
            # Recorded first, so that a file is recognised even if this process is killed after writing it.
            extended = _encoded({**record, file.path: _extended(record.get(file.path, []), content)})
            try:
                atomic.write(self.record, extended)
            except OSError:
                if not (_written_by_us(path, record) and files.removable(path, snapshot.valid)):
                    raise
                files.update(path, None, ())  # an expired token must not stay
                atomic.write(self.record, extended)  # the removal may have freed space
            files.update(path, content, snapshot.valid, file.mode)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the record's folder, which is created first; go on without it after LOCK_WAIT."""
        for folder in (self.record.parent.parent, self.record.parent):  # a parent made by the way would be 0755
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.record.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            end = time.monotonic() + LOCK_WAIT
            while time.monotonic() < end:
                with contextlib.suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(0.02)
            yield
        finally:
            os.close(descriptor)


def record_file(state: Path, profile: str) -> Path:
    """Return the record of a profile's files in the state folder."""
    return state / FOLDER / f"{profile}.json"


def written_files(state: Path) -> list[Path]:
    """Return all files that vx-token wrote and that nothing changed since, as the records in the state folder say."""
    written: list[Path] = []
    for path in sorted((state / FOLDER).glob("*.json")):
        record = read_record(path)
        with contextlib.suppress(OSError):
            written += [Path(name) for name in record if _written_by_us(Path(name), record)]
    return written


def read_record(path: Path) -> Record:
    """Return a record; a missing or invalid file gives an empty one."""
    try:
        content = json.loads(private_text(path))
        return {str(name): [str(checksum) for checksum in checksums] for name, checksums in content.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _encoded(record: Record) -> bytes:
    return (json.dumps(record, indent=1) + "\n").encode()


def _checksum(content: str) -> str:
    # Not a hash of hashlib, because that loads OpenSSL; a checksum recognises a file as well, and reveals no token.
    data = content.encode()
    return f"{zlib.crc32(data):08x}-{len(data)}"


def _extended(checksums: list[str], content: str) -> list[str]:
    return [*(each for each in checksums if each != _checksum(content)), _checksum(content)][-KEPT:]


def _written_by_us(path: Path, record: Record) -> bool:
    """Whether the file exists with a content that vx-token wrote."""
    try:
        return _checksum(private_text(path)) in record.get(str(path), ())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        if path.is_symlink() or not path.is_file():
            return False
        raise


def _require_writable(file: OutputFile, content: str, record: Record) -> None:
    """Check that the folder is safe for secrets, and that no file of the user's would be overwritten.

    Raises:
        ConfigError: the message gives the reason and the remedy.
    """
    path = Path(file.path)
    part, problem = safe_path.unsafe_part(str(path.parent))
    if part:
        raise ConfigError(f"{path} is not written: {part} {problem}; make it yours alone: chmod go-w {part}", "")
    if not path.parent.is_dir():
        raise ConfigError(f"{path} is not written: the folder {path.parent} does not exist", "")
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_file():
        raise ConfigError(f"{path} is not written: it is a link or no regular file, which vx-token never replaces", "")
    if not (file.adopt or _written_by_us(path, record) or files.up_to_date(path, content, file.mode)):
        remedy = "remove it, or set adopt = true"
        raise ConfigError(f"{path} is not written: vx-token did not make it, or it was changed since; {remedy}", "")
