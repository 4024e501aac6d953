"""The State on disk: whole or nothing, behind one lock, in a folder that is ours."""

import json
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import plain_environment, until
from vx_token.credentials.token import Token
from vx_token.errors import ConfigError, Failure
from vx_token.tokens.model import CallerAttempt, Origin, State
from vx_token.tokens.state_file import LATEST
from vx_token.tokens.store import Store

TOKEN = Token("ya29.secret", 2000.0, 1000.0, "authorized_user", "billing", "someone@example.com", "a note")
FULL = State(TOKEN, Origin("settings", "/key", "1:2:3"), 7, 2, 1, 1500.0, Failure("temporary", "m", "h", 1600.0))
never = time.monotonic() + 1e6

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "run")
    found.prepare("p")
    return found


def state_file(store: Store) -> Path:
    return store.folder("p") / "state.json"


def not_cancelled() -> bool:
    return False


INSTANTS = st.floats(-LATEST, LATEST)
PATHS = st.binary().map(os.fsdecode)


@given(
    st.builds(
        State,
        st.none() | st.builds(Token, st.from_regex(r"[!-~]+", fullmatch=True), INSTANTS, INSTANTS, note=st.text()),
        st.none() | st.builds(Origin, st.text(), PATHS, st.text()),
        st.integers(0, 10**9),
        failure=st.none() | st.builds(Failure, st.text(), st.text(), st.text(), st.none() | st.floats(0, 1e10)),
    )
)
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, state: State) -> None:
    store = Store(tmp_path_factory.getbasetemp() / "round")
    store.prepare("p")
    store.write("p", state)
    assert store.read("p") == state


def test_the_file_is_private_and_says_its_version(store: Store) -> None:
    store.write("p", FULL)
    assert state_file(store).stat().st_mode & 0o777 == 0o600
    content = json.loads(state_file(store).read_text())
    assert (content["version"], content["profile"]) == (1, "p")


def test_nothing_is_known_of_a_profile_that_never_was(tmp_path: Path) -> None:
    assert Store(tmp_path / "nowhere").read("p") == State()
    assert Store(tmp_path / "nowhere").known() == []


@given(st.binary() | st.text().map(str.encode))
def test_garbage_counts_as_nothing_known(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    store = Store(tmp_path_factory.getbasetemp() / "garbage")
    store.prepare("p")
    state_file(store).write_bytes(content)
    assert store.read("p") == State()


@given(st.data())
def test_a_torn_file_counts_as_nothing_known(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    store = Store(tmp_path_factory.getbasetemp() / "torn")
    store.prepare("p")
    store.write("p", FULL)
    whole = state_file(store).read_bytes()
    state_file(store).write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert store.read("p") == State()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2}, {"version": "1"}, {"version": None}, {"surprise": 1}, {"token": {"value": "x"}},
        {"token": "x"}, {"token": []}, {"origin": {"colour": 1}}, {"failure": 5},
        {"attempts": "x"}, {"tried_at": None}, {"tried_at": math.inf}, {"failures": 1.5},
        {"token": {"value": None, "expires_at": 2e9, "issued_at": 1e9}},
        {"token": {"value": "a b\nc", "expires_at": 2e9, "issued_at": 1e9}},
        {"token": {"value": "", "expires_at": 2e9, "issued_at": 1e9}},
        {"token": {"value": "x", "expires_at": "soon", "issued_at": 1e9}},
        {"token": {"value": "x", "expires_at": 10**400, "issued_at": 1e9}},
        {"token": {"value": "x", "expires_at": 1e300, "issued_at": 1e9}},
        {"token": {"value": "x", "expires_at": 2e9, "issued_at": 1e9, "account": "\ud800"}},
        {"failures": 10**400}, {"tried_at": -(10**400)},
        {"failure": {"kind": "login", "message": "\ud800", "hint": ""}},
    ],
)  # fmt: skip
def test_a_file_of_another_version_or_shape_counts_as_nothing_known(store: Store, change: dict[str, object]) -> None:
    store.write("p", FULL)
    content = json.loads(state_file(store).read_text())
    state_file(store).write_text(json.dumps(content | change))
    assert store.read("p") == State()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "null", "[]", '"x"', "{}", "1" * 5000])
def test_a_strange_document_counts_as_nothing_known(store: Store, text: str) -> None:
    state_file(store).write_text(text)
    assert store.read("p") == State()


def moved_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def replace_by(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


@pytest.mark.parametrize(
    "make",
    [
        moved_link,
        replace_by(os.mkfifo),
        replace_by(Path.mkdir),
        pytest.param(lambda path: os.chown(path, 12345, -1), marks=as_root),
    ],
    ids=["link", "fifo", "folder", "foreign"],
)
def test_what_is_no_file_of_ours_counts_as_nothing_known(store: Store, make: Callable[[Path], None]) -> None:
    store.write("p", FULL)
    make(state_file(store))
    assert store.read("p") == State()


@pytest.mark.parametrize("level", ["root", "profile"])
@pytest.mark.parametrize("how", ["link", "writable", pytest.param("foreign", marks=as_root), "file"])
def test_a_folder_that_is_not_safe_is_refused(tmp_path: Path, level: str, how: str) -> None:
    store = Store(tmp_path / "run")
    store.prepare("p")
    folder = store.root if level == "root" else store.folder("p")
    if how == "link":
        moved_link(folder)
    elif how == "writable":
        folder.chmod(0o770)
    elif how == "foreign":
        os.chown(folder, 12345, -1)
    else:
        shutil.rmtree(folder)
        folder.write_text("x")
    with pytest.raises(ConfigError) as found:
        store.prepare("p")
    assert str(folder) in found.value.message
    assert found.value.hint
    with pytest.raises(ConfigError, match=re.escape(str(folder))):
        store.read("p")


def test_default_leads_to_the_default_profile(store: Store) -> None:
    store.link_default("p")
    store.write("p", FULL)
    assert (store.root / "default" / "state.json").is_file()
    assert (store.root / "default").readlink() == Path("p")  # relative: the folder may move
    store.prepare("other")
    store.link_default("other")
    assert (store.root / "default").readlink() == Path("other")


def test_a_profile_called_default_has_a_folder_of_its_own(store: Store) -> None:
    store.link_default("p")
    folder = store.prepare("default")
    store.link_default("default")
    assert folder.is_dir()
    assert not folder.is_symlink()
    store.write("default", FULL)
    store.link_default("p")
    assert (store.root / "default").readlink() == Path("p")


def test_many_at_once_may_set_the_default(store: Store) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        for _ in range(100):
            try:
                (store.root / "default").unlink(missing_ok=True)
                store.link_default("p")
            except OSError as error:
                failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    store.link_default("p")
    assert sorted(path.name for path in store.root.iterdir()) == ["default", "p"]


KEPT = {".daemon.lock", ".daemon.json"}
WRITERS = (
    "atomic.write(store.folder('p') / 'token', b'x')",
    "atomic.write(store.root / '.daemon.json', b'x')",
    "store.link_default('p')",
)


@pytest.mark.parametrize("age", [3600, -3600], ids=["old", "of the future"])
def test_what_a_killed_writer_left_is_swept(store: Store, age: float) -> None:
    for writer in WRITERS:
        code = (
            "import os, pathlib, signal\n"
            "from vx_token.system import atomic\nfrom vx_token.tokens.store import Store\n"
            "pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
            f"store = Store(pathlib.Path({str(store.root)!r}))\n{writer}\n"
        )
        done = subprocess.run([sys.executable, "-c", code], env=plain_environment(store.root), check=False)
        assert done.returncode == -signal.SIGKILL
    left = {path for path in store.root.rglob(".*") if path.name not in KEPT}
    assert len(left) == 3
    for path in left:
        os.utime(path, (time.time() - age,) * 2, follow_symlinks=False)
    for name in KEPT:
        (store.root / name).touch()
        os.utime(store.root / name, (0, 0))
    store.prepare("p")
    assert {path.name for path in store.root.rglob(".*")} == KEPT


@pytest.mark.parametrize(
    ("name", "swept"),
    [
        (f".token.{'a' * 12}", True),
        (f".token.{'a' * 11}", False),
        (f"token.{'a' * 12}", False),
        (f".token.{'A' * 12}", False),
    ],
)
def test_only_a_temporary_file_that_is_older_than_a_minute_is_swept(store: Store, name: str, swept: bool) -> None:
    for folder in (store.root, store.folder("p")):
        path = folder / name
        for age, there in ((0, True), (30, True), (-30, True), (60.5, not swept)):
            path.write_text("x")
            os.utime(path, (time.time() - age,) * 2)
            store.prepare("p")
            assert path.exists() == there


def test_a_forgotten_profile_leaves_nothing(store: Store) -> None:
    store.write("p", FULL)
    store.prepare("empty")
    assert store.known() == ["p"]
    store.forget("p")
    assert not store.folder("p").exists()
    assert store.known() == []
    store.forget("p")


def test_the_lock_is_private(store: Store) -> None:
    with store.lock("p", never, not_cancelled):
        assert (store.folder("p") / "lock").stat().st_mode & 0o777 == 0o600


def test_one_lock_is_held_once_and_another_profiles_is_another(store: Store) -> None:
    store.prepare("q")
    with store.lock("p", never, not_cancelled) as mine:
        assert mine
        with store.lock("p", time.monotonic() + 0.1, not_cancelled) as again:
            assert not again
        with store.lock("q", never, not_cancelled) as other:
            assert other
    with store.lock("p", time.monotonic(), not_cancelled) as free:
        assert free


def test_a_waiter_looks_fifty_times_a_second_and_stops_when_it_is_told_to(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter([False, False, True])
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    with store.lock("p", never, not_cancelled), store.lock("p", never, lambda: next(asked)) as mine:
        assert not mine
    assert naps == [0.02, 0.02]


HOLD = """
import sys, time
from pathlib import Path
from vx_token.tokens.state_file import LATEST
from vx_token.tokens.store import Store
with Store(Path(sys.argv[1])).lock("p", time.monotonic() + 10, lambda: False) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(store: Store, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the lock."""
    argv = [sys.executable, "-c", HOLD, str(store.root)]
    with subprocess.Popen(argv, env=plain_environment(tmp_path), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_the_lock_holds_across_processes_and_dies_with_its_holder(
    store: Store, holder: "subprocess.Popen[str]"
) -> None:
    with store.lock("p", time.monotonic() + 0.1, not_cancelled) as mine:
        assert not mine
    holder.send_signal(signal.SIGKILL)
    holder.wait(10)
    with store.lock("p", time.monotonic() + 10, not_cancelled) as mine:
        assert mine


def test_a_waiter_gets_the_lock_when_its_holder_dies(store: Store, holder: "subprocess.Popen[str]") -> None:
    got = threading.Event()

    def wait() -> None:
        with store.lock("p", time.monotonic() + 20, not_cancelled) as mine:
            if mine:
                got.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not got.is_set()
    holder.kill()
    until(got.is_set, what="the lock")
    waiter.join()


def test_the_lock_is_not_left_to_children(store: Store) -> None:
    with store.lock("p", never, not_cancelled):
        child = subprocess.Popen(["sleep", "30"], close_fds=False)
    try:
        with store.lock("p", time.monotonic() + 1, not_cancelled) as mine:
            assert mine
    finally:
        child.kill()
        child.wait()


# What cannot be written is kept


@pytest.fixture
def blocked(store: Store) -> Store:
    """A store whose state file cannot be replaced, because a folder is at its path."""
    (state_file(store) / "file").mkdir(parents=True)
    return store


NEWER = State(TOKEN, Origin("settings", "/key", "1:2:3"), 8, 0, 0, 1600.0)


def test_an_unchanged_file_is_parsed_once(store: Store) -> None:
    store.write("p", FULL)
    first = store.read("p")
    assert store.read("p") is first
    Store(store.root).write("p", NEWER)
    assert store.read("p") == NEWER


@contextmanager
def no_more_files() -> Iterator[None]:
    """A time in which this process can open no file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_while_no_file_can_be_opened_the_state_is_the_one_read_before(store: Store) -> None:
    Store(store.root).write("p", FULL)
    with no_more_files():
        unknown = store.read("p")
    assert (unknown, store.read("p")) == (State(), FULL)
    Store(store.root).write("p", NEWER)
    with no_more_files():
        before = store.read("p")
    assert (before, store.read("p")) == (FULL, NEWER)


def test_a_state_that_cannot_be_written_replaces_the_one_on_disk_in_this_process(store: Store) -> None:
    store.write("p", FULL)
    with no_more_files():
        store.write("p", NEWER)
    assert (store.read("p"), store.saved("p")) == (NEWER, FULL)
    store.save("p")
    assert Store(store.root).read("p") == NEWER


def test_a_state_that_cannot_be_written_is_kept_with_the_error_until_it_can(blocked: Store) -> None:
    assert blocked.unsaved("p") is None
    blocked.write("p", FULL)
    assert isinstance(blocked.unsaved("p"), OSError)
    assert blocked.read("p") is FULL
    assert blocked.saved("p") == State()
    blocked.save("p")
    assert blocked.unsaved("p") is not None
    shutil.rmtree(state_file(blocked))
    assert blocked.read("p") is FULL
    blocked.save("p")
    assert blocked.unsaved("p") is None
    assert blocked.saved("p") == blocked.read("p") == Store(blocked.root).read("p") == FULL


def test_a_later_state_of_another_process_replaces_a_kept_one(blocked: Store) -> None:
    blocked.write("p", FULL)
    shutil.rmtree(state_file(blocked))
    Store(blocked.root).write("p", NEWER)
    assert blocked.read("p") == NEWER
    blocked.save("p")
    assert blocked.read("p") == NEWER
    assert blocked.unsaved("p") is None
    assert Store(blocked.root).read("p") == NEWER


def test_a_good_write_and_forgetting_end_a_kept_state(blocked: Store) -> None:
    blocked.write("p", FULL)
    shutil.rmtree(state_file(blocked))
    blocked.write("p", NEWER)
    assert (blocked.unsaved("p"), blocked.read("p")) == (None, NEWER)
    state_file(blocked).unlink()
    (state_file(blocked) / "file").mkdir(parents=True)
    blocked.write("p", FULL)
    blocked.forget("p")
    assert (blocked.unsaved("p"), blocked.read("p")) == (None, State())


# What prevents writing


@dataclass(frozen=True)
class Room:
    """A file system as `os.statvfs` describes it."""

    f_blocks: int = 100
    f_bfree: int = 2
    f_bavail: int = 1
    f_files: int = 100
    f_ffree: int = 2
    f_favail: int = 1


@pytest.mark.parametrize(
    ("room", "user", "root"),
    [
        (Room(), "", ""),
        (Room(f_bavail=0), "No space left on device", ""),
        (Room(f_bfree=0), "", "No space left on device"),
        (Room(f_favail=0), "No inodes left on device", ""),
        (Room(f_ffree=0), "", "No inodes left on device"),
        (Room(0, 0, 0, 0, 0, 0), "", ""),  # a file system without such numbers
    ],
)
def test_a_full_file_system_is_an_obstacle(
    store: Store, monkeypatch: pytest.MonkeyPatch, room: Room, user: str, root: str
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: room)
    for uid, reason in ((1000, user), (0, root)):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        found = store.obstacles("p")
        assert found == ({"": f"cannot write in {store.folder('p')}: {reason}"} if reason else {})


@pytest.mark.parametrize("access", [0o500, 0o600])
def test_a_folder_that_is_not_writable_is_an_obstacle(
    store: Store, monkeypatch: pytest.MonkeyPatch, access: int
) -> None:
    def allowed(path: Path, wanted: int) -> bool:  # as for a user who is not root
        return bool(path == store.folder("p")) and (access >> 6) & wanted == wanted

    monkeypatch.setattr(os, "access", allowed)
    assert store.obstacles("p") == {"": f"cannot write in {store.folder('p')}: it is not writable"}


def test_what_is_no_regular_file_is_an_obstacle_by_its_name(store: Store) -> None:
    assert store.obstacles("never") == {}
    for name in ("lock", "state.json", "token"):
        (store.folder("p") / name).mkdir()
    assert store.obstacles("p") == {
        name: f"{store.folder('p') / name} is no regular file: remove it" for name in ("lock", "state.json")
    }


# The last attempt of a caller


def test_an_attempt_is_recorded_in_the_lock_file(store: Store) -> None:
    assert store.last_attempt("p") is None
    store.record_attempt("p", CallerAttempt(1500.0, 1, "0123abcd"))  # there is no lock file yet
    assert store.last_attempt("p") is None
    with store.lock("p", never, not_cancelled):
        descriptors = {*Path("/dev/fd").iterdir()}
        for attempt in (CallerAttempt(1500.0, 12, "0123abcd"), CallerAttempt(1600.0, 3, "89ef0123")):
            store.record_attempt("p", attempt)
            assert store.last_attempt("p") == attempt
        store.record_attempt("p", CallerAttempt(1600.0, 123456, "89ef0123"))
        assert store.last_attempt("p") == CallerAttempt(1600.0, 1000, "89ef0123")
        assert {*Path("/dev/fd").iterdir()} == descriptors


@pytest.mark.parametrize("content", ["", "1", "one 0123abcd", "1 0123abcd more", "\xff"])
def test_a_lock_file_of_another_form_records_nothing(store: Store, content: str) -> None:
    path = store.folder("p") / "lock"
    path.touch(mode=0o600)
    path.write_bytes(content.encode("latin-1"))
    assert store.last_attempt("p") is None


def test_a_lock_file_that_others_may_read_is_made_private(store: Store) -> None:
    path = store.folder("p") / "lock"
    path.touch()
    path.chmod(0o666)
    with store.lock("p", never, not_cancelled):
        assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    path.symlink_to("state.json")
    with pytest.raises(OSError, match="symbolic links"), store.lock("p", never, not_cancelled):
        pass


# The link `default`


def test_the_state_of_default_is_not_read_through_the_link(store: Store) -> None:
    store.write("p", FULL)
    store.link_default("p")
    assert store.read("default") == State()
    assert store.known() == ["p"]


def test_what_a_profile_named_default_left_gives_way_to_the_link_and_the_link_to_such_a_profile(store: Store) -> None:
    store.write("p", FULL)
    store.prepare("default")
    store.write("default", NEWER)
    store.link_default("p")
    assert (store.root / "default").readlink() == Path("p")
    inode = (store.root / "default").lstat().st_ino
    store.link_default("p")
    assert (store.root / "default").lstat().st_ino == inode  # a link that is right stays
    store.link_default("default")
    assert not (store.root / "default").exists()
    assert store.read("p") == FULL
