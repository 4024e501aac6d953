"""Ten real tools on a fresh account: connected by one command, answering past an expiry, and taken back by one command.

The account is that of an ordinary user with a systemd manager, whose service runs the gateway.
"""

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from home_files import Files, changes, files, with_keys
from real_tools import INSTALLED, ROOT, RealTool
from trap import Trap

from vx_token.emulator import Emulator
from vx_token.tools.catalog import find

sys.path.insert(0, str(ROOT / "tests"))
from usermanager import UserManager, machine, why_not

LIFETIME = 40.0
"""Seconds that a token lives: less than ten tools need for their answers."""

MODEL = "google/gemini-3-pro-preview"


class TogetherError(Exception):
    """A step did not do what it must; the message has the reason."""


def run(google: Emulator, trap: Trap, folder: Path, tools: list[RealTool]) -> str:
    """Connect the tools and take them back; return what was seen.

    Args:
        google: the emulator.
        trap: what other hosts get.
        folder: a folder that other users may enter.
        tools: the tools.

    Raises:
        TogetherError: a step failed.
    """
    if reason := why_not():
        raise TogetherError(f"no systemd --user: {reason}")
    usual, google.lifetime = google.lifetime, LIFETIME
    try:
        with machine(f"vxt{os.getpid()}") as here, here.booted() as manager:
            return Account(manager, google, trap, programs(folder, tools)).story(tools)
    finally:
        google.lifetime = usual


def programs(folder: Path, tools: list[RealTool]) -> Path:
    """Make a folder with links to vx-token, Node and the tools' programs, as pipx and `npm -g` do."""
    links = folder / "programs"
    links.mkdir()
    (links / "vx-token").symlink_to(Path(sys.prefix) / "bin" / "vx-token")
    (links / "node").symlink_to(INSTALLED / "node" / "node_modules" / "node" / "bin" / "node")
    for tool in tools:
        for name in find(tool.connect).programs:
            if program := shutil.which(name, path=tool.path):
                (links / name).symlink_to(program)
    return links


class Account:
    """A user's home folder and what is done in it."""

    def __init__(self, manager: UserManager, google: Emulator, trap: Trap, links: Path) -> None:
        self.manager, self.google, self.trap = manager, google, trap
        roots = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
        path = {"PATH": f"{links}:{manager.environ['PATH']}", "SHELL": "/bin/bash"}
        self.environ = {**dict.fromkeys(roots, str(trap.roots)), **path}

    def vx(self, *words: str) -> str:
        """Run vx-token as the user and return its output."""
        done = self.manager.run("vx-token", *words, env=self.environ, timeout=1800)
        if done.returncode:
            raise TogetherError(f"vx-token {' '.join(words)}: {done.stdout[-2000:]}{done.stderr}")
        return done.stdout

    def story(self, tools: list[RealTool]) -> str:
        """Set up, connect, wait for an expiry, connect again, take all back, and compare."""
        manager = self.manager
        with tempfile.TemporaryDirectory() as aside:
            identity = self.google.service_account(Path(aside) / "key.json")
            login = (Path(aside) / "key.json").read_text()
        manager.write(manager.home / ".config/gcloud/application_default_credentials.json", login)
        for tool in tools:
            for name, text in tool.users.items():
                manager.write(manager.home / name, text, 0o644)
        for tool in tools:
            if tool.first:
                manager.run(*tool.first, env={**self.environ, "OPENAI_API_KEY": "not-used"})
        before = files(manager.home)
        # Without --base-url, the service would ask Google.
        self.vx("setup", "--mode", "gateway", "--yes", "--base-url", self.google.base_url(), "--model", MODEL)
        planned = set(files(manager.home)) | {Path(path) for path in self.planned()}
        self.connect(tools)
        keys = {key for content, _ in files(manager.home).values() for key in re.findall(rb"vx-local-[\w-]+", content)}
        self.await_expiry(identity)
        self.connect(tools)
        self.vx("connect", "--undo", "--all", "--yes")
        self.vx("setup", "--undo", "--yes")
        after = files(manager.home)
        self.compare(before, after, planned)
        secrets = [*(key.decode() for key in keys), *(issued.value for issued in self.google.issued)]
        if leaks := {each.host for each in self.trap.caught if any(map(each.holds, secrets))}:
            raise TogetherError(f"a key was sent to {', '.join(sorted(leaks))}")
        return f"{len(tools)} tools answered before and after an expiry; {len(before)} files are as they were"

    def await_expiry(self, identity: str) -> None:
        """Wait until every token of now has expired."""
        last = max(each.expires_at for each in self.google.issued if each.identity == identity)
        while self.google.now() <= last:
            time.sleep(0.2)

    def planned(self) -> Iterator[str]:
        """Yield the files that connect is going to write."""
        for match in re.finditer(r"^(?:write|change) (/.*)$", self.vx("connect", "--all", "--dry-run"), re.MULTILINE):
            yield match[1]

    def connect(self, tools: list[RealTool]) -> None:
        """Connect all; each tool asks for one answer through its own settings."""
        output = self.vx("connect", "--all", "--yes")
        silent = [tool.name for tool in tools if f"with its key {find(tool.connect).name}: answered" not in output]
        if silent:
            raise TogetherError(f"no answer for {', '.join(silent)}: {output}")

    def compare(self, before: Files, after: Files, planned: set[Path]) -> None:
        """Check that the user's files are as they were, and that nothing of vx-token is left."""
        if changed := changes(before, after):
            raise TogetherError(f"undo has not restored {changed}")
        home = self.manager.home
        left = [path for path in planned - before.keys() if path in after]
        for what, paths in (("left", left), ("with a key", with_keys(home)), ("named", list(home.rglob("vx-token*")))):
            if paths:
                raise TogetherError(f"{what} after undo: {', '.join(map(str, paths))}")
