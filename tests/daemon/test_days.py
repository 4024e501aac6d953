"""Whole days of refreshing by the real keeper, under a clock that jumps and with a Google that fails."""

import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from fakes import FakeClock, FakeGoogle
from vx_token.config.model import Config, Profile
from vx_token.credentials.token import Token
from vx_token.daemon.keeper import keep_fresh
from vx_token.errors import LoginNeededError, TemporaryError
from vx_token.outputs.publisher import Publisher
from vx_token.system.clock import Wake
from vx_token.tokens.model import State
from vx_token.tokens.refresh import Refresher
from vx_token.tokens.store import Store

HOUR, DAY = 3600.0, 86400.0


class House:
    """One profile kept fresh by the real keeper, with the clock and Google faked."""

    def __init__(self, root: Path, lifetime: float = HOUR, late: float | None = None) -> None:
        key = root / "key.json"
        key.write_text("{}")
        self.profile = Profile("gemini", "demo", credentials=str(key))
        self.clock, self.wake, self.store = FakeClock(), Wake(), Store(root / "run")
        self.google = FakeGoogle(self.clock, lifetime, late)
        config = Config(root / "config.toml", {"gemini": self.profile}, "gemini")
        self.publisher = Publisher(self.store, self.clock, config)
        self.refresher = Refresher(self.store, self.clock, self.google, {}, config, self.publisher.publish)
        self.dead = 0.0

    def keep(self, seconds: float, chance: float = 0.5) -> None:
        """Let so much time pass, watching for how much of it the token on disk was no good."""
        self.clock.at(self.clock.elapsed + seconds, self.wake.stop)
        for second in range(0, int(seconds), 30):
            self.clock.at(self.clock.elapsed + second, self._look)
        self.run(chance)

    def run(self, chance: float = 0.5) -> list[State]:
        """Run the keeper until `wake` is stopped; return what it reported."""
        reported: list[State] = []
        keep_fresh(self.profile, self.refresher, self.publisher, self.wake, reported.append, lambda: chance)
        assert reported
        return reported

    def _look(self) -> None:
        if self.store.read("gemini").live(self.clock.now()) is None or self.token != self.google.live:
            self.dead += 30

    @property
    def token(self) -> str:
        path = self.store.folder("gemini") / "token"
        return path.read_text() if path.exists() else ""

    def fail(self, second: float, seconds: float, error: TemporaryError | LoginNeededError) -> None:
        """Let Google fail for a while."""
        self.clock.at(second, lambda: setattr(self.google, "error", error))
        self.clock.at(second + seconds, lambda: setattr(self.google, "error", None))


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder that no disk slows down, where there is one: a day writes thousands of files."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


@pytest.fixture
def house(memory: Path) -> House:
    return House(memory)


@pytest.mark.parametrize(
    ("lifetime", "late", "least", "most"),
    [
        (HOUR, None, 40, 47),
        (900.0, None, 160, 190),
        (12 * HOUR, None, 3, 4),
        (HOUR, 300.0, 26, 28),  # a metadata server that renews five minutes before the end
        (HOUR, 240.0, 26, 28),
        # One that is late: two attempts a life. Each costs two requests, see test_a_metadata_server_gives_a_token.
        (HOUR, 200.0, 26, 27 * 2),
    ],
)
@pytest.mark.parametrize("chance", [0.0, 0.99])
def test_a_day_of_refreshing(
    memory: Path, lifetime: float, late: float | None, least: int, most: int, chance: float
) -> None:
    house = House(memory, lifetime, late)
    house.keep(DAY, chance)
    assert least <= len(house.google.asked) <= most
    assert house.dead <= 30  # before the first token


def test_a_token_of_two_seconds_is_renewed_at_most_twice_a_second(memory: Path) -> None:
    house = House(memory, lifetime=2.0)
    house.keep(60)
    assert 60 <= len(house.google.asked) <= 121
    assert min(house.google.gaps) >= 0.5


def test_six_hours_offline_are_bounded_and_end_with_the_network(house: House) -> None:
    house.google.error = TemporaryError("Google cannot be reached")
    house.fail(0, 6 * HOUR, house.google.error)
    house.keep(6 * HOUR + 60)
    assert 720 <= len(house.google.asked) <= 980
    assert min(house.google.gaps) >= 0.5
    assert house.token == house.google.live != ""


def test_an_outage_shorter_than_half_a_life_costs_no_second(house: House) -> None:
    house.fail(HOUR / 2, 25 * 60, TemporaryError("HTTP 503"))
    house.keep(2 * HOUR)
    assert house.dead <= 30


def test_the_last_good_token_is_gone_at_its_end(house: House) -> None:
    house.fail(60, 2 * HOUR, TemporaryError("HTTP 503"))
    house.keep(HOUR - 60)
    assert house.token == "ya29.token-1"
    house.wake = Wake()
    house.keep(120)
    assert house.token == ""


def test_retry_after_is_honoured_by_the_keeper(house: House) -> None:
    house.google.error = TemporaryError("HTTP 429", retry_after=500)
    house.keep(HOUR)
    assert 7 <= len(house.google.asked) <= 8
    assert min(house.google.gaps) >= 500


def test_a_day_without_a_login_asks_every_five_minutes(house: House) -> None:
    house.google.error = LoginNeededError("Google wants you to log in again", "run: gcloud …")
    house.keep(DAY)
    assert 240 <= len(house.google.asked) <= 290


@pytest.mark.parametrize("by", [-DAY, -HOUR, -10 * 60, 10 * 60, HOUR, DAY, 365 * DAY, -365 * DAY])
def test_a_clock_that_is_set_costs_one_refresh_at_once(house: House, by: float) -> None:
    house.clock.at(600, lambda: house.clock.set(by))
    house.keep(700)
    assert len(house.google.asked) == 2
    assert house.google.asked[1] == pytest.approx(600, abs=1)
    assert house.token == house.google.live != ""


@pytest.mark.parametrize("by", [-DAY, -HOUR, HOUR, DAY])
@pytest.mark.parametrize("failing", [False, True])
def test_a_clock_that_was_set_unnoticed_puts_nothing_off(house: House, by: float, failing: bool) -> None:
    if failing:
        house.fail(0, 590, TemporaryError("Google cannot be reached"))
        house.google.error = TemporaryError("Google cannot be reached")
    house.clock.at(601, lambda: house.clock.set(by, noticed=False))
    house.keep(700)
    assert any(600 < asked < 640 for asked in house.google.asked)
    assert min(house.google.gaps) >= 0.5
    assert house.token == house.google.live != ""


def test_after_three_hours_of_suspend_the_first_nap_brings_a_fresh_token(house: House) -> None:
    house.clock.at(600, lambda: house.clock.pass_by(3 * HOUR))
    house.keep(3 * HOUR + 700)
    assert house.google.asked[1] == pytest.approx(600 + 3 * HOUR, abs=1)
    assert house.token == house.google.live != ""


def test_a_forced_refresh_replaces_a_token_that_is_still_fresh(house: House) -> None:
    house.clock.at(100, house.wake.force)
    house.keep(200)
    assert len(house.google.asked) == 2


def test_a_nudge_asks_google_nothing(house: House) -> None:
    for second in range(10, 100):
        house.clock.at(second, house.wake.nudge)
    house.keep(200)
    assert len(house.google.asked) == 1


def test_a_storm_of_changes_is_bounded(house: House) -> None:
    house.google.duration = 0.0
    for tenth in range(600):
        house.clock.at(10 + tenth / 10, house.wake.force)
    house.keep(100)
    assert 60 / 0.5 <= len(house.google.asked) <= 2 + 60 / 0.5
    assert min(house.google.gaps) >= 0.499  # the fake clock's rounding


def test_no_nap_is_longer_than_half_a_minute(house: House) -> None:
    house.keep(HOUR)
    assert max(house.clock.naps) <= 30


def test_a_file_that_vanishes_is_back_after_the_next_nap(house: House) -> None:
    house.clock.at(100, (house.store.folder("gemini") / "token").unlink)
    house.keep(200)
    assert house.token == house.google.live != ""


def test_a_new_credential_file_is_used_at_once(house: House) -> None:
    other = house.store.root.parent / "other.json"
    other.write_text('{"type": "another"}')
    house.clock.at(100, lambda: shutil.move(other, house.profile.credentials))
    house.keep(200)
    assert len(house.google.asked) == 2


def test_no_expired_token_is_in_the_files_while_google_is_asked(house: House) -> None:
    files: list[str] = []

    def fetch(profile: Profile, environ: Mapping[str, str], deadline: float, cancelled: Callable[[], bool]) -> Token:
        files.append(house.token)
        return house.google(profile, environ, deadline, cancelled)

    house.refresher = replace(house.refresher, fetch=fetch)
    house.clock.at(600, lambda: house.clock.pass_by(3 * HOUR))
    house.keep(3 * HOUR + 700)
    assert files == ["", ""]


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.chmod(0o644)], ids=["unlink", "chmod"])
def test_a_file_that_changes_unnoticed_is_mended_after_ten_naps(house: House, harm: Callable[[Path], None]) -> None:
    path = house.store.folder("gemini") / "token"
    right: list[bool] = []
    house.clock.at(100, lambda: harm(path))
    for second in (220, 255):  # before and after the tenth nap
        house.clock.at(second, lambda: right.append(path.exists() and path.stat().st_mode == 0o100600))
    house.clock.at(300, house.wake.stop)
    house.run()
    assert right == [False, True]


def test_an_idle_keeper_writes_nothing(house: House) -> None:
    folder, stamps = house.store.folder("gemini"), list[list[int]]()
    for second in (100, 1000):
        house.clock.at(second, lambda: stamps.append([path.stat().st_ino for path in sorted(folder.iterdir())]))
    house.clock.at(1100, house.wake.stop)
    house.run()
    assert stamps[0] == stamps[1] != []


def test_a_token_that_expires_while_google_is_asked_is_withdrawn_once(house: House) -> None:
    tokens: list[str] = []

    def fetch(profile: Profile, environ: Mapping[str, str], deadline: float, cancelled: Callable[[], bool]) -> Token:
        token = house.google(profile, environ, deadline, cancelled)
        if len(house.google.asked) == 2:
            house.clock.pass_by(HOUR)
            for _ in range(2):
                assert not cancelled()
                tokens.append(house.token)
                (house.store.folder("gemini") / "token").write_text("kept by the second look")
            raise TemporaryError("Google cannot be reached")
        return token

    house.refresher = replace(house.refresher, fetch=fetch)
    house.clock.at(HOUR - 100, house.wake.stop)
    house.run()
    assert tokens == ["", "kept by the second look"]


def test_a_state_that_cannot_be_written_is_reported_with_the_reason(house: House) -> None:
    folder = house.store.prepare("gemini")
    (folder / "state.json" / "file").mkdir(parents=True)
    house.clock.at(100, house.wake.stop)
    for state in house.run():
        assert state.live(house.clock.now()) is not None
        assert state.failure is not None
        assert (state.failure.kind, state.failure.message) == (
            "temporary",
            f"cannot write in {folder}: Is a directory",
        )
        assert state.failure.hint
    house.google.error, house.wake = TemporaryError("Google cannot be reached"), Wake()
    house.wake.force()
    house.clock.at(200, house.wake.stop)
    failures = [state.failure for state in house.run()]
    assert {failure and failure.message for failure in failures} == {"Google cannot be reached"}


def test_a_check_that_fails_is_repeated_every_half_minute_until_it_succeeds(house: House) -> None:
    house.store.prepare("gemini")
    house.store.root.chmod(0o777)
    house.clock.at(100, lambda: house.store.root.chmod(0o700))
    house.clock.at(125, house.wake.stop)
    failures = [state.failure.kind if state.failure else "" for state in house.run()]
    assert failures[:4] == ["config"] * 4
    assert {*failures[4:]} == {""}
    assert house.token == house.google.live != ""


def test_each_attempt_is_reported_while_the_credential_file_changes_during_each(house: House) -> None:
    def fetch(profile: Profile, environ: Mapping[str, str], deadline: float, cancelled: Callable[[], bool]) -> Token:
        os.utime(profile.credentials, (len(house.google.asked),) * 2)
        return house.google(profile, environ, deadline, cancelled)

    house.refresher = replace(house.refresher, fetch=fetch)
    house.clock.at(10, house.wake.stop)
    attempts = [state.attempts for state in house.run()]
    assert attempts == [*range(1, len(house.google.asked) + 1)]
    assert len(attempts) >= 14  # half a second apart, and each takes a fifth


def test_a_refresh_that_is_forced_right_after_another_follows_half_a_second_later(house: House) -> None:
    for second in (100, 100.3):
        house.clock.at(second, house.wake.force)
    house.keep(200)
    assert house.google.asked == pytest.approx([0, 100, 100.7], abs=0.01)


@pytest.mark.parametrize("name", ["state.json", "token"])
def test_a_file_that_could_not_be_written_is_written_half_a_minute_later(house: House, name: str) -> None:
    path = house.store.prepare("gemini") / name
    (path / "file").mkdir(parents=True)
    house.clock.at(50, lambda: shutil.rmtree(path))
    house.clock.at(62, house.wake.stop)
    house.run()
    assert path.is_file()


def test_a_folder_that_is_not_safe_keeps_a_live_token_and_no_expired_one(house: House) -> None:
    tokens: list[str] = []
    house.clock.at(100, lambda: house.store.folder("gemini").chmod(0o777))
    for second in (HOUR - 10, HOUR + 40):
        house.clock.at(second, lambda: tokens.append(house.token))
    house.clock.at(HOUR + 50, house.wake.stop)
    house.run()
    assert tokens == ["ya29.token-1", ""]


def test_after_a_check_that_failed_google_is_asked_anew(house: House) -> None:
    for second, mode in ((100, 0o777), (110, 0o700)):
        house.clock.at(second, functools.partial(house.store.root.chmod, mode))
        house.clock.at(second, house.wake.nudge)
    house.keep(150)
    assert house.google.asked == pytest.approx([0, 110], abs=0.01)
