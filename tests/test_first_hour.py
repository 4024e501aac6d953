"""From `git clone` to an answer, an upgrade and the removal, by the commands of README.md and docs/upgrade.md."""

import re
import shutil
import sys
import time
from collections.abc import Iterator

import pytest

from newcomer import Newcomer
from sandbox import REPOSITORY
from usermanager import UserManager
from vx_token.emulator import Emulator

LIMIT = 120.0
"""Seconds from the clone to the answer."""


def commands(page: str, heading: str) -> list[str]:
    """The commands in the code blocks below a heading of a page."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    section = text.split(f"\n{heading}\n")[1].split("\n## ")[0].split("\n### ")[0]
    blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    return [re.sub(r" +# .*", "", line[2:]) for block in blocks for line in re.split(r"\n(?=\$ )", block.rstrip())]


INSTALL, LOGIN, SETUP, DOCTOR, REQUEST = commands("README.md", "## Install")
[SETUP_WITH_KEY] = commands("README.md", "### With a service account's key")
PULL, REINSTALL, SETUP_AGAIN = commands("docs/upgrade.md", "## Upgrade")
DISCONNECT, UNDO, UNINSTALL = commands("docs/upgrade.md", "## Uninstall")
BY_HAND = commands("docs/upgrade.md", "## If the program was removed first")


def answered(newcomer: Newcomer, kind: str) -> None:
    """Do what the README says, from the clone to the answer."""
    start = time.monotonic()
    newcomer.clone()
    newcomer.run("sh", "-c", INSTALL)
    assert LOGIN.startswith("gcloud auth application-default login")
    newcomer.login(kind)
    newcomer.answer_questions(SETUP if kind == "authorized_user" else SETUP_WITH_KEY)
    assert '"choices"' in newcomer.in_a_new_shell(REQUEST)
    assert time.monotonic() - start < LIMIT
    assert "chat" in [seen.route for seen in newcomer.google.requests]
    newcomer.run("sh", "-c", DOCTOR)


@pytest.fixture
def newcomer(user_manager: UserManager, google: Emulator) -> Iterator[Newcomer]:
    """A fresh home with pipx from PyPI, which the README names as a prerequisite."""
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        pytest.skip("this is no git checkout")
    before, newcomer = user_manager.tree(), Newcomer(user_manager, google)
    newcomer.run(sys.executable, "-m", "venv", str(user_manager.home / "pipx"))
    newcomer.run(str(user_manager.home / "pipx/bin/python"), "-m", "pip", "install", "--quiet", "pipx")
    try:
        yield newcomer
    finally:
        user_manager.run("vx-token", "setup", "--undo", "--yes")
        user_manager.run("rm", "-rf", *sorted(user_manager.tree() - before))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_readme_leads_to_an_answer_and_an_upgrade_and_the_removal_leave_nothing(newcomer: Newcomer) -> None:
    answered(newcomer, "service_account")
    start_up = newcomer.manager.home / ".bashrc"
    assert PULL == "git -C vx-token pull"
    newcomer.run("sh", "-c", REINSTALL)
    newcomer.answer_questions(SETUP_AGAIN)
    assert newcomer.manager.systemctl("is-active", "vx-token") == "active"
    newcomer.run("sh", "-c", DISCONNECT)
    newcomer.answer_questions(UNDO)
    newcomer.run("sh", "-c", UNINSTALL)
    assert newcomer.traces() == set()
    assert "vx-token" not in start_up.read_text()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_program_that_was_removed_first_leaves_a_service_that_is_removed_by_hand(newcomer: Newcomer) -> None:
    answered(newcomer, "authorized_user")
    newcomer.run("sh", "-c", UNINSTALL)
    stop, stop_gateway, remove, reload = BY_HAND
    assert "gateway" in stop_gateway  # there is none here
    for command in (stop, remove, reload):
        newcomer.run("sh", "-c", command)
    assert not (newcomer.manager.home / ".config/systemd/user/vx-token.service").exists()
    assert newcomer.manager.show("vx-token.service", "LoadState") == "not-found"
