"""One refresh path: however many ask at once, Google is asked once, and all get the same answer."""

import fcntl
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from sandbox import Box, until
from vx_token.emulator import Emulator

if TYPE_CHECKING:
    import forked

CROWD = 64


@contextmanager
def crowd(box: Box, *words: str, size: int = CROWD) -> Iterator[list["forked.Command"]]:
    """Many of the same command, all let go at the moment when each of them waits for the profile's lock."""
    path = box.runtime / "gemini" / "lock"
    with path.open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        members = [box.fork(*words) for _ in range(size)]
        until(lambda: all(waits(member, str(path)) for member in members), 40, "everybody at the lock")
    try:
        yield members
    finally:
        for member in members:
            member.kill()
            member.communicate()


def waits(process: "forked.Command", lock: str) -> bool:
    """Whether it has the lock's file open."""
    return any(file.path == lock for file in psutil.Process(process.pid).open_files())


def answers(members: "list[forked.Command]") -> set[tuple[int, str, str]]:
    """The different answers: exit status, stdout, stderr."""
    texts = [member.communicate(timeout=40) for member in members]
    return {(member.wait(), *text) for member, text in zip(members, texts, strict=True)}


def expire(box: Box, google: Emulator) -> float:
    """Let a token come and end, the next one lives an hour; the seconds that the command took."""
    google.lifetime = 1.0
    started = time.monotonic()
    assert box.vx("refresh").returncode == 0
    took = time.monotonic() - started
    until(lambda: time.time() > google.issued[-1].expires_at, 3)
    google.lifetime = 3600.0
    return took


@pytest.fixture
def expired(signed_in: Box, google: Emulator) -> Box:
    """A box that has had a token, which has ended; the next one lives an hour."""
    expire(signed_in, google)
    return signed_in


def test_64_prints_with_an_expired_token_make_one_request(expired: Box, google: Emulator) -> None:
    before = google.count("token")
    with crowd(expired, "print") as members:
        found = answers(members)
    assert google.count("token") == before + 1
    assert found == {(0, google.issued[-1].value + "\n", "")}


def test_a_crowd_of_prints_shares_one_failure(expired: Box, google: Emulator) -> None:
    google.fail("token", None, kind="html")
    before = google.count("token")
    with crowd(expired, "print", size=16) as members:
        found = answers(members)
    assert google.count("token") == before + 1
    [(status, said, told)] = found
    assert (status, said) == (5, "")
    assert "something that is no token" in told


def test_a_crowd_of_refreshes_makes_one_request(expired: Box, google: Emulator) -> None:
    before = google.count("token")
    with crowd(expired, "refresh", size=16) as members:
        found = answers(members)
    assert google.count("token") == before + 1
    assert {status for status, _, _ in found} == {0}


def test_a_crowd_of_commands_meets_in_one_request(expired: Box, google: Emulator) -> None:
    before = google.count("token")
    with (
        crowd(expired, "env", size=4) as envs,
        crowd(expired, "print", "--format", "json", size=4) as prints,
    ):
        assert {status for status, _, _ in answers(envs) | answers(prints)} == {0}
    assert google.count("token") == before + 1


def test_a_refresh_that_follows_another_asks_again(signed_in: Box, google: Emulator) -> None:
    assert [signed_in.vx("refresh").returncode for _ in range(2)] == [0, 0]
    assert google.count("token") == 2
    assert signed_in.read("token") == google.issued[-1].value


def test_a_fresh_token_is_printed_while_a_slow_refresh_is_under_way(signed_in: Box, google: Emulator) -> None:
    first = signed_in.vx("print").stdout
    google.fail("token", kind="slow", delay=12.0)
    with signed_in.start("refresh", stdout=subprocess.DEVNULL) as refresh:
        until(lambda: google.count("token") == 2, what="the slow request")
        assert signed_in.vx("print").stdout == first
        assert signed_in.vx("print", "--min-ttl", "10m").stdout == first
        assert (refresh.poll(), google.count("token", 200)) == (None, 1)
        assert refresh.wait(40) == 0
    assert signed_in.vx("print").stdout == google.issued[-1].value + "\n" != first


def test_a_print_waits_for_a_slow_refresh_and_takes_its_token(expired: Box, google: Emulator) -> None:
    before = google.count("token")
    google.fail("token", kind="slow", delay=1.0)
    with expired.start("refresh", stdout=subprocess.DEVNULL) as refresh:
        until(lambda: google.count("token") == before + 1, what="the slow request")
        assert expired.vx("print").stdout == google.issued[-1].value + "\n"
        assert refresh.wait(10) == 0
    assert google.count("token") == before + 1


def test_a_killed_lock_holder_stops_nobody(signed_in: Box, google: Emulator) -> None:
    expire(signed_in, google)
    before = google.count("token")
    google.fail("token", kind="hang")
    with signed_in.start("refresh") as holder:
        until(lambda: google.count("token") == before + 1, what="the request that hangs")
        holder.send_signal(signal.SIGKILL)
        holder.wait(30)
    started = time.monotonic()
    assert signed_in.vx("print").stdout == google.issued[-1].value + "\n"
    assert time.monotonic() - started < 3


def test_a_process_stopped_while_it_refreshes_harms_nothing(signed_in: Box, google: Emulator) -> None:
    google.fail("token", kind="slow", delay=0.5)
    with signed_in.start("refresh", stdout=subprocess.PIPE) as stopped:
        until(lambda: google.count("token") == 1, what="the request")
        stopped.send_signal(signal.SIGSTOP)
        until(lambda: google.count("token", 200) == 1, what="the answer")
        stopped.send_signal(signal.SIGCONT)
        assert stopped.wait(5) == 0
    assert signed_in.read("token") == google.issued[-1].value
    assert google.count("token") == 1


def test_a_failure_leaves_the_token_and_its_files(signed_in: Box, google: Emulator) -> None:
    first = signed_in.vx("print").stdout
    google.fail("token", None, kind="html")
    assert signed_in.vx("refresh").returncode == 5
    assert signed_in.read("token") + "\n" == signed_in.vx("print").stdout == first
    assert "# status: retrying\n" in signed_in.read("env.sh")
    assert f"OPENAI_API_KEY='{first.strip()}'" in signed_in.read("env.sh")
    google.heal()
    assert signed_in.vx("refresh").returncode == 0
    assert "# status: fresh\n" in signed_in.read("env.sh")


def test_all_profiles_are_refreshed_when_asked(signed_in: Box, google: Emulator) -> None:
    text = signed_in.config.read_text()
    signed_in.config.write_text('default_profile = "gemini"\n' + text)
    signed_in.profile("other", url=google.base_url())
    done = signed_in.vx("refresh", "--all")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["gemini", "other"]
    assert {signed_in.read("token"), signed_in.read("token", "other")} == {one.value for one in google.issued}


def test_another_default_profile_has_the_link_default_at_the_next_command(signed_in: Box, google: Emulator) -> None:
    signed_in.profile("other", url=google.base_url())
    profiles = signed_in.config.read_text()
    signed_in.config.write_text(f'default_profile = "gemini"\n{profiles}')
    assert signed_in.vx("refresh", "--all").returncode == 0
    assert (signed_in.runtime / "default").readlink() == Path("gemini")
    signed_in.config.write_text(f'default_profile = "other"\n{profiles}')
    token = signed_in.vx("print").stdout.strip()
    assert (signed_in.runtime / "default").readlink() == Path("other")
    assert (signed_in.runtime / "default" / "token").read_text() == token
    assert len(google.issued) == 2


def test_a_profile_that_fails_keeps_none_from_being_refreshed(box: Box, google: Emulator) -> None:
    google.service_account(box.key)
    box.config.write_text('default_profile = "good"\n')
    for name, file in (("away", "gone.json"), ("good", str(box.key)), ("junk", "junk.json")):
        box.profile(name, url=google.base_url(), credentials=file)
    (box.root / "junk.json").write_text("{}")
    done = box.vx("refresh", "--all")
    assert done.returncode == 3
    assert done.stdout.startswith("good: fresh token, ")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["vx-token", "hint", "vx-token", "hint"]
    assert f"vx-token: away: the credential file {box.root}/gone.json does not exist" in done.stderr


def test_a_state_file_that_was_spoiled_is_forgotten(signed_in: Box, google: Emulator) -> None:
    path = signed_in.runtime / "gemini" / "state.json"
    assert signed_in.vx("print").returncode == 0
    for junk in (b"", b"{", b"[]", b"null", b'{"version": 99}', b"\xff\xfe", path.read_bytes()[:100]):
        path.write_bytes(junk)
        done = signed_in.vx("print", "--format", "json")
        assert (done.returncode, done.stderr) == (0, "")
        assert signed_in.read("token") == google.issued[-1].value
