"""From `git clone` to an answer, an upgrade and the removal, by the commands of README.md and docs/upgrade.md."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pexpect
import pytest

from sandbox import REPOSITORY
from usermanager import UserManager
from vx_token.emulator import Emulator

PROMPT = r"\$ $"
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


@dataclass
class Newcomer:
    """A user who has cloned the repository; Google is the emulator, and gcloud is a file that it would have written."""

    manager: UserManager
    google: Emulator

    @property
    def environ(self) -> dict[str, str]:
        """The login environment, with the settings for package registries that this machine needs."""
        kept = ("PIP_", "SSL_", "REQUESTS_", "HTTP_PROXY", "HTTPS_PROXY", "UV_")
        own = {name: value for name, value in os.environ.items() if name.upper().startswith(kept)}
        path = f"{self.manager.home}/pipx/bin:{self.manager.environ['PATH']}"
        google = {"VX_TOKEN_BASE_URL": self.google.base_url()}  # where DNS would lead to Google
        return {**own, **self.manager.environ, "PATH": path, "SHELL": "/bin/bash", **google}

    def run(self, *argv: str) -> str:
        done = self.manager.run(*argv, env=self.environ, timeout=300)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def clone(self) -> None:
        target = self.manager.home / "vx-token"
        subprocess.run(["git", "clone", "--quiet", REPOSITORY.as_uri(), target], check=True)
        for path in [target, *target.rglob("*")]:
            os.chown(path, self.manager.uid, self.manager.gid, follow_symlinks=False)

    def login(self, kind: str) -> None:
        """Write the file that gcloud writes, or the key file that an administrator sends."""
        names = {
            "authorized_user": ".config/gcloud/application_default_credentials.json",
            "service_account": "key.json",
        }
        aside = self.manager.home / ".login"
        self.google.credentials(kind, aside)
        self.manager.write(self.manager.home / names[kind], aside.read_text())
        aside.unlink()

    def terminal(self, *argv: str) -> "pexpect.spawn[str]":
        words = self.manager.argv(*argv)
        child = pexpect.spawn(words[0], words[1:], env=self.environ, encoding="utf-8", timeout=60, dimensions=(50, 250))
        child.logfile_read = sys.stdout
        return child

    def install(self, kind: str) -> None:
        """Do what the README says, up to the new shell."""
        self.clone()
        self.run("sh", "-c", INSTALL)
        assert LOGIN.startswith("gcloud auth application-default login")
        self.login(kind)
        self.answer_questions(SETUP if kind == "authorized_user" else SETUP_WITH_KEY)

    def traces(self) -> set[str]:
        """What of vx-token's is in the home and the runtime folder, apart from the clone."""
        of_others = ("vx-token/", ".cache/pip", "pipx/", ".local/share/pipx/venvs/.vx-token.lock")
        # The tests' own drop-in is for a checkout in /tmp.
        others = (*(f"{self.manager.home}/{name}" for name in of_others), f"{self.manager.runtime}/systemd/user/")
        return {path for path in self.manager.tree() if "vx-token" in path and not f"{path}/".startswith(others)}

    def answer_questions(self, command: str) -> None:
        """Run setup at a terminal: name the project, and accept every default."""
        with self.terminal("bash", "-c", command) as terminal:
            while terminal.expect([r"(?i)project[^\n]*: ?$", r"\[Y/n\]: ?$", r"\]: ?$", pexpect.EOF]) != 3:
                terminal.sendline("demo" if "roject" in str(terminal.after) else "")
            terminal.wait()
            assert terminal.exitstatus == 0

    def in_a_new_shell(self, command: str) -> str:
        """Type a command into a new interactive bash and return its output."""
        with self.terminal("bash", "-i") as shell:
            shell.expect(PROMPT)
            shell.sendline(command.replace("\\\n", ""))
            shell.expect(PROMPT)
            return str(shell.before)


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
@pytest.mark.parametrize("kind", ["authorized_user", "service_account"])
def test_the_readme_leads_from_the_clone_to_an_answer(newcomer: Newcomer, kind: str) -> None:
    start = time.monotonic()
    newcomer.install(kind)
    output = newcomer.in_a_new_shell(REQUEST)
    assert '"choices"' in output
    assert time.monotonic() - start < LIMIT
    assert [seen.route for seen in newcomer.google.requests].count("chat") >= 1
    newcomer.run("sh", "-c", DOCTOR)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_upgrade_keeps_the_service_and_the_removal_leaves_nothing(newcomer: Newcomer) -> None:
    newcomer.install("service_account")
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
    newcomer.install("authorized_user")
    newcomer.run("sh", "-c", UNINSTALL)
    stop, stop_gateway, remove, reload = BY_HAND
    assert "gateway" in stop_gateway  # there is none here
    for command in (stop, remove, reload):
        newcomer.run("sh", "-c", command)
    assert not (newcomer.manager.home / ".config/systemd/user/vx-token.service").exists()
    assert newcomer.manager.show("vx-token.service", "LoadState") == "not-found"
