"""The refresh path with its clock and Google faked: what is asked for, with how much patience, and what is returned."""

import contextlib
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from fakes import NOON, FakeClock
from vx_token.config.model import Config, Profile
from vx_token.credentials.token import Token
from vx_token.errors import ConfigError, Failure, LoginNeededError, TemporaryError, VxTokenError
from vx_token.tokens.model import CallerAttempt, Origin, State
from vx_token.tokens.ownership import Ownership
from vx_token.tokens.refresh import Refresher, draw
from vx_token.tokens.store import Store

HOUR = 3600.0


@dataclass
class Bank:
    """A Google that counts: each answer is a new token of an hour, or the error that was set."""

    clock: FakeClock
    deadlines: list[float] = field(default_factory=list)
    error: VxTokenError | None = None
    lifetime: float = HOUR

    def __call__(
        self, profile: Profile, environ: Mapping[str, str], deadline: float, cancelled: Callable[[], bool]
    ) -> Token:
        self.deadlines.append(deadline)
        if self.error is not None:
            raise self.error
        now = self.clock.now()
        return Token(f"ya29.{len(self.deadlines)}", now + self.lifetime, now, "service_account")


@pytest.fixture
def bank() -> Bank:
    return Bank(FakeClock())


@pytest.fixture
def refresher(tmp_path: Path, bank: Bank) -> Refresher:
    key = tmp_path / "key.json"
    key.write_text("{}")
    profile = Profile("p", "demo", credentials=str(key))
    config = Config(tmp_path / "config.toml", {"p": profile}, "p")
    return Refresher(Store(tmp_path / "run"), bank.clock, bank, {}, config, deadline=20.0)


@dataclass
class Timer:
    """The monotonic clock, moved by naps alone, each of which moves the wall clock too."""

    clock: FakeClock
    seconds: float = 64.0
    naps: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.seconds += seconds
        self.clock.pass_by(seconds)


@pytest.fixture
def timer(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> Timer:
    timer = Timer(bank.clock)
    monkeypatch.setattr(time, "monotonic", lambda: timer.seconds)
    monkeypatch.setattr(time, "sleep", timer.sleep)
    return timer


def profile_of(refresher: Refresher) -> Profile:
    return refresher.config.profiles["p"]


def test_a_fetch_gets_what_is_left_of_the_callers_deadline(refresher: Refresher, bank: Bank) -> None:
    refresher.refresh(profile_of(refresher))
    bank.clock.pass_by(2 * HOUR)
    refresher.current(profile_of(refresher))
    for ask in (Refresher.refresh, Refresher.current):
        bank.clock.pass_by(2 * HOUR)
        ask(replace(refresher, deadline=0.1), profile_of(refresher))
    assert 1 < bank.deadlines[0] <= 20
    assert 1 < bank.deadlines[1] <= 20
    assert bank.deadlines[2:] == [1.0, 1.0]  # a request needs a second, however late the caller is


def test_a_live_token_shortens_the_wait_to_two_seconds_unless_the_caller_insists(
    refresher: Refresher, bank: Bank
) -> None:
    profile = profile_of(refresher)
    refresher.refresh(profile)
    bank.clock.pass_by(HOUR - 200)
    assert refresher.current(profile).value == "ya29.2"
    bank.clock.pass_by(HOUR - 200)
    assert refresher.current(profile, strict=True).value == "ya29.3"
    assert 1 < bank.deadlines[1] <= 2
    assert 2 < bank.deadlines[2] <= 20


def test_a_token_with_enough_life_costs_no_request_and_one_with_less_does(refresher: Refresher, bank: Bank) -> None:
    profile = profile_of(refresher)
    assert refresher.current(profile).value == "ya29.1"
    bank.clock.pass_by(HOUR - 300)
    assert refresher.current(profile).value == "ya29.1"
    assert refresher.current(profile, min_ttl=300, strict=True).value == "ya29.1"
    bank.clock.pass_by(1)
    assert refresher.current(profile, min_ttl=298).value == "ya29.1"
    assert refresher.current(profile).value == "ya29.2"


def test_a_life_that_no_token_has_is_an_error_for_a_strict_caller_alone(refresher: Refresher, bank: Bank) -> None:
    profile = profile_of(refresher)
    assert refresher.current(profile, min_ttl=2 * HOUR).value == "ya29.1"
    bank.clock.pass_by(5)
    with pytest.raises(TemporaryError, match="no token is valid for 7200 s: this login's tokens last 3600 s") as raised:
        refresher.current(profile, min_ttl=2 * HOUR, strict=True)
    assert raised.value.hint == "use a shorter --min-ttl"


def test_a_token_issued_more_than_a_minute_ahead_of_the_clock_is_replaced(refresher: Refresher, bank: Bank) -> None:
    profile = profile_of(refresher)
    refresher.refresh(profile)
    bank.clock.set(-60.0)
    assert refresher.current(profile).value == "ya29.1"
    bank.clock.set(-1.0)
    assert refresher.current(profile).value == "ya29.2"


def test_a_token_of_the_credential_file_before_is_good_only_while_the_new_one_is_not_tried_again(
    refresher: Refresher, bank: Bank
) -> None:
    profile = profile_of(refresher)
    refresher.refresh(profile)
    Path(profile.credentials).write_text('{"changed": true}')
    bank.error = TemporaryError("Google cannot be reached")
    assert refresher.outdated(profile, refresher.store.read("p"))
    assert refresher.refresh(profile).live(bank.clock.now()) is not None
    assert not refresher.outdated(profile, refresher.store.read("p"))
    assert refresher.current(profile).value == "ya29.1"
    bank.error = None
    bank.clock.pass_by(5)
    assert refresher.current(profile).value == "ya29.3"


def test_a_failure_is_recorded_however_late_it_comes(refresher: Refresher, bank: Bank, timer: Timer) -> None:
    def fail(*_: object) -> Token:
        timer.sleep(0.06)
        raise TemporaryError("Google cannot be reached")

    late = replace(refresher, fetch=fail, deadline=0.05)
    with pytest.raises(TemporaryError, match="cannot be reached"):
        late.current(profile_of(refresher))
    assert refresher.store.read("p").failures == 1
    bank.clock.pass_by(5)
    refresher.refresh(profile_of(refresher))
    bank.clock.pass_by(HOUR - 100)
    assert replace(refresher, fetch=fail).current(profile_of(refresher)).value == "ya29.1"  # it has two seconds
    assert refresher.store.read("p").failures == 1


def test_a_failure_is_the_answer_once_the_token_has_expired_and_not_before(refresher: Refresher, bank: Bank) -> None:
    profile = profile_of(refresher)
    refresher.refresh(profile)
    bank.error = TemporaryError("Google cannot be reached", "wait")
    bank.clock.pass_by(HOUR - 100)
    assert refresher.current(profile).value == "ya29.1"
    with pytest.raises(TemporaryError, match="cannot be reached"):
        refresher.current(profile, strict=True)
    bank.clock.pass_by(100)
    with pytest.raises(TemporaryError, match="cannot be reached"):
        refresher.current(profile)


def test_a_draw_is_a_random_number_below_one() -> None:
    draws = [draw() for _ in range(20)]
    assert all(0 <= each < 1 for each in draws)
    assert len({*draws}) == 20


def test_a_rejected_token_is_replaced_once(refresher: Refresher, bank: Bank) -> None:
    profile = profile_of(refresher)
    first = refresher.refresh(profile).token
    assert first is not None
    second = refresher.refresh(profile, rejected=first.value).token
    assert second is not None
    assert second.value == "ya29.2"
    assert refresher.refresh(profile, rejected=first.value).token == second
    assert len(bank.deadlines) == 2
    assert refresher.refresh(profile, rejected=second.value).token != second
    bank.clock.pass_by(2 * HOUR)
    refresher.refresh(profile, rejected=first.value)  # what replaced it has expired
    assert len(bank.deadlines) == 4


def test_a_token_is_dropped_once_an_attempt_shows_that_it_is_another_logins(refresher: Refresher, bank: Bank) -> None:
    profile = profile_of(refresher)
    assert refresher.current(profile).value == "ya29.1"
    Path(profile.credentials).write_text('{"another": "login"}')
    bank.error = LoginNeededError("log in")
    state = refresher.refresh(profile)
    assert (state.token, state.failures) == (None, 1)
    with pytest.raises(LoginNeededError, match="log in"):
        refresher.current(profile)


def test_a_cancelled_failure_is_not_recorded(refresher: Refresher, bank: Bank) -> None:
    bank.error = TemporaryError("Google cannot be reached")
    before = refresher.store.read("p")
    assert replace(refresher, cancelled=lambda: True).refresh(profile_of(refresher)) == before
    assert refresher.refresh(profile_of(refresher)).failures == 1


def test_each_attempt_is_published_with_its_outcome(refresher: Refresher, bank: Bank) -> None:
    published: list[tuple[str, State]] = []
    publishing = replace(refresher, publish=lambda profile, state: published.append((profile.name, state)))
    states = [publishing.refresh(profile_of(refresher))]
    bank.error = LoginNeededError("log in")
    states.append(publishing.refresh(profile_of(refresher)))
    assert published == [("p", states[0]), ("p", states[1])]
    assert [state.failures for state in states] == [0, 1]
    assert refresher.store.read("p") == states[1]
    assert states[1].token == states[0].token


def test_a_clock_set_back_takes_the_recorded_times_with_it(refresher: Refresher, bank: Bank) -> None:
    before = refresher.refresh(profile_of(refresher))
    refresher.set_back(profile_of(refresher), -100.0)
    assert refresher.store.read("p") == before.shifted(-100.0)


def test_a_caller_waits_for_the_lock_only_as_long_as_it_has_patience(refresher: Refresher, bank: Bank) -> None:
    profile = profile_of(refresher)
    refresher.refresh(profile)
    bank.clock.pass_by(HOUR - 100)
    with refresher.store.lock("p", time.monotonic(), lambda: False) as locked:
        assert locked
        assert refresher.current(profile).value == "ya29.1"  # at once: another process refreshes
        brief = replace(refresher, deadline=0.1)
        assert brief.refresh(profile).token == refresher.store.read("p").token
        bank.clock.pass_by(100)
        with pytest.raises(TemporaryError, match="another process is still refreshing"):
            brief.current(profile)
        busy = Failure("temporary", "another process is still refreshing this profile", "try again in a moment")
        assert brief.refresh(profile).failure == busy
    assert len(bank.deadlines) == 1


class Waiting:
    """A lock that is held until a caller waits for it and looks, for the first time, whether it must stop."""

    def __init__(self, refresher: Refresher, then: Callable[[], object] = lambda: None) -> None:
        self.then, self.holder = then, contextlib.ExitStack()
        refresher.store.prepare("p")
        assert self.holder.enter_context(refresher.store.lock("p", time.monotonic(), lambda: False))

    def __call__(self) -> bool:
        self.holder.close()
        then, self.then = self.then, lambda: None
        then()
        return False


@pytest.mark.parametrize("error", [None, TemporaryError("Google cannot be reached")])
def test_a_caller_that_waited_for_the_lock_has_the_outcome_of_the_attempt_that_held_it(
    refresher: Refresher, bank: Bank, error: VxTokenError | None
) -> None:
    profile, bank.error = profile_of(refresher), error
    outcomes: list[State] = []
    other = Waiting(refresher, lambda: outcomes.append(refresher.refresh(profile)))
    assert replace(refresher, cancelled=other).refresh(profile) == outcomes[0]
    bank.clock.pass_by(2 * HOUR)
    waiting = replace(refresher, cancelled=Waiting(refresher, lambda: refresher.refresh(profile)))
    if error is None:
        with pytest.raises(TemporaryError, match="no token is valid for 7200 s"):
            waiting.current(profile, min_ttl=2 * HOUR, strict=True)
    else:
        with pytest.raises(TemporaryError, match="cannot be reached"):
            waiting.current(profile)
    assert len(bank.deadlines) == 2


def test_a_clock_that_is_set_back_while_another_process_refreshes_is_recorded_afterwards(refresher: Refresher) -> None:
    before = refresher.refresh(profile_of(refresher))
    replace(refresher, cancelled=Waiting(refresher)).set_back(profile_of(refresher), -100.0)
    assert refresher.store.read("p") == before.shifted(-100.0)


def test_an_answer_that_cannot_be_written_does_not_count_as_one(refresher: Refresher) -> None:
    (refresher.store.prepare("p") / "state.json" / "file").mkdir(parents=True)
    assert refresher.current(profile_of(refresher)).value == "ya29.1"
    attempt = refresher.store.last_attempt("p")
    assert attempt is not None
    assert attempt.unanswered == 1


def test_a_refresh_links_the_default_profile_and_is_no_daemons_unless_it_is_said(refresher: Refresher) -> None:
    refresher.refresh(profile_of(refresher))
    assert (refresher.store.root / "default").readlink() == Path("p")
    assert not refresher.attended()
    assert not refresher.cancelled()


METADATA = {"GCE_METADATA_HOST": "127.0.0.1:1"}
NONE = {"NO_GCE_CHECK": "true"}


@pytest.mark.parametrize(
    ("environ", "attended", "theirs"),
    [(METADATA, False, False), (METADATA, True, True), (NONE, False, True), (NONE, True, True)],
)
def test_where_this_machine_has_a_login_of_its_own_another_logins_record_is_not_used(
    tmp_path: Path, environ: dict[str, str], attended: bool, theirs: bool
) -> None:
    profile = Profile("p", "demo")
    config = Config(tmp_path / "config.toml", {"p": profile}, "p")
    ownership = Ownership({"HOME": str(tmp_path), **environ}, config, lambda: attended)
    own = str(tmp_path / ".config/gcloud/application_default_credentials.json")
    record = Origin(ownership.origin(profile).settings, str(tmp_path / "theirs.json"))
    assert ownership.origin(profile, record).path == (record.path if theirs else own)
    state = State(Token("ya29.theirs", NOON + HOUR, NOON, "service_account"), record, 1, made_from=record)
    assert ownership.is_current(state, profile) == theirs
    assert ownership.outdated(state, profile) != theirs
    assert (ownership.same_login(state, profile) is True) == theirs


# How often callers ask


def killed(*_: object) -> Token:
    raise KeyboardInterrupt


def test_no_caller_repeats_a_failure_within_five_seconds(refresher: Refresher, bank: Bank) -> None:
    profile, bank.lifetime = profile_of(refresher), 200.0
    refresher.refresh(profile)
    bank.clock.pass_by(25)
    bank.error = TemporaryError("Google cannot be reached")
    for wait, asked in ((0.0, 2), (4.5, 2), (0.5, 3), (4.9, 3)):
        bank.clock.pass_by(wait)
        assert refresher.current(profile, min_ttl=180).value == "ya29.1"
        assert len(bank.deadlines) == asked


def test_a_caller_that_insists_waits_for_its_turn_and_looks_ten_times_a_second_whether_to_stop(
    refresher: Refresher, bank: Bank, timer: Timer
) -> None:
    profile, bank.lifetime = profile_of(refresher), 3.0
    refresher.refresh(profile)
    bank.clock.pass_by(0.05)
    assert refresher.current(profile, min_ttl=2.96, strict=True).value == "ya29.2"
    assert timer.naps == pytest.approx([0.1, 0.1, 0.05])  # until three tenths of a second after the attempt before


def test_no_caller_waits_for_a_turn_that_comes_after_its_deadline(
    refresher: Refresher, bank: Bank, timer: Timer
) -> None:
    with pytest.raises(KeyboardInterrupt):
        replace(refresher, fetch=killed).current(profile_of(refresher))
    with pytest.raises(TemporaryError, match="brought no answer"):
        replace(refresher, deadline=4.0).current(profile_of(refresher))
    assert (timer.naps, bank.deadlines) == ([], [])


def test_a_caller_waits_for_its_turn_for_up_to_five_seconds(refresher: Refresher, bank: Bank, timer: Timer) -> None:
    with pytest.raises(KeyboardInterrupt):
        replace(refresher, fetch=killed).current(profile_of(refresher))
    assert refresher.current(profile_of(refresher)).value == "ya29.1"
    assert sum(timer.naps) == pytest.approx(5.0)


def test_an_attempt_is_cancelled_with_its_caller_or_after_two_seconds_beside_a_live_token(
    refresher: Refresher, bank: Bank, timer: Timer
) -> None:
    profile = profile_of(refresher)
    looks: list[bool] = []

    def hang(profile: Profile, environ: Mapping[str, str], deadline: float, cancelled: Callable[[], bool]) -> Token:
        looks.append(cancelled())
        timer.sleep(2.0)
        looks.append(cancelled())
        raise TemporaryError("Google cannot be reached")

    hanging = replace(refresher, fetch=hang)
    with pytest.raises(TemporaryError, match="brought no answer"):
        replace(hanging, cancelled=lambda: True).current(profile)
    with pytest.raises(TemporaryError, match="cannot be reached"):
        hanging.current(profile)
    assert looks == [True, True, False, False]
    bank.clock.pass_by(5)
    refresher.refresh(profile)
    bank.clock.pass_by(HOUR - 100)
    before = refresher.store.read("p")
    assert hanging.current(profile).value == "ya29.1"
    assert looks[4:] == [False, True]
    assert refresher.store.read("p") == before


def test_a_caller_with_a_live_token_does_not_wait_for_the_lock(refresher: Refresher, bank: Bank) -> None:
    profile = profile_of(refresher)
    refresher.refresh(profile)
    bank.clock.pass_by(HOUR - 100)
    looks: list[float] = []

    def stop() -> bool:  # a caller that waits looks for a reason to stop again and again
        looks.append(time.monotonic())
        return False

    brief = replace(refresher, cancelled=stop)
    with refresher.store.lock("p", time.monotonic(), lambda: False):
        assert brief.current(profile).value == "ya29.1"
    assert looks == []


def test_an_attempt_is_on_record_while_google_is_asked_and_answered_afterwards(refresher: Refresher) -> None:
    profile = profile_of(refresher)
    records: list[CallerAttempt | None] = []

    def fetch(*_: object) -> Token:
        records.append(refresher.store.last_attempt("p"))
        now = refresher.clock.now()
        return Token("ya29.x", now + HOUR, now, "service_account")

    replace(refresher, fetch=fetch).current(profile)
    assert records[0] is not None
    assert (records[0].started_at, records[0].unanswered) == (refresher.clock.now(), 1)
    assert refresher.store.last_attempt("p") == replace(records[0], unanswered=0)


def test_attempts_without_an_answer_are_counted_and_hold_callers_off(refresher: Refresher, bank: Bank) -> None:
    hanging = replace(refresher, fetch=killed)
    for count, pause in ((1, 5.0), (2, 5.0), (3, 5.0), (4, 2.9)):
        with pytest.raises(KeyboardInterrupt):
            hanging.current(profile_of(refresher))
        attempt = refresher.store.last_attempt("p")
        assert attempt is not None
        assert attempt.unanswered == count
        bank.clock.pass_by(pause)
    with pytest.raises(TemporaryError, match="the last attempt to refresh this profile brought no answer") as raised:
        hanging.current(profile_of(refresher))
    assert raised.value.hint == "run: vx-token refresh, to ask again now"
    bank.clock.pass_by(5.1)
    assert refresher.current(profile_of(refresher)).value == "ya29.1"


def test_only_the_daemon_refreshes_without_a_lock(refresher: Refresher, bank: Bank) -> None:
    (refresher.store.prepare("p") / "lock").mkdir()
    for ask in (refresher.refresh, refresher.current):
        with pytest.raises(ConfigError, match=r"cannot write in .*: Is a directory"):
            ask(profile_of(refresher))
    assert bank.deadlines == []
    token = replace(refresher, lockless=True).refresh(profile_of(refresher)).token
    assert token is not None
    assert token.value == "ya29.1"
    bank.clock.pass_by(HOUR - 100)
    assert refresher.current(profile_of(refresher)) == token  # a live one is good enough for now


def test_a_state_is_written_once_publishing_has_made_room(refresher: Refresher) -> None:
    path = refresher.store.prepare("p") / "state.json"
    (path / "file").mkdir(parents=True)
    state = replace(refresher, publish=lambda *_: shutil.rmtree(path)).refresh(profile_of(refresher))
    assert refresher.store.unsaved("p") is None
    assert Store(refresher.store.root).read("p") == state
