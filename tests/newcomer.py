"""A user of the tests' user manager who follows the pages at a terminal."""

import os
import subprocess
import sys
from dataclasses import dataclass

import pexpect

from sandbox import REPOSITORY
from usermanager import UserManager
from vx_token.emulator import Emulator

PROMPT = r"\$ $"


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
            assert terminal.exitstatus == 0, command

    def interrupt(self, command: str) -> None:
        """Type a command, and Ctrl-C after its first output."""
        with self.terminal("bash", "-c", command) as terminal:
            terminal.expect(r"\w+")
            terminal.sendintr()
            terminal.expect(pexpect.EOF)

    def in_a_new_shell(self, command: str) -> str:
        """Type a command into a new interactive bash and return its output."""
        with self.terminal("bash", "-i") as shell:
            shell.expect(PROMPT)
            shell.sendline(command.replace("\\\n", ""))
            shell.expect(PROMPT)
            return str(shell.before)
