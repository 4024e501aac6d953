"""Where things are kept, and which folders are no safe place for a secret."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE

import pytest

from sandbox import SOURCE
from vx_token.config.model import Profile
from vx_token.credentials.credential_file import credential_file
from vx_token.errors import ConfigError
from vx_token.system import paths, safe_path
from vx_token.tokens.store import Store

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")


def test_our_own_variables_name_every_place() -> None:
    environ = {"VX_TOKEN_CONFIG": "/a/c.toml", "VX_TOKEN_RUNTIME_DIR": "/b"}
    assert paths.config_file(environ) == Path("/a/c.toml")
    assert paths.state_dir(environ) == Path("/a")
    assert paths.runtime_dir(environ) == Path("/b")


def test_relative_names_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths.runtime_dir({"VX_TOKEN_RUNTIME_DIR": "run"}) == tmp_path / "run"
    assert paths.config_file({"VX_TOKEN_CONFIG": "c.toml"}) == tmp_path / "c.toml"


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"HOME": "/h"}, "/h/.config/vx-token/config.toml"),
        ({"HOME": "/h", "XDG_CONFIG_HOME": "/x"}, "/x/vx-token/config.toml"),
        ({"HOME": "/h", "XDG_CONFIG_HOME": ""}, "/h/.config/vx-token/config.toml"),
    ],
)
def test_the_configuration_is_looked_for_where_the_platform_keeps_it(environ: dict[str, str], path: str) -> None:
    assert str(paths.config_file(environ)) == path


def test_the_quick_way_and_platformdirs_agree_on_the_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import platformdirs

    for name in ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.config_file(os.environ) == platformdirs.user_config_path("vx-token") / "config.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "c"))
    assert paths.config_file(os.environ) == platformdirs.user_config_path("vx-token") / "config.toml"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert paths.runtime_dir(os.environ) == tmp_path / "vx-token"


@pytest.mark.parametrize("mode", [0o770, 0o720, 0o702, 0o777])
@pytest.mark.parametrize("name", ["xdg", f"runtime-{os.geteuid()}"])
def test_a_runtime_folder_that_others_may_write_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    if name != "xdg" and Path(f"/run/user/{os.geteuid()}").is_dir():
        pytest.skip("this user has a folder in /run/user, which comes first")
    (tmp_path / name).mkdir()
    (tmp_path / name).chmod(mode)
    with pytest.raises(ConfigError, match="can be written by others"):
        paths.runtime_dir({"XDG_RUNTIME_DIR": str(tmp_path / "xdg"), "TMPDIR": str(tmp_path)})


def test_a_link_in_the_folder_for_temporary_files_is_refused(tmp_path: Path) -> None:
    if Path(f"/run/user/{os.geteuid()}").is_dir():
        pytest.skip("this user has a folder in /run/user, which comes first")
    link(tmp_path / f"runtime-{os.geteuid()}")
    with pytest.raises(ConfigError, match="not a folder that belongs to you"):
        paths.runtime_dir({"TMPDIR": str(tmp_path)})


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"HOME": "/h"}, "/h/.config/gcloud/application_default_credentials.json"),
        ({"HOME": "/h", "CLOUDSDK_CONFIG": "/sdk"}, "/sdk/application_default_credentials.json"),
    ],
)
def test_gclouds_login_is_where_gcloud_writes_it(environ: dict[str, str], path: str) -> None:
    assert str(paths.gcloud_credentials(environ)) == path


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_a_folder_is_made_for_us_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        paths.secure_folder(tmp_path / "run")
        paths.secure_folder(tmp_path / "run" / "deep" / "deeper")
    finally:
        os.umask(before)
    for folder in ("run", *(["run/deep", "run/deep/deeper"] if umask != 0o777 else [])):
        assert (tmp_path / folder).stat().st_mode & 0o7777 == 0o700


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o711, 0o500])
def test_a_folder_of_ours_that_others_only_read_is_closed(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    paths.secure_folder(tmp_path)
    assert tmp_path.stat().st_mode & 0o7777 == 0o700


def refused(folder: Path) -> str:
    with pytest.raises(ConfigError) as found:
        paths.secure_folder(folder)
    assert found.value.exit_code == 3
    assert str(folder) in found.value.message
    assert found.value.hint
    return found.value.message


@pytest.mark.parametrize("mode", [0o770, 0o720, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    assert "can be written by others" in refused(tmp_path)
    assert tmp_path.stat().st_mode & 0o7777 == mode


@as_root
def test_somebody_elses_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, -1)
    assert "belongs to another user" in refused(folder)


@as_root
def test_a_folder_that_we_may_not_enter_is_told_with_a_hint(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    os.seteuid(12345)
    try:
        with pytest.raises(ConfigError, match=r"cannot use the folder .*Permission denied") as found:
            Store(tmp_path / "run").read("gemini")
        assert credential_file(Profile("gemini"), {"CLOUDSDK_CONFIG": str(tmp_path / "gcloud")}) is None
    finally:
        os.seteuid(0)
    assert found.value.hint


# Imported before the change of user, to whom this interpreter may be closed.
IN_A_NAMESPACE = """
import ctypes, os, sys
from vx_token.system import safe_path
if ctypes.CDLL(None).unshare(0x10000000):  # CLONE_NEWUSER
    sys.exit(7)
print("unshared", flush=True)
sys.stdin.readline()  # the map is written meanwhile
os.setuid(12345)
print(os.stat("/").st_uid, *safe_path.unsafe_part(sys.argv[1]))
"""


@as_root
def test_roots_folders_are_safe_in_a_user_namespace_without_root() -> None:
    # The sandbox of a user's systemd service is such a namespace: there root's folders belong to 65534.
    environ = {"PYTHONPATH": str(SOURCE)}
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, 12345, -1)
        argv = [sys.executable, "-c", IN_A_NAMESPACE, folder]
        with subprocess.Popen(argv, env=environ, stdin=PIPE, stdout=PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            if not process.stdout.readline():
                pytest.skip("this machine makes no user namespace")
            Path(f"/proc/{process.pid}/uid_map").write_text("12345 12345 1\n")
            said, _ = process.communicate("\n", timeout=30)
    assert said.split() == ["65534"]


@as_root
def test_a_folder_of_nobodys_is_a_strangers_where_root_is_known(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, -1)
    assert safe_path.unsafe_part(str(tmp_path / "run")) == (str(tmp_path), "belongs to another user")


@pytest.mark.parametrize(
    ("way", "part"),
    [
        ("open/run", "open"),
        ("closed/../open/run", "open"),
        ("open/../closed", "open"),
        ("closed/up/open", "open"),
        ("closed/sideways/run", "open"),
        ("closed/loop/run", ""),
        ("closed/missing/run", ""),
        ("closed//./run", ""),
        ("sticky/run", ""),
    ],
)
def test_each_folder_on_the_way_is_looked_at(tmp_path: Path, way: str, part: str) -> None:
    for name, mode in (("open", 0o777), ("closed", 0o755), ("sticky", 0o1777)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    (tmp_path / "closed" / "up").symlink_to("..")
    (tmp_path / "closed" / "sideways").symlink_to(tmp_path / "open")
    (tmp_path / "closed" / "loop").symlink_to("loop")
    problem = "can be written by others" if part else ""
    assert safe_path.unsafe_part(f"{tmp_path}/{way}") == (part and f"{tmp_path}/{part}", problem)


def test_what_was_kept_aside_goes_when_no_token_of_it_can_live(tmp_path: Path) -> None:
    old, new = (paths.aside(tmp_path / "run", {"model": name}) for name in ("a", "b"))
    for folder in (old, new):
        folder.mkdir()
        (folder / "state.json").touch()
    for path in (old / "state.json", old):
        os.utime(path, (0, time.time() - 25 * 3600))
    assert paths.aside(tmp_path / "run", {"model": "c"}).parent == new.parent
    assert list(new.parent.iterdir()) == [new]


def link(path: Path) -> None:
    (path.parent / "elsewhere").mkdir(mode=0o700)
    path.symlink_to(path.parent / "elsewhere")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (link, "symbolic link"),
        (lambda path: path.symlink_to("nowhere"), "not a folder"),
        (lambda path: path.write_text("x"), "not a folder"),
        (os.mkfifo, "not a folder"),
    ],
    ids=["link", "dangling", "file", "fifo"],
)
def test_what_is_no_folder_is_refused(tmp_path: Path, make: Callable[[Path], object], said: str) -> None:
    make(tmp_path / "run")
    assert said in refused(tmp_path / "run")


def test_a_folder_that_cannot_be_made_is_refused_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "cannot use the folder" in refused(tmp_path / "file" / "run")
