"""Whose a recorded token is, decided by files and variables alone."""

import contextlib
import json
import os
import re
import sqlite3
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from fakes import NOON
from vx_token.config.model import Config, Profile
from vx_token.credentials.token import Token
from vx_token.errors import ConfigError, LoginNeededError, TemporaryError, VxTokenError
from vx_token.system import stamps
from vx_token.tokens.model import Origin, State
from vx_token.tokens.ownership import Ownership, fingerprint

ROBOT = {"type": "service_account", "client_email": "robot@demo"}
USER = {"type": "authorized_user", "refresh_token": "a"}


@dataclass
class Machine:
    """A home folder, the variables of a process, and whether a daemon runs."""

    home: Path
    environ: dict[str, str] = field(default_factory=dict)
    attended: bool = False
    overridden: bool = False

    @property
    def ownership(self) -> Ownership:
        config = Config(self.home / "config.toml", {}, "p", overridden=self.overridden)
        environ = {"HOME": str(self.home), "NO_GCE_CHECK": "true", **self.environ}
        return Ownership(environ, config, lambda: self.attended)

    @property
    def gcloud(self) -> Path:
        return self.home / ".config/gcloud"

    def write(self, name: str, content: dict[str, Any]) -> str:
        """Write a credential file, and return its path."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        return str(path)

    def default_login(self, content: dict[str, Any]) -> str:
        """Write the file of `gcloud auth application-default login`."""
        return self.write(".config/gcloud/application_default_credentials.json", content)

    def fetched(self, profile: Profile, kind: str = "service_account", account: str = "robot@demo") -> State:
        """Return the state after a successful attempt."""
        token = Token("ya29.x", NOON + 3600, NOON, kind, account=account)
        return State().after_success(token, self.ownership.attempt_origin(profile), NOON)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# The origin


def test_the_settings_that_shape_a_token_are_in_its_origin(machine: Machine) -> None:
    profile = Profile("p", "demo", credentials="/k", impersonate="t@x", lifetime=1800.4, quota_project="q")
    assert machine.ownership.origin(replace(profile, scopes=("a", "b"))).settings == "/k t@x 1800 q a b"
    assert machine.ownership.origin(Profile("p", account="me@x", scopes=("a",))).settings == "me@x  3600  a"


def test_the_stamp_is_that_of_the_file_and_empty_without_one(machine: Machine) -> None:
    path = machine.write("key.json", ROBOT)
    assert machine.ownership.origin(Profile("p", credentials=path)).stamp == stamps.stamp(path) != ""
    missing = machine.ownership.attempt_origin(Profile("p"))
    assert missing == Origin(missing.settings, str(machine.gcloud / "application_default_credentials.json"), "")
    assert missing.checksum == ""


def test_an_attempt_records_the_checksum_of_the_file(machine: Machine) -> None:
    path = machine.write("key.json", ROBOT)
    origin = machine.ownership.attempt_origin(Profile("p", credentials=path))
    assert origin.checksum == f"{zlib.crc32(Path(path).read_bytes()):08x}"


def test_an_attempt_of_an_account_records_the_checksum_of_its_login_alone(machine: Machine) -> None:
    database = Path(machine.write(".config/gcloud/credentials.db", {}))
    database.unlink()
    profile = Profile("p", account="me@x")
    assert machine.ownership.attempt_origin(profile).checksum == ""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE credentials (account_id TEXT PRIMARY KEY, value BLOB)")
        for account in ("me@x", "you@x"):
            connection.execute("INSERT INTO credentials VALUES (?, ?)", (account, f"the login of {account}"))
    assert machine.ownership.attempt_origin(profile).checksum == f"{zlib.crc32(b'the login of me@x'):08x}"


@pytest.mark.parametrize(
    ("kind", "url", "audience"),
    [
        ("gdch_service_account", "https://gdc.example:8443/v1", " gdc.example:8443"),
        ("gdch_service_account", "https://europe-aiplatform.googleapis.com/v1", ""),
        ("gdch_service_account", "https://googleapis.com.example/v1", " googleapis.com.example"),
        ("service_account", "https://gdc.example/v1", ""),
        ("unknown", "https://gdc.example/v1", ""),
    ],
)
def test_the_host_is_in_the_origin_where_tokens_are_bound_to_it(
    machine: Machine, kind: str, url: str, audience: str
) -> None:
    path = machine.write("key.json", {**ROBOT, "type": kind})
    origin = machine.ownership.origin(Profile("p", credentials=path, base_url=url, scopes=("s",)))
    assert origin.settings == f"{path}  3600  s{audience}"


@pytest.mark.parametrize("attended", [False, True])
@pytest.mark.parametrize("by", ["profile", "variable"])
def test_a_file_that_is_named_is_used_whatever_is_on_record(machine: Machine, attended: bool, by: str) -> None:
    path = machine.write("key.json", ROBOT)
    machine.attended = attended
    profile = Profile("p", credentials=path if by == "profile" else "")
    if by == "variable":
        machine.environ["GOOGLE_APPLICATION_CREDENTIALS"] = path
    assert machine.ownership.origin(profile, Origin("s", "/recorded")).path == path


@pytest.mark.parametrize(
    ("login", "attended", "recorded", "path"),
    [
        (True, False, "/recorded", "own"),
        (True, True, "/recorded", "/recorded"),
        (True, True, "", "own"),
        (False, False, "/recorded", "/recorded"),
        (False, True, "/recorded", "/recorded"),
        (False, False, "", "own"),
        (False, False, None, "own"),
    ],
)
def test_the_file_on_record_is_used_without_a_login_here_or_beside_a_daemon(
    machine: Machine, login: bool, attended: bool, recorded: str | None, path: str
) -> None:
    own = machine.default_login(USER)
    if not login:
        Path(own).unlink()
    machine.attended = attended
    record = None if recorded is None else Origin("s", recorded)
    assert machine.ownership.origin(Profile("p"), record).path == (own if path == "own" else path)


def test_an_account_of_gclouds_is_known_by_the_database_and_the_configuration_that_names_it(machine: Machine) -> None:
    database = machine.write(".config/gcloud/credentials.db", {})
    configuration = machine.write(".config/gcloud/configurations/config_default", {})
    Path(configuration).write_text("[core]\naccount = me@x\n")
    named = machine.ownership.origin(Profile("p", account="you@x"))
    assert (named.path, named.account, named.configuration) == (database, "you@x", "")
    active = machine.ownership.origin(Profile("p", account="active"))
    assert (active.path, active.account, active.configuration) == (database, "me@x", configuration)
    assert named.stamp == stamps.stamp(database)
    assert active.stamp == stamps.joined(active.files)
    machine.environ["CLOUDSDK_CORE_ACCOUNT"] = "you@x"
    active = machine.ownership.origin(Profile("p", account="active"))
    assert (active.path, active.account, active.configuration) == (database, "you@x", "")


@pytest.mark.parametrize(
    ("account", "variable", "attended", "database", "recorded"),
    [
        ("active", "", False, True, False),
        ("active", "", True, True, True),
        ("active", "", False, False, True),
        ("active", "me@x", True, False, False),
        ("me@x", "", False, True, False),
        ("me@x", "", True, True, True),
        ("me@x", "you@x", False, False, True),
    ],
)
def test_the_account_on_record_is_used_without_a_database_here_or_beside_a_daemon(
    machine: Machine, account: str, variable: str, attended: bool, database: bool, recorded: bool
) -> None:
    own = machine.write(".config/gcloud/credentials.db", {})
    if not database:
        Path(own).unlink()
    machine.environ["CLOUDSDK_CORE_ACCOUNT"] = variable
    machine.attended = attended
    record = Origin("s", "/recorded.db", account="theirs@x", configuration="/recorded")
    origin = machine.ownership.origin(Profile("p", account=account), record)
    assert (origin.path == "/recorded.db") == recorded
    assert (origin.account == "theirs@x") == recorded
    assert (origin.configuration == "/recorded") == recorded
    # A file on record is no account's.
    assert machine.ownership.origin(Profile("p", account=account), Origin("s", "/recorded")).path == own


def test_a_fingerprint_is_that_of_settings_file_stamp_and_account() -> None:
    origin = Origin("settings", "/k\udcff", "1:2:3", "sum", "me@x", "/configuration")
    changed = [replace(origin, **{name: "other"}) for name in ("settings", "path", "stamp", "account")]
    assert len({fingerprint(each) for each in (origin, *changed)}) == 5
    assert fingerprint(replace(origin, checksum="other", configuration="other")) == fingerprint(origin)
    assert re.fullmatch("[0-9a-f]{8}", fingerprint(origin))


# Whether the last attempt stands


def test_nothing_is_current_or_outdated_before_the_first_attempt(machine: Machine) -> None:
    profile = Profile("p", credentials=machine.write("key.json", ROBOT))
    assert not machine.ownership.is_current(State(), profile)
    assert not machine.ownership.outdated(State(), profile)
    state = machine.fetched(profile)
    assert machine.ownership.is_current(state, profile)
    assert not machine.ownership.outdated(state, profile)
    os.utime(profile.credentials, (1, 1))
    assert not machine.ownership.is_current(state, profile)
    assert machine.ownership.outdated(state, profile)


# Whether the token is the configured login's

SAME: dict[str, tuple[Callable[[Machine, Profile], Profile], bool | None]] = {
    "nothing": (lambda machine, profile: profile, True),
    "the file's time": (lambda machine, profile: touched(profile), True),
    "the key, of the same account": (
        lambda machine, profile: rewritten(machine, ROBOT | {"key": "new"}, profile),
        True,
    ),
    "the account": (lambda machine, profile: rewritten(machine, ROBOT | {"client_email": "b"}, profile), False),
    "the account, which is no longer named": (
        lambda machine, profile: rewritten(machine, {"type": "service_account"}, profile),
        None,
    ),
    "the type": (lambda machine, profile: rewritten(machine, USER | {"account": "robot@demo"}, profile), False),
    "the content, to nonsense": (lambda machine, profile: rewritten(machine, {"type": "x"}, profile), None),
    "the file, which is gone": (lambda machine, profile: removed(profile), None),
    "a setting": (lambda machine, profile: replace(profile, lifetime=60.0), False),
    "the path": (lambda machine, profile: named_again(machine, profile, ROBOT | {"key": "new"}), False),
    "the path, which is now chosen": (lambda machine, profile: chosen(machine, ROBOT | {"key": "new"}), False),
    "the path, of a copy": (lambda machine, profile: chosen(machine, ROBOT), True),
}


def touched(profile: Profile) -> Profile:
    os.utime(profile.credentials, (1, 1))
    return profile


def rewritten(machine: Machine, content: dict[str, Any], profile: Profile) -> Profile:
    machine.write("key.json", content)
    return profile


def removed(profile: Profile) -> Profile:
    Path(profile.credentials).unlink()
    return profile


def named_again(machine: Machine, profile: Profile, content: dict[str, Any]) -> Profile:
    return replace(profile, credentials=machine.write("other.json", content))


def chosen(machine: Machine, content: dict[str, Any]) -> Profile:
    """Name another file by a variable, for a profile that names none."""
    machine.environ["GOOGLE_APPLICATION_CREDENTIALS"] = machine.write("other.json", content)
    return Profile("p", "demo")


@pytest.mark.parametrize("change", SAME)
def test_a_token_is_the_logins_as_long_as_only_this_changes(machine: Machine, change: str) -> None:
    make, same = SAME[change]
    path = machine.write("key.json", ROBOT)
    profile = Profile("p", "demo", credentials=path)
    if "path, " in change:
        machine.environ["GOOGLE_APPLICATION_CREDENTIALS"] = path
        profile = Profile("p", "demo")
    state = machine.fetched(profile)
    profile = make(machine, profile)
    assert machine.ownership.same_login(state, profile) is same
    assert machine.ownership.same_login(state, profile, machine.ownership.attempt_origin(profile)) is same
    assert machine.ownership.same_login(replace(state, token=None), profile) is True
    assert machine.ownership.same_login(replace(state, made_from=None), profile) is same
    assert machine.ownership.same_login(replace(state, made_from=None, origin=None), profile) is True


def test_a_users_file_names_no_account_so_another_one_may_be_another_login(machine: Machine) -> None:
    machine.default_login(USER)
    state = machine.fetched(Profile("p"), "authorized_user", "")
    machine.default_login({**USER, "refresh_token": "b"})
    assert machine.ownership.same_login(state, Profile("p")) is None
    machine.default_login({**USER, "refresh_token": "b", "account": "me@x"})
    assert machine.ownership.same_login(state, Profile("p")) is None


def test_a_file_of_another_place_that_nobody_named_is_judged_by_its_account(machine: Machine) -> None:
    state = machine.fetched(Profile("p", credentials=machine.write("key.json", ROBOT)))
    machine.default_login({**ROBOT, "key": "new"})
    state = replace(state, made_from=replace(state.made_from or Origin(""), settings=origin_settings(machine)))
    assert machine.ownership.same_login(replace(state, origin=None), Profile("p")) is True


def origin_settings(machine: Machine) -> str:
    return machine.ownership.origin(Profile("p")).settings


def test_an_account_that_changes_is_another_login(machine: Machine) -> None:
    machine.write(".config/gcloud/credentials.db", {})
    state = machine.fetched(Profile("p", account="me@x", scopes=("s",)))
    origin = state.made_from or Origin("")
    assert machine.ownership.same_login(state, Profile("p"), replace(origin, account="you@x")) is False
    assert machine.ownership.same_login(state, Profile("p"), replace(origin, settings="other")) is False


# Whether a failure shows another login


@pytest.mark.parametrize(
    ("error", "rejected"), [(LoginNeededError("x"), True), (ConfigError("x"), False), (TemporaryError("x"), False)]
)
def test_a_login_that_google_refuses_rejects_the_token_of_the_file_before(
    machine: Machine, error: VxTokenError, rejected: bool
) -> None:
    path = machine.default_login(USER)
    state = machine.fetched(Profile("p"), "authorized_user", "")
    ownership, before = machine.ownership, machine.ownership.attempt_origin(Profile("p"))
    assert not ownership.rejects(state, error, Profile("p"), before)
    machine.default_login({**USER, "refresh_token": "b"})
    after = ownership.attempt_origin(Profile("p"))
    assert ownership.rejects(state, error, Profile("p"), after) is rejected
    assert not ownership.rejects(replace(state, token=None), error, Profile("p"), after)
    assert not ownership.rejects(replace(state, made_from=None), error, Profile("p"), after)
    # The file of the token is as it was, and another one was refused.
    untouched = replace(state, made_from=replace(after, path=path, stamp=stamps.stamp(path)))
    elsewhere = replace(after, path=machine.write("other.json", {**USER, "refresh_token": "c"}))
    assert not ownership.rejects(untouched, error, Profile("p"), elsewhere)


def test_any_failure_of_a_login_of_another_account_rejects_the_token(machine: Machine) -> None:
    machine.default_login(ROBOT)
    state = machine.fetched(Profile("p"))
    machine.default_login({**ROBOT, "client_email": "other@demo"})
    origin = machine.ownership.attempt_origin(Profile("p"))
    assert machine.ownership.rejects(state, TemporaryError("x"), Profile("p"), origin)


# Whether this process means another login than the daemon


@pytest.mark.parametrize("attended", [False, True])
@pytest.mark.parametrize("overridden", [False, True])
@pytest.mark.parametrize(
    ("change", "differ"),
    [({}, False), ({"settings": "x"}, True), ({"path": "/x"}, True), ({"account": "x"}, True), ({"stamp": "x"}, False)],
)
def test_another_login_conflicts_where_it_is_asked_for_and_a_daemon_runs(
    machine: Machine, attended: bool, overridden: bool, change: dict[str, str], differ: bool
) -> None:
    profile = Profile("p", credentials=machine.write("key.json", ROBOT))
    machine.attended, machine.overridden = attended, overridden
    theirs = replace(machine.ownership.origin(profile), **change)
    assert machine.ownership.conflicts(profile, lambda: theirs) == (attended and overridden and differ)
    assert not machine.ownership.conflicts(profile, lambda: None)


def test_a_variable_asks_for_another_login_where_the_profile_names_none(machine: Machine) -> None:
    machine.attended = True
    theirs = Origin(origin_settings(machine), "/theirs")
    assert not machine.ownership.conflicts(Profile("p"), lambda: theirs)
    machine.environ["GOOGLE_APPLICATION_CREDENTIALS"] = "/mine"
    assert machine.ownership.conflicts(Profile("p"), lambda: theirs)
    assert not machine.ownership.conflicts(Profile("p", credentials="/profiles"), lambda: theirs)
