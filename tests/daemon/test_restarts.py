"""A daemon that is killed, stopped, frozen and started again, while readers read on."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from sandbox import Box, until
from vx_token.emulator import Emulator


@dataclass
class Reader:
    """Reads the files on and on, as tools do, and writes down whatever was not whole."""

    box: Box
    reads: int = 0
    wrong: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def look(self) -> None:
        self.reads += 1
        folder = self.box.runtime / "default"
        try:
            token = (folder / "token").read_text()
            header = (folder / "header").read_text()
            snippet = (folder / "env.sh").read_text()
        except OSError as error:
            self.wrong.append(f"{error.filename}: {error.strerror}")
            return
        self.tokens.add(token)
        if len(token) != 180 or len(header) != 203 or not header.endswith("\n"):
            self.wrong.append(f"{len(token)} and {len(header)} characters")
        if not (snippet.startswith("# vx-token env.sh 1\n") and snippet.endswith("'\n# end\n")):
            self.wrong.append(f"a part of env.sh: {len(snippet)} characters")


@contextmanager
def reading(box: Box) -> Iterator[Reader]:
    """A reader at work in a thread."""
    reader, done = Reader(box), threading.Event()

    def work() -> None:
        while not done.is_set():
            reader.look()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield reader
    finally:
        done.set()
        thread.join()


def test_no_reader_notices_a_daemon_that_is_killed_and_started_again(signed_in: Box, google: Emulator) -> None:
    assert signed_in.vx("print").returncode == 0
    with reading(signed_in) as reader:
        for _ in range(6):
            before = signed_in.read("token")
            with signed_in.start("run", stderr=subprocess.PIPE) as process:
                assert process.stderr is not None
                assert "keeps gemini fresh" in process.stderr.readline()
                process.send_signal(signal.SIGHUP)
                until(lambda before=before: signed_in.read("token") != before, 15, "a new token")  # type: ignore[misc]
                process.send_signal(signal.SIGKILL)
                process.wait(5)
            assert reader.wrong == []
    assert reader.reads > 500
    assert reader.tokens <= {issued.value for issued in google.issued}
    assert len(reader.tokens) >= 5


def test_what_a_killed_daemon_left_is_cleaned_up_or_used(signed_in: Box, google: Emulator) -> None:
    with signed_in.start("run") as process:
        until(lambda: signed_in.read("env.fish"))
        process.send_signal(signal.SIGKILL)
        process.wait(5)
    assert signed_in.vx("status", "--json").returncode == 0
    assert "daemon: not running" in signed_in.vx("status").stdout
    with signed_in.daemon():
        until(lambda: "fresh token" in signed_in.log)
        assert signed_in.vx("print").stdout.strip() == google.issued[-1].value
    assert google.count("token") == 1


def test_a_token_that_ended_while_nobody_ran_is_replaced_at_the_start(signed_in: Box, google: Emulator) -> None:
    google.lifetime = 1.0
    assert signed_in.vx("refresh").returncode == 0
    old = signed_in.read("token")
    until(lambda: time.time() > google.issued[-1].expires_at, 3)
    google.lifetime = 3600.0
    with signed_in.daemon():
        until(lambda: signed_in.read("token") == google.issued[-1].value != old)


def test_a_daemon_that_was_frozen_longer_than_a_token_lives_serves_none_that_ended(
    signed_in: Box, google: Emulator
) -> None:
    signed_in.config.write_text(signed_in.config.read_text() + 'refresh_margin = "1s"\n')
    google.lifetime = 6.0  # so that the daemon rests for some seconds in which it can be frozen
    with signed_in.daemon() as process:
        until(lambda: "fresh token" in signed_in.log)  # told when all is written and the lock is free
        process.send_signal(signal.SIGSTOP)
        end = max(issued.expires_at for issued in google.issued)
        until(lambda: time.time() > end + 0.2, 15)
        beside = signed_in.vx("print")  # no other process refreshes it now
        assert beside.returncode == 0
        assert google.issued[-1].value == beside.stdout.strip()
        assert google.issued[-1].issued_at > end
        end = google.issued[-1].expires_at
        until(lambda: time.time() > end + 0.2, 15)
        google.lifetime = 3600.0
        process.send_signal(signal.SIGCONT)
        until(lambda: signed_in.read("token") == google.issued[-1].value and google.issued[-1].issued_at > end, 5)
        assert google.issued[-1].expires_at > time.time()


def test_a_frozen_daemon_that_holds_the_lock_is_waited_for_and_the_live_token_served(
    signed_in: Box, google: Emulator
) -> None:
    token = signed_in.vx("print").stdout
    google.fail("token", kind="slow", delay=4.0)
    with signed_in.daemon() as process:
        until(lambda: "keeps" in signed_in.log)
        process.send_signal(signal.SIGHUP)
        until(lambda: google.count("token") == 2, what="the slow request")
        process.send_signal(signal.SIGSTOP)
        assert signed_in.vx("print").stdout == token
        assert signed_in.vx("print", "--min-ttl", "30m").stdout == token
        process.send_signal(signal.SIGCONT)
        until(lambda: signed_in.read("token") == google.issued[-1].value)


def test_a_child_that_is_killed_costs_one_try(signed_in: Box, google: Emulator) -> None:
    signed_in.executed = True
    google.fail("token", kind="hang")
    with signed_in.daemon() as process:
        until(lambda: google.count("token"))
        for child in psutil.Process(process.pid).children():
            child.kill()
        until(lambda: signed_in.read("token") == google.issued[-1].value if google.issued else False, 8)
        assert process.poll() is None
    assert "ended without an answer" in signed_in.log


def test_many_restarts_leave_nothing_behind(signed_in: Box, google: Emulator) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        with signed_in.start("run") as process:
            until(lambda: signed_in.read("env.fish"))
            os.kill(process.pid, number)
            process.wait(30)
    with signed_in.daemon():
        until(lambda: signed_in.read("peek") and "fresh token" in signed_in.log)
    folder = signed_in.runtime / "gemini"
    # What a writer left that was killed is swept away once it is a minute old; a kill seldom comes in time for that.
    (folder / f".token.{'a' * 12}").touch()
    for path in folder.glob(".*"):
        os.utime(path, (0, 0))
    assert signed_in.vx("refresh").returncode == 0
    assert {path.name for path in folder.iterdir()} == {
        "token",
        "header",
        "env.sh",
        "env.fish",
        "state.json",
        "lock",
        "peek",
    }
    assert {path.name for path in signed_in.runtime.iterdir()} == {"gemini", "default", ".daemon.lock"}
    assert google.count("token") == 2


def test_only_what_has_no_writer_any_more_is_swept_away(signed_in: Box) -> None:
    assert signed_in.vx("refresh").returncode == 0
    old, young = (signed_in.runtime / "gemini" / name for name in (".token.aaaaaaaaaaaa", ".token.bbbbbbbbbbbb"))
    old.write_text("old")
    young.write_text("young")
    os.utime(old, (0, 0))
    assert signed_in.vx("refresh").returncode == 0
    assert not old.exists()
    assert young.exists()
