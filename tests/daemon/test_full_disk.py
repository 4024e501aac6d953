"""A write error loses no token, and an expired token is removed from the files despite obstacles."""

import contextlib
import http.client
import json
import os
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox import Box, until
from vx_token.emulator import Emulator

FILES = ("token", "header", "env.sh", "env.fish")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


def holds(box: Box, secret: str) -> list[str]:
    """The files that hold it."""
    return [name for name in (*FILES, "peek") if secret in box.read(name)]


def folder(path: Path) -> None:
    """Something that is no file, and not easily replaced, in the place of one."""
    path.unlink(missing_ok=True)
    (path / "sub").mkdir(parents=True)


def expired_in_time(box: Box, token: str, expires_at: float) -> None:
    """Wait for its end, and see that no file holds it a second later."""
    until(lambda: time.time() > expires_at, 60)
    until(lambda: not holds(box, token), 1.0, f"withdrawal from {holds(box, token)}")


@pytest.mark.parametrize("name", ["lock", "state.json"])
def test_an_expired_token_leaves_the_files_when_something_stands_in_the_way(
    signed_in: Box, google: Emulator, name: str
) -> None:
    signed_in.executed = True  # the daemon leaves only a child alone while google-auth tries again
    google.lifetime = 8.0
    with signed_in.daemon():
        token = until(lambda: signed_in.read("token"))
        until(lambda: len(holds(signed_in, token)) == 5)
        google.fail("token", None)
        folder(signed_in.runtime / "gemini" / name)
        expired_in_time(signed_in, token, google.issued[-1].expires_at)
        google.heal()
        google.lifetime = 3600.0
        until(lambda: holds(signed_in, google.issued[-1].value) == [*FILES, "peek"], 60, "the next token")
        wanted = f"{signed_in.runtime}/gemini/{name} is no regular file: remove it"
        assert wanted in signed_in.status()["problems"]
        before = google.count("token", 200)
        assert signed_in.vx("path", "token").returncode == 0
        assert google.count("token", 200) == before  # it is known although it could not be written


def test_an_expired_token_leaves_the_files_without_a_descriptor(signed_in: Box, google: Emulator) -> None:
    signed_in.executed = True
    google.lifetime = 8.0
    with signed_in.daemon() as process:
        token = until(lambda: signed_in.read("token"))
        until(lambda: len(holds(signed_in, token)) == 5)
        before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, before[1]))  # whatever opens a file now fails
        expired_in_time(signed_in, token, google.issued[-1].expires_at)
        lines = len(signed_in.log.splitlines())
        google.lifetime = 3600.0
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
        until(lambda: holds(signed_in, google.issued[-1].value) == [*FILES, "peek"], 60, "the next token")
    assert lines < 30


def test_an_expired_token_leaves_files_in_a_folder_that_cannot_be_written(signed_in: Box, google: Emulator) -> None:
    google.lifetime = 8.0
    with signed_in.daemon():
        token = until(lambda: signed_in.read("token"))
        until(lambda: len(holds(signed_in, token)) == 5)
        google.fail("token", None)
        (signed_in.runtime / "gemini").chmod(0o777)  # nobody may publish there any more
        try:
            expired_in_time(signed_in, token, google.issued[-1].expires_at)
        finally:
            (signed_in.runtime / "gemini").chmod(0o700)


# --- a file system that is full --------------------------------------------------------------------------------------


@dataclass
class Small(Box):
    """A box whose runtime folder is a separate, private file system."""

    executed: bool = True  # in the mount namespace
    holder: int = 0
    limit: str = ""

    def command(self, *words: str) -> list[str]:
        return ["nsenter", f"--mount=/proc/{self.holder}/ns/mnt", *super().command(*words)]

    @property
    def inside(self) -> Path:
        return Path(f"/proc/{self.holder}/root{self.runtime}")


@contextlib.contextmanager
def mounted(box: Small) -> Iterator[Small]:
    box.runtime.mkdir(mode=0o700)
    script = f'mount -t tmpfs -o mode=0700,{box.limit} tmpfs "$1" && echo ready && exec sleep 1000'
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(box.runtime)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            box.holder = holder.pid
            yield box
        finally:
            holder.kill()


@pytest.fixture(params=["size=256k", "nr_inodes=40"])
def small(tmp_path: Path, google: Emulator, request: pytest.FixtureRequest) -> Iterator[Small]:
    """A signed-in box with little room: few bytes, or few files."""
    box = Small(tmp_path, limit=request.param)
    google.service_account(box.key)
    box.profile(url=google.base_url())
    with mounted(box) as ready:
        yield ready


def fill(box: Small) -> bool:
    """Take what room there is; whether there was none."""
    try:
        if box.limit.startswith("size"):
            with (box.inside / "hog").open("ab", buffering=0) as hog:
                hog.write(bytes(4096))
        else:
            (box.inside / f"hog-{time.monotonic_ns()}").touch(exist_ok=False)
    except OSError:
        return True
    return False


@contextlib.contextmanager
def filled(box: Small) -> Iterator[None]:
    """No room while this lasts, whatever is removed."""
    over, full = threading.Event(), threading.Event()

    def work() -> None:
        while not over.is_set():
            if fill(box):
                full.set()
                over.wait(0.001)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert full.wait(10)
        yield
    finally:
        over.set()
        thread.join()
        for hog in box.inside.glob("hog*"):
            hog.unlink()


@as_root
def test_an_expired_token_leaves_the_files_of_a_full_disk(small: Small, google: Emulator) -> None:
    google.lifetime = 12.0
    with small.daemon():
        token = until(lambda: small.read("token"))
        until(lambda: len(holds(small, token)) == 5)
        google.lifetime = 3600.0
        with filled(small):
            problems = small.status()["problems"]
            expired_in_time(small, token, google.issued[0].expires_at)
            until(lambda: f"cannot write in {small.runtime}/gemini" in small.log, 60)
        assert f"cannot write in {small.runtime}/gemini: No " in problems[0]
        assert "left on device" in problems[0]
        count = google.count("token", 200)
        until(lambda: holds(small, google.issued[-1].value) == [*FILES, "peek"], 90, "the kept token")
        assert google.count("token", 200) == count == 2  # the token that could not be written was kept


@as_root
def test_print_prints_a_token_that_cannot_be_written(small: Small, google: Emulator) -> None:
    google.lifetime = 1.0
    assert small.vx("refresh").returncode == 0
    until(lambda: time.time() > google.issued[-1].expires_at, 3)
    google.lifetime = 3600.0
    started = time.monotonic()
    with filled(small):
        for _ in range(2):
            done = small.vx("print")
            assert (done.returncode, done.stdout) == (0, google.issued[-1].value + "\n")
    assert google.count("token") <= 2 + (time.monotonic() - started) / 5


@as_root
def test_the_gateway_serves_a_token_that_cannot_be_written(small: Small, google: Emulator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    small.config.write_text(f"[gateway]\nport = {port}\n{small.config.read_text()}")
    google.lifetime = 12.0
    with small.daemon():
        until(lambda: len(holds(small, google.issued[-1].value)) == 5 if google.issued else False)
        key = small.vx("gateway", "key").stdout.strip()
        google.lifetime = 3600.0
        with filled(small):
            until(lambda: time.time() > google.issued[0].expires_at + 1, 30)
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            with contextlib.closing(connection):
                body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
                headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
                connection.request("POST", "/v1/chat/completions", body, headers)
                assert connection.getresponse().status == 200
            assert google.count("token", 200) == 2
