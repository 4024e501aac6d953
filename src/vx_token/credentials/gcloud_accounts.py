"""Reads the logins of `gcloud auth login` from gcloud's database, without ever changing it.

Source: googlecloudsdk/core/credentials/creds.py of gcloud 528. The table `credentials` of `credentials.db` has a row
for each account: the account, or `account#universe` outside googleapis.com, and JSON of the form of a credential file.
The table `access_tokens` of `access_tokens.db` has the proof of a user's last reauthentication.
"""

import contextlib
import json
import shlex
import stat
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vx_token.errors import ConfigError, LoginNeededError, TemporaryError, VxTokenError
from vx_token.system import paths

if TYPE_CHECKING:
    import sqlite3

LOGIN = "gcloud auth login"

BUSY_TIMEOUT = 2.0
"""Seconds to wait while gcloud writes; a write takes milliseconds."""

_UNKNOWN_FORM = "use the other login: gcloud auth application-default login, and remove `account`"


def database(environ: Mapping[str, str]) -> Path:
    """Return gcloud's database, which need not exist."""
    return paths.gcloud_dir(environ) / "credentials.db"


def access_tokens(path: Path) -> Path:
    """Return the database with the proofs of reauthentication beside the database at `path`."""
    return path.with_name("access_tokens.db")


def accounts(path: Path) -> list[str]:
    """Return the accounts in the database at `path`, oldest first.

    Raises:
        LoginNeededError, TemporaryError, ConfigError: see `login`.
    """
    with _opened(path, "") as connection:
        rows = connection.execute("SELECT account_id FROM credentials ORDER BY rowid").fetchall()
        return [str(account) for (account,) in rows]


def login(path: Path, account: str) -> dict[str, Any]:
    """Return the login of `account` in the database at `path`, in the form of a credential file; it has secrets.

    Raises:
        LoginNeededError: there is no such login.
        TemporaryError: the database is locked, or a change to it was interrupted.
        ConfigError: the database is damaged, cannot be read, or has an unknown form.
    """
    key, value = _row(path, account)
    try:
        content = json.loads(value)
    except (ValueError, TypeError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} has a malformed login of {account}", login_hint(account))
    if proof := _reauthentication(access_tokens(path), key):
        content["rapt_token"] = proof
    return content


def checksum(path: Path, account: str) -> str:
    """Return the checksum of an account's login, or "" if it cannot be read."""
    try:
        value = _row(path, account)[1]
    except VxTokenError:
        return ""
    return f"{zlib.crc32(value.encode() if isinstance(value, str) else bytes(value)):08x}"


def login_hint(account: str) -> str:
    """Return the hint with the command that logs in to gcloud as `account`."""
    name = account.partition("#")[0]
    if name.endswith(".gserviceaccount.com"):
        return f"run: gcloud auth activate-service-account {shlex.quote(name)} --key-file=KEY.json"
    return f"run: {LOGIN} {shlex.quote(name)}" if name else f"run: {LOGIN}"


def _row(path: Path, account: str) -> tuple[str, Any]:
    """Return the row of `account`; a name without a universe also means its only login in another universe."""
    with _opened(path, account) as connection:
        query = "SELECT account_id, value FROM credentials WHERE account_id = ?1 OR substr(account_id, 1, ?2) = ?3"
        rows = dict(connection.execute(query, (account, len(account) + 1, f"{account}#")).fetchall())
    if account in rows or len(rows) == 1:
        key = account if account in rows else next(iter(rows))
        return key, rows[key]
    if rows:
        raise ConfigError(
            f"{path} has several logins of {account}", f"set account to one of: {', '.join(sorted(rows))}"
        )
    raise LoginNeededError(f"gcloud has no login of {account}", login_hint(account))


def _reauthentication(path: Path, key: str) -> str:
    """Return the proof of the last reauthentication, which some organisations demand; "" without one."""
    with contextlib.suppress(VxTokenError), _opened(path, "") as connection:
        row = connection.execute("SELECT rapt_token FROM access_tokens WHERE account_id = ?", (key,)).fetchone()
        return row[0] if row and isinstance(row[0], str) else ""
    return ""


@contextlib.contextmanager
def _opened(path: Path, account: str) -> Iterator["sqlite3.Connection"]:
    """Open the database read-only; raise what is wrong with it in one sentence."""
    import sqlite3  # here, because only profiles with an account need it: 2 MiB and 4 ms

    try:
        if not stat.S_ISREG(path.stat().st_mode):  # SQLite would wait for a pipe
            raise ConfigError(f"{path} is no regular file", _UNKNOWN_FORM)
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise LoginNeededError(f"gcloud has no logins: {path} does not exist", login_hint(account)) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", f"check its permissions: ls -l {path}") from None
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT)
        ) as connection:
            try:
                yield connection
            except sqlite3.Error as error:
                raise _problem(path, account, error, connection) from None
    except sqlite3.Error as error:
        raise _problem(path, account, error, None) from None


def _problem(path: Path, account: str, error: "sqlite3.Error", connection: "sqlite3.Connection | None") -> VxTokenError:
    """Return what an error of SQLite means."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        hint = "wait until the gcloud command that writes it has ended; vx-token retries automatically"
        return TemporaryError(f"{path} is locked by another program", hint)
    if name.startswith("SQLITE_READONLY"):
        hint = "run: gcloud auth list, which completes it; vx-token retries automatically"
        return TemporaryError(f"{path} has a change that was interrupted", hint)
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return ConfigError(f"{path} is damaged", f"move it away, then {login_hint(account)}")
    if connection is not None and _is_empty(connection):
        return LoginNeededError(f"gcloud has no logins: {path} is empty", login_hint(account))
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_PERM")):
        return TemporaryError(f"{path} cannot be read", "check the disk and the permissions of its folder")
    return ConfigError(f"{path} has an unknown form, perhaps that of a newer gcloud", _UNKNOWN_FORM)


def _is_empty(connection: "sqlite3.Connection") -> bool:
    import sqlite3

    try:
        return not connection.execute("SELECT 1 FROM sqlite_master").fetchall()
    except sqlite3.Error:
        return False
