"""A reader sees the old content or the new, and nobody else sees either."""

import errno
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox import Box
from vx_token.system import atomic


def only(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_new_content_is_there_and_nothing_else(tmp_path: Path) -> None:
    atomic.write(tmp_path / "token", b"one")
    atomic.write(tmp_path / "token", b"two")
    assert (tmp_path / "token").read_bytes() == b"two"
    assert only(tmp_path) == ["token"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_the_mode_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        atomic.write(tmp_path / "token", b"secret")
        atomic.write(tmp_path / "unit", b"public", 0o644)
    finally:
        os.umask(before)
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "unit").stat().st_mode & 0o777 == 0o644


def test_a_link_is_replaced_and_never_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "token").symlink_to(victim)
    atomic.write(tmp_path / "token", b"secret")
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "token").is_symlink()


def test_a_failed_write_leaves_the_old_content_and_no_remains(tmp_path: Path) -> None:
    (tmp_path / "token").mkdir()
    with pytest.raises(IsADirectoryError):
        atomic.write(tmp_path / "token", b"secret")
    assert only(tmp_path) == ["token"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic.write(tmp_path / "nowhere" / "token", b"secret")


def test_no_reader_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "token"
    contents = [bytes([65 + number]) * (1000 + number) for number in range(20)]
    atomic.write(path, contents[0])
    done = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    rounds = 0
    while rounds < 10 or len(seen) < 2:  # on a busy machine the readers may come late
        rounds += 1
        for content in contents:
            atomic.write(path, content)
    done.set()
    for reader in readers:
        reader.join()
    assert len(seen) > 1
    assert seen <= set(contents)


def test_writers_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    contents = [f"writer {number}".encode() for number in range(8)]
    threads = [threading.Thread(target=atomic.write, args=(tmp_path / "token", content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "token").read_bytes() in contents
    assert only(tmp_path) == ["token"]


@pytest.mark.parametrize(
    ("number", "wanted"),
    [
        (errno.ENOSPC, "free some space there"),
        (errno.EDQUOT, "free some space there"),
        (errno.EROFS, "read-only file system"),
        (errno.EISDIR, "another file or folder is in the way"),
        (errno.ENOTDIR, "another file or folder is in the way"),
        (errno.EACCES, "make it writable"),
        (errno.EIO, "make it writable"),
    ],
)
def test_what_helps_fits_the_error_and_another_folder_always_does(number: int, wanted: str) -> None:
    hint = atomic.remedy(OSError(number, os.strerror(number)))
    assert wanted in hint
    assert ("free some space" in hint) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert hint.endswith("set VX_TOKEN_RUNTIME_DIR to another folder")


def test_a_folder_in_a_files_place_is_named(signed_in: Box) -> None:
    assert signed_in.vx("print").returncode == 0
    state = signed_in.runtime / "gemini" / "state.json"
    state.unlink()
    state.mkdir()
    done = signed_in.vx("refresh")
    assert (done.returncode, done.stdout) == (3, "")
    assert f"cannot write in {state.parent}: Is a directory" in done.stderr
    assert f"hint: another file or folder is in the way: remove {state}, or set VX_TOKEN_RUNTIME_DIR" in done.stderr


@pytest.mark.parametrize(
    ("options", "hint"), [("ro", "read-only file system"), ("nr_inodes=2", "free some space there")]
)
def test_a_folder_that_takes_no_files_is_told_as_what_it_is(
    signed_in: Box, require: Callable[[str], str], options: str, hint: str
) -> None:
    private = [require("unshare"), "--mount", "--propagation", "private"]
    if subprocess.run([*private, "true"], capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    assert signed_in.vx("print").returncode == 0
    folder = signed_in.runtime / "gemini"
    mount = f'mount -t tmpfs -o mode=700,{options} tmpfs "$0" && exec "$@"'
    argv = [*private, "sh", "-c", mount, str(folder)]
    done = subprocess.run(
        [*argv, *signed_in.command("refresh")], env=signed_in.environ, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    assert hint in done.stderr
