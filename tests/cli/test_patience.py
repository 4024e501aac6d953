"""A live token is handed out while a refresh hangs, and nothing that callers do hammers Google."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from sandbox import Box, until
from vx_token.emulator import Emulator
from vx_token.system import atomic

LIMIT = 5.0
"""Seconds that tools give `print`, from its start to its end."""


def timed(box: Box, *words: str) -> tuple[float, "subprocess.CompletedProcess[str]"]:
    started = time.monotonic()
    done = box.vx(*words)
    return time.monotonic() - started, done


def aged(box: Box, google: Emulator) -> str:
    """A live token that is past its time for a refresh: the state says that it is older than it is."""
    google.lifetime = 40.0
    token = box.vx("print").stdout
    state = json.loads(box.read("state.json"))
    for instant in ("issued_at", "expires_at"):
        state["token"][instant] -= 20.5  # half of its life
    state["tried_at"] -= 20.5
    atomic.write(box.runtime / "gemini" / "state.json", json.dumps(state).encode())
    (box.runtime / "gemini" / "peek").unlink()
    return token


def rewritten(box: Box) -> None:
    """The file is another one, with the same login in it."""
    shutil.copy(box.key, box.root / "copy")
    (box.root / "copy").replace(box.key)


@pytest.mark.parametrize("command", [["print"], ["env"], ["exec", "--", "printenv", "OPENAI_API_KEY"]])
def test_a_live_token_is_handed_out_while_the_endpoint_hangs(
    signed_in: Box, google: Emulator, command: list[str]
) -> None:
    signed_in.executed = True  # only a child can be ended
    token = aged(signed_in, google).strip()
    google.fail("token", None, kind="hang")
    before, started = google.count("token"), time.monotonic()
    took, done = timed(signed_in, *command)
    assert done.returncode == 0
    assert token in done.stdout
    assert took < LIMIT
    for _ in range(3):
        assert token in signed_in.vx(*command).stdout
    assert google.count("token") <= before + 1 + (time.monotonic() - started) / 5
    state = json.loads(signed_in.read("state.json"))
    assert (state["failures"], state["failure"]) == (0, None)  # an attempt that was cut short says nothing of Google
    assert signed_in.vx("print", "--min-ttl", "1s").stdout.strip() == token


@pytest.mark.parametrize("kind", ["service_account", "authorized_user"])
def test_a_live_token_is_handed_out_while_the_lock_holder_is_stopped(box: Box, google: Emulator, kind: str) -> None:
    google.credentials(kind, box.key)
    box.profile(url=google.base_url())
    token = box.vx("print").stdout
    google.fail("token", kind="hang")
    with box.start("refresh", stdout=subprocess.DEVNULL) as holder:
        try:
            until(lambda: google.count("token") == 2, what="the request that hangs")
            holder.send_signal(signal.SIGSTOP)
            rewritten(box)
            took, done = timed(box, "print")
        finally:
            holder.kill()
    assert (done.returncode, done.stdout) == (0, token)
    assert took < LIMIT


@pytest.mark.parametrize("kind", ["service_account", "authorized_user"])
def test_a_touched_credential_file_costs_no_live_token(box: Box, google: Emulator, kind: str) -> None:
    google.credentials(kind, box.key)
    box.profile(url=google.base_url())
    token = box.vx("print").stdout
    google.fail("token", None, kind="hang")
    rewritten(box)
    for _ in range(2):
        took, done = timed(box, "print")
        assert (done.returncode, done.stdout) == (0, token)
        assert took < LIMIT
    assert google.count("token") <= 3


def test_a_token_of_another_account_is_not_handed_out_however_long_its_refresh_hangs(
    signed_in: Box, google: Emulator
) -> None:
    token = signed_in.vx("print").stdout.strip()
    google.fail("token", None, kind="hang")
    google.service_account(signed_in.key)
    with signed_in.start("print", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as caller:
        until(lambda: google.count("token") == 2, what="the request that hangs")
        with pytest.raises(subprocess.TimeoutExpired):
            caller.wait(LIMIT)
        caller.kill()
        assert token not in "".join(caller.communicate())


def test_a_file_that_may_be_another_login_is_asked_first(box: Box, google: Emulator) -> None:
    google.authorized_user(box.key)
    box.profile(url=google.base_url())
    assert box.vx("print").returncode == 0
    user = google.authorized_user(box.key)  # such a file does not name its account
    google.fail("token", kind="slow", delay=2.1)
    took, done = timed(box, "print")
    # A busy machine may be slower than the four seconds that it waits.
    assert google.identity_of(done.stdout.strip()) == user or took > 4.0


def test_a_wait_that_was_asked_for_goes_on(signed_in: Box, google: Emulator) -> None:
    google.lifetime = 60.0
    assert signed_in.vx("print").returncode == 0
    google.fail("token", kind="slow", delay=4.0)
    until(lambda: time.time() > google.issued[-1].issued_at + 5)
    google.lifetime = 3600.0
    took, done = timed(signed_in, "print", "--min-ttl", "10m")
    assert (done.returncode, done.stdout) == (0, google.issued[-1].value + "\n")
    assert took > 4


def test_callers_without_a_token_start_one_attempt_in_five_seconds(signed_in: Box, google: Emulator) -> None:
    google.fail("token", None, kind="html")
    assert signed_in.vx("print").returncode == 5
    first = json.loads(signed_in.read("state.json"))["tried_at"]
    while time.time() < first + 3:
        took, done = timed(signed_in, "print")
        assert (done.returncode, done.stdout) == (5, "")
        assert "something that is no token" in done.stderr
        assert took < LIMIT
    assert google.count("token") == 1
    assert signed_in.vx("refresh").returncode == 5
    assert google.count("token") == 2  # `refresh` always asks


def test_callers_that_are_killed_count_as_well(signed_in: Box, google: Emulator) -> None:
    google.fail("token", None, kind="hang")
    for _ in range(2):
        with signed_in.start("print", stdout=subprocess.DEVNULL) as caller:
            until(lambda: google.count("token") == 1, what="the request that hangs")
            began = (signed_in.runtime / "gemini" / "lock").stat().st_mtime
            caller.kill()
    while time.time() < began + 2:
        with signed_in.start("print", stdout=subprocess.DEVNULL) as caller:
            with pytest.raises(subprocess.TimeoutExpired):
                caller.wait(1)
            caller.kill()
    assert google.count("token") == 1
    google.heal()
    assert signed_in.vx("print").stdout == google.issued[-1].value + "\n"
    assert google.issued[-1].issued_at > began + 4


def test_a_changed_credential_file_is_tried_at_once_but_not_a_thousand_times_a_second(
    signed_in: Box, google: Emulator
) -> None:
    google.fail("token", None, kind="html")
    started = time.monotonic()
    with signed_in.start("print", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        assert first.wait(30) == 5
    for _ in range(4):
        os.utime(signed_in.key)
        assert signed_in.vx("print").returncode == 5
    took = time.monotonic() - started
    assert 2 <= google.count("token") <= took + 1


def test_a_token_that_lives_as_long_as_asked_for_only_at_its_birth_is_not_asked_for_at_every_call(
    signed_in: Box, google: Emulator
) -> None:
    started = time.monotonic()
    for _ in range(3):
        signed_in.vx("print", "--min-ttl", "1h")
    assert 1 <= google.count("token") <= 1 + (time.monotonic() - started) / 5


@pytest.mark.parametrize("stuck", ["a folder", "a link"])
def test_a_live_token_needs_no_lock(signed_in: Box, google: Emulator, stuck: str) -> None:
    token = aged(signed_in, google)
    lock = signed_in.runtime / "gemini" / "lock"
    lock.unlink()
    if stuck == "a folder":
        lock.mkdir()
    else:
        lock.symlink_to("elsewhere")
    done = signed_in.vx("print")
    assert (done.returncode, done.stdout) == (0, token)
