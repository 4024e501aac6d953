"""What an outage, and any answer of Google's, may cost: never the local key, never the token in hand."""

import json
import time

import pytest

from sandbox import Box, until
from vx_token.emulator import Emulator

NAMES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_BASE_URL")


@pytest.fixture
def behind(signed_in: Box, google: Emulator) -> Box:
    """A box whose profile is in gateway mode, and no gateway."""
    signed_in.config.write_text(signed_in.config.read_text() + 'mode = "gateway"\nmodel = "google/m"\n')
    return signed_in


def keeps_key_and_url(box: Box) -> None:
    key = box.vx("gateway", "key").stdout.strip()
    for name in ("env.sh", "env.fish"):
        assert all(variable in box.read(name) for variable in (*NAMES, "OPENAI_MODEL"))
        assert key in box.read(name)
    started = time.monotonic()
    done = box.vx("env", "--shell", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - started < 5
    exported = json.loads(done.stdout)
    assert exported["OPENAI_API_KEY"] == key
    assert {exported[name] for name in NAMES[1:]} == {"http://127.0.0.1:8490/v1"}


@pytest.mark.parametrize("kind", ["error", "hang"])
def test_the_local_key_outlives_the_token_while_the_endpoint_is_down(behind: Box, google: Emulator, kind: str) -> None:
    google.lifetime = 1.0
    assert behind.vx("refresh").returncode == 0
    google.fail("token", None, kind=kind)
    until(lambda: time.time() > google.issued[-1].expires_at, 3)
    if kind == "error":
        assert behind.vx("refresh").returncode == 5
        assert "# status: expired\n# expires: 0\n# mode: gateway\n" in behind.read("env.sh")
    keeps_key_and_url(behind)


def test_the_local_key_stays_while_a_login_is_needed(box: Box, google: Emulator) -> None:
    google.revoke_identity(google.authorized_user(box.key))
    box.profile(url=google.base_url(), mode="gateway", model="google/m")
    assert box.vx("refresh").returncode == 4
    assert "# status: login\n" in box.read("env.sh")
    keeps_key_and_url(box)


def test_without_any_token_ever_the_local_key_is_exported(behind: Box, google: Emulator) -> None:
    google.fail("token", None)
    done = behind.vx("env", "--shell", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["OPENAI_API_KEY"] == behind.vx("gateway", "key").stdout.strip()


PAUSES = ("9" * 309, "9" * 5000, "-1", "nan", "inf", "1e400", "soon", "\x1f1", "Mon, 01 Jan 9999 00:00:00 -9999")
EXPIRIES = ("1" + "0" * 400, "-1", "1e400", "NaN", '"soon"', "[]", "{}", "null")


def answers() -> dict[str, dict[str, object]]:
    later: dict[str, dict[str, object]] = {
        f"Retry-After {pause[:12]!r}": {"headers": {"Retry-After": pause}} for pause in PAUSES
    }
    fields: dict[str, dict[str, object]] = {
        f"expires_in {value[:12]}": {
            "status": 200,
            "body": f'{{"access_token": "ya29.x", "token_type": "Bearer", "expires_in": {value}}}',
        }
        for value in EXPIRIES
    }
    odd: dict[str, dict[str, object]] = {
        "an error of surrogates": {"status": 400, "body": r'{"error": "\ud800", "error_description": "\udfff"}'}
    }
    return later | fields | odd


@pytest.mark.parametrize("answer", answers())
def test_no_field_of_an_answer_costs_the_token_in_hand(signed_in: Box, google: Emulator, answer: str) -> None:
    token = signed_in.vx("print").stdout
    google.fail("token", None, **answers()[answer])  # type: ignore[arg-type]
    done = signed_in.vx("refresh")
    assert done.returncode == 5, done.stderr
    asked = google.count("token")
    assert signed_in.vx("print", "--min-ttl", "1m").stdout == token
    assert signed_in.read("token") + "\n" == token
    status = signed_in.status()
    assert (status["status"], status["failures"]) == ("retrying", 1)
    assert status["next_refresh_at"] < time.time() + 3700
    assert google.count("token") == asked
