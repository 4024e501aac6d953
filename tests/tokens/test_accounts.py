"""Which of gcloud's accounts a token belongs to, for the quick way of `print` and for the whole program."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from forked import fetch_here
from sandbox import Box
from vx_token.cli import fastpath
from vx_token.config.load import load_config
from vx_token.emulator import Emulator
from vx_token.errors import LoginNeededError
from vx_token.outputs.publisher import Publisher
from vx_token.system import paths
from vx_token.system.clock import SystemClock
from vx_token.tokens.refresh import Refresher
from vx_token.tokens.store import Store


def folder(box: Box) -> Path:
    return box.home / ".config/gcloud"


def activate(box: Box, name: str, account: str) -> None:
    """Do what `gcloud config configurations activate` and `gcloud config set account` do."""
    (folder(box) / "configurations").mkdir(parents=True, exist_ok=True)
    (folder(box) / f"configurations/config_{name}").write_text(f"[core]\naccount = {account}\n")
    (folder(box) / "active_config").write_text(name)


def quick(box: Box) -> str | None:
    answer = fastpath.answer(["vx-token", "print"], box.environ, time.time())
    return answer and answer.strip()


def whole(box: Box, *, attended: bool = False) -> str:
    """The token that the whole program prints."""
    settings = load_config(box.environ)
    publisher = Publisher(Store(paths.runtime_dir(box.environ)), SystemClock(), settings)
    refresher = Refresher(
        publisher.store,
        publisher.clock,
        fetch_here,
        box.environ,
        settings,
        publisher.publish,
        attended=lambda: attended,
    )
    return refresher.current(settings.profile()).value


@pytest.fixture
def two(box: Box, google: Emulator) -> tuple[str, str]:
    """Two accounts of gcloud, the first of them active."""
    names = google.gcloud_login(folder(box)), google.gcloud_login(folder(box))
    activate(box, "default", names[0])
    return names


def test_print_follows_the_active_account_without_a_daemon(box: Box, google: Emulator, two: tuple[str, str]) -> None:
    box.profile(url=google.base_url(), credentials=None, account="active")
    assert google.identity_of(whole(box)) == two[0]
    assert quick(box) == whole(box)
    activate(box, "work", two[1])
    assert quick(box) is None
    assert google.identity_of(whole(box)) == two[1]
    assert quick(box) == whole(box)
    activate(box, "work", two[0])
    assert quick(box) is None
    assert google.identity_of(whole(box)) == two[0]
    assert google.count("token") == 3


def test_an_account_that_is_named_does_not_follow_the_active_one(
    box: Box, google: Emulator, two: tuple[str, str]
) -> None:
    box.profile(url=google.base_url(), credentials=None, account=two[0])
    first = whole(box)
    assert quick(box) == first
    activate(box, "work", two[1])
    box.environ |= {"CLOUDSDK_CORE_ACCOUNT": two[1], "GOOGLE_APPLICATION_CREDENTIALS": "/nowhere.json"}
    assert quick(box) == whole(box) == first
    assert google.count("token") == 1


def test_a_variable_chooses_the_active_account_for_its_shell_alone(
    box: Box, google: Emulator, two: tuple[str, str]
) -> None:
    box.profile(url=google.base_url(), credentials=None, account="active")
    activate(box, "work", two[1])
    activate(box, "default", two[0])
    plain = dict(box.environ)
    for variables in ({"CLOUDSDK_CORE_ACCOUNT": two[1]}, {"CLOUDSDK_ACTIVE_CONFIG_NAME": "work"}):
        assert google.identity_of(whole(box)) == two[0]
        box.environ |= variables
        assert quick(box) is None
        assert google.identity_of(whole(box)) == two[1]
        box.environ = dict(plain)
        assert quick(box) is None


def test_a_login_of_another_account_costs_a_request_and_changes_no_token_if_that_fails(
    box: Box, google: Emulator, two: tuple[str, str]
) -> None:
    box.profile(url=google.base_url(), credentials=None, account=two[0])
    first = whole(box)
    google.gcloud_login(folder(box))
    assert quick(box) is None
    google.fail("token", None, kind="html")
    assert whole(box) == first
    google.gcloud_login(folder(box), two[0], refresh_token="another", type="authorized_user")
    assert whole(box) == first  # a new login of the same account, while Google is unreachable
    google.heal()


def test_no_token_of_the_account_before_is_served_after_a_switch(
    box: Box, google: Emulator, two: tuple[str, str]
) -> None:
    box.profile(url=google.base_url(), credentials=None, account="active")
    assert whole(box)
    activate(box, "default", "nobody@example.com")
    for _ in range(2):
        with pytest.raises(LoginNeededError, match=r"no login of nobody@example\.com") as raised:
            whole(box)
        assert raised.value.hint == "run: gcloud auth login nobody@example.com"
    assert google.count("token") == 1
    activate(box, "default", two[1])
    assert google.identity_of(whole(box)) == two[1]


@pytest.mark.parametrize("change", ["config", "home"])
def test_a_shell_that_sees_another_folder_of_gcloud(
    box: Box, google: Emulator, two: tuple[str, str], change: str
) -> None:
    box.profile(url=google.base_url(), credentials=None, account="active")
    first = whole(box)
    other = box.root / "other"
    box.environ |= {"CLOUDSDK_CONFIG": str(other)} if change == "config" else {"HOME": str(other)}
    assert quick(box) == whole(box) == first  # as a cron job: there is no login to go by but what is on record
    place = other if change == "config" else other / ".config/gcloud"
    theirs = google.gcloud_login(place)
    (place / "configurations").mkdir()
    (place / "configurations/config_default").write_text(f"[core]\naccount = {theirs}\n")
    assert quick(box) is None
    assert whole(box, attended=True) == first  # beside a daemon, its login counts
    assert google.identity_of(whole(box)) == theirs
    assert google.count("token") == 2


CHANGES: dict[str, Callable[[Box], object]] = {
    "the database": lambda box: (folder(box) / "credentials.db").unlink(),
    "a log of changes": lambda box: (folder(box) / "credentials.db-wal").write_text("x"),
    "the active configuration": lambda box: (folder(box) / "active_config").write_text("default\n"),
    "its content": lambda box: (folder(box) / "configurations/config_default").write_text("[core]\n"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_quick_way_sees_every_file_that_decides(
    box: Box, google: Emulator, two: tuple[str, str], change: str
) -> None:
    box.profile(url=google.base_url(), credentials=None, account="active")
    assert whole(box)
    assert google.identity_of(quick(box) or "") == two[0]
    CHANGES[change](box)
    assert quick(box) is None
