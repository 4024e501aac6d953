"""A daemon follows gcloud's accounts: another active configuration, a new login, a revocation."""

import sqlite3
import time
from contextlib import closing

from sandbox import Box, allowance, until
from vx_token.daemon.keeper import FORCED_GAP
from vx_token.emulator import Emulator


def identity(box: Box, google: Emulator, profile: str) -> str:
    """Return the identity of the token in the file, "" without one."""
    token = box.read("token", profile)
    return google.identity_of(token) if token else ""


def soon(started: float, allowed: float) -> bool:
    """Whether a change that began at `started` was quick, for a machine that may have become busier since `allowed`."""
    took = time.monotonic() - started
    return took < allowed or took < allowance()


def test_a_daemon_follows_gclouds_accounts_within_a_second(box: Box, google: Emulator) -> None:
    gcloud = box.home / ".config/gcloud"
    configurations = gcloud / "configurations"
    configurations.mkdir(parents=True)
    first, second = google.gcloud_login(gcloud), google.gcloud_login(gcloud)
    for name, account in (("default", first), ("work", second)):
        (configurations / f"config_{name}").write_text(f"[core]\naccount = {account}\n")
    box.config.write_text('default_profile = "gemini"\n')
    box.profile(url=google.base_url(), credentials=None, account="active")
    box.profile("fixed", url=google.base_url(), credentials=None, account=first)

    def becomes(wanted: str, started: float, allowed: float) -> None:
        until(lambda: identity(box, google, "gemini") == wanted, 30, f"a token of {wanted!r}")
        assert soon(started, allowed)
        assert identity(box, google, "fixed") == first
        time.sleep(FORCED_GAP)  # two attempts are never closer

    with box.daemon():
        until(lambda: identity(box, google, "gemini") == identity(box, google, "fixed") == first)
        time.sleep(FORCED_GAP)
        allowed = allowance()
        started = time.monotonic()
        (gcloud / "active_config").write_text("work")
        becomes(second, started, allowed)
        started = time.monotonic()
        (configurations / "config_work").write_text(f"[core]\naccount = {first}\n")  # a file that is new to the watcher
        becomes(first, started, allowed)
        started = time.monotonic()
        third = google.gcloud_login(gcloud)
        (configurations / "config_work").write_text(f"[core]\naccount = {third}\n")
        becomes(third, started, allowed)
        started = time.monotonic()
        with closing(sqlite3.connect(gcloud / "credentials.db", isolation_level=None)) as database:
            database.execute("DELETE FROM credentials WHERE account_id = ?", (third,))  # gcloud auth revoke
        becomes("", started, allowed)
        until(lambda: "# status: login" in box.read("env.sh"))
        assert f"run: gcloud auth login {third}" in box.read("env.sh")
        started = time.monotonic()
        google.gcloud_login(gcloud, third, **google.directory.add_user(google.token_uri))
        until(lambda: box.read("token"))
        assert soon(started, allowed)


def test_a_shell_that_names_another_account_has_files_of_its_own(box: Box, google: Emulator) -> None:
    gcloud = box.home / ".config/gcloud"
    first, second = google.gcloud_login(gcloud), google.gcloud_login(gcloud)
    (gcloud / "configurations").mkdir()
    (gcloud / "configurations/config_default").write_text(f"[core]\naccount = {first}\n")
    box.profile(url=google.base_url(), credentials=None, account="active")
    with box.daemon():
        until(lambda: identity(box, google, "gemini") == first)
        printed = box.vx("print", "--account", second).stdout.strip()
        assert google.identity_of(printed) == second
        box.environ["CLOUDSDK_CORE_ACCOUNT"] = second
        printed = box.vx("print").stdout.strip()
        assert google.identity_of(printed) == second
        assert identity(box, google, "gemini") == first


def test_a_reauthentication_by_any_command_of_gcloud_ends_a_refusal_within_a_second(box: Box, google: Emulator) -> None:
    gcloud = box.home / ".config/gcloud"
    name = google.gcloud_login(gcloud)
    google.revoke_identity(name, reauth=True)
    box.profile(url=google.base_url(), credentials=None, account=name)
    with box.daemon():
        until(lambda: "# status: login" in box.read("env.sh"))
        assert f"run: gcloud auth login {name}" in box.read("env.sh")
        google.restore_identity(name)
        time.sleep(FORCED_GAP)
        allowed, started = allowance(), time.monotonic()
        (gcloud / "access_tokens.db").write_bytes(b"")
        until(lambda: identity(box, google, "gemini") == name)
        assert soon(started, allowed)
        before = google.count("token")
        (gcloud / "access_tokens.db").write_bytes(b"x")  # as each command of gcloud may, once an hour
        time.sleep(2 * FORCED_GAP)
        assert google.count("token") == before
