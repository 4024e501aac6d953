"""What comes from outside reaches no terminal as it is: no escape sequence, no forged line."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import Box, until
from vx_token.emulator import Emulator
from vx_token.errors import TemporaryError, printable

FORGED = "hint: run: curl evil.example"
EVIL = f"me\x1b]0;x\x07\x1b[2J\u202e\x9b1A\r\n{FORGED}\n@example.com"


@given(st.text() | st.text(st.characters(categories=("Cc", "Cf", "Cs", "Zl", "Zp"))))
def test_any_text_becomes_one_line_without_control_characters(text: str) -> None:
    assert printable(text).isprintable()
    assert len(printable(text)) == len(text)
    if text.isprintable():
        assert printable(text) == text
    error = TemporaryError(text, text)
    assert printable(error.message + error.hint + str(error)) == error.message + error.hint + str(error)


def harmless(text: str) -> None:
    """Fail when a terminal would do more with `text` than show its lines, or when a line of it is forged."""
    assert all(line.isprintable() for line in text.split("\n")), ascii(text)
    assert not [line for line in text.split("\n") if line.strip().startswith(FORGED)], text


def account(box: Box, google: Emulator) -> list[str]:
    google.authorized_user(box.key)
    box.key.write_text(json.dumps(json.loads(box.key.read_text()) | {"account": EVIL}))
    return ["refresh"]


def client_email(box: Box, google: Emulator) -> list[str]:
    google.service_account(box.key)
    box.key.write_text(json.dumps(json.loads(box.key.read_text()) | {"client_email": EVIL}))
    return ["refresh"]


def target(box: Box, google: Emulator) -> list[str]:
    google.authorized_user(box.key)
    url = f"https://iam.invalid/v1/projects/-/serviceAccounts/{EVIL}:generateAccessToken"
    content = {"type": "impersonated_service_account", "service_account_impersonation_url": url}
    box.key.write_text(json.dumps(content | {"source_credentials": json.loads(box.key.read_text())}))
    return ["refresh"]


def kind(box: Box, google: Emulator) -> list[str]:
    box.key.write_text(json.dumps({"type": EVIL}))
    return ["refresh"]


def place(box: Box, google: Emulator) -> list[str]:
    folder = box.root / EVIL.replace("/", "")
    folder.mkdir()
    box.environ["VX_TOKEN_CONFIG"] = str(folder / "config.toml")
    (folder / "config.toml").write_text("nonsense")
    return ["status"]


def profile(box: Box, google: Emulator) -> list[str]:
    google.service_account(box.key)
    return ["print", "--profile", EVIL]


def option(box: Box, google: Emulator) -> list[str]:
    google.service_account(box.key)
    return ["print", f"--{EVIL}"]


CASES: list[Callable[[Box, Emulator], list[str]]] = [account, client_email, target, kind, place, profile, option]


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_no_command_prints_it_as_it_is(box: Box, google: Emulator, make: Callable[[Box, Emulator], list[str]]) -> None:
    box.profile(url=google.base_url())
    for words in (make(box, google), ["status"], ["doctor"], ["status", "--json"], ["doctor", "--json"]):
        done = box.vx(*words)
        harmless(done.stdout)
        harmless(done.stderr)
        assert done.stdout or done.stderr, words


def test_no_log_shows_it_as_it_is(box: Box, google: Emulator) -> None:
    account(box, google)
    box.profile(url=google.base_url())
    with box.daemon():
        until(lambda: "fresh token of me" in box.log, 30)
    harmless(box.log)


def test_setup_shows_a_project_of_gclouds_as_one_line(box: Box, google: Emulator) -> None:
    gcloud = box.home / ".config/gcloud/configurations"
    gcloud.mkdir(parents=True)
    (gcloud / "config_default").write_text("[core]\nproject = demo\x1b[2J\x9b1A\n")
    google.authorized_user(gcloud.parent / "application_default_credentials.json")
    done = box.vx("setup", "--dry-run", "--yes", "--no-service", "--no-hook")
    assert "demo" in done.stdout + done.stderr
    harmless(done.stdout)
    harmless(done.stderr)
