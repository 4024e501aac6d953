"""The local key: private, stable, and exchangeable without a restart."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vx_token.errors import ConfigError
from vx_token.gateway.key import KEY_FILE, PREVIOUS_FILE, load_or_create_key, rotate_key
from vx_token.gateway.local_keys import LocalKeys


def test_the_key_is_private_long_and_stable(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "vx-token"
    key = load_or_create_key(folder)
    assert load_or_create_key(folder) == key
    assert key.startswith("vx-local-")
    assert len(key) == len("vx-local-") + 43  # 256 bits in base64
    assert stat.S_IMODE((folder / KEY_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / KEY_FILE).read_text() == key


def test_first_starts_at_once_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = {future.result() for future in [pool.submit(load_or_create_key, tmp_path) for _ in range(64)]}
    assert len(keys) == 1
    program = (
        "import sys, pathlib; from vx_token.gateway.key import *; print(load_or_create_key(pathlib.Path(sys.argv[1])))"
    )
    other = tmp_path / "other"
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(other)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert len({process.communicate()[0] for process in started}) == 1


def test_only_the_key_is_a_key(tmp_path: Path) -> None:
    key = load_or_create_key(tmp_path)
    keys = LocalKeys(tmp_path)
    assert keys(key)
    assert not any(keys(wrong) for wrong in ("", key[:-1], key + "x", "vx-local-", "\udcff", "é"))


def test_a_rotated_key_counts_until_its_grace_ends(tmp_path: Path) -> None:
    now = 1000.0
    keys = LocalKeys(tmp_path, now=lambda: now)
    old = load_or_create_key(tmp_path)
    assert keys(old)
    new = rotate_key(tmp_path, 60.0, now)
    assert new != old
    assert keys(new)
    assert keys(old)
    now = 1060.0
    assert keys(new)
    assert not keys(old)
    assert stat.S_IMODE((tmp_path / PREVIOUS_FILE).stat().st_mode) == 0o600


def test_each_previous_key_counts_to_its_own_end_unless_there_is_no_grace(tmp_path: Path) -> None:
    now = 1000.0
    keys = LocalKeys(tmp_path, now=lambda: now)
    first = load_or_create_key(tmp_path)
    second = rotate_key(tmp_path, 60.0, now)
    third = rotate_key(tmp_path, 10.0, now)
    assert [bool(keys(key)) for key in (first, second, third)] == [True, True, True]
    now = 1010.0
    assert [bool(keys(key)) for key in (first, second, third)] == [True, False, True]
    last = rotate_key(tmp_path, 0.0, now)
    assert [bool(keys(key)) for key in (first, second, third, last)] == [False, False, False, True]
    for _ in range(200):
        old, last = last, rotate_key(tmp_path, 60.0, now)
    assert [bool(keys(key)) for key in (old, last)] == [True, True]


def test_no_grace_ends_the_old_key_at_once(tmp_path: Path) -> None:
    keys = LocalKeys(tmp_path)
    old = load_or_create_key(tmp_path)
    rotate_key(tmp_path, 0.0)
    assert not keys(old)


def test_a_key_file_that_is_gone_locks_nobody_out(tmp_path: Path) -> None:
    keys = LocalKeys(tmp_path)
    key = load_or_create_key(tmp_path)
    assert keys(key)
    (tmp_path / KEY_FILE).unlink()
    assert keys(key)


def test_without_any_key_nobody_gets_in(tmp_path: Path) -> None:
    assert not LocalKeys(tmp_path)("")


@pytest.mark.parametrize("spoil", ["readable", "not a key", "empty"])
def test_a_spoilt_key_file_is_an_error_that_rotation_heals(tmp_path: Path, spoil: str) -> None:
    key = load_or_create_key(tmp_path)
    if spoil == "readable":
        (tmp_path / KEY_FILE).chmod(0o644)
    else:
        (tmp_path / KEY_FILE).write_text("hunter2" if spoil == "not a key" else "")
    with pytest.raises(ConfigError) as error:
        load_or_create_key(tmp_path)
    assert key not in str(error.value)
    new = rotate_key(tmp_path, 60.0)
    keys = LocalKeys(tmp_path)
    assert keys(new)
    assert not keys(key), "a key that others may have read gets no grace"


def test_a_link_is_no_key_file(tmp_path: Path) -> None:
    load_or_create_key(tmp_path / "elsewhere")
    (tmp_path / KEY_FILE).symlink_to(tmp_path / "elsewhere" / KEY_FILE)
    with pytest.raises(OSError, match="symbolic"):
        load_or_create_key(tmp_path)


def test_a_foreign_owner_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    load_or_create_key(tmp_path)
    os.chown(tmp_path / KEY_FILE, 12345, 12345)
    with pytest.raises(ConfigError, match="other users can read"):
        load_or_create_key(tmp_path)
