"""One user's life with it under a real `systemd --user`: from nothing, through all that befalls it, back to nothing."""

import fcntl
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from accounts import Account, reading
from sandbox import allowance, until
from shells import PROMPTS, Shell, notices
from usermanager import UserManager
from vx_token.daemon.keeper import FORCED_GAP
from vx_token.emulator import Emulator

SOON = 35.0
"""Seconds of being awake after which things must be right again."""

"""Seconds until a new login's token must be in place."""

OURS = ("token", "header", "env.sh", "env.fish", "state.json", "peek")
"""The files that hold a token."""


def everything(manager: UserManager) -> dict[str, tuple[int, bytes | str]]:
    """The home and the runtime folder: modes, contents and where links lead; but not what is the manager's own."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for path in map(Path, sorted(manager.tree())):
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        found[str(path)] = (path.lstat().st_mode, content)
    return found


@pytest.fixture
def fresh(account: Account, require: Callable[[str], str]) -> Iterator[Account]:
    """A user who has just logged in to Google, with start-up files of their own, whose prompts a test can wait for."""
    manager = account.manager
    require("curl")
    files = [(manager.home / f".{kind}rc", PROMPTS[kind]) for kind in ("bash", "zsh") if require(kind)]
    was = {path: path.read_text() if path.exists() else None for path, _ in files}
    for path, prompt in files:
        manager.write(path, f"{was[path] or ''}\n{prompt}", 0o644)
    account.login("authorized_user", account.adc)
    manager.run("mkdir", "-p", ".config/systemd/user", ".local/state")  # what was empty before is the user's, too
    yield account
    for path, text in was.items():
        path.unlink() if text is None else path.write_text(text)


@contextmanager
def login_shell(account: Account, kind: str) -> Iterator[Shell]:
    """A new login shell at a terminal; it leaves nothing behind, for the home is compared in the end."""
    manager = account.manager
    quiet = {"TERM": "dumb", "HISTFILE": "/dev/null", "skip_global_compinit": "1"}  # the last for Ubuntu's zsh
    shell = Shell(kind, Path("/"), {**manager.environ, **quiet})
    shell.start(manager.argv(kind, "-l"))
    try:
        yield shell
    finally:
        shell.close()


def asked(shell: Shell, request: str) -> str:
    """The status that Vertex answers to what setup told the user to try, typed into this shell."""
    shell.run()  # a prompt that is two seconds young is still right to bash
    shown = shell.run(f"{request} -s -o /dev/null -w 'status=%{{http_code}}=' -m 20")
    found = re.findall(r"status=(\d+)=", shown)
    assert len(found) == 1, shown
    return str(found[0])


def key(shell: Shell) -> str:
    """The key that a program started now in this shell would find."""
    shell.run()
    found = re.findall(r"key=(\S*)=", shell.run("""printf 'key=%s=\\n' "$(printenv OPENAI_API_KEY)" """.strip()))
    return str(found[-1])


def served(account: Account) -> bool:
    """Whether one and the same token is in every file that holds any."""
    token, folder = account.token(), account.runtime / "default"
    return bool(token) and all((folder / name).exists() and token in (folder / name).read_text() for name in OURS)


def at_rest(account: Account) -> None:
    """Wait until no refresh is under way."""
    with (account.runtime / "default/lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def logged_in_anew(account: Account) -> str:
    """Log in as a new identity, whose token is there within a second; returns the identity."""
    tried = json.loads((account.runtime / "default/state.json").read_text())["tried_at"]
    until(lambda: time.time() > tried + FORCED_GAP)
    allowed = allowance()
    old, started = account.token(), time.monotonic()
    identity = account.login("authorized_user", account.adc)
    until(lambda: account.token() != old and served(account))
    assert time.monotonic() - started < allowed
    assert account.identity() == identity
    return identity


def test_a_users_life_with_it_from_nothing_to_nothing(fresh: Account, google: Emulator) -> None:
    account, manager = fresh, fresh.manager
    before = everything(manager)

    # Set up: the service, the configuration, the hook of either shell.
    words = ("setup", "--yes", "--base-url", google.base_url())
    done = account.vx(*words, SHELL="/bin/bash")
    assert (done.status, done.err) == (0, ""), done
    assert "the service is running: default: 60 min left" in done.out
    found = re.search(r"^  (curl .*\\\n.*\\\n.*)$", done.out, re.MULTILINE)
    assert found, done.out
    request = re.sub(r"\s*\\\n\s*", " ", found[1])
    assert account.vx(*words, SHELL="/bin/zsh").status == 0

    with login_shell(account, "bash") as bash, login_shell(account, "zsh") as zsh:
        shells = (bash, zsh)
        assert [asked(shell, request) for shell in shells] == ["200", "200"]
        first = account.token()
        assert [key(shell) for shell in shells] == [first, first]

        # The machine sleeps for longer than a token lives.
        google.lifetime = 5.0
        account.manager.systemctl("reload", "vx-token.service")
        until(lambda: account.token() != first and served(account))
        at_rest(account)
        pid = account.pid()
        os.kill(pid, signal.SIGSTOP)
        until(lambda: time.time() > google.issued[-1].expires_at + 0.2)
        stale = account.token()
        assert not account.alive(stale)
        assert [key(shell) for shell in shells] == ["", ""]  # nobody can take it away, but nobody uses it
        google.lifetime = 3600.0
        tries, awake = google.count("token"), time.monotonic()
        os.kill(pid, signal.SIGCONT)
        until(lambda: account.token() != stale, SOON)
        with reading(account) as wrong:  # there may be none for a moment, but no dead one ever again
            until(lambda: served(account) and account.alive(account.token()), SOON)
        assert time.monotonic() - awake < SOON
        assert "dead" not in wrong
        assert [asked(shell, request) for shell in shells] == ["200", "200"]
        assert google.count("token") - tries == 1
        assert account.pid() == pid

        # Another login comes.
        old = account.token()
        identity = logged_in_anew(account)
        assert not any(old in (account.runtime / "default" / name).read_text() for name in OURS)
        assert [key(shell) for shell in shells] == [account.token()] * 2

        # The service is killed.
        with reading(account) as wrong:
            os.kill(pid, signal.SIGKILL)
            until(lambda: account.restarted(pid), 20)
            assert account.show("NRestarts") == "1"
            assert [asked(shell, request) for shell in shells] == ["200", "200"]
        assert wrong == []
        assert account.identity() == identity

        # Nobody was ever sent to Google with a token that had ended, and nobody was told of anything.
        assert {seen.status for seen in google.requests if seen.route == "chat"} == {200}
        assert [notices(shell.banner) for shell in shells] == [[], []]

        done = account.vx("setup", "--undo", "--yes")
        assert (done.status, done.err) == (0, ""), done
        assert [key(shell) for shell in shells] == ["", ""]
    before[str(account.adc)] = (0o100600, account.adc.read_bytes())  # gcloud's, and so not ours to take back
    assert everything(manager) == before
    assert account.show("LoadState") == "not-found"
    assert not Path(f"/proc/{pid}").exists()
