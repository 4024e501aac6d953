"""The logins of `gcloud auth login`, from a database in the form that gcloud 528 writes."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from forked import fetch_here
from vx_token.config.model import Profile
from vx_token.credentials import credential_file, gcloud_accounts
from vx_token.emulator import Emulator
from vx_token.errors import ConfigError, LoginNeededError, TemporaryError, VxTokenError

ME = "me@work.example"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """gcloud's folder without any login."""
    (tmp_path / "gcloud/configurations").mkdir(parents=True)
    return tmp_path / "gcloud"


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {"CLOUDSDK_CONFIG": str(folder), "NO_GCE_CHECK": "true", **more}


def profile(account: str = ME, **settings: Any) -> Profile:
    return Profile("gemini", "demo", account=account, **settings)


def add(folder: Path, account: str, value: bytes | str, table: str = "credentials") -> None:
    with closing(sqlite3.connect(folder / "credentials.db", isolation_level=None)) as database:
        database.execute(f'CREATE TABLE IF NOT EXISTS "{table}" (account_id TEXT PRIMARY KEY, value BLOB)')
        database.execute(f'REPLACE INTO "{table}" VALUES (?,?)', (account, value))


def activate(folder: Path, account: str, name: str = "default") -> None:
    (folder / f"configurations/config_{name}").write_text(f"[core]\naccount = {account}\n")
    (folder / "active_config").write_text(name)


@pytest.mark.parametrize("kind", ["authorized_user", "service_account"])
def test_a_login_of_gcloud_gives_a_token_and_its_account(folder: Path, google: Emulator, kind: str) -> None:
    google.gcloud_login(folder, "other@example.com")
    identity = google.gcloud_login(folder, kind=kind)
    token = fetch_here(profile(identity), environment(folder))
    assert google.identity_of(token.value) == identity == token.account
    assert token.kind == kind


def test_a_federated_login_of_gcloud_gives_a_token(folder: Path, google: Emulator) -> None:
    identity = google.external_account(folder / "pool.json", folder / "subject")
    google.gcloud_login(folder, "principal://pool/subject", **json.loads((folder / "pool.json").read_text()))
    token = fetch_here(profile("principal://pool/subject"), environment(folder))
    assert google.identity_of(token.value) == identity
    assert token.account == "principal://pool/subject"


def test_an_account_can_impersonate(folder: Path, google: Emulator) -> None:
    identity, target = google.gcloud_login(folder), "robot@demo.iam.gserviceaccount.com"
    google.allow(target)
    environ = environment(folder, CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS=google.url)
    token = fetch_here(profile(identity, impersonate=target), environ)
    assert (google.identity_of(token.value), token.account, token.kind) == (target, target, "impersonated")


def test_the_active_account_is_that_of_gclouds_configuration(folder: Path, google: Emulator) -> None:
    first, second = google.gcloud_login(folder), google.gcloud_login(folder)
    activate(folder, first)
    activate(folder, second, "work")
    active = profile("active")
    assert credential_file.find(active, environment(folder))[0].account == second
    assert credential_file.find(active, environment(folder, CLOUDSDK_ACTIVE_CONFIG_NAME="default"))[0].account == first
    assert credential_file.find(active, environment(folder, CLOUDSDK_CORE_ACCOUNT=first))[0].account == first


def test_an_impersonation_of_gclouds_configuration_is_refused_with_the_setting_that_follows_it(
    folder: Path, google: Emulator
) -> None:
    account, target = google.gcloud_login(folder), "robot@demo.iam.gserviceaccount.com"
    activate(folder, account)
    environ = environment(folder)
    with (folder / "configurations/config_default").open("a") as file:
        file.write(f"[auth]\nimpersonate_service_account = {target}\n")
    with pytest.raises(ConfigError, match=f"active configuration impersonates {target}") as raised:
        credential_file.find(profile("active"), environ)
    assert f'set impersonate = "{target}" in the profile' in raised.value.hint
    assert credential_file.find(profile("active", impersonate=target), environ)[0].target == target
    # A named account is that account, whatever is active.
    assert credential_file.find(profile(account), environ)[0].target == ""


def test_no_active_account_is_told_with_the_command_that_helps(folder: Path, google: Emulator) -> None:
    google.gcloud_login(folder)
    with pytest.raises(LoginNeededError, match="gcloud has no active account") as raised:
        credential_file.find(profile("active"), environment(folder))
    assert "gcloud config set account" in raised.value.hint


def test_an_account_of_another_universe_is_found_by_its_whole_name_or_alone(folder: Path) -> None:
    add(folder, f"{ME}#apis.example", '{"type": "service_account", "project_id": "there"}')
    for name in (ME, f"{ME}#apis.example"):
        login, content = credential_file.find(profile(name), environment(folder))
        assert (login.account, content["project_id"]) == (ME, "there")
    add(folder, f"{ME}#cloud.example", '{"type": "service_account"}')
    with pytest.raises(ConfigError, match="several logins") as raised:
        credential_file.find(profile(), environment(folder))
    assert f"{ME}#apis.example" in raised.value.hint
    add(folder, ME, '{"type": "service_account", "project_id": "here"}')
    assert credential_file.find(profile(), environment(folder))[1]["project_id"] == "here"


def test_names_that_look_like_patterns_match_nothing_else(folder: Path) -> None:
    add(folder, "me@work.example", '{"type": "authorized_user"}')
    for name in ("%", "me_work.example", "me@work.exampl", "ME@work.example' --"):
        with pytest.raises(LoginNeededError, match="has no login of"):
            credential_file.find(profile(name), environment(folder))


def test_the_proof_of_a_reauthentication_is_sent_along(folder: Path) -> None:
    add(folder, ME, '{"type": "authorized_user"}')
    assert "rapt_token" not in credential_file.find(profile(), environment(folder))[1]
    with closing(sqlite3.connect(folder / "access_tokens.db", isolation_level=None)) as database:
        columns = (
            "account_id TEXT PRIMARY KEY, access_token TEXT, token_expiry TIMESTAMP, rapt_token TEXT, id_token TEXT"
        )
        database.execute(f"CREATE TABLE access_tokens ({columns})")
        database.execute("INSERT INTO access_tokens VALUES (?, 'ya29.x', NULL, 'proof', NULL)", (ME,))
    before = gcloud_accounts.checksum(folder / "credentials.db", ME)
    assert credential_file.find(profile(), environment(folder))[1]["rapt_token"] == "proof"
    assert gcloud_accounts.checksum(folder / "credentials.db", ME) == before != ""
    (folder / "access_tokens.db").write_bytes(b"junk" * 2000)
    assert "rapt_token" not in credential_file.find(profile(), environment(folder))[1]


def test_a_database_with_a_log_of_changes_is_read_with_the_newest(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "credentials.db", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        add(folder, ME, '{"type": "authorized_user"}')
        assert credential_file.find(profile(), environment(folder))[0].account == ME
        assert folder / "credentials.db-wal" in credential_file.credential_files(profile(), environment(folder))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    with closing(sqlite3.connect(folder / "credentials.db", isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield


def interrupted(folder: Path) -> None:
    """A writer that is killed in the middle of a change that has reached the disk."""
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "c.execute('PRAGMA cache_size = 1'); c.execute('BEGIN IMMEDIATE'); "
        "c.executemany('INSERT INTO credentials VALUES (?, ?)', [(str(n), 'x' * 1000) for n in range(500)]); "
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder / "credentials.db")], check=False)
    assert (folder / "credentials.db-journal").exists()


def recreated(folder: Path, content: bytes) -> None:
    (folder / "credentials.db").write_bytes(content)


def with_another_form(folder: Path) -> None:
    (folder / "credentials.db").unlink()
    add(folder, ME, "{}", table="logins")


def replaced(folder: Path, make: Callable[[Path], None]) -> None:
    (folder / "credentials.db").unlink()
    make(folder / "credentials.db")


def remove(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "credentials.db", isolation_level=None)) as database:
        database.execute("DELETE FROM credentials WHERE account_id = ?", (ME,))


PROBLEMS: dict[str, tuple[Callable[[Path], object], type[VxTokenError], str, str]] = {
    "missing": (lambda f: (f / "credentials.db").unlink(), LoginNeededError, "does not exist", f"auth login {ME}"),
    "empty": (lambda f: recreated(f, b""), LoginNeededError, "is empty", f"auth login {ME}"),
    "revoked": (remove, LoginNeededError, f"no login of {ME}", f"auth login {ME}"),
    "no database": (lambda f: recreated(f, b"junk" * 4000), ConfigError, "is damaged", "move it away"),
    "cut off": (lambda f: recreated(f, (f / "credentials.db").read_bytes()[:5000]), ConfigError, "is damaged", "move"),
    "of a newer gcloud": (with_another_form, ConfigError, "unknown form", "application-default login"),
    "a folder": (lambda f: replaced(f, Path.mkdir), ConfigError, "no regular file", "application-default login"),
    "a pipe": (lambda f: replaced(f, os.mkfifo), ConfigError, "no regular file", "application-default login"),
    "no JSON": (lambda f: add(f, ME, "{"), ConfigError, f"malformed login of {ME}", "auth login"),
    "no object": (lambda f: add(f, ME, b"[]"), ConfigError, f"malformed login of {ME}", "auth login"),
    "bytes": (lambda f: add(f, ME, b"\xff\xfe"), ConfigError, f"malformed login of {ME}", "auth login"),
    "a key of the old kind": (
        lambda f: add(f, ME, '{"type": "service_account_p12"}'),
        ConfigError,
        "is a P12 key",
        f"gcloud auth activate-service-account {ME} --key-file=KEY.json",
    ),
    "a new kind": (lambda f: add(f, ME, '{"type": "retina"}'), ConfigError, "'retina'", "remove `account`"),
    "interrupted": (interrupted, TemporaryError, "interrupted", "gcloud auth list"),
}  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_database_that_cannot_be_read_is_told_in_a_sentence_and_stays_as_it_is(folder: Path, problem: str) -> None:
    spoil, error, message, hint = PROBLEMS[problem]
    for name in (ME, "other@example.com"):
        add(folder, name, json.dumps({"type": "authorized_user", "refresh_token": "x" * 3000}))
    spoil(folder)
    before = contents(folder)
    with pytest.raises(error, match=message) as raised:
        credential_file.find(profile(), environment(folder))
    assert hint in raised.value.hint
    assert contents(folder) == before
    described = credential_file.describe_login(profile(), environment(folder))
    assert described is not None
    assert (described.problem, described.hint) == (raised.value.message, raised.value.hint)


def test_a_database_that_stays_locked_is_worth_a_retry(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcloud_accounts, "BUSY_TIMEOUT", 0.05)
    add(folder, ME, '{"type": "authorized_user"}')
    with locked(folder), pytest.raises(TemporaryError, match="is locked by another program"):
        credential_file.find(profile(), environment(folder))
    assert credential_file.find(profile(), environment(folder))[0].account == ME


def test_the_accounts_are_listed_in_the_order_of_their_logins(folder: Path, google: Emulator) -> None:
    names = [google.gcloud_login(folder), google.gcloud_login(folder)]
    assert gcloud_accounts.accounts(gcloud_accounts.database(environment(folder))) == names
