"""A needed login causes few attempts, is shown by every command and runs on_login_needed once."""

import json
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fakes import FakeClock, FakeGoogle
from sandbox import Box, until
from vx_token.config.model import Config, Profile
from vx_token.daemon.keeper import keep_fresh
from vx_token.emulator import Emulator
from vx_token.errors import LoginNeededError
from vx_token.outputs.publisher import Publisher
from vx_token.system.clock import Wake
from vx_token.tokens.refresh import Refresher
from vx_token.tokens.store import Store

COMMAND = "run: gcloud auth application-default login"


@pytest.fixture
def refused(box: Box, google: Emulator) -> Box:
    """A user whose company wants a new login; on_login_needed appends its notice to a file."""
    google.revoke_identity(google.authorized_user(box.key), reauth=True)
    record = f"open({str(box.root / 'told')!r}, 'a').write(__import__('os').environ['VX_TOKEN_NOTICE'] + '\\n')"
    box.profile(url=google.base_url(), on_login_needed=[sys.executable, "-c", record])
    return box


def told(box: Box) -> list[str]:
    path = box.root / "told"
    return path.read_text().splitlines() if path.exists() else []


def waits(box: Box) -> bool:
    return "# status: login" in box.read("env.sh")


def test_a_day_of_waiting_and_asking_costs_a_try_every_five_minutes(tmp_path: Path) -> None:
    clock, wake = FakeClock(), Wake()
    (tmp_path / "key.json").write_text("{}")
    profile = Profile("gemini", "demo", credentials=str(tmp_path / "key.json"))
    google = FakeGoogle(clock)
    google.error = LoginNeededError("Google wants you to log in again", COMMAND)
    config = Config(tmp_path / "config.toml", {"gemini": profile}, "gemini")
    publisher = Publisher(Store(tmp_path / "run"), clock, config)
    refresher = Refresher(publisher.store, clock, google, {}, config, publisher.publish)

    def ask() -> None:
        with pytest.raises(LoginNeededError):
            refresher.current(profile)

    for second in range(5, 86400, 60):
        clock.at(second, ask)
    clock.at(86400, wake.stop)
    keep_fresh(profile, refresher, publisher, wake, lambda _: None)
    assert min(google.gaps) >= 300
    assert len(google.asked) > 200


def test_neither_restarts_nor_callers_make_another_try(refused: Box, google: Emulator) -> None:
    for _ in range(3):
        with refused.daemon():
            until(lambda: waits(refused))
            done = refused.vx("print")
            assert (done.returncode, done.stdout) == (4, "")
            assert "log in again" in done.stderr
            assert f"hint: {COMMAND}\n" in done.stderr
    assert google.count("token") == 1


def test_it_is_in_status_and_in_the_snippet(refused: Box) -> None:
    with refused.daemon():
        until(lambda: waits(refused))
        row = refused.status()
        assert (row["status"], row["hint"]) == ("login", COMMAND)
        assert "log in again" in row["error"]
        assert f"hint: {COMMAND}" in refused.vx("status").stdout
        notice = next(line for line in refused.read("env.sh").splitlines() if line.startswith("# notice: "))
        assert notice.endswith(COMMAND)
        assert notice in refused.read("env.fish")


@contextmanager
def manager(box: Box) -> Iterator[Callable[[], str]]:
    """systemd's end of the notification socket: gives the newest STATUS."""
    seen = [""]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(box.root / "notify"))
        end.setblocking(False)
        box.environ["NOTIFY_SOCKET"] = str(box.root / "notify")

        def status() -> str:
            try:
                lines = end.recv(65536).decode().splitlines()
            except BlockingIOError:
                return seen[0]
            seen[0] = next((line for line in lines if line.startswith("STATUS=")), seen[0])
            return seen[0]

        yield status


def test_it_is_in_the_managers_status_line_until_somebody_logs_in(refused: Box, google: Emulator) -> None:
    with manager(refused) as status, refused.daemon():
        until(lambda: "log in again" in status() and COMMAND in status())
        google.authorized_user(refused.key)
        until(lambda: "min left, next refresh" in status())


def test_the_command_runs_once_per_episode_and_not_again_after_a_restart(refused: Box, google: Emulator) -> None:
    with refused.daemon() as process:
        until(lambda: len(told(refused)) == 1)
        before = google.count("token")
        process.send_signal(signal.SIGHUP)  # a try that somebody asked for
        until(lambda: google.count("token") == before + 1)
        until(lambda: refused.log.count("log in again") >= 2)
    with refused.daemon():
        until(lambda: waits(refused))
        until(lambda: refused.log.count("keeps gemini") == 2)
        assert len(told(refused)) == 1
        identity = google.authorized_user(refused.key)
        until(lambda: "# status: fresh" in refused.read("env.sh"))
        assert google.identity_of(refused.read("token")) == identity
        google.revoke_identity(identity, reauth=True)
        assert refused.vx("refresh").returncode == 4  # the next day
        until(lambda: len(told(refused)) == 2)
    assert all(line.endswith(COMMAND) for line in told(refused))


def test_a_lost_network_in_between_starts_no_new_episode(refused: Box, google: Emulator) -> None:
    with refused.daemon() as process:
        until(lambda: len(told(refused)) == 1)
        google.fail("token", kind="reset")
        process.send_signal(signal.SIGHUP)
        until(lambda: refused.log.count("log in again") >= 2, 15)
    assert len(told(refused)) == 1


def test_the_token_of_a_login_that_is_gone_is_not_served_in_the_next_ones_place(box: Box, google: Emulator) -> None:
    google.authorized_user(box.key)
    box.profile(url=google.base_url())
    with box.daemon():
        until(lambda: box.read("token"))
        other = box.root / "other.json"
        google.revoke_identity(google.authorized_user(other))
        other.replace(box.key)
        until(lambda: waits(box))
        assert box.read("token") == ""
        assert "export" not in box.read("env.sh")
        assert box.vx("print").returncode == 4


def test_a_refused_refresh_of_the_same_login_leaves_its_live_token(box: Box, google: Emulator) -> None:
    identity = google.authorized_user(box.key)
    box.profile(url=google.base_url())
    with box.daemon():
        token = until(lambda: box.read("token"))
        google.revoke_identity(identity, reauth=True)
        box.vx("refresh")
        until(lambda: waits(box))
        assert box.read("token") == token
        assert box.vx("print").stdout.strip() == token
        assert json.loads(box.vx("print", "--format", "json").stdout)["token"] == token


def test_the_token_of_another_account_is_gone_even_while_google_cannot_be_asked(box: Box, google: Emulator) -> None:
    google.service_account(box.key)
    box.profile(url=google.base_url())
    with box.daemon():
        until(lambda: box.read("token"))
        google.fail("token", None, kind="reset")  # at a 503 google-auth itself tries for four seconds
        other = box.root / "other.json"
        account = google.service_account(other)
        other.replace(box.key)
        until(lambda: not box.read("token") and "export" not in box.read("env.sh"), 5)
        assert box.vx("print").returncode == 5
        google.heal()
        assert box.vx("refresh").returncode == 0
        assert google.identity_of(box.read("token")) == account


@pytest.mark.parametrize("again", ["service_account", "authorized_user"])
def test_a_login_that_may_be_the_same_persons_leaves_the_live_token_meanwhile(
    box: Box, google: Emulator, again: str
) -> None:
    """A key that was written anew, or a user's login, whose file does not say whose it is."""
    getattr(google, again)(box.key)
    box.profile(url=google.base_url())
    with box.daemon():
        token = until(lambda: box.read("token"))
        google.fail("token", None)
        other = box.root / "other.json"
        if again == "authorized_user":
            google.authorized_user(other)
        else:
            other.write_bytes(box.key.read_bytes() + b"\n")
        other.replace(box.key)
        until(lambda: "# status: retrying" in box.read("env.sh"))
        assert box.vx("print").stdout.strip() == box.read("token") == token
