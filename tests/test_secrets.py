"""No token, key or password is anywhere but in the files that are for it."""

import json
import os
import resource
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from sandbox import Box, until
from vx_token.emulator import Emulator

COMMANDS = (
    ["refresh"], ["status"], ["status", "--json"], ["print", "--format", "xml"], ["print", "--profile", "nobody"],
    ["exec", "--", "true"], ["exec", "--", "no-such-command"], ["path", "token"], ["run", "--log-format", "json"],
)  # fmt: skip
FAULTS = ("html", "truncated", "no_expiry", "newline_token", "negative_expiry", "invalid_rapt", "reset")


class Watch:
    """Looks over every process's shoulder, as any other program of the same user could."""

    def __init__(self, home: Path) -> None:
        self.mark = f"HOME={home}"
        self.seen: set[str] = set()
        self.processes = 0

    def look(self) -> None:
        for process in psutil.process_iter():
            try:
                environ = [f"{name}={value}" for name, value in process.environ().items()]
                if self.mark in environ:
                    self.seen.update(environ, process.cmdline())
                    self.processes += 1
            except psutil.Error:
                continue


@contextmanager
def watching(home: Path) -> Iterator[Watch]:
    watch, done = Watch(home), threading.Event()

    def work() -> None:
        while not done.wait(0.1):
            watch.look()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield watch
    finally:
        done.set()
        thread.join()


def secrets(google: Emulator, *credentials: Path) -> set[bytes]:
    """Every token that was handed out, and what the credential files keep."""
    found = {issued.value for issued in google.issued}
    for path in credentials:
        document = json.loads(path.read_text())
        found |= {document[key] for key in ("refresh_token", "private_key") if key in document}
        found |= set(document.get("private_key", "").splitlines()[1:3])
    return {secret.encode() for secret in found}


def outside(box: Box) -> Iterator[Path]:
    """Every file but those of the runtime folder and the credentials."""
    for path in box.root.rglob("*"):
        if path.is_file() and not path.is_relative_to(box.runtime) and path.suffix != ".json":
            yield path


def test_a_broad_run_shows_no_secret_anywhere(box: Box, google: Emulator) -> None:
    box.executed = True  # with what every process shows of itself
    account, user = box.root / "account.json", box.root / "user.json"
    google.service_account(account)
    google.impersonated(box.root / "robot.json")
    google.authorized_user(user)
    box.config.write_text('default_profile = "account"\n')
    for name in ("account", "user", "robot"):
        box.profile(name, url=google.base_url(), credentials=f"{name}.json")
    google.lifetime = 3.0
    said = []
    with watching(box.home) as watch, box.daemon():
        until(lambda: all(box.read("env.fish", name) for name in ("account", "user", "robot")))
        for fault in FAULTS:
            google.fail("token", 3, kind=fault)
            google.fail("iam", 1, kind=fault if fault != "invalid_rapt" else "html")
            said.append(box.vx("refresh"))
        google.fail("iam", 1, status=403)
        said += [box.vx(*words) for words in COMMANDS]
        said += [box.vx("refresh", "--profile", "robot"), box.vx("refresh", "--all")]
    assert watch.processes > 20
    hidden = secrets(google, account, user)
    assert len(hidden) > 10
    texts = "".join(done.stdout + done.stderr for done in said) + box.log + "\n".join(watch.seen)
    assert [len(secret) for secret in hidden if secret in texts.encode()] == []
    for path in outside(box):
        content = path.read_bytes()
        assert [len(secret) for secret in hidden if secret in content] == [], path
    assert "Traceback" not in texts


def test_what_print_says_on_stderr_is_never_the_token(box: Box, google: Emulator) -> None:
    google.impersonated(box.key)
    box.profile(url=google.base_url())
    for kind in ("no_expiry", "newline_token", "negative_expiry", "html"):
        google.fail("iam", None, kind=kind)
        done = box.vx("print")
        assert (done.returncode, done.stdout) == (5, "")
        assert "ya29" not in done.stderr
        state = box.read("state.json")
        assert state
        assert "ya29" not in state
        google.heal()


def test_debugging_shows_no_token_either(signed_in: Box, google: Emulator) -> None:
    signed_in.environ["VX_TOKEN_DEBUG"] = "1"
    google.fail("token", None, kind="no_expiry")
    done = signed_in.vx("print")
    assert done.returncode == 5
    assert "ya29" not in done.stderr


def test_all_files_are_private_whatever_the_umask(signed_in: Box) -> None:
    signed_in.executed = True  # it inherits this process's umask
    before = os.umask(0)
    try:
        with signed_in.daemon():
            until(lambda: signed_in.read("peek"))
            assert signed_in.vx("refresh").returncode == 0
            found = {
                path: stat.S_IMODE(path.lstat().st_mode)
                for path in signed_in.runtime.rglob("*")
                if not path.is_symlink()
            }
    finally:
        os.umask(before)
    assert len(found) >= 9
    folders = {path for path in found if path.is_dir()}
    assert {found[path] for path in folders} | {stat.S_IMODE(signed_in.runtime.stat().st_mode)} == {0o700}
    assert {found[path] for path in found.keys() - folders} == {0o600}


def test_a_file_that_was_opened_to_others_is_closed_again(signed_in: Box) -> None:
    signed_in.vx("refresh")
    for path in (signed_in.runtime / "gemini").iterdir():
        path.chmod(0o644)
    signed_in.runtime.chmod(0o755)
    assert signed_in.vx("refresh").returncode == 0
    assert {stat.S_IMODE(path.stat().st_mode) for path in (signed_in.runtime / "gemini").iterdir()} == {0o600}
    assert stat.S_IMODE(signed_in.runtime.stat().st_mode) == 0o700


def test_no_file_is_followed_through_a_link(signed_in: Box) -> None:
    signed_in.vx("refresh")
    target = signed_in.root / "precious"
    target.write_text("precious")
    for name in ("token", "header", "env.sh", "env.fish", "state.json"):
        path = signed_in.runtime / "gemini" / name
        path.unlink()
        path.symlink_to(target)
    assert signed_in.vx("refresh").returncode == 0
    assert target.read_text() == "precious"
    assert not [path for path in (signed_in.runtime / "gemini").iterdir() if path.is_symlink()]


def test_the_daemon_may_dump_no_core(signed_in: Box) -> None:
    signed_in.executed = True  # it inherits this process's limits
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        with signed_in.daemon() as process:
            until(lambda: signed_in.read("peek"))
            assert psutil.Process(process.pid).rlimit(psutil.RLIMIT_CORE) == (0, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
