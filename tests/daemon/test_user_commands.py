"""The user's own commands: told by paths only, bounded, and harmless when they fail."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from sandbox import Box, until
from vx_token.daemon.user_commands import Event, Job, JobRunner, environment
from vx_token.emulator import Emulator

# Appends what it was given to the file named by its first argument, then does its worst.
WITNESS = """
import json, os, pathlib, sys
given = {"argv": sys.argv[2:], "environ": dict(os.environ), "stdin": sys.stdin.read()}
with open(sys.argv[1], "a") as record:
    record.write(json.dumps(given) + "\\n")
print(pathlib.Path(os.environ["VX_TOKEN_TOKEN_FILE"]).read_text())
print(pathlib.Path(os.environ["VX_TOKEN_TOKEN_FILE"]).read_text(), file=sys.stderr)
sys.exit(int(sys.argv[2]))
"""


def witness(box: Box, status: int = 0) -> list[str]:
    return [sys.executable, "-c", WITNESS, str(box.root / "record"), str(status)]


def records(box: Box) -> list[dict[str, object]]:
    path = box.root / "record"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def configured(box: Box, google: Emulator) -> Box:
    """A home whose on_refresh is the witness."""
    google.service_account(box.key)
    box.profile(url=google.base_url(), on_refresh=witness(box), export=["EXTRA_KEY={token}"])
    return box


def test_a_command_is_given_paths_and_never_a_token(configured: Box, google: Emulator) -> None:
    # As in a shell with the hook, whose variables the daemon inherits.
    old = {"OPENAI_API_KEY": "ya29.of-the-shell", "EXTRA_KEY": "ya29.of-the-shell", "HARMLESS": "yes"}
    configured.environ |= old
    with configured.daemon():
        [given] = until(lambda: records(configured))
    found = given["environ"]
    assert isinstance(found, dict)
    assert found["VX_TOKEN_EVENT"] == "refresh"
    assert found["VX_TOKEN_PROFILE"] == "gemini"
    assert found["VX_TOKEN_NOTICE"] == ""
    folder = configured.runtime / "gemini"
    paths = [found[f"VX_TOKEN_{name}_FILE"] for name in ("TOKEN", "HEADER", "ENV")]
    assert paths == [str(folder / name) for name in ("token", "header", "env.sh")]
    assert found["HARMLESS"] == "yes"
    assert "ya29." not in json.dumps(given)
    assert google.issued[-1].value not in json.dumps(given)
    assert given["stdin"] == ""


def test_a_command_that_prints_the_token_leaks_it_nowhere(configured: Box, google: Emulator) -> None:
    with configured.daemon():
        until(lambda: records(configured))
        said = configured.vx("status").stdout
    assert google.issued[-1].value not in configured.log + said


def test_a_command_runs_for_each_new_token_and_not_at_a_restart(configured: Box, google: Emulator) -> None:
    with configured.daemon() as process:
        until(lambda: len(records(configured)) == 1)
        process.send_signal(signal.SIGHUP)
        until(lambda: len(records(configured)) == 2)
    with configured.daemon():
        until(lambda: configured.status()["status"] == "fresh")
    assert len(records(configured)) == google.count("token") == 2


def test_a_token_that_was_fetched_before_the_daemon_is_told_at_its_start(configured: Box, google: Emulator) -> None:
    assert configured.vx("print").returncode == 0
    for starts in (1, 2):
        with configured.daemon():
            until(lambda starts=starts: configured.log.count("fresh token of") == starts)  # type: ignore[misc]
            until(lambda: records(configured))
    assert len(records(configured)) == google.count("token") == 1


def test_a_login_that_others_saw_refused_is_told_once_until_a_refresh_works(box: Box, google: Emulator) -> None:
    told = box.root / "told"
    box.profile(url=google.base_url(), on_login_needed=["sh", "-c", f"echo $VX_TOKEN_EVENT >> {told}"])

    def revoked() -> None:
        google.revoke_identity(google.authorized_user(box.key), reauth=True)
        assert box.vx("print").returncode == 4

    def run(problem: str, times: int) -> None:
        """A daemon that tries at once and meets this problem; how often the user was told by then."""
        before = box.log if (box.root / "daemon.log").exists() else ""
        with box.daemon() as process:
            process.send_signal(signal.SIGHUP)
            until(lambda: problem in box.log.removeprefix(before))
            until(lambda: told.exists() and told.read_text() == "login-needed\n" * times)

    revoked()
    run("log in again", 1)
    google.fail("token", status=503, times=None)  # another failure meanwhile is no end of it
    run("HTTP 503", 1)
    google.heal()
    run("log in again", 1)
    google.authorized_user(box.key)
    assert box.vx("print").returncode == 0
    revoked()
    run("log in again", 2)


def test_a_failing_command_is_told_by_log_and_status_until_it_works(box: Box, google: Emulator) -> None:
    google.service_account(box.key)
    switch = box.root / "works"
    box.profile(url=google.base_url(), on_refresh=["test", "-e", str(switch)])
    problem = "the command 'test' exited with status 1"
    with box.daemon() as process:
        until(lambda: box.status()["problems"] == [problem])
        assert f"gemini: {problem}" in box.vx("status").stdout
        assert f"warning gemini: {problem}" in box.log
        assert box.read("token") == google.issued[-1].value
        assert box.status()["status"] == "fresh"
        switch.touch()
        process.send_signal(signal.SIGHUP)
        until(lambda: box.status()["problems"] == [])


@pytest.mark.parametrize(
    ("command", "problem"),
    [(["/no/such/program"], "cannot be run: No such file"), (["sh", "-c", "kill -9 $$"], "exited with status -9")],
)
def test_what_cannot_be_run_or_dies_is_told(box: Box, google: Emulator, command: list[str], problem: str) -> None:
    google.service_account(box.key)
    box.profile(url=google.base_url(), on_refresh=command)
    with box.daemon() as process:
        until(lambda: problem in box.log)
        before = google.count("token")
        process.send_signal(signal.SIGHUP)
        until(lambda: box.log.count(problem) == 2)
        assert google.count("token") == before + 1


def test_a_command_that_hangs_holds_up_no_refresh(box: Box, google: Emulator) -> None:
    google.service_account(box.key)
    google.lifetime = 2.0
    box.profile(url=google.base_url(), on_refresh=["sh", "-c", f"echo $$ >> {box.root}/started; exec sleep 20"])
    with box.daemon():
        until(lambda: len(google.issued) >= 4, 20)
        until(lambda: box.read("token") == google.issued[-1].value)
        started = (box.root / "started").read_text().split()
    assert len(started) == 1  # one at a time
    os.kill(int(started[0]), signal.SIGKILL)


def test_several_commands_run_in_order_and_none_is_kept_from_it_by_another(box: Box, google: Emulator) -> None:
    google.service_account(box.key)
    commands = [["sh", "-c", f"echo {word} >> {box.root}/told"] for word in ("one", "two")]
    box.profile(url=google.base_url(), on_refresh=[commands[0], ["false"], ["/no/such/program"], commands[1]])
    wrong = ["the command 'false' exited with status 1", "the command '/no/such/program' cannot be run: No such file"]
    with box.daemon() as process:
        until(lambda: len(box.status()["problems"]) == 2)
        assert (box.root / "told").read_text() == "one\ntwo\n"
        assert [problem.removesuffix(" or directory") for problem in box.status()["problems"]] == wrong
        assert all(f"warning gemini: {problem}" in box.log for problem in wrong)
        process.send_signal(signal.SIGHUP)
        until(lambda: (box.root / "told").read_text() == "one\ntwo\n" * 2)


def test_several_commands_run_when_a_login_is_needed(box: Box, google: Emulator) -> None:
    google.revoke_identity(google.authorized_user(box.key), reauth=True)
    told = [["sh", "-c", f'echo "$VX_TOKEN_EVENT {word}" >> {box.root}/told'] for word in ("desktop", "mail")]
    box.profile(url=google.base_url(), on_login_needed=told)
    with box.daemon():
        until(lambda: (box.root / "told").exists() and (box.root / "told").read_text().count("\n") == 2)
    assert (box.root / "told").read_text() == "login-needed desktop\nlogin-needed mail\n"


# JobRunner alone, with a shorter timeout


def test_each_command_has_a_time_of_its_own(tmp_path: Path) -> None:
    found: list[tuple[str, ...]] = []
    runner = JobRunner(lambda _, problems: found.append(problems), timeout=3)
    slow, quick = ("sleep", "60"), ("sh", "-c", f"echo done >> {tmp_path}/told")
    event = Event("refresh", "gemini", tmp_path)
    runner.start(Job(event, (slow, quick, slow, quick), os.environ))
    until(lambda: found, 30)
    assert found == [("the command 'sleep' timed out after 3 s",) * 2]
    assert (tmp_path / "told").read_text() == "done\ndone\n"


def order(folder: Path, script: str, name: str = "refresh", notice: str = "") -> Job:
    event = Event(name, "gemini", folder, notice)
    return Job(event, (("sh", "-c", script),), environment(os.environ, event, ()))


def test_a_command_that_takes_too_long_ends_with_all_it_started(tmp_path: Path) -> None:
    found: list[str] = []
    runner = JobRunner(lambda _, problems: found.extend(problems), timeout=3)
    runner.start(order(tmp_path, f"sleep 60 & echo $! > {tmp_path}/child; wait"))
    until(lambda: found)
    assert found == ["the command 'sh' timed out after 3 s"]
    child = int((tmp_path / "child").read_text())
    until(lambda: not alive(child))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_comes_meanwhile_waits_and_only_the_last_of_it_runs(tmp_path: Path) -> None:
    found: list[str] = []
    runner = JobRunner(lambda done, _: found.append(done.event.notice))
    for number in range(5):
        gate = f"until [ -e {tmp_path}/gate ]; do sleep 0.02; done"
        runner.start(order(tmp_path, gate, notice=str(number)))
    runner.start(order(tmp_path, "true", "login-needed", notice="another kind"))
    until(lambda: found == ["another kind"])
    (tmp_path / "gate").touch()
    until(lambda: len(found) == 3)
    assert found == ["another kind", "0", "4"]


def test_a_runner_that_was_busy_can_run_again(tmp_path: Path) -> None:
    found: list[str] = []
    runner = JobRunner(lambda _, problems: found.extend(problems))
    runner.start(order(tmp_path, "exit 3"))
    until(lambda: len(found) == 1 and not runner._queued)
    runner.start(order(tmp_path, "exit 4"))
    until(lambda: len(found) == 2)
    assert found == [f"the command 'sh' exited with status {status}" for status in (3, 4)]
