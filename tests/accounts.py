"""A test account with `systemd --user` and vx-token installed."""

import itertools
import json
import os
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox import SOURCE
from usermanager import UserManager
from vx_token.emulator import Emulator
from vx_token.install.systemd import SOCKET, UNIT

LAUNCHER = f"""#!{sys.executable} -P
import os, sys
sys.path.insert(0, {str(SOURCE)!r})
os.environ["PYTHONPATH"] = {str(SOURCE)!r}
from vx_token.__main__ import main
main()
"""


@dataclass
class Answer:
    status: int
    out: str
    err: str


@dataclass
class Account:
    """The tests' user with the command, a login and a configuration."""

    manager: UserManager
    google: Emulator

    @property
    def runtime(self) -> Path:
        return self.manager.runtime / "vx-token"

    @property
    def program(self) -> Path:
        return self.manager.home / ".local/bin/vx-token"

    @property
    def adc(self) -> Path:
        """Where gcloud writes a login."""
        return self.manager.home / ".config/gcloud/application_default_credentials.json"

    def vx(self, *words: str, **environ: str) -> Answer:
        done = self.manager.run(str(self.program), *words, env=environ)
        return Answer(done.returncode, done.stdout, done.stderr)

    def install(self, **environ: str) -> None:
        answer = self.vx("service", "install", **environ)
        assert answer.status == 0, f"{answer}\n{self.log()}"

    def login(self, kind: str = "service_account", path: Path | None = None) -> str:
        """A new identity's credential file, in place by rename and readable from its first moment; the identity."""
        path = path or self.manager.home / "key.json"
        aside = self.manager.write(path.with_name(f".{path.name}.new"), "")
        identity = {"service_account": self.google.service_account, "authorized_user": self.google.authorized_user}
        name = identity[kind](aside)
        os.chown(aside, self.manager.uid, self.manager.gid)
        aside.replace(path)
        return name

    def configure(self, text: str = "") -> None:
        content = f'[profiles.gemini]\nproject = "demo"\nbase_url = "{self.google.base_url()}"\n'
        key = f'credentials = "{self.manager.home}/key.json"\n'
        self.manager.write(self.manager.home / ".config/vx-token/config.toml", content + key + text)

    def drop_in(self, text: str, name: str = "test") -> None:
        """Settings of a machine's owner, in the folder for things of the moment."""
        folder = self.manager.runtime / f"systemd/user/{UNIT}.d"
        self.manager.write(folder / f"{name}.conf", f"[Service]\n{text}\n")
        self.manager.systemctl("daemon-reload")

    def token(self) -> str:
        try:
            return (self.runtime / "default/token").read_text()
        except FileNotFoundError:
            return ""

    def identity(self) -> str:
        """Return the identity of the token in the file, "" without one."""
        token = self.token()
        return self.google.identity_of(token) if token else ""

    def show(self, name: str) -> str:
        return self.manager.show(UNIT, name)

    def pid(self) -> int:
        return int(self.show("MainPID"))

    def log(self) -> str:
        path = self.manager.home / ".local/state/vx-token/service.log"
        return path.read_text() if path.exists() else "no log"

    def restarted(self, pid: int) -> bool:
        """Whether another process than `pid` is at work."""
        return self.pid() not in (0, pid) and self.show("ActiveState") == "active"

    def secrets(self) -> list[str]:
        """What the credential files keep, line by line."""
        found: list[str] = []
        for path in (self.adc, self.manager.home / "key.json"):
            document = json.loads(path.read_text()) if path.exists() else {}
            found += [document[key] for key in ("refresh_token", "client_secret") if key in document]
            found += document.get("private_key", "").splitlines()[1:3]
        return found

    def alive(self, token: str) -> bool:
        """Whether Google would take it now."""
        return any(token == each.value and self.google.now() < each.expires_at for each in self.google.issued)


@contextmanager
def opened(manager: UserManager, google: Emulator) -> Iterator[Account]:
    """The user with the command; whatever is there at the end goes."""
    before, account = manager.tree(), Account(manager, google)
    manager.write(account.program, LAUNCHER, 0o700)
    try:
        yield account
    finally:
        for verb, name in itertools.product(("disable", "stop"), (UNIT, SOCKET)):
            manager.run("systemctl", "--user", verb, name)  # one by one: systemd 262 stops none where one is missing
        manager.run("rm", "-rf", *sorted(manager.tree() - before))
        manager.run("systemctl", "--user", "daemon-reload")
        manager.run("systemctl", "--user", "reset-failed")


def answers(google: Emulator, token: str, base_url: str = "") -> int:
    """The status with which Vertex, or a gateway before it, takes this token."""
    url = f"{base_url or google.base_url()}/chat/completions"
    body = b'{"model": "google/gemini-2.5-flash", "messages": [{"role": "user", "content": "hi"}]}'
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@contextmanager
def reading(account: Account) -> Iterator[list[str]]:
    """A reader that never rests; gives what it found other than a live token: `none` or `dead`."""
    wrong: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.wait(0.002):
            token = account.token()
            if not account.alive(token):
                wrong.append("dead" if token else "none")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield wrong
    finally:
        stop.set()
        reader.join()
