"""The service under a real `systemd --user`, from nothing to nothing."""

import contextlib
import ctypes
import json
import os
import re
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import usermanager
from accounts import LAUNCHER, Account, answers, reading
from journal import Line, journal
from sandbox import SOURCE, until
from usermanager import REPOSITORY
from vx_token.config.load import parse_config
from vx_token.config.model import Gateway, OutputFile, Profile
from vx_token.credentials.fetch import DEADLINE
from vx_token.credentials.token import Token
from vx_token.daemon import info, user_commands
from vx_token.daemon.environment import SHELL_VARIABLES
from vx_token.daemon.keeper import STUCK
from vx_token.emulator import Emulator
from vx_token.errors import ConfigError
from vx_token.gateway.listener import owner_uid
from vx_token.install import changes as install_changes
from vx_token.install import launchd
from vx_token.install import systemd as service
from vx_token.install.changes import WriteFile
from vx_token.install.service import (
    DAEMON_FILES,
    PROFILE_FILES,
    ServiceSpec,
    command,
    environment,
    listen,
    writable,
)
from vx_token.outputs import files
from vx_token.outputs.files import Snapshot
from vx_token.outputs.template_files import TemplateFiles, record_file
from vx_token.system import daemon_lock
from vx_token.tokens.model import State
from vx_token.tokens.schedule import LOGIN_PAUSE

UNIT = "vx-token.service"
HARD = REPOSITORY / "systemd" / service.NAMESPACES
APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")


@pytest.fixture
def account(account: Account) -> Account:
    """The user with a service account's key and a configuration that names it."""
    account.login()
    account.configure()
    return account


def test_one_command_installs_it_and_one_leaves_nothing(account: Account) -> None:
    before = account.manager.tree()
    answer = account.vx("service", "install")
    assert (answer.status, answer.err) == (0, "")
    assert "the service is running: gemini: 60 min left" in answer.out
    assert account.show("UnitFileState") == "enabled"
    assert answers(account.google, account.token()) == 200
    assert account.vx("service", "status").out.splitlines()[1].startswith("state:   active, process ")

    answer = account.vx("service", "uninstall")
    assert (answer.status, answer.err) == (0, "")
    assert account.manager.tree() == before
    assert account.show("LoadState") == "not-found"
    assert account.vx("service", "uninstall").status == 0


def test_a_second_install_updates_and_changes_nothing_that_is_right(account: Account) -> None:
    account.install()
    unit = account.manager.home / ".config/systemd/user" / UNIT
    text, pid, token, tree = unit.read_text(), account.pid(), account.token(), account.manager.tree()
    account.install()
    assert unit.read_text() == text
    assert account.manager.tree() == tree
    assert account.pid() != pid
    assert account.token() == token
    account.install(GOOGLE_CLOUD_PROJECT="another")
    assert "Environment=GOOGLE_CLOUD_PROJECT=another" in unit.read_text()
    assert oct(unit.stat().st_mode)[-3:] == "600"


def test_a_dry_run_shows_all_and_does_nothing(account: Account) -> None:
    before = account.manager.tree()
    answer = account.vx("service", "install", "--dry-run", https_proxy="http://me:hidden@proxy.invalid:3128")
    assert answer.status == 0
    assert f"ExecStart={account.program} run" in answer.out
    assert "run systemctl --user restart vx-token.service" in answer.out
    assert "hidden" not in answer.out
    assert "https_proxy=http://***@proxy.invalid:3128" in answer.out
    assert account.manager.tree() == before


def test_the_service_has_the_environment_it_was_installed_with(account: Account) -> None:
    awkward = 'a "b" c\\d %h $HOME ünï'
    account.manager.write(account.manager.home / "sub/x", "")
    account.manager.run("rm", str(account.manager.home / "sub/x"))
    account.install(NO_PROXY=awkward, CLOUDSDK_CONFIG="sub/gcloud", OPENAI_API_KEY="not-for-it")
    lines = Path(f"/proc/{account.pid()}/environ").read_text().split("\0")
    assert f"NO_PROXY={awkward}" in lines
    assert f"CLOUDSDK_CONFIG={account.manager.home}/sub/gcloud" in lines
    assert not [line for line in lines if line.startswith("OPENAI_API_KEY=")]


def test_the_profile_of_one_shell_is_not_the_services(account: Account) -> None:
    account.install()
    lines = [". " + str(REPOSITORY / "shell/vx-token.bash"), "vx-token-use gemini", "export VX_TOKEN_LIFETIME=20m"]
    shell = "; ".join([*lines, "printenv VX_TOKEN_PROFILE VX_TOKEN_HOOK", "exec vx-token service install"])
    done = account.manager.run("bash", "-c", shell)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("gemini\n")
    inside = Path(f"/proc/{account.pid()}/environ").read_text().split("\0")
    names = {line.partition("=")[0] for line in inside if line.startswith("VX_TOKEN_")}
    assert names == {"VX_TOKEN_LIFETIME", "VX_TOKEN_RUNTIME_DIR"}
    assert "VX_TOKEN_LIFETIME=20m" in inside


def test_a_program_whose_path_needs_quoting_is_started(account: Account) -> None:
    odd = account.manager.write(account.manager.home / "my tools %h $HOME/vx-token", LAUNCHER, 0o700)
    done = account.manager.run(str(odd), "service", "install")
    assert done.returncode == 0, done.stderr
    assert str(odd).encode() in Path(f"/proc/{account.pid()}/cmdline").read_bytes().split(b"\0")


def test_a_client_sees_one_live_token_after_another(account: Account) -> None:
    account.google.lifetime = 10.0
    account.install()
    seen: dict[str, int] = {}

    def three() -> bool:
        token = account.token()
        if token not in seen:
            seen[token] = answers(account.google, token)
        return len(seen) >= 3

    until(three, 60)
    assert set(seen.values()) == {200}


def test_a_reload_fetches_anew_in_the_same_process(account: Account) -> None:
    account.install()
    pid, token = account.pid(), account.token()
    assert account.manager.systemctl("reload", UNIT) == ""
    until(lambda: account.token() not in ("", token), 10)
    until(lambda: account.show("ActiveState") == "active", 10)
    assert account.pid() == pid


def test_killed_it_comes_back_and_no_reader_ever_misses_a_token(account: Account) -> None:
    account.install()
    with reading(account) as wrong:
        pid = account.pid()
        account.manager.run("kill", "-9", str(pid))
        until(lambda: account.restarted(pid), 20)
        assert account.show("NRestarts") == "1"
        account.vx("service", "restart")
    assert wrong == []


def test_without_its_program_the_service_ends_quietly_and_starts_again_with_it(account: Account) -> None:
    account.configure("\n[gateway]\nport = 18493\n")
    account.install()
    account.program.unlink()  # as `pipx uninstall` before `setup --undo`
    account.manager.run("kill", "-9", str(account.pid()))
    until(lambda: account.show("ActiveState") == "inactive", 20)
    assert account.show("ConditionResult") == "no"
    with contextlib.suppress(OSError):  # the port that systemd holds open starts nothing either
        urllib.request.urlopen("http://127.0.0.1:18493/healthz", timeout=5)
    assert account.show("ActiveState") == "inactive"
    account.manager.write(account.program, LAUNCHER, 0o700)
    account.install()
    assert account.show("ActiveState") == "active"


def test_a_program_without_its_interpreter_is_tried_once(account: Account) -> None:
    account.install()
    account.manager.write(account.program, "#!/nowhere/python\n", 0o700)
    account.manager.run("kill", "-9", str(account.pid()))
    until(lambda: account.show("ActiveState") == "failed", 20)
    assert (account.show("ExecMainStatus"), account.show("NRestarts")) == ("203", "1")


def test_a_hung_service_is_started_again_by_the_watchdog(account: Account) -> None:
    account.install()
    account.drop_in("WatchdogSec=2\nTimeoutAbortSec=1")
    account.vx("service", "restart")
    pid = account.pid()
    account.manager.run("kill", "-STOP", str(pid))
    until(lambda: account.restarted(pid), 20)
    assert answers(account.google, account.token()) == 200


class Frozen:
    """All threads of a process but its first held still, as if each hung in a system call of its own: ptrace(2)."""

    SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000

    def __init__(self, pid: int) -> None:
        self.threads = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir() if int(task.name) != pid]
        self.ptrace = ctypes.CDLL(None, use_errno=True).ptrace
        for thread in self.threads:
            for request in (self.SEIZE, self.INTERRUPT):
                assert self.ptrace(request, thread, None, None) == 0, os.strerror(ctypes.get_errno())

    def reap(self) -> None:
        """A killed process is only gone when whoever held its threads has heard of their end."""
        for thread in self.threads:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(thread, os.WNOHANG | self.WALL)


def test_a_hung_keeper_ends_the_heartbeat_and_the_service_is_started_again(account: Account) -> None:
    account.install()
    account.drop_in("WatchdogSec=4\nTimeoutAbortSec=2")
    account.vx("service", "restart")
    pid = account.pid()
    frozen = Frozen(pid)

    def again() -> bool:
        frozen.reap()
        return account.restarted(pid)

    until(again, STUCK + 30)
    assert account.show("NRestarts") == "1"
    assert answers(account.google, account.token()) == 200


def test_a_refresh_of_thirty_seconds_is_no_reason_for_the_watchdog(account: Account) -> None:
    account.drop_in("WatchdogSec=10")  # the unit grants 60 s
    account.install()
    pid, token = account.pid(), account.token()
    account.google.fail("token", times=1, kind="hang")
    started = time.monotonic()
    account.manager.systemctl("reload", UNIT)
    until(lambda: account.google.count("token") == 2)
    # Nobody waits for it meanwhile.
    assert account.vx("print").out == f"{token}\n"
    assert account.vx("service", "status").status == 0
    assert time.monotonic() - started < DEADLINE / 2
    assert [seen.status for seen in account.google.requests if seen.route == "token"] == [200, 0]
    until(lambda: account.token() != token, DEADLINE + 15)
    assert time.monotonic() - started >= DEADLINE >= 30
    assert (account.pid(), account.show("NRestarts"), account.show("Result")) == (pid, "0", "success")
    assert "no answer from Google within 30 s" in account.log()
    assert account.show("WatchdogUSec") == "10s"


def test_stopped_it_leaves_the_last_token_and_starts_again(account: Account) -> None:
    account.install()
    token = account.token()
    assert account.vx("service", "stop").out == "the service is stopped\n"
    assert (account.show("ActiveState"), account.show("Result"), account.token()) == ("inactive", "success", token)
    answer = account.vx("service", "status")
    assert answer.status == 1
    assert "the service is not running" in answer.err
    assert doctors_word(account) == ("fail", "the service is not running", "run: vx-token service start, or see: ")
    assert account.vx("service", "start").status == 0
    assert account.token() == token
    assert doctors_word(account, VX_TOKEN_RUNTIME_DIR="/run/elsewhere")[1] == (
        "the service is running, but not for /run/elsewhere"
    )


def doctors_word(account: Account, **environ: str) -> tuple[str, str, str]:
    """Doctor's check of the service; its hint up to the name of the log."""
    found = json.loads(account.vx("doctor", "--json", **environ).out)["checks"]
    [check] = [check for check in found if check["name"] == "service"]
    return check["ok"], check["detail"], check["hint"].removesuffix("vx-token service logs")


def test_install_says_that_a_human_must_log_in_and_the_service_waits_for_it(account: Account) -> None:
    google, told = account.google, account.manager.home / ".local/state/vx-token/told"
    google.revoke_identity(account.login("authorized_user"), reauth=True)
    account.configure(f"""on_login_needed = ["sh", "-c", 'echo "$VX_TOKEN_NOTICE" >> {told}']\n""")
    answer = account.vx("service", "install")
    assert answer.status == 4, answer
    assert answer.err.startswith("vx-token: the service is running, but has no token: ")
    command = "run: gcloud auth application-default login"
    assert answer.err.endswith(f"\nhint: {command}\n")
    assert account.show("ActiveState") == "active"
    assert re.fullmatch(rf"gemini: no token, .* log in again .*; {command}", account.show("StatusText"))

    # Neither a crash nor a restart nor a caller makes another try before five minutes are over.
    until(lambda: told.exists() and told.read_text(), what="the command, which would die with the service")
    pid = account.pid()
    account.manager.run("kill", "-9", str(pid))
    until(lambda: account.restarted(pid), 20)
    assert account.vx("service", "restart").status == 4
    assert account.vx("print").status == 4
    [row] = json.loads(account.vx("status", "--json").out)["profiles"]
    [only] = [seen.at for seen in google.requests if seen.route == "token"]
    assert row["next_refresh_at"] - only >= LOGIN_PAUSE == 300
    assert command in account.show("StatusText")
    assert told.read_text().endswith(f"; {command}\n")
    assert told.read_text().count("\n") == 1

    account.login("authorized_user")
    until(account.token, 60)
    until(lambda: "60 min left, next refresh" in account.show("StatusText"))


def test_a_first_login_and_another_target_of_its_link_are_seen_from_inside_the_sandbox(account: Account) -> None:
    home = account.manager.home
    account.manager.run("rm", "key.json", ".config/vx-token/config.toml")
    assert account.vx("service", "install", GOOGLE_CLOUD_PROJECT="demo").status == 4
    first = account.login("authorized_user", account.adc)
    until(lambda: account.identity() == first)

    link, one, two = home / "link.json", home / "one.json", home / "two.json"
    names = {path: account.login("service_account", path) for path in (one, two)}
    account.manager.run("ln", "-s", "one.json", str(link))
    account.install(GOOGLE_CLOUD_PROJECT="demo", GOOGLE_APPLICATION_CREDENTIALS=str(link))
    until(lambda: account.identity() == names[one])
    account.manager.run("sh", "-c", "ln -s two.json new && mv -T new link.json")
    until(lambda: account.identity() == names[two])
    third = account.login("service_account", two)
    until(lambda: account.identity() == third)


def test_the_users_commands_run_inside_the_sandbox_and_one_that_it_stops_is_told(account: Account) -> None:
    state, home = account.manager.home / ".local/state/vx-token", account.manager.home
    allowed = ["sh", "-c", f"env > {state}/told"]
    account.configure(f"on_refresh = {json.dumps([['sh', '-c', f'echo > {home}/told'], allowed])}\n")
    account.install()
    until((state / "told").exists)
    until(lambda: "VX_TOKEN_NOTICE" in (state / "told").read_text())
    assert f"VX_TOKEN_TOKEN_FILE={account.runtime}/gemini/token\n" in (state / "told").read_text()
    assert account.token() not in (state / "told").read_text()
    if without_namespaces(account):
        return
    until(lambda: "gemini: the command 'sh' exited with status 2" in account.vx("status").out)
    assert not (home / "told").exists()
    account.manager.run("rm", str(state / "told"))
    account.drop_in(f"ReadWritePaths={home}")
    account.vx("service", "restart")
    account.manager.systemctl("reload", UNIT)
    until((state / "told").exists)
    assert (home / "told").exists()


def test_the_service_writes_a_file_where_a_tool_looks_and_uninstall_takes_it_away(account: Account) -> None:
    tool = account.manager.home / ".config/tool"
    account.manager.run("mkdir", "-p", str(tool))
    account.configure('[[profiles.gemini.files]]\npath = "~/.config/tool/key"\n')
    account.install()
    until(lambda: (tool / "key").exists() and (tool / "key").read_text() == account.token())
    assert account.vx("service", "uninstall").status == 0
    assert [*tool.iterdir()] == []


def test_install_says_that_google_does_not_answer(account: Account) -> None:
    account.google.fail("token", times=None, kind="reset")
    answer = account.vx("service", "install")
    assert answer.status == 5, answer
    assert answer.err.startswith("vx-token: the service is running, but has no token yet: gemini: no token, ")


def test_a_wrong_configuration_is_named_and_not_tried_again(account: Account) -> None:
    account.install()
    account.configure("bogus = 1\n")
    answer = account.vx("service", "restart")
    assert answer.status == 3, answer
    assert "bogus" in answer.err
    done = account.manager.run("systemctl", "--user", "restart", UNIT)
    assert done.returncode != 0
    assert (account.show("ActiveState"), account.show("ExecMainStatus"), account.show("NRestarts")) == (
        "failed",
        "3",
        "0",
    )
    account.configure()
    account.install()


def test_a_start_that_fails_is_told_in_the_words_of_systemd_and_our_own(account: Account) -> None:
    account.drop_in("Environment=VX_TOKEN_CONFIG=/nowhere/config.toml")
    wrong = "the configuration file /nowhere/config.toml does not exist"
    answer = account.vx("service", "install")
    assert answer.status == 3
    assert answer.err.splitlines() == [
        f"vx-token: the service is not running (exit-code, exit status 3): {wrong}",
        "hint: see: vx-token service logs",
    ]
    assert wrong in account.vx("service", "logs").out
    assert doctors_word(account)[:2] == ("fail", "the service is not running (exit-code, exit status 3)")


def test_without_a_manager_nothing_is_changed(account: Account) -> None:
    before = account.manager.tree()
    answer = account.vx("service", "install", XDG_RUNTIME_DIR="/nowhere", DBUS_SESSION_BUS_ADDRESS="")
    assert answer.status != 0
    assert "no systemd user manager is running" in answer.err
    shown = account.vx("service", "install", "--dry-run", XDG_RUNTIME_DIR="/nowhere", DBUS_SESSION_BUS_ADDRESS="")
    assert shown.status == 0
    assert shown.err.startswith("note: no systemd user manager is running ")
    assert f"ExecStart={account.program} run" in shown.out
    assert account.manager.tree() == before


@pytest.mark.parametrize("verb", ["start", "restart", "stop"])
def test_what_is_not_installed_can_be(account: Account, verb: str) -> None:
    answer = account.vx("service", verb)
    assert (answer.status, answer.err) == (
        1,
        "vx-token: the service is not installed\nhint: run: vx-token service install\n",
    )


@pytest.mark.parametrize("settings", ['mode = "gateway"\n', "[gateway]\n"])
def test_whatever_asks_for_a_gateway_brings_its_socket(account: Account, settings: str) -> None:
    account.configure(settings)
    shown = account.vx("service", "install", "--dry-run").out
    assert "ListenStream=127.0.0.1:8490\n" in shown


@pytest.mark.parametrize("place", ["tokens", "/tmp/{name}.tokens"])
def test_a_runtime_folder_elsewhere_is_served_and_only_ours_is_taken_away(account: Account, place: str) -> None:
    runtime = account.manager.home / place.format(name=account.manager.name)
    try:
        account.install(VX_TOKEN_RUNTIME_DIR=str(runtime))
        assert answers(account.google, (runtime / "default/token").read_text()) == 200
        assert not account.runtime.exists()
        kept = account.manager.write(runtime / "notes/token", "of the user's own")
        assert account.vx("service", "uninstall", VX_TOKEN_RUNTIME_DIR=str(runtime)).status == 0
        assert {path for path in runtime.rglob("*") if path.is_file()} == {kept}
    finally:
        account.manager.run("rm", "-rf", str(runtime))


def test_a_systemd_credential_serves_as_the_key(account: Account) -> None:
    account.manager.run("rm", str(account.manager.home / ".config/vx-token/config.toml"))
    account.manager.run("mv", "key.json", "locker.json")
    folder = account.manager.home / ".config/systemd/user" / f"{UNIT}.d"
    key = f"LoadCredential=google.json:{account.manager.home}/locker.json"
    account.manager.write(
        folder / "key.conf",
        f"[Service]\n{key}\nEnvironment=GOOGLE_APPLICATION_CREDENTIALS=%d/google.json\n",
    )
    account.install(GOOGLE_CLOUD_PROJECT="demo")
    assert answers(account.google, account.token()) == 200
    assert f"{account.manager.runtime}/credentials/{UNIT}/google.json" in str(
        Path(f"/proc/{account.pid()}/environ").read_bytes()
    )
    # A shell cannot read the key, and is served all the same.
    assert account.vx("print", GOOGLE_CLOUD_PROJECT="demo").out.strip() == account.token()
    # systemd reads the key when it starts the service.
    identity = account.login(path=account.manager.home / "locker.json")
    assert account.vx("service", "restart", GOOGLE_CLOUD_PROJECT="demo").status == 0
    until(lambda: account.identity() == identity)


def test_without_a_journal_the_log_is_a_file_that_logs_shows(account: Account) -> None:
    answer = account.vx("service", "logs")
    file = account.manager.home / ".local/state/vx-token/service.log"
    assert (answer.status, answer.out) == (1, "")
    assert answer.err.startswith(f"vx-token: the service has written nothing to {file}\nhint: ")
    account.install()
    shown = account.vx("service", "logs").out
    assert shown == file.read_text()
    assert "info    vx-token " in shown
    assert "keeps gemini fresh" in shown
    last = account.vx("service", "logs", "-n", "1").out
    assert re.fullmatch(r"\S+Z info    gemini: fresh token of \S+, 59m left\n", last)
    argv = account.manager.argv(str(account.program), "service", "logs", "--follow")
    with subprocess.Popen(argv, env=account.manager.environ, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert [following.stdout.readline() for _ in shown.splitlines()] == shown.splitlines(keepends=True)
        account.vx("service", "stop")
        assert following.stdout.readline().endswith("Z info    stopped\n")
        following.kill()


def test_a_journal_gets_each_event_with_its_level_and_no_secret(account: Account) -> None:
    google = account.google
    with journal(account.manager) as written:

        def ours() -> list[Line]:
            return [line for line in written() if line.program == "vx-token"]

        account.install()
        google.fail("token", times=1, kind="reset")
        account.manager.systemctl("reload", UNIT)
        until(lambda: len(google.issued) == 2, 60)
        google.fail("token", times=None, kind="invalid_rapt")
        account.login("authorized_user")
        until(lambda: any("log in again" in line.text for line in ours()))
        account.manager.systemctl("stop", UNIT)
        until(lambda: ours()[-1].text == "<6>stopped")
        lines, everything = ours(), "\n".join(line.text for line in written())
    assert all(line.leveled for line in lines)
    events = [line.text for line in lines]
    assert [
        event
        for event in events
        if not re.match(r"<[346]>(vx-token \d|gemini: |the configuration is unchanged|stopped)", event)
    ] == []
    assert {event[:3] for event in events} == {"<6>", "<4>", "<3>"}
    assert account.log() == "no log"
    assert not [issued for issued in google.issued if issued.value in everything]
    assert not [word for word in account.secrets() if word in everything]


@pytest.mark.slow
def test_with_lingering_it_runs_from_boot_without_any_login(google: Emulator) -> None:
    usermanager.demanded()
    with usermanager.machine(f"vxb{os.getpid()}") as machine:
        with machine.booted() as manager:
            account = Account(manager, google)
            manager.write(account.program, LAUNCHER, 0o700)
            account.login()
            account.configure()
            account.install()
            first = account.token()
        assert account.token() == first  # logind takes the folder away; until then readers are served
        machine.reset()
        with machine.booted():
            until(account.token, 60)
            assert account.token() != first
            until(lambda: account.show("ActiveState") == "active")  # READY comes after the token
            assert answers(google, account.token()) == 200


def without_namespaces(account: Account) -> bool:
    """Whether this is a machine such as Ubuntu 24.04, on which a sandbox of mounts cannot be and is not promised."""
    refused = APPARMOR.exists() and APPARMOR.read_text() == "1\n"
    unit = account.manager.home / ".config/systemd/user" / UNIT
    assert ("\nPrivateUsers=yes\n" in unit.read_text()) is not refused
    return refused


def test_the_sandbox_lets_it_write_only_where_it_must(account: Account) -> None:
    account.install()
    if without_namespaces(account):
        return
    table = account.manager.run("cat", f"/proc/{account.pid()}/mountinfo").stdout
    # Of several mounts on one place the last is the one that is seen.
    mounts = {line.split()[4]: line.split()[5].split(",") for line in table.splitlines()}
    home = {place for place, how in mounts.items() if "rw" in how and place.startswith(("/home", "/run/user"))}
    assert home == {str(account.manager.home / ".local/state/vx-token"), str(account.runtime)}


def test_the_shipped_units_are_valid_and_as_hard_as_promised(account: Account) -> None:
    folder = account.manager.home / ".config/systemd/user"
    for name in (UNIT, service.SOCKET):
        account.manager.write(folder / name, (REPOSITORY / "systemd" / name).read_text())
        done = account.manager.run("systemd-analyze", "--user", "verify", str(folder / name))
        # systemd 255 says so on a machine that has no system bus, and finds nothing wrong all the same.
        complaints = done.stderr.replace("Failed to connect to system bus: No such file or directory\n", "")
        assert (done.returncode, complaints) == (0, "")

    def exposure() -> float:
        text = account.manager.run("systemd-analyze", "--user", "security", "--no-pager", UNIT).stdout
        found = re.search(r"Overall exposure level for \S+: (\S+)", text)
        assert found, text
        return float(found[1])

    account.drop_in("PrivateTmp=yes", "z")  # as shipped, wherever this checkout lies
    assert exposure() <= 4.8
    account.drop_in(HARD.read_text().split("[Service]")[1])
    assert exposure() <= 1.5


@pytest.mark.parametrize("more", ["", "PrivateUsers=yes"], ids=["252", "253-and-later"])
def test_the_shipped_unit_runs_as_it_is(account: Account, more: str) -> None:
    """With PrivateUsers=yes, which systemd 253 and later imply, all its mounts take effect."""
    account.drop_in(more)
    folder = account.manager.home / ".config/systemd/user"
    account.manager.write(folder / UNIT, (REPOSITORY / "systemd" / UNIT).read_text())
    account.manager.systemctl("daemon-reload")
    account.manager.systemctl("start", UNIT)
    assert "min left" in account.show("StatusText")
    assert answers(account.google, account.token()) == 200


@pytest.mark.slow
def test_where_apparmor_takes_the_capabilities_the_unit_is_without_its_namespaces_and_runs(google: Emulator) -> None:
    usermanager.demanded()
    refusing = [sys.executable, str(REPOSITORY / "tests/apparmor.py")]
    with usermanager.machine(f"vxa{os.getpid()}") as machine, machine.booted(*refusing) as manager:
        tried = ("CapabilityBoundingSet=", "ProtectSystem=strict")
        runs = [manager.run("systemd-run", "--user", "--wait", "--quiet", "-p", each, "true") for each in tried]
        assert [done.returncode for done in runs] == [218, 0]  # the second is ignored

        account = Account(manager, google)
        manager.write(account.program, LAUNCHER, 0o700)
        account.login()
        account.configure()
        account.install()
        unit = manager.home / ".config/systemd/user" / UNIT
        assert "PrivateUsers" not in re.sub(r"(?m)^#.*", "", unit.read_text())
        pid, token = account.pid(), account.token()
        assert answers(google, token) == 200
        manager.systemctl("reload", UNIT)
        until(lambda: account.token() != token)
        manager.run("kill", "-9", str(pid))
        until(lambda: account.restarted(pid), 20)
        assert account.vx("service", "uninstall").status == 0

        manager.write(unit, (REPOSITORY / "systemd" / UNIT).read_text())
        manager.systemctl("daemon-reload")
        manager.systemctl("start", UNIT)
        assert answers(google, account.token()) == 200


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def asking(url: str) -> Iterator[list[str]]:
    """A client that never rests; gives how its requests failed."""
    failed: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                with urllib.request.urlopen(url, timeout=20) as answer:
                    answer.read()
            except OSError as error:
                failed.append(repr(error))

    client = threading.Thread(target=ask)
    client.start()
    try:
        yield failed
    finally:
        stop.set()
        client.join()


def test_the_gateways_port_stays_open_while_the_service_restarts(account: Account) -> None:
    port = free_port()
    account.configure(f"[gateway]\nenabled = true\nport = {port}\n")
    account.install()
    assert account.manager.show(service.SOCKET, "ActiveState") == "active"
    with asking(f"http://127.0.0.1:{port}/healthz") as failed:
        pid = account.pid()
        account.manager.run("kill", "-9", str(pid))
        until(lambda: account.restarted(pid), 20)
        account.install()
    # Only requests that a process had taken when it was ended may break.
    assert [error for error in failed if "refused" in error] == []

    # Nor can another user take what is stopped: the port is the manager's, the socket file lies in a private folder.
    assert account.vx("service", "stop").status == 0
    assert account.manager.show(UNIT, "ActiveState") == "inactive"
    assert owner_uid("127.0.0.1", port) == account.manager.uid
    path = account.runtime / ".gateway.sock"
    found, folder = path.lstat(), path.parent.lstat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (account.manager.uid, 0o600)
    assert (folder.st_uid, stat.S_IMODE(folder.st_mode)) == (account.manager.uid, 0o700)
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(30)
        raw.connect(str(path))
        raw.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert raw.recv(65536).startswith(b"HTTP/1.1 200 ")

    account.configure()
    account.install()
    assert account.manager.show(service.SOCKET, "LoadState") == "not-found"
    assert not path.exists()


def test_a_unix_socket_whose_path_is_too_long_is_left_out(tmp_path: Path) -> None:
    assert listen(Gateway(host="::1", port=9999), tmp_path) == ("[::1]:9999", f"{tmp_path}/.gateway.sock")
    assert listen(Gateway(port=9999), tmp_path / ("x" * 100)) == ("127.0.0.1:9999",)


# RunCommand in the service's sandbox: what makes a trim risky is forbidden there, and the trim works all the same.
TRIM = f"""
import ctypes, mmap, pathlib, sys
sys.path.insert(0, {str(SOURCE)!r})
from vx_token.gateway.memory import trim

def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

try:
    mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    forbidden = False
except PermissionError:
    forbidden = True
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
blocks = [libc.malloc(10_000) for _ in range(3000)]  # below the size that glibc maps by itself
for block in blocks:
    ctypes.memset(block, 1, 10_000)
for block in blocks[:-1]:  # the last one keeps the heap's end in place, as streams that go on do
    libc.free(block)
before = resident()
trim(True)
given_back = before - resident()
print("forbidden", forbidden, "given back", given_back, flush=True)
"""


def test_the_gateway_and_its_trimming_work_where_no_memory_may_be_written_and_run(account: Account) -> None:
    port = free_port()
    account.configure(f"[gateway]\nport = {port}\n")
    script = account.manager.write(account.manager.home / "trim.py", TRIM)
    account.drop_in(f"ExecStartPre={sys.executable} -P {script}")
    account.install()
    assert account.show("MemoryDenyWriteExecute") == "yes"
    found = re.search(r"^forbidden (\w+) given back (-?\d+)$", account.log(), re.MULTILINE)
    assert found, account.log()
    assert found[1] == "True"
    assert int(found[2]) > 20_000_000

    key = account.vx("gateway", "key").out.strip()
    assert answers(account.google, key, f"http://127.0.0.1:{port}/v1") == 200
    assert (account.show("NRestarts"), account.show("Result")) == ("0", "success")


def agent(home: Path, **changes: object) -> ServiceSpec:
    values: dict[str, object] = {
        "command": (str(home / "vx-token"),),
        "home": home,
        "environ": {},
        "runtime": home / "run/vx-token",
        "state": home / "state",
        **changes,
    }
    return ServiceSpec(**values)  # type: ignore[arg-type]


def refusing(word: str) -> Callable[[list[str]], "subprocess.CompletedProcess[str]"]:
    """A machine on which every program works but one."""
    return lambda argv: subprocess.CompletedProcess(argv, int(word in argv), "", "")


def unit_text(manager: service.Systemd) -> str:
    return next(step.text for step in manager.install() if isinstance(step, WriteFile) and step.path.name == UNIT)


def test_a_machine_that_gives_no_user_namespace_gets_the_unit_that_runs_there(tmp_path: Path) -> None:
    texts = [unit_text(service.detect(agent(tmp_path), refusing(word))) for word in ("nothing", "systemd-run")]
    assert ["\nPrivateUsers=yes\n" in text for text in texts] == [True, False]


def test_the_gateway_brings_its_socket_and_takes_it_away(tmp_path: Path) -> None:
    gateway = Gateway(host="localhost", port=9999, unix_socket="/run/x/%socket", listen=(("172.17.0.1", 9999),))
    on = service.detect(agent(tmp_path, listen=listen(gateway, tmp_path)), refusing("systemd-run"))
    install_changes.perform(on.install(), on.run)
    streams = [line for line in (on.units / service.SOCKET).read_text().splitlines() if line.startswith("Listen")]
    assert streams == [f"ListenStream={each}" for each in ("127.0.0.1:9999", "172.17.0.1:9999", "/run/x/%%socket")]
    off = service.detect(agent(tmp_path), on.run)
    install_changes.perform(off.install(), off.run)
    assert [path.name for path in off.units.iterdir()] == [UNIT]
    install_changes.perform(on.install(), on.run)
    install_changes.perform(off.uninstall(), off.run)
    assert not off.units.exists()


def test_the_sandbox_lets_it_write_the_folders_of_files_and_makes_none_of_them(tmp_path: Path) -> None:
    content = '[profiles.p]\nproject = "demo"\n[[profiles.p.files]]\npath = "~/my tool/key"\n'
    config = parse_config(content, tmp_path / "c", {"HOME": "/home/me"}, {}, tmp_path)
    text = unit_text(service.detect(agent(Path("/h"), writable=writable(config)), refusing("nothing")))
    assert '\nReadWritePaths=-"/home/me/my tool"\n' in text
    assert not re.search("ExecStartPre=.*my tool", text)
    assert "PrivateTmp=no" not in text


def test_uninstall_takes_away_the_files_that_it_wrote_and_their_records(tmp_path: Path) -> None:
    (tmp_path / "tool").mkdir()
    ours, changed = (tmp_path / "tool" / name for name in ("ours", "changed"))
    profile = Profile("p", "demo", files=(OutputFile(str(ours)), OutputFile(str(changed))))
    state = State(Token("ya29.t", 2e9, 1e9, "service_account"), attempts=1)
    written = TemplateFiles(record_file(tmp_path / "state", "p"))
    assert written.publish(Snapshot(profile, state, 1e9, ("", ""))) == {}
    changed.write_text("ya29.t and more")
    manager = service.detect(agent(tmp_path), refusing("nothing"))
    install_changes.perform(manager.uninstall(), manager.run)
    assert [path.name for path in (tmp_path / "tool").iterdir()] == ["changed"]
    assert not (tmp_path / "state").exists()


def test_a_control_character_never_reaches_a_unit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="control character"):
        environment({"NO_PROXY": "a\nExecStartPre=evil"}, tmp_path)
    with pytest.raises(ConfigError, match="control character"):
        service.unit(agent(tmp_path, command=("/a\nb",)), namespaces=False, journal=True)


def test_a_proxys_password_is_in_no_repr(tmp_path: Path) -> None:
    manager = service.detect(agent(tmp_path, environ={"https_proxy": "http://me:hidden@p:1"}), refusing("nothing"))
    assert "hidden" not in repr((manager, manager.install()))
    assert "hidden" in unit_text(manager)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:hidden@p:1", "http://***@p:1"),
        ("http://me:hid@hidden@p:1", "http://***@p:1"),
        ("http://me:hid/hidden ?@p:1", "http://***@p:1"),
        ("me:hidden@p:1", "***@p:1"),
        ("http://p:1", "http://p:1"),
    ],
)
def test_a_proxys_password_is_not_shown_however_it_is_written(tmp_path: Path, url: str, shown: str) -> None:
    ours = agent(tmp_path, environ={"https_proxy": url, "ALL_PROXY": url})
    managers = service.detect(ours, refusing("nothing")), launchd.Launchd(ours, refusing("nothing"), 501)
    for text in (install_changes.show(manager.install()) for manager in managers):
        assert "hid" not in text
        assert len(re.findall(rf"_proxy(?:=|</key>\s*<string>){re.escape(shown)}\W", text, re.IGNORECASE)) == 2


def test_only_what_matters_is_taken_from_the_environment(tmp_path: Path) -> None:
    given = {
        "GOOGLE_APPLICATION_CREDENTIALS": "key.json",
        "VX_TOKEN_PROJECT": "p",
        **dict.fromkeys(SHELL_VARIABLES, "of one shell"),
        "OPENAI_API_KEY": "x",
        "HTTPS_PROXY": "",
    }
    assert environment(given, tmp_path) == {
        "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json"),
        "VX_TOKEN_PROJECT": "p",
    }


def test_the_program_is_started_by_the_name_that_outlives_an_upgrade(tmp_path: Path) -> None:
    real = tmp_path / "venv/vx-token"
    real.parent.mkdir()
    real.write_text("")
    real.chmod(0o700)
    link = tmp_path / "vx-token"
    link.symlink_to(real)
    assert command(str(link), "/usr/bin/python3") == (str(link),)
    assert command("/x/vx_token/__main__.py", "/usr/bin/python3") == ("/usr/bin/python3", "-m", "vx_token")


def test_the_files_to_take_away_are_those_that_are_written() -> None:
    assert set(PROFILE_FILES) == {*files.SINKS, "state.json", "lock", user_commands.RECORD_FILE}
    assert set(DAEMON_FILES) == {info.DAEMON_FILE, daemon_lock.DAEMON_LOCK}
