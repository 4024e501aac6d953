"""The quick way to `print` gives the answer of the whole program, or none."""

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import NOON
from sandbox import Box
from vx_token.cli import fastpath
from vx_token.config.load import load_config
from vx_token.config.model import Config, Profile
from vx_token.credentials.token import Token
from vx_token.emulator import Emulator
from vx_token.errors import TemporaryError
from vx_token.gateway.key import read_key_file
from vx_token.outputs import exports, print_cache
from vx_token.outputs.publisher import Publisher
from vx_token.system import config_path, stamps
from vx_token.system.clock import SystemClock, Wake
from vx_token.system.daemon_lock import DAEMON_LOCK
from vx_token.tokens.refresh import Refresher
from vx_token.tokens.store import Store


def quick(box: Box, *words: str) -> str | None:
    return fastpath.answer(["vx-token", "print", *words], box.environ, time.time())


@pytest.fixture
def published(box: Box) -> Box:
    """A profile whose files are all there."""
    box.key.write_text("{}")
    box.profile()
    settings = load_config(box.environ)
    publisher = Publisher(Store(box.runtime), SystemClock(), settings)
    refresher = Refresher(publisher.store, publisher.clock, mint, {}, settings, publisher.publish)
    assert refresher.refresh(settings.profile()).failure is None
    return box


def mint(profile: Profile, environ: Mapping[str, str], deadline: float, cancelled: Callable[[], bool]) -> Token:
    """A token of an hour, without a Google."""
    now = time.time()
    return Token("ya29.mine", now + 3600, now, "service_account")


def change(path: Path, text: str = "\n") -> None:
    path.write_text(path.read_text() + text)


def another_config(box: Box) -> None:
    other = box.root / "other.toml"
    other.write_text(box.config.read_text())
    box.environ["VX_TOKEN_CONFIG"] = str(other)


Change = Callable[[Box], object]
SURE: dict[str, tuple[list[str], Change]] = {
    "nothing said": ([], lambda box: None),
    "its profile": (["--profile", "gemini"], lambda box: None),
    "the default": (["--profile", "default"], lambda box: None),
    "the last profile wins": (["--profile", "nope", "--profile", "gemini"], lambda box: None),
    "as a header": (["--format", "header"], lambda box: None),
    "as a token": (["--format", "header", "--format", "token"], lambda box: None),
    "profile by environment": ([], lambda box: box.environ.update(VX_TOKEN_PROFILE="gemini")),
    "an empty profile": ([], lambda box: box.environ.update(VX_TOKEN_PROFILE="")),
    "its own credentials named": ([], lambda box: box.environ.update(GOOGLE_APPLICATION_CREDENTIALS=str(box.key))),
    "other credentials than the configuration's own": (
        [],
        lambda box: box.environ.update(GOOGLE_APPLICATION_CREDENTIALS="/nowhere"),
    ),
    "variables of the hook": ([], lambda box: box.environ.update(VX_TOKEN_STATUS="fresh", VX_TOKEN_EXPIRES_AT="1")),
    "the hook's own variable": ([], lambda box: box.environ.update(VX_TOKEN_HOOK="1")),
}
UNSURE: dict[str, tuple[list[str], Change]] = {
    "an option with =": (["--profile=gemini"], lambda box: None),
    "a life asked for": (["--min-ttl", "1m"], lambda box: None),
    "as JSON": (["--format", "json"], lambda box: None),
    "an unknown format": (["--format", "xml"], lambda box: None),
    "another setting": (["--model", "x"], lambda box: None),
    "help": (["--help"], lambda box: None),
    "half an option": (["--profile"], lambda box: None),
    "a stray word": (["gemini"], lambda box: None),
    "an unknown profile": (["--profile", "nope"], lambda box: None),
    "an unknown profile by environment": ([], lambda box: box.environ.update(VX_TOKEN_PROFILE="nope")),
    "an empty profile name": (["--profile", ""], lambda box: None),
    "a profile out of the folder": (["--profile", "../run/gemini"], lambda box: None),
    "a profile that is a dot": (["--profile", "."], lambda box: None),
    "a setting by environment": ([], lambda box: box.environ.update(VX_TOKEN_LOCATION="eu")),
    "a wrong setting by environment": ([], lambda box: box.environ.update(VX_TOKEN_LOCATION="EU")),
    "a changed configuration": ([], lambda box: change(box.config)),
    "a broken configuration": ([], lambda box: change(box.config, "nonsense")),
    "a configuration that is gone": ([], lambda box: box.config.unlink()),
    "another configuration": ([], another_config),
    "changed credentials": ([], lambda box: change(box.key)),
    "credentials that are gone": ([], lambda box: box.key.unlink()),
    "an open runtime folder": ([], lambda box: box.runtime.chmod(0o755)),
    "a runtime folder others may write": ([], lambda box: box.runtime.chmod(0o777)),
    "an open profile folder": ([], lambda box: (box.runtime / "gemini").chmod(0o750)),
    "a runtime folder that is a link": ([], lambda box: linked(box.runtime)),
    "a profile folder that is a link": ([], lambda box: linked(box.runtime / "gemini")),
    "a default that leads out of the folder": (
        ["--profile", "default"],
        lambda box: relinked(box.runtime / "default", "../run/gemini"),
    ),
    "no runtime folder": ([], lambda box: shutil.rmtree(box.runtime)),
    "another runtime folder": ([], lambda box: box.environ.update(VX_TOKEN_RUNTIME_DIR=str(box.root / "other"))),
    "a relative runtime folder": ([], lambda box: box.environ.update(VX_TOKEN_RUNTIME_DIR="run")),
    "no peek file": ([], lambda box: peek_file(box).unlink()),
    "an empty peek file": ([], lambda box: peek_file(box).write_text("")),
    "a torn peek file": ([], lambda box: rewrite(box, lambda text: text[:-5])),
    "a peek file of the future": ([], lambda box: rewrite(box, lambda text: text.replace(" 3", " 4", 1))),
    "a peek file of bytes": ([], lambda box: peek_file(box).write_bytes(b"\xff\0" * 1000)),
    "a peek file that is a link": ([], lambda box: linked(peek_file(box))),
    "a peek file that is a fifo": ([], lambda box: replaced(box, os.mkfifo)),
    "a peek file that is a folder": ([], lambda box: replaced(box, Path.mkdir)),
}  # fmt: skip


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


def peek_file(box: Box) -> Path:
    return box.runtime / "gemini" / "peek"


def rewrite(box: Box, edit: Callable[[str], str]) -> None:
    peek_file(box).write_text(edit(peek_file(box).read_text()))


def replaced(box: Box, make: Callable[[Path], None]) -> None:
    peek_file(box).unlink()
    make(peek_file(box))


def linked(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def relinked(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("case", SURE)
def test_while_nothing_has_changed_both_ways_say_the_same(published: Box, case: str) -> None:
    words, make = SURE[case]
    make(published)
    found = quick(published, *words)
    assert found is not None
    peek_file(published).unlink()  # now only the whole program can answer
    assert found == published.vx("print", *words).stdout


@pytest.mark.parametrize("case", UNSURE)
def test_what_it_is_not_sure_of_it_leaves_to_the_whole_program(
    published: Box, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(published.root)
    words, make = UNSURE[case]
    assert quick(published) is not None
    make(published)
    assert quick(published, *words) is None


@as_root
@pytest.mark.parametrize("what", ["peek", "", ".."])
def test_what_belongs_to_another_user_is_not_used(published: Box, what: str) -> None:
    os.chown(published.runtime / "gemini" / what, 12345, -1)
    assert quick(published) is None


GCLOUD = {"found": "application_default_credentials.json", "account": "credentials.db", "active": "credentials.db"}


@dataclass
class Recorded:
    """A token in the file for the quick way, of a login that was chosen in some way.

    Attributes:
        login: what chose it.
        path: the credential file on record.
        usable: since when and for how long (seconds) the token may be printed.
    """

    box: Box
    login: str
    path: Path
    usable: tuple[float, float] = (1.0, 1.0)

    @property
    def own(self) -> Path:
        """Where gcloud's login would be that this environment leads to."""
        return self.box.home / ".config/gcloud" / GCLOUD.get(self.login, "credentials.db")

    def answered(self, **environ: str) -> bool:
        """Whether the quick way answers with these variables."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("{}")
        folder, config, now = self.box.runtime / "gemini", str(self.box.config), time.time()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.box.runtime.chmod(0o700)
        files, usable = [str(self.path)], (now - self.usable[0], now + self.usable[1])
        text = print_cache.render(
            (config, stamps.stamp(config)),
            (files, stamps.joined(files)),
            self.login,
            usable,
            "ya29.mine",
        )
        (folder / "peek").write_text(text)
        answer = fastpath.answer(["vx-token", "print", "--profile", "gemini"], self.box.environ | environ, now)
        assert answer in (None, "ya29.mine\n")
        return answer is not None


@pytest.fixture
def recorded(box: Box, request: pytest.FixtureRequest) -> Recorded:
    box.profile()
    return Recorded(box, request.param, box.root / "recorded.json")


every_choice = pytest.mark.parametrize("recorded", ["named", "found", "account", "active"], indirect=True)


@every_choice
def test_a_login_on_record_is_used_where_there_is_no_other_or_a_daemon_has_chosen_it(recorded: Recorded) -> None:
    assert recorded.answered()
    recorded.own.parent.mkdir(parents=True)
    recorded.own.write_text("{}")
    assert recorded.answered() == (recorded.login == "named")
    lock = recorded.box.runtime / DAEMON_LOCK
    lock.touch()
    assert recorded.answered() == (recorded.login == "named")
    with lock.open() as daemon:
        fcntl.flock(daemon, fcntl.LOCK_EX)
        assert recorded.answered()


@every_choice
def test_the_login_that_gcloud_would_use_is_used_whatever_chose_it(recorded: Recorded) -> None:
    recorded.path = recorded.own
    assert recorded.answered()


@every_choice
def test_a_variable_that_chooses_the_login_counts_where_the_configuration_does_not(recorded: Recorded) -> None:
    own, other = str(recorded.path), str(recorded.box.root / "other.json")
    assert recorded.answered(GOOGLE_APPLICATION_CREDENTIALS=own)
    assert recorded.answered(GOOGLE_APPLICATION_CREDENTIALS=other) == (recorded.login != "found")
    for name in ("CLOUDSDK_CORE_ACCOUNT", "CLOUDSDK_ACTIVE_CONFIG_NAME"):
        assert recorded.answered(**{name: "x"}) == (recorded.login != "active")
        assert recorded.answered(**{name: ""})


@every_choice
def test_gclouds_folder_is_the_one_that_a_variable_names_else_that_of_the_home_folder(recorded: Recorded) -> None:
    elsewhere = recorded.box.root / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / recorded.own.name).write_text("{}")
    assert recorded.answered(CLOUDSDK_CONFIG=str(elsewhere)) == (recorded.login == "named")
    assert recorded.answered(CLOUDSDK_CONFIG="", HOME="") == (recorded.login == "named")
    assert recorded.answered(CLOUDSDK_CONFIG=str(elsewhere / "nothing"), HOME="")
    recorded.own.parent.mkdir(parents=True)
    recorded.own.write_text("{}")
    assert recorded.answered(CLOUDSDK_CONFIG=str(elsewhere / "nothing"))


@every_choice
@pytest.mark.parametrize(
    ("usable", "answered"), [((0.0, 0.0), True), ((-0.01, 1.0), False), ((1.0, -0.01), False), ((1.0, 0.0), True)]
)
def test_a_token_is_printed_from_its_first_to_its_last_instant(
    recorded: Recorded, usable: tuple[float, float], answered: bool
) -> None:
    recorded.usable = usable
    assert recorded.answered() == answered


@every_choice
def test_without_a_configuration_there_must_be_a_project(recorded: Recorded) -> None:
    recorded.box.config.unlink()
    assert not recorded.answered()
    assert not recorded.answered(GOOGLE_CLOUD_PROJECT="")
    assert recorded.answered(GOOGLE_CLOUD_PROJECT="demo")


@pytest.mark.parametrize("word", ["env", "refresh", "--help", "status"])
def test_other_commands_are_none_of_its_business(published: Box, word: str) -> None:
    assert fastpath.answer(["vx-token", word], published.environ, time.time()) is None
    assert fastpath.answer(["vx-token"], published.environ, time.time()) is None


@pytest.mark.parametrize("where", ["profile", "gcloud"])
@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_token_made_with_other_settings_is_not_handed_out(box: Box, google: Emulator, where: str, how: str) -> None:
    login = box.home / ".config/gcloud/application_default_credentials.json"
    login.parent.mkdir(parents=True)
    google.service_account(box.key if where == "profile" else login)
    box.profile(credentials=str(box.key) if where == "profile" else None)
    mine = google.identity_of(box.vx("print").stdout.strip())
    other = box.root / "other.json"
    google.service_account(other)
    if how == "option":
        printed = box.vx("print", "--credentials", str(other)).stdout.strip()
    else:
        box.environ["VX_TOKEN_CREDENTIALS"] = str(other)
        printed = box.vx("print").stdout.strip()
        del box.environ["VX_TOKEN_CREDENTIALS"]
    assert google.identity_of(printed) != mine
    assert google.identity_of(box.vx("print").stdout.strip()) == mine


def test_a_login_made_where_there_was_none_is_seen(box: Box, google: Emulator) -> None:
    box.environ |= {"GCE_METADATA_HOST": google.metadata_host, "GOOGLE_CLOUD_PROJECT": "demo"}
    box.profile(credentials=None)
    assert box.vx("refresh").returncode == 0
    assert quick(box) is not None
    login = box.home / ".config/gcloud/application_default_credentials.json"
    login.parent.mkdir(parents=True)
    google.service_account(login)
    assert quick(box) is None


@pytest.fixture
def keyed(box: Box) -> Box:
    """A state folder with a local key, at the place that the variables in `box` name."""
    box.profile()
    assert box.vx("gateway", "key").returncode == 0
    return box


def quick_key(box: Box, *words: str) -> str | None:
    return fastpath.answer(["vx-token", "gateway", "key", *words], box.environ, time.time())


def key_file(box: Box) -> Path:
    return box.root / "gateway.key"


def test_the_local_key_is_the_whole_programs(keyed: Box) -> None:
    found = quick_key(keyed)
    assert found is not None
    assert found == f"{key_file(keyed).read_text()}\n"
    keyed.environ["VX_TOKEN_LOCATION"] = "eu"  # no setting changes it
    assert quick_key(keyed) == found
    old, rotated = found, keyed.vx("gateway", "rotate-key")
    assert rotated.returncode == 0
    assert quick_key(keyed) not in (None, old)


@pytest.mark.parametrize("length", [100, 8192, 8193])
def test_a_key_of_any_length_is_the_same_both_ways(keyed: Box, length: int) -> None:
    key_file(keyed).write_text("vx-local-".ljust(length, "a"))
    assert quick_key(keyed) == read_key_file(key_file(keyed)) + "\n"


def test_no_file_stays_open(published: Box) -> None:
    key_file(published).write_text("vx-local-a")
    key_file(published).chmod(0o600)
    before = {*Path("/dev/fd").iterdir()}
    assert quick_key(published) is not None
    assert quick(published) is not None
    assert {*Path("/dev/fd").iterdir()} == before


@pytest.mark.parametrize("named", [False, True])
def test_the_local_key_is_found_in_the_state_folder(box: Box, named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    del box.environ["VX_TOKEN_CONFIG"]
    if named:
        box.environ["XDG_STATE_HOME"] = str(box.root / "state")
    printed = box.vx("gateway", "key").stdout  # made by the whole program
    assert printed.startswith("vx-local-")
    assert quick_key(box) == printed
    monkeypatch.setattr(sys, "platform", "darwin")
    assert quick_key(box) is None


def test_a_state_folder_that_is_relative_is_left_to_the_whole_program(
    keyed: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(keyed.root)
    folder = keyed.root / "state/vx-token"
    folder.mkdir(parents=True)
    key_file(keyed).rename(folder / key_file(keyed).name)
    del keyed.environ["VX_TOKEN_CONFIG"]
    keyed.environ["XDG_STATE_HOME"] = str(keyed.root / "state")
    assert quick_key(keyed) is not None
    keyed.environ["XDG_STATE_HOME"] = "state"
    assert quick_key(keyed) is None


def in_place_of_the_key(box: Box, make: Callable[[Path, int], None]) -> None:
    key_file(box).unlink()
    make(key_file(box), 0o700)


UNSURE_KEY: dict[str, tuple[list[str], Change]] = {
    "help": (["--help"], lambda box: None),
    "no key yet": ([], lambda box: key_file(box).unlink()),
    "a key that others may read": ([], lambda box: key_file(box).chmod(0o644)),
    "a key that is a link": ([], lambda box: linked(key_file(box))),
    "a key that is a fifo": ([], lambda box: in_place_of_the_key(box, os.mkfifo)),
    "a key that is a folder": ([], lambda box: in_place_of_the_key(box, Path.mkdir)),
    "something that is no key": ([], lambda box: key_file(box).write_text("ya29.mine")),
    "a key of bytes": ([], lambda box: key_file(box).write_bytes(b"vx-local-\xff")),
    "a key of two lines": ([], lambda box: key_file(box).write_text("vx-local-a\nb")),
    "a relative configuration": ([], lambda box: box.environ.update(VX_TOKEN_CONFIG="config.toml")),
    "a configuration in a relative folder": ([], lambda box: box.environ.update(VX_TOKEN_CONFIG="./config.toml")),
    "a folder as configuration": ([], lambda box: box.environ.update(VX_TOKEN_CONFIG=f"{box.root}/")),
    "a dot as configuration": ([], lambda box: box.environ.update(VX_TOKEN_CONFIG=f"{box.root}/.")),
    "two dots as configuration": ([], lambda box: box.environ.update(VX_TOKEN_CONFIG=f"{box.root}/..")),
}  # fmt: skip


@pytest.mark.parametrize("case", UNSURE_KEY)
def test_a_key_that_it_is_not_sure_of_it_leaves_to_the_whole_program(
    keyed: Box, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(keyed.root)
    words, make = UNSURE_KEY[case]
    assert quick_key(keyed) is not None
    make(keyed)
    assert quick_key(keyed, *words) is None


def test_a_key_file_that_is_none_is_an_error_and_nothing_hangs(keyed: Box) -> None:
    key_file(keyed).unlink()
    os.mkfifo(key_file(keyed), 0o600)
    done = keyed.vx("gateway", "key", timeout=20)
    assert (done.returncode, done.stdout) == (3, "")
    assert "is not a regular file" in done.stderr


class Stopped:
    """A clock that stands."""

    def __init__(self, instant: float) -> None:
        self.instant = instant

    def now(self) -> float:
        return self.instant

    def nap(self, until: float, wake: Wake) -> bool:
        raise AssertionError(f"nobody naps here: {until}, {wake}")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Store, dict[str, str]]:
    root = tmp_path_factory.mktemp("shop")
    (root / "key.json").write_text("{}")
    environ = {"VX_TOKEN_CONFIG": str(root / "c.toml"), "VX_TOKEN_RUNTIME_DIR": str(root / "run")}
    (root / "c.toml").write_text(f'[profiles.gemini]\nproject = "demo"\ncredentials = "{root / "key.json"}"\n')
    return load_config(environ), Store(root / "run"), environ


@given(
    lifetime=st.floats(1, 12 * 3600),
    age=st.floats(-120, 13 * 3600) | st.floats(0, 1),
    renewed=st.booleans(),
    form=st.sampled_from(["token", "header"]),
)
def test_at_any_age_both_ways_say_the_same_or_the_quick_one_says_nothing(
    shop: tuple[Config, Store, dict[str, str]], lifetime: float, age: float, renewed: bool, form: str
) -> None:
    settings, store, environ = shop
    profile, clock = settings.profile(), Stopped(NOON)
    old, new = (Token(f"ya29.{word}", NOON + lifetime, NOON, "service_account") for word in ("old", "new"))
    shutil.rmtree(store.root, ignore_errors=True)
    publish = Publisher(store, clock, settings).publish
    Refresher(store, clock, lambda *_: old, {}, settings, publish).refresh(profile)
    clock.instant = NOON + age
    found = fastpath.answer(["vx-token", "print", "--format", form], environ, clock.now())

    def later(*_: object) -> Token:
        if not renewed:
            raise TemporaryError("Google cannot be reached")
        return replace(new, issued_at=clock.now(), expires_at=clock.now() + lifetime)

    try:
        token = Refresher(store, clock, later, {}, settings, publish).current(profile)
    except TemporaryError:
        assert found is None
    else:
        assert found in (None, exports.printed(profile, token, form, clock.now()) + "\n")
    if 0 <= age <= lifetime - 300 and lifetime > 400:
        assert found is not None


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_than_on_linux_only_named_places_are_known(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert config_path.config_path({"HOME": "/h"}) == ""
    assert config_path.config_path({"VX_TOKEN_CONFIG": "/c"}) == "/c"
    assert fastpath.answer(["vx-token", "print"], {"HOME": "/h", "XDG_RUNTIME_DIR": "/tmp"}, 0) is None
