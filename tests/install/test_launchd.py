"""The launch agent, by parsing what would be installed and by a launchctl that is a script."""

import os
import plistlib
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from vx_token.errors import LoginNeededError, TemporaryError, VxTokenError
from vx_token.install import changes
from vx_token.install.launchd import IF_INSTALLED, LABEL, Launchd, plist
from vx_token.install.service import ServiceSpec

RUNNING = """\
gui/501/local.vx-token = {
\tactive count = 1
\tpath = /Users/me/Library/LaunchAgents/local.vx-token.plist
\tstate = running

\tprogram = /opt/bin/vx-token
\tpid = 4242
\tlast exit code = (never exited)

\tspawn type = daemon (3)
}
"""
ENDED = (
    RUNNING.replace("state = running", "state = spawn scheduled")
    .replace("(never exited)", "3: ")
    .replace("\tpid = 4242\n", "")
)

LAUNCHCTL = """#!/bin/sh
echo "$*" >> "$0.calls"
[ "$1" = print ] || exit 0
cat "$0.says"
[ -s "$0.says" ]
"""


@pytest.fixture
def mac(tmp_path: Path) -> Launchd:
    program = tmp_path / "launchctl"
    program.write_text(LAUNCHCTL)
    program.chmod(0o700)

    def run(argv: list[str]) -> "subprocess.CompletedProcess[str]":
        assert argv[0] == "launchctl"
        return subprocess.run([str(program), *argv[1:]], capture_output=True, text=True, check=False, timeout=10)

    agent = ServiceSpec(
        command=("/opt/my tools/vx-token",),
        home=tmp_path / "me",
        environ={"NO_PROXY": "<&>'\""},
        runtime=tmp_path / "caches/vx-token",
        state=tmp_path / "me/Library/Application Support/vx-token",
    )
    says(tmp_path, RUNNING)
    return Launchd(agent, run, 501, pause=lambda _: None)


def says(folder: Path, text: str) -> None:
    (folder / "launchctl.says").write_text(text)


def snippet(mac: Launchd, *, expires: float, status: str = "fresh", notice: str = "") -> None:
    folder = mac.spec.runtime / "default"
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["# vx-token env.sh 1", f"# status: {status}", f"# expires: {expires:.0f}", f"# notice: {notice}", "# end"]
    (folder / "env.sh").write_text("\n".join(lines))


def test_the_property_list_holds_all_that_launchd_needs(mac: Launchd) -> None:
    found = plistlib.loads(plist(mac.spec).encode())
    log = f"{mac.spec.state}/service.log"
    assert found == {
        "Label": LABEL,
        "ProgramArguments": ["/bin/sh", "-c", IF_INSTALLED, "/opt/my tools/vx-token", "run"],
        "EnvironmentVariables": {"NO_PROXY": "<&>'\""},
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 10,
        "ExitTimeOut": 10,
        "ProcessType": "Background",
        "Umask": 0o77,
        "HardResourceLimits": {"Core": 0},
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }


def test_it_runs_the_program_and_a_removed_program_is_no_failure_to_restart(mac: Launchd) -> None:
    program = mac.spec.home.parent / "my tools" / "vx-token"
    found = plistlib.loads(plist(replace(mac.spec, command=(str(program),))).encode())
    assert found["KeepAlive"] == {"SuccessfulExit": False}  # launchd restarts it unless its exit status is 0

    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$$ $*"\nexit 3\n')
    program.chmod(0o700)
    with subprocess.Popen(found["ProgramArguments"], stdout=subprocess.PIPE, text=True) as process:
        assert process.communicate(timeout=10)[0] == f"{process.pid} run\n"  # the same process: signals reach it
    assert process.returncode == 3
    program.unlink()
    gone = subprocess.run(found["ProgramArguments"], capture_output=True, text=True, check=False, timeout=10)
    assert (gone.returncode, gone.stdout, gone.stderr) == (0, "", "")


def test_install_loads_it_and_uninstall_leaves_nothing(mac: Launchd) -> None:
    home = mac.spec.home
    (home / "Library/LaunchAgents").mkdir(parents=True)
    (home / "Library/LaunchAgents/other.plist").write_text("")
    before = set(home.rglob("*"))
    snippet(mac, expires=time.time() + 60)
    assert mac.apply(mac.install(), time.time) == "the service is running"
    assert oct(mac.file.stat().st_mode)[-3:] == "600"
    calls = (home.parent / "launchctl.calls").read_text().splitlines()
    target = f"gui/501/{LABEL}"
    assert calls[:3] == [f"bootout {target}", f"enable {target}", f"bootstrap gui/501 {mac.file}"]
    changes.perform(mac.uninstall(), mac.run)
    assert set(home.rglob("*")) == before
    assert not mac.spec.runtime.exists()


def test_its_state_is_told_in_one_vocabulary(mac: Launchd) -> None:
    running = mac.status()
    assert (running.installed, running.running, running.pid, running.code) == (True, True, 4242, 0)
    says(mac.spec.home.parent, ENDED)
    ended = mac.status()
    assert (ended.installed, ended.running, ended.result, ended.pid, ended.code) == (
        (True, False, "spawn scheduled", 0, 3)
    )
    says(mac.spec.home.parent, "")
    assert not mac.status().installed
    with pytest.raises(VxTokenError, match="launchd has no session"):
        mac.check()


def test_install_waits_for_the_token_and_says_what_is_wrong(mac: Launchd) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            snippet(mac, expires=time.time() + 60)

    assert replace(mac, pause=pause).apply([], time.time) == "the service is running"
    assert len(pauses) == 3
    snippet(mac, expires=0, status="expired")
    with pytest.raises(TemporaryError, match="has no token yet"):
        mac.apply([], time.time)
    snippet(mac, expires=0, status="login", notice="Google wants you back; run: gcloud auth login")
    with pytest.raises(LoginNeededError, match="Google wants you back") as caught:
        mac.apply([], time.time)
    assert caught.value.hint == "run: gcloud auth login"
    says(mac.spec.home.parent, ENDED)
    with pytest.raises(VxTokenError, match=r"is not running \(spawn scheduled, exit status 3\)"):
        mac.apply([], time.time)


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
def test_every_verb_speaks_to_the_one_agent(mac: Launchd, verb: str) -> None:
    changes.perform(mac.control(verb), mac.run)
    words = {"start": "kickstart", "stop": "kill SIGTERM", "restart": "kickstart -k"}[verb]
    assert (mac.spec.home.parent / "launchctl.calls").read_text() == f"{words} gui/501/{LABEL}\n"


def test_the_log_is_shown_by_tail(mac: Launchd, capfd: pytest.CaptureFixture[str]) -> None:
    mac.spec.state.mkdir(parents=True)
    (mac.spec.state / "service.log").write_text("one\ntwo\n")
    subprocess.run(mac.logs(1, follow=False), check=True, timeout=10, env=dict(os.environ))
    assert capfd.readouterr().out == "two\n"
