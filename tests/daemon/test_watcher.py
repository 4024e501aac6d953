"""The watcher reports each change of a watched file once and soon, and nothing else."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from watchdog import events
from watchdog.observers.api import EventQueue, ObservedWatch
from watchdog.observers.inotify import InotifyEmitter

from sandbox import until
from vx_token.daemon.watcher import Watcher, folders

SOON = 2.0
"""Seconds: a busy machine's second."""


class Ear:
    """A watcher and what it has told."""

    def __init__(self) -> None:
        self.told: list[frozenset[Path]] = []
        self.watcher = Watcher(lambda changed: self.told.append(changed) if changed else None)
        self.watcher.start()

    def hears(self, *paths: Path) -> None:
        """Wait until all of these are reported, then clear the record."""
        until(lambda: frozenset(paths) <= frozenset().union(*self.told), SOON, f"{paths} in {self.told}")
        self.told.clear()


@pytest.fixture
def ear() -> Iterator[Ear]:
    found = Ear()
    yield found
    found.watcher.stop()


def put(path: Path, text: str) -> None:
    """Replace by rename, as careful programs do."""
    (path.parent / ".new").write_text(text)
    (path.parent / ".new").rename(path)


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("more")


def linked(path: Path) -> None:
    put(path.parent / "other", "two")
    path.unlink()
    path.symlink_to("other")


CHANGES: dict[str, Callable[[Path], object]] = {
    "written in place": lambda path: path.write_text("another"),
    "appended to": append,
    "replaced by rename": lambda path: put(path, "two"),
    "replaced by the same text": lambda path: put(path, "one"),
    "deleted": Path.unlink,
    "moved away": lambda path: path.rename(path.parent / "away"),
    "made a link": linked,
    "its folder deleted": lambda path: shutil.rmtree(path.parent),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_told_soon_and_so_is_its_coming_back(ear: Ear, tmp_path: Path, change: str) -> None:
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    path.write_text("one")
    ear.watcher.follow([path])
    CHANGES[change](path)
    ear.hears(path)
    path.parent.mkdir(exist_ok=True)
    put(path, "and again")
    ear.hears(path)
    append(path)
    ear.hears(path)


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_file_that_does_not_exist_yet_is_told_when_it_comes(ear: Ear, tmp_path: Path, depth: int) -> None:
    path = tmp_path.joinpath(*"abc"[:depth], "file")
    ear.watcher.follow([path])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("one")
    ear.hears(path)


def test_a_whole_folder_that_is_renamed_into_place_is_seen(ear: Ear, tmp_path: Path) -> None:
    path = tmp_path / "gcloud" / "login.json"
    ear.watcher.follow([path])
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "login.json").write_text("one")
    (tmp_path / "new").rename(tmp_path / "gcloud")
    ear.hears(path)


def test_a_folder_that_moves_away_is_found_by_the_next_look_and_its_successor_at_once(ear: Ear, tmp_path: Path) -> None:
    """watchdog keeps the kernel's IN_MOVE_SELF to itself."""
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    path.write_text("one")
    ear.watcher.follow([path])
    path.parent.rename(tmp_path / "away")
    ear.watcher.check()
    ear.hears(path)
    path.parent.mkdir()
    put(path, "two")
    ear.hears(path)


def test_a_links_other_target_is_told(ear: Ear, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    link = tmp_path / "links" / "key.json"
    link.parent.mkdir()
    link.symlink_to("../a/file")
    ear.watcher.follow([link])
    append(tmp_path / "a" / "file")
    ear.hears(link)
    (link.parent / ".new").symlink_to("../b/file")
    (link.parent / ".new").rename(link)
    ear.hears(link)
    append(tmp_path / "b" / "file")
    ear.hears(link)


def test_a_secret_as_kubernetes_mounts_it_is_followed(ear: Ear, tmp_path: Path) -> None:
    """key -> ..data/key, ..data -> ..2026_01; an update swaps ..data alone (kubelet's AtomicWriter)."""

    def publish(stamp: str) -> None:
        (tmp_path / stamp).mkdir()
        (tmp_path / stamp / "key").write_text(stamp)
        (tmp_path / "..data_tmp").symlink_to(stamp)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    publish("..2026_01")
    key = tmp_path / "key"
    key.symlink_to("..data/key")
    ear.watcher.follow([key])
    for stamp in ("..2026_02", "..2026_03"):
        publish(stamp)
        ear.hears(key)


def test_links_that_bite_their_tails_are_followed_to_no_end(ear: Ear, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    ear.watcher.follow([tmp_path / "a"])
    put(tmp_path / "b", "a file at last")
    ear.hears(tmp_path / "a")


def test_a_burst_is_told_in_one_piece(ear: Ear, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    ear.watcher.follow(paths)
    for path in paths:
        path.write_text("one")
    ear.hears(*paths)
    assert not ear.told


def test_a_neighbour_is_not_told(ear: Ear, tmp_path: Path) -> None:
    path, last = tmp_path / "file", tmp_path / "last"
    path.write_text("one")
    ear.watcher.follow([path, last])
    for _ in range(20):
        (tmp_path / "neighbour").write_text("x")
        (tmp_path / "neighbour").unlink()
    last.write_text("now")
    until(lambda: ear.told, SOON)
    assert ear.told == [frozenset({last})]


def test_our_own_reads_are_not_told(ear: Ear, tmp_path: Path) -> None:
    path, last = tmp_path / "file", tmp_path / "last"
    path.write_text("one")
    ear.watcher.follow([path, last])
    for _ in range(20):
        assert path.read_text() == "one"
        assert list(tmp_path.iterdir())
    last.write_text("now")
    until(lambda: ear.told, SOON)
    assert ear.told == [frozenset({last})]


def test_reads_are_not_even_hints(tmp_path: Path) -> None:
    """A home folder may be watched, and it is read all day long: the kernel must not wake us for that."""
    path, heard = tmp_path / "file", list[str]()

    class Listener(Watcher):
        def on_any_event(self, event: events.FileSystemEvent) -> None:
            heard.append(event.event_type)
            super().on_any_event(event)

    path.write_text("one")
    watcher = Listener(lambda _: None)
    watcher.start()
    try:
        watcher.follow([path])
        for _ in range(20):
            assert path.read_text() == "one"
            assert list(tmp_path.iterdir())
        path.write_text("two")
        until(lambda: "modified" in heard, SOON)
    finally:
        watcher.stop()
    assert set(heard) == {"modified"}


def test_what_is_followed_no_more_is_not_told(ear: Ear, tmp_path: Path) -> None:
    old, new = tmp_path / "old" / "file", tmp_path / "new" / "file"
    for path in (old, new):
        path.parent.mkdir()
    ear.watcher.follow([old])
    ear.watcher.follow([new])
    old.write_text("one")
    new.write_text("one")
    until(lambda: ear.told, SOON)
    assert ear.told == [frozenset({new})]


def test_a_change_while_the_files_are_named_again_is_not_lost(ear: Ear, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    ear.watcher.follow([path])
    put(path, "two")
    ear.watcher.follow([path, tmp_path / "other"])
    ear.hears(path)


def test_a_folder_that_came_and_went_unseen_is_told_without_a_path(tmp_path: Path) -> None:
    told: list[frozenset[Path]] = []
    watcher = Watcher(told.append)
    watcher.follow([tmp_path / "folder" / "file"])
    watcher.start()
    try:
        until(lambda: told, SOON)  # the first look, in case something changed before the folder was watched
        told.clear()
        put(tmp_path / "other", "one")
        until(lambda: told, SOON)
        assert told[0] == frozenset()
    finally:
        watcher.stop()


def test_a_look_finds_what_no_event_told(tmp_path: Path) -> None:
    told: list[frozenset[Path]] = []
    watcher = Watcher(told.append)  # never started, as on a file system without events
    path = tmp_path / "file"
    watcher.follow([path])
    watcher.check()
    assert told == []
    path.write_text("one")
    watcher.check()
    watcher.check()
    assert told == [frozenset({path})]


def test_the_folders_are_those_in_which_a_change_counts(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("x")
    (tmp_path / "link").symlink_to("real")
    assert folders(tmp_path / "real" / "file") == {tmp_path / "real"}
    assert folders(tmp_path / "link" / "file") == {tmp_path / "link", tmp_path / "real", tmp_path}
    assert folders(tmp_path / "no" / "such" / "file") == {tmp_path}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a moment")
def test_a_folder_that_we_may_not_enter_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    os.seteuid(65534)
    try:
        watcher = Watcher(lambda _: None)
        watcher.follow([tmp_path / "closed" / "deep" / "key.json"])
        watcher.check()
    finally:
        os.seteuid(0)


def test_a_watch_that_ends_before_its_thread_waits_is_fine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    emitter = InotifyEmitter(EventQueue(), ObservedWatch(str(tmp_path), recursive=False))
    emitter.queue_events(0)
    assert caplog.messages == []
    logging.getLogger("watchdog.observers.inotify").error("something else")
    assert caplog.messages == ["something else"]
