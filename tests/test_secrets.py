"""No token, key or password is anywhere but in the files that are for it."""

import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import openai
import psutil
import pytest

from gateways import ask, client, free_port, listen, local_key, say
from leaks import Secret, TracedBox, found, in_credentials, issued, service_manager, watching
from sandbox import Box, until
from upstreams import read_all
from vx_token.emulator import Emulator

FAULTS = ("html", "truncated", "no_expiry", "newline_token", "negative_expiry", "invalid_rapt", "reset")
COMMANDS = (
    "status", "status --json", "doctor", "doctor --json --live", "print --format xml", "print --profile nobody",
    "exec -- no-such-command", "exec", "path token", "path nothing", "endpoints", "models", "models --profile robot",
    "setup --dry-run --no-service", "setup --undo --dry-run", "connect --list", "connect llm --dry-run --yes",
    "gateway keys", "gateway revoke nobody", "hook bash", "completion zsh", "service status", "run --log-format json",
    "refresh --all",
)  # fmt: skip
"""Commands whose output is for people; those that print a key or a token on purpose are not among them."""

CRASH = "import os; os.abort()"
ENV_FILES = r"env\.sh|env\.fish"
PLACES = {
    "token": rf"run/(\.aside/[^/]+/)?([^/]+/(token|header|state\.json|peek)|(account|user)/({ENV_FILES}))",
    "local key": rf"run/robot/({ENV_FILES}|peek)|gateway\.key(\.previous)?|gateway\.keys/[^/]+",
    **dict.fromkeys(("refresh_token", "client_secret", "private_key"), r"(account|user|robot)\.json"),
}
"""The files, below the box, in which each kind of secret may be."""


def local_keys(box: Box) -> set[Secret]:
    """The default key, the named ones, and those that were replaced."""
    paths = (*box.root.glob("gateway.key*"), *box.root.glob("gateway.keys/*"))
    text = "\n".join(path.read_text() for path in paths if path.is_file())  # the files have no end of line
    return {Secret("local key", value) for value in re.findall(r"vx-local-[\w-]+", text)}


def misplaced(secrets: set[Secret], root: Path) -> list[tuple[str, str, str]]:
    """The files that hold a secret in a wrong place or with a wrong mode."""
    wrong = []
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            mode, name = stat.S_IMODE(path.stat().st_mode), str(path.relative_to(root))
            kinds = {secret.kind for secret in found(secrets, path.read_bytes())}
            wrong += [
                (kind, name, oct(mode)) for kind in kinds if mode != 0o600 or not re.fullmatch(PLACES[kind], name)
            ]
    return wrong


def requests(box: Box, google: Emulator, port: int) -> list[str]:
    """Send the gateway good and bad requests; return the answers that are its own."""
    key = local_key(box)
    with client(box, port) as tool:
        assert say(tool, "hello")
        assert listen(tool, "hello")
        for token in google.issued:
            google.revoke(token.value)
        until(lambda: answers_again(tool), 120)
    last = google.issued[-1].value
    lines = [
        f"GET /healthz HTTP/1.1\r\nHost: localhost\r\nBad Header: {key}",
        f"GET /v1/{key} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}x",
        f"GET /v1/x?key={key} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {last}",
        f"GET /v1/x HTTP/1.1\r\nHost: {key}\r\nAuthorization: Bearer {key}",
        f"GET /{key}/v1/x HTTP/9\r\nHost: localhost\r\nAuthorization: Bearer {key}",
        f"{key} /v1/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}",
        f"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nTransfer-Encoding: {key}",
    ]
    answers = [read_all_of(port, line.encode()) for line in lines]
    paths = ("/healthz", "/readyz", "/metrics", "/statusz", "/v1/models")
    return answers + [str(ask(port, path, key)) for path in paths]


def answers_again(tool: openai.OpenAI) -> bool:
    try:
        return bool(say(tool, "again"))
    except openai.InternalServerError:  # on a busy machine a new token may take longer than the gateway waits
        return False


def read_all_of(port: int, head: bytes) -> str:
    with socket.create_connection(("127.0.0.1", port), 30) as raw:
        raw.sendall(head + b"\r\nConnection: close\r\n\r\n")
        return read_all(raw).decode("latin-1")


def crashed(box: TracedBox, google: Emulator) -> int:
    """Abort the daemon where core files may be of any size; return how many another program leaves there."""
    limit = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (limit[1], limit[1]))
    try:
        subprocess.run([sys.executable, "-c", CRASH], cwd=box.root, check=False)
        control = list(box.root.glob("core*"))
        for path in control:
            path.unlink()
        with box.logged("run") as process:
            until(lambda: (box.runtime / ".daemon.json").exists() and box.read("peek", "account"), 120)
            os.kill(process.pid, signal.SIGABRT)
            assert process.wait(30) == -signal.SIGABRT
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limit)
    return len(control)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_whole_run_shows_no_secret_anywhere(
    tmp_path: Path, google: Emulator, require: Callable[[str], str], record_property: Callable[[str, object], None]
) -> None:
    require("strace")
    (tmp_path / "box").mkdir()
    box = TracedBox(tmp_path / "box")
    google.service_account(box.root / "account.json")
    google.authorized_user(box.root / "user.json", quota_project_id="billing")
    google.impersonated(box.root / "robot.json")
    for path in box.root.glob("*.json"):
        path.chmod(0o600)
    credentials = set().union(*(in_credentials(path) for path in box.root.glob("*.json")))
    port = free_port()
    box.config.write_text(f'default_profile = "robot"\n[gateway]\nport = {port}\naccess_log = true\n')
    for name, mode in (("account", "direct"), ("user", "direct"), ("robot", "gateway")):
        box.profile(name, url=google.base_url(), credentials=f"{name}.json", mode=mode, on_refresh=["true"])
    box.environ |= {"TMPDIR": str(box.root / "tmp"), "NOTIFY_SOCKET": str(box.root / "notify"), "VX_TOKEN_DEBUG": "1"}
    (box.root / "tmp").mkdir()
    google.lifetime, keys, said = 60.0, set(), []
    with watching(box.root) as watch, service_manager(box.root / "notify") as messages:
        with box.daemon("--log-format", "systemd"):
            until(lambda: all(box.read("env.fish", name) for name in ("account", "user", "robot")), 120)
            said += requests(box, google, port)
            for fault in FAULTS:
                google.fail("token", 1, kind=fault)
                said.append(printed(box.vx("refresh", "--profile", "user")))
            for fault in ("html", "newline_token"):
                google.fail("iam", 1, kind=fault)
                said.append(printed(box.vx("refresh", "--profile", "robot")))
            google.fail("iam", 1, status=403)
            said += [printed(box.vx(*words.split())) for words in COMMANDS]
            keys |= local_keys(box)
            for words in ("gateway rotate-key", "gateway key --name tool", "gateway keys"):
                done = box.vx(*words.split())
                assert done.returncode == 0, f"{words}: {done.stderr}"
            keys |= local_keys(box)
            box.vx("exec", "--profile", "account", "--", "bash", "-c", "true")
            box.vx("exec", "--", "true")
        cores = crashed(box, google)
        keys |= local_keys(box)
    tokens = issued(google)
    assert len(tokens) > 10
    assert len(keys) >= 3
    secrets = tokens | keys | credentials
    # What people, logs, the journal and the service manager see.
    texts = "\n".join([*said, box.log, *map(bytes.decode, messages)]).encode()
    assert b"STATUS=" in texts
    assert found(secrets, texts) == set()
    assert b"eyJ" not in texts  # a signed assertion
    # Files at the end, by place and mode, and at every moment.
    assert misplaced(secrets, box.root) == []
    allowed = "|".join(PLACES.values())
    assert {
        name: modes for name, modes in watch.modes.items() if modes != {0o600} or not re.fullmatch(allowed, name)
    } == {}
    assert list(box.root.rglob("core*")) == []
    assert list((box.root / "tmp").iterdir()) == []
    # What each process was started with: the key of a tool's own mode, in the variable for it, and nothing else.
    starts = box.starts()
    hits = [hit for start in starts for hit in found(secrets, "\0".join(start.argv).encode())]
    assert hits == []
    names = {
        (name, secret.kind)
        for start in starts
        for name, value in start.environ.items()
        for secret in found(secrets, value.encode("utf-8", "surrogateescape"))
    }
    assert names == {("OPENAI_API_KEY", "token"), ("OPENAI_API_KEY", "local key")}
    for name, number in {
        "secrets": len(secrets), "processes": len(starts), "bytes of output": len(texts), "looks at files": watch.looks,
        "files": len(list(box.root.rglob("*"))), "core files of a control": cores,
    }.items():  # fmt: skip
        record_property(name, number)


def printed(done: "subprocess.CompletedProcess[str]") -> str:
    return done.stdout + done.stderr


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
