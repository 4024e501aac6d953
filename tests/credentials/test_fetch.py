"""Whatever answers in Google's place, the child that asks can neither stop, bloat nor fool us."""

import contextlib
import json
import math
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from sandbox import Box, until
from vx_token.config.model import Profile
from vx_token.credentials.fetch import fetch_token
from vx_token.emulator import Emulator
from vx_token.errors import LoginNeededError, TemporaryError

MIB = 2**20

JUNK = {
    "html": "something that is no token",
    "empty": "something that is no token",
    "list": "something that is no token",
    "truncated": "Google cannot be reached",
    "junk": "too large",
    "reset": "Google cannot be reached",
    "no_expiry": "without a plausible end",
    "negative_expiry": "without a plausible end",
    "newline_token": "no usable token",
    "empty_token": "no usable token",
}


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """Its refreshes run in a child, which this file is about."""
    return Box(tmp_path, executed=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_pipe_that_takes_nothing_is_a_temporary_failure(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(subprocess.Popen[bytes]):
        """A program whose stdin reports an error of the system when it is closed."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            assert self.stdin is not None
            self.stdin.close()
            self.stdin = Path("/dev/full").open("wb")  # noqa: SIM115 - closed by what is tested

    monkeypatch.setattr(subprocess, "Popen", Full)
    with pytest.raises(TemporaryError, match="No space left on device") as failure:
        fetch_token(profile(box), box.environ)
    assert failure.value.hint


def profile(box: Box, **settings: Any) -> Profile:
    return Profile("gemini", **{"project": "demo", "credentials": str(box.key)} | settings)


def program(box: Box, google: Emulator, script: str) -> None:
    """Make the credentials ask a program, so that a test may act inside the child's own group and limits."""
    google.external_account(box.key, box.root / "subject")
    path = box.root / "subject.sh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    document = json.loads(box.key.read_text())
    document["credential_source"] = {"executable": {"command": str(path), "timeout_millis": 60000}}
    box.key.write_text(json.dumps(document))
    box.environ["GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"] = "1"


def subject(box: Box) -> str:
    """A script for `program` that gives the proof it stands for."""
    answer = {
        "version": 1,
        "success": True,
        "token_type": "urn:ietf:params:oauth:token-type:jwt",
        "id_token": "$proof",
        "expiration_time": int(time.time() + 3600),
    }
    text = json.dumps(answer).replace('"', '\\"')
    return f'proof=$(cat {box.root}/subject)\necho "{text}"'


def a_fetch(box: Box) -> float:
    """The seconds that a good one takes on this machine now."""
    started = time.monotonic()
    fetch_token(profile(box), box.environ)
    return time.monotonic() - started


def left_over(box: Box) -> list[psutil.Process]:
    """Processes of this box that still live, wherever they hang in the tree."""
    mark = f"HOME={box.home}"
    return [p for p in psutil.process_iter() if mark in _environ(p) and p.status() != psutil.STATUS_ZOMBIE]


def _environ(process: psutil.Process) -> list[str]:
    try:
        return [f"{name}={value}" for name, value in process.environ().items()]
    except psutil.Error:
        return []


def refused(box: Box) -> str:
    """What a failing `print` says; it keeps to the contract of a temporary failure."""
    done = box.vx("print")
    assert (done.returncode, done.stdout) == (5, "")
    first, second = done.stderr.splitlines()
    assert first.startswith("vx-token: ")
    assert second.startswith("hint: ")
    assert "ya29." not in done.stderr
    return first


def failure(box: Box) -> str:
    """The message of a refresh in this process that fails for a passing reason."""
    found = box.refresh().failure
    assert found is not None
    assert (found.kind, bool(found.hint)) == ("temporary", True)
    assert "ya29." not in found.message + found.hint
    return found.message


@pytest.mark.parametrize("kind", JUNK)
def test_junk_from_the_token_endpoint_is_a_temporary_failure(signed_in: Box, google: Emulator, kind: str) -> None:
    google.fail("token", None, kind=kind)
    assert JUNK[kind] in refused(signed_in)


@pytest.mark.parametrize("kind", sorted(JUNK.keys() - {"junk"}))  # only the child's limit of memory ends that
def test_junk_from_iam_is_a_temporary_failure(box: Box, google: Emulator, kind: str) -> None:
    google.impersonated(box.key)
    box.profile(url=google.base_url())
    google.fail("iam", None, kind=kind)
    wanted = "something that is no token" if kind == "no_expiry" else JUNK[kind]
    assert wanted in failure(box)


@pytest.mark.parametrize("kind", ["html", "empty", "reset", "no_expiry", "newline_token"])
def test_junk_from_the_token_exchange_is_a_temporary_failure(box: Box, google: Emulator, kind: str) -> None:
    google.external_account(box.key, box.root / "subject")
    box.profile(url=google.base_url())
    google.fail("sts", None, kind=kind)
    assert failure(box)


@pytest.mark.parametrize("kind", ["html", "empty", "list", "no_expiry", "newline_token"])
def test_junk_from_the_metadata_server_is_a_temporary_failure(box: Box, google: Emulator, kind: str) -> None:
    box.environ["GCE_METADATA_HOST"] = google.metadata_host
    box.profile(url=google.base_url(), credentials=None)
    google.fail("metadata", None, kind=kind)
    refused(box)


@pytest.mark.parametrize("route", ["token", "iam", "sts"])
def test_a_login_is_never_sent_elsewhere(box: Box, google: Emulator, route: str) -> None:
    target = "robot@demo.iam.gserviceaccount.com"
    place = {"token": google.token_uri, "iam": google.iam_url(target), "sts": f"{google.url}/v1/token"}[route]
    if route == "token":
        google.service_account(box.key)
    else:
        google.external_account(box.key, box.root / "subject", target)
    box.profile(url=google.base_url())
    google.fail(route, None, status=307, headers={"Location": place})
    assert refused(box) == "vx-token: 127.0.0.1 redirected the request (HTTP 307)"
    assert google.count(route) == 1


def test_a_token_that_no_http_header_holds_is_refused(signed_in: Box, google: Emulator) -> None:
    body = {"access_token": "x" * 16385, "expires_in": 3600, "token_type": "Bearer"}
    google.fail("token", status=200, body=json.dumps(body))
    assert "no usable token" in refused(signed_in)


def test_a_federated_token_of_12_kib_is_taken(signed_in: Box, google: Emulator) -> None:
    google.fail("token", kind="huge_token")
    done = signed_in.vx("print")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) == 12289
    assert done.stdout.strip() == google.issued[-1].value == signed_in.read("token")


def test_200_mb_of_junk_cannot_bloat_the_child(signed_in: Box, google: Emulator) -> None:
    google.fail("token", None, kind="junk", size=200_000_000)
    script = (
        "import os, resource, sys\n"
        "from vx_token.config.model import Profile\n"
        "from vx_token.credentials.fetch import fetch_token\n"
        "try:\n"
        "    fetch_token(Profile('x', credentials=sys.argv[1]), os.environ)\n"
        "except Exception as error:\n"
        "    print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    argv = [sys.executable, "-c", script, str(signed_in.key)]
    said, peak = subprocess.run(
        argv, env=signed_in.environ, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said == "Google's answer is too large"
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(peak) * unit < 384 * MIB


@pytest.mark.parametrize("kind", ["hang", "drip"])
def test_an_answer_that_never_ends_is_given_up_at_the_deadline(signed_in: Box, google: Emulator, kind: str) -> None:
    google.fail("token", None, kind=kind)
    started = time.monotonic()
    with pytest.raises(TemporaryError, match="no answer from Google within 2 s"):
        fetch_token(profile(signed_in), signed_in.environ, deadline=1.5)
    assert 1.4 < time.monotonic() - started < 3
    assert left_over(signed_in) == []


def test_a_program_that_hangs_ends_with_the_child(box: Box, google: Emulator) -> None:
    program(box, google, subject(box))
    deadline = max(2.0, 4 * a_fetch(box))  # the program must have started by then
    program(box, google, f"sleep 300 & sleep 300 & echo started > {box.root}/started; wait")
    with pytest.raises(TemporaryError, match="the program that gives the subject token did not end in time"):
        fetch_token(profile(box), box.environ, deadline=deadline)
    assert (box.root / "started").exists()
    until(lambda: not left_over(box), 3, "the program's end")


def test_a_program_that_outlives_its_own_limit_is_told_as_such(box: Box, google: Emulator) -> None:
    program(box, google, "exec sleep 300")
    box.key.write_text(box.key.read_text().replace("60000", "5000"))
    with pytest.raises(TemporaryError, match="the program that gives the subject token did not end in time"):
        fetch_token(profile(box), box.environ)


def test_a_child_ended_by_its_own_clock_tells_the_program_that_hung(box: Box, google: Emulator) -> None:
    program(box, google, "kill -ALRM $PPID; sleep 300")
    with pytest.raises(TemporaryError, match="the program that gives the subject token did not end in time"):
        fetch_token(profile(box), box.environ)


@pytest.mark.parametrize("by_program", [True, False])
def test_a_child_ended_by_its_own_clock_tells_googles_silence(box: Box, google: Emulator, by_program: bool) -> None:
    google.external_account(box.key, box.root / "subject")
    if by_program:
        program(box, google, subject(box))
    google.fail("sts", None, kind="hang")

    def alarm() -> None:
        until(lambda: google.count("sts"))
        for child in psutil.Process().children():
            if "vx_token.credentials.google_worker" in child.cmdline():
                child.send_signal(signal.SIGALRM)

    clock = threading.Thread(target=alarm)
    clock.start()
    with pytest.raises(TemporaryError, match="no answer from Google within 20 s"):
        fetch_token(profile(box), box.environ, deadline=20)
    clock.join()


def test_print_leaves_no_process_behind_when_it_is_told_to_stop(signed_in: Box, google: Emulator) -> None:
    google.fail("token", None, kind="hang")
    with signed_in.start("print", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until(lambda: google.count("token"), what="the request")
        process.send_signal(2)
        assert process.wait(5) != 0
        assert process.stdout is not None
        assert process.stdout.read() == ""
    until(lambda: not left_over(signed_in), 3, "the child's end")


def test_a_child_whose_parent_was_killed_ends_itself(signed_in: Box, google: Emulator) -> None:
    own = a_fetch(signed_in)
    deadline = max(1.0, 4 * own)  # the child must have asked by then
    google.fail("token", None, kind="hang")
    script = (
        "import os, sys\n"
        "from vx_token.config.model import Profile\n"
        "from vx_token.credentials.fetch import fetch_token\n"
        "fetch_token(Profile('x', credentials=sys.argv[1]), os.environ, deadline=float(sys.argv[2]))\n"
    )
    argv = [sys.executable, "-c", script, str(signed_in.key), str(deadline)]
    with subprocess.Popen(argv, env=signed_in.environ, stderr=subprocess.DEVNULL) as parent:
        until(lambda: google.count("token") == 2, what="the request")
        parent.kill()
    # Its own clock rings a second after the deadline, both in whole seconds; two more are for a machine that pauses.
    until(lambda: not left_over(signed_in), math.ceil(deadline) + 3, "the child's end")


def test_a_stop_ends_the_child_at_once(signed_in: Box, google: Emulator) -> None:
    google.fail("token", None, kind="hang")
    stop = threading.Event()
    started = time.monotonic()
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(TemporaryError, match="interrupted"):
        fetch_token(profile(signed_in), signed_in.environ, cancelled=stop.is_set)
    assert 0.5 <= time.monotonic() - started < 2
    assert left_over(signed_in) == []


def test_a_child_that_is_killed_is_a_temporary_failure(box: Box, google: Emulator) -> None:
    program(box, google, "kill -9 $PPID")
    with pytest.raises(TemporaryError, match="ended without an answer"):
        fetch_token(profile(box), box.environ)


def test_what_a_program_writes_reaches_nobody(box: Box, google: Emulator) -> None:
    program(box, google, "echo ya29.secret; echo ya29.secret >&2; exit 1")
    box.profile(url=google.base_url())
    assert "the subject token" in refused(box)


def test_the_child_may_dump_no_core_and_has_bounded_memory(box: Box, google: Emulator) -> None:
    program(box, google, f"ulimit -c > {box.root}/limits; ulimit -v >> {box.root}/limits; exit 1")
    with pytest.raises(TemporaryError):
        fetch_token(profile(box), box.environ)
    core, memory = (box.root / "limits").read_text().split()
    assert core == "0"
    assert int(memory) * 1024 == 384 * MIB


def test_the_childs_environment_keeps_proxies_off_the_metadata_server(box: Box, google: Emulator) -> None:
    program(box, google, f'echo "$NO_PROXY" "$GOOGLE_API_ENABLE_RUNTIME_BOUND_TOKEN" > {box.root}/seen; exit 1')
    box.environ |= {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "intra.example"}
    with pytest.raises(TemporaryError):
        fetch_token(profile(box), box.environ)
    seen = (box.root / "seen").read_text()
    assert seen == "intra.example,169.254.169.254,metadata.google.internal false\n"


def test_a_server_that_asks_for_patience_is_heard(signed_in: Box, google: Emulator) -> None:
    google.fail("token", None, status=503, headers={"Retry-After": "77"})
    with pytest.raises(TemporaryError, match="HTTP 503") as failure:
        fetch_token(profile(signed_in), signed_in.environ)
    assert failure.value.retry_after == 77


@pytest.mark.parametrize("status", [408, 429, 500, 502, 504])
def test_a_servers_trouble_is_temporary(signed_in: Box, google: Emulator, status: int) -> None:
    google.impersonated(signed_in.key)
    google.fail("iam", None, status=status)
    with pytest.raises(TemporaryError, match=f"HTTP {status}"):
        fetch_token(profile(signed_in), signed_in.environ)


def test_a_revoked_login_needs_a_human(box: Box, google: Emulator) -> None:
    google.revoke_identity(google.authorized_user(box.key))
    with pytest.raises(LoginNeededError, match="no longer accepts") as failure:
        fetch_token(profile(box), box.environ)
    assert failure.value.hint == "run: gcloud auth application-default login"


def test_a_session_that_is_over_needs_a_human(box: Box, google: Emulator) -> None:
    google.revoke_identity(google.authorized_user(box.key), reauth=True)
    with pytest.raises(LoginNeededError, match="log in again") as failure:
        fetch_token(profile(box), box.environ)
    assert failure.value.hint == "run: gcloud auth application-default login"


def test_a_deleted_key_needs_a_new_one(box: Box, google: Emulator) -> None:
    account = google.service_account(box.key)
    google.revoke_identity(account)
    with pytest.raises(LoginNeededError) as failure:
        fetch_token(profile(box), box.environ)
    assert failure.value.hint.endswith(f"gcloud iam service-accounts keys create {box.key} --iam-account={account}")


def test_a_port_where_nobody_listens_is_a_temporary_failure(signed_in: Box) -> None:
    document = json.loads(signed_in.key.read_text())
    signed_in.key.write_text(json.dumps(document | {"token_uri": "http://127.0.0.1:9/token"}))
    assert "cannot be reached" in refused(signed_in)


def test_a_proxy_that_is_down_is_a_temporary_failure(signed_in: Box) -> None:
    signed_in.environ["HTTP_PROXY"] = "http://user:hunter2@127.0.0.1:9"
    done = signed_in.vx("print")
    assert (done.returncode, done.stdout) == (5, "")
    assert "hunter2" not in done.stderr


def test_the_current_folder_is_not_imported_from(signed_in: Box) -> None:
    for name in ("json", "requests", "vx_token", "google"):
        (signed_in.root / f"{name}.py").write_text("raise SystemExit('imported')")
    assert signed_in.vx("print").returncode == 0


def test_google_auth_is_loaded_only_in_the_child(signed_in: Box) -> None:
    script = (
        "import sys\n"
        "from vx_token.cli import main\n"
        "status = main.run(['refresh'])\n"
        "heavy = {'google', 'requests', 'aiohttp', 'ssl'}\n"
        "print(status, sorted({name.split('.')[0] for name in sys.modules} & heavy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=signed_in.environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"


def open_files() -> int:
    """How many this process has open; not its sockets, for the emulator's are among them and close when they will."""
    found = 0
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - its own descriptor is in the list, and gone by then
        with contextlib.suppress(OSError):
            found += not stat.S_ISSOCK(os.fstat(int(name)).st_mode)
    return found


def test_a_fetch_leaves_no_open_file(signed_in: Box) -> None:
    fetch_token(profile(signed_in), signed_in.environ)
    before = open_files()
    fetch_token(profile(signed_in), signed_in.environ)
    assert open_files() == before


def test_a_child_that_starts_slowly_is_told_the_whole_of_a_long_profile(signed_in: Box, google: Emulator) -> None:
    slowly = signed_in.root / "python"
    slowly.mkdir()
    (slowly / "sitecustomize.py").write_text("import time; time.sleep(0.5)")
    signed_in.environ["PYTHONPATH"] = f"{slowly}:{signed_in.environ['PYTHONPATH']}"
    # More than a pipe holds: a part of it waits until the child reads.
    large = profile(signed_in, export=tuple(f"OPENAI_{number}=value" for number in range(10_000)))
    assert fetch_token(large, signed_in.environ, deadline=10.0).value == google.issued[-1].value
