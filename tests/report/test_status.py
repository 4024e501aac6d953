"""`status` tells how things stand, in a table and in JSON from the same value, and changes nothing."""

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from sandbox import Box, until
from vx_token import __version__
from vx_token.emulator import Emulator

TOP = {"version", "runtime_dir", "config", "config_error", "daemon", "gateway", "profiles", "schema"}
ROW = {
    "profile", "status", "expires_at", "expires_in", "refreshed_at", "next_refresh_at", "failures", "error", "hint",
    "account", "credential", "base_url", "note", "problems",
}  # fmt: skip


def told(box: Box, status: int = 0) -> dict[str, Any]:
    done = box.vx("status", "--json")
    assert done.returncode == status
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.lstat().st_ino, p.lstat().st_mtime_ns) for p in folder.rglob("*")}


def test_the_json_form_has_these_fields(signed_in: Box, google: Emulator) -> None:
    signed_in.refresh()
    found = told(signed_in)
    assert set(found) == TOP
    assert (found["schema"], found["version"], found["daemon"], found["config_error"]) == (1, __version__, None, "")
    assert (found["runtime_dir"], found["config"]) == (str(signed_in.runtime), str(signed_in.config))
    [row] = found["profiles"]
    assert set(row) == ROW
    last = google.issued[-1]
    assert (row["profile"], row["status"], row["credential"]) == ("gemini", "fresh", "service_account")
    assert (row["account"], row["base_url"]) == (last.identity, google.base_url())
    assert abs(row["expires_at"] - last.expires_at) < 2
    assert 3500 < row["expires_in"] <= 3600
    assert row["expires_at"] - 29 * 60 < row["next_refresh_at"] < row["expires_at"] - 25 * 60
    assert abs(row["refreshed_at"] - time.time()) < 10
    assert (row["failures"], row["error"], row["hint"], row["note"], row["problems"]) == (0, "", "", "", [])


def test_status_reads_only(signed_in: Box, google: Emulator) -> None:
    before = snapshot(signed_in.root)
    assert told(signed_in)["profiles"][0]["status"] == "unknown"
    assert signed_in.vx("status").returncode == 0
    assert snapshot(signed_in.root) == before
    signed_in.refresh()
    (signed_in.runtime / "gemini" / "token").unlink()
    before = snapshot(signed_in.root)
    assert told(signed_in)["profiles"][0]["problems"] == [f"{signed_in.runtime}/gemini/token is not up to date"]
    assert snapshot(signed_in.root) == before
    assert google.count("token") == 1


def test_a_failure_shows_what_to_do(box: Box, google: Emulator) -> None:
    user = google.authorized_user(box.key)
    box.profile(url=google.base_url())
    box.refresh()
    google.fail("token", kind="html")
    box.refresh()
    assert box.status()["status"] == "retrying"
    google.revoke_identity(user)
    box.refresh()
    row = box.status()
    assert (row["status"], row["failures"]) == ("login", 2)
    assert row["hint"] == "run: gcloud auth application-default login"
    assert row["expires_in"] > 3500
    text = box.vx("status").stdout
    assert f"gemini: {row['error']}\n  hint: {row['hint']}\n" in text


SPOILED: dict[str, Any] = {
    "a huge number": {"expires_at": 10**400},
    "an instant without a date": {"expires_at": 1e17},
    "a surrogate": {"account": "\ud800", "note": "\ud800"},
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_spoiled_state_breaks_no_command(signed_in: Box, google: Emulator, case: str) -> None:
    signed_in.refresh()
    path = signed_in.runtime / "gemini" / "state.json"
    content = json.loads(path.read_text())
    for command in (("status",), ("status", "--json"), ("doctor",), ("env",), ("print", "--min-ttl", "5m")):
        path.write_text(json.dumps(content | {"token": content["token"] | SPOILED[case]}))
        done = signed_in.vx(*command)
        assert (done.returncode, done.stderr) in {(0, ""), (1, "")}, command
    assert done.stdout.strip() == google.issued[-1].value


def test_an_ended_token_is_told_as_expired(signed_in: Box, google: Emulator) -> None:
    google.lifetime = 1.0
    signed_in.refresh()
    until(lambda: time.time() > google.issued[-1].expires_at, 3)
    row = signed_in.status()
    assert (row["status"], row["expires_at"], row["expires_in"]) == ("expired", 0, 0)


def test_a_token_that_never_came_is_not_told_as_expired(signed_in: Box, google: Emulator) -> None:
    google.fail("token", kind="html")
    signed_in.vx("refresh")
    row = signed_in.status()
    assert (row["status"], row["failures"]) == ("no token", 1)
    done = signed_in.vx("status")
    assert "expired" not in done.stdout
    assert done.returncode == 1


def test_a_refresh_that_failed_ends_with_1_once_no_token_is_left(signed_in: Box, google: Emulator) -> None:
    signed_in.refresh()
    google.fail("token", times=None, status=503)
    signed_in.vx("refresh")
    assert signed_in.vx("status").returncode == 0
    google.heal()
    google.lifetime = 1.0
    signed_in.refresh()
    until(lambda: time.time() > google.issued[-1].expires_at, 3)
    assert signed_in.vx("status").returncode == 0  # nothing has failed: the next command asks for a token
    google.fail("token", times=None, status=503)
    signed_in.vx("refresh")
    assert signed_in.vx("status").returncode == 1


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_needed_login_ends_with_1(box: Box, google: Emulator, form: tuple[str, ...]) -> None:
    user = google.authorized_user(box.key)
    box.profile(url=google.base_url())
    box.vx("refresh")
    assert box.vx("status", *form).returncode == 0
    google.revoke_identity(user)
    box.vx("refresh")  # the old token is alive
    assert box.vx("status", *form).returncode == 1
    google.authorized_user(box.key)
    box.vx("refresh")
    assert box.vx("status", *form).returncode == 0


def test_an_installed_service_that_does_not_run_ends_with_1(signed_in: Box) -> None:
    signed_in.vx("refresh")
    assert signed_in.vx("status").returncode == 0
    unit = signed_in.home / ".config" / "systemd" / "user" / "vx-token.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    done = signed_in.vx("status")
    assert (done.returncode, done.stderr) == (1, "")
    assert "daemon: not running, though the service is installed\n  hint: run: vx-token service start" in done.stdout
    assert signed_in.vx("status", "--json").returncode == 1
    with signed_in.daemon():
        until(lambda: signed_in.vx("status").returncode == 0)


def test_a_gateway_that_is_configured_and_does_not_run_ends_with_1(signed_in: Box) -> None:
    signed_in.vx("refresh")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    signed_in.config.write_text(f"[gateway]\nport = {port}\n" + signed_in.config.read_text())
    assert signed_in.vx("status").returncode == 1
    with signed_in.daemon():
        until(lambda: signed_in.vx("status").returncode == 0)


def test_a_gateway_that_runs_is_asked_with_its_key_though_the_configuration_is_broken(signed_in: Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    signed_in.config.write_text(f"[gateway]\nport = {port}\n" + signed_in.config.read_text())
    with signed_in.daemon():
        until(lambda: signed_in.vx("status").returncode == 0)
        signed_in.config.write_text("colour = 1\n" + signed_in.config.read_text())
        gateway = told(signed_in, 3)["gateway"]
    assert "requests" in gateway


def test_the_last_good_configuration_in_force_is_told(signed_in: Box) -> None:
    sentence = "  the running daemon still uses the last good configuration"
    good = signed_in.config.read_text()
    signed_in.config.write_text(good + "colour = 1\n")
    assert sentence not in signed_in.vx("status").stdout
    signed_in.config.write_text(good)
    with signed_in.daemon():
        signed_in.config.write_text(good + "colour = 1\n")
        done = signed_in.vx("status")
        assert done.returncode == 3
        lines = done.stdout.splitlines()
        assert lines[lines.index(sentence) - 1].startswith("configuration: ")


def test_the_table_is_readable(signed_in: Box, google: Emulator) -> None:
    signed_in.refresh()
    done = signed_in.vx("status")
    assert (done.returncode, done.stderr) == (0, "")
    header, row, empty, daemon = done.stdout.splitlines()
    assert header.split("  ")[0] == "PROFILE"
    assert row.startswith("gemini   fresh ")
    assert google.issued[-1].identity in row
    assert header.index("STATUS") == row.index("fresh")
    assert empty == ""
    assert daemon.startswith("daemon: not running")


def test_a_refused_lifetime_is_noted(box: Box, google: Emulator) -> None:
    google.service_account(box.key)
    google.allow("robot@demo.iam.gserviceaccount.com")
    box.environ["CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS"] = google.url
    box.profile(url=google.base_url(), impersonate="robot@demo.iam.gserviceaccount.com", lifetime="6h")
    assert box.vx("refresh").returncode == 0
    assert "one hour only" in box.status()["note"]
    assert "one hour only" in box.vx("status").stdout


def test_a_broken_configuration_shows_what_is_known_and_ends_with_3(signed_in: Box) -> None:
    signed_in.refresh()
    signed_in.config.write_text(signed_in.config.read_text() + "colour = 1\n")
    found = told(signed_in, 3)
    assert "profiles.gemini.colour is not a known key" in found["config_error"]
    assert [(row["profile"], row["status"]) for row in found["profiles"]] == [("gemini", "fresh")]
    assert "configuration: " in signed_in.vx("status").stdout


def test_a_running_daemon_is_told(signed_in: Box) -> None:
    with signed_in.daemon() as process:
        until(lambda: signed_in.read("token"))
        daemon = told(signed_in)["daemon"]
        assert (daemon["pid"], daemon["version"]) == (process.pid, __version__)
        assert abs(daemon["started_at"] - time.time()) < 20
        assert "daemon: running for " in signed_in.vx("status").stdout
    assert told(signed_in)["daemon"] is None


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_no_form_holds_a_token(signed_in: Box, google: Emulator, form: tuple[str, ...]) -> None:
    signed_in.refresh()
    assert google.issued[-1].value not in signed_in.vx("status", *form).stdout
