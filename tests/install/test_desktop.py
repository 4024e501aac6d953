"""`setup --desktop`: what programs that no shell starts then have, where no key may appear, and the undo."""

import plistlib
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from accounts import Account
from sandbox import Box
from vx_token.config.model import Config, Profile
from vx_token.emulator import Emulator
from vx_token.errors import ConfigError
from vx_token.gateway.key_file import LOCAL_KEY_PREFIX
from vx_token.install import desktop
from vx_token.install.desktop import LaunchdSession, UserManagerSession, addition, removal

GENERATOR = Path("/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator")
WORDS = ("--desktop", "--yes", "--no-service", "--hook", "--shell", "bash", "--offline", "--project", "demo")

FAKE = """#!/bin/sh
{ echo "$0 $*"; env | grep '^OPENAI_' | sort; } >> "$HOME/../calls"
"""


@pytest.fixture
def user(box: Box, google: Emulator) -> Box:
    """A login, and a session whose programs record their arguments and their variables."""
    del box.environ["VX_TOKEN_CONFIG"], box.environ["VX_TOKEN_RUNTIME_DIR"]
    box.runtime.mkdir(0o700)
    programs = box.root / "bin"
    programs.mkdir()
    for name in ("systemctl", "dbus-update-activation-environment"):
        (programs / name).write_text(FAKE)
        (programs / name).chmod(0o700)
    path = f"{programs}:{box.environ['PATH']}"
    box.environ |= {"XDG_RUNTIME_DIR": str(box.runtime), "SHELL": "/bin/bash", "PATH": path}
    login = box.home / ".config/gcloud/application_default_credentials.json"
    login.parent.mkdir(parents=True)
    google.authorized_user(login)
    return box


def tree(box: Box) -> dict[str, tuple[int, bytes | str]]:
    paths = [path for root in (box.home, box.runtime) for path in sorted(root.rglob("*"))]
    return {str(path): (path.lstat().st_mode, path.read_bytes() if path.is_file() else "") for path in paths}


def file(box: Box) -> Path:
    return box.home / ".config/environment.d/60-vx-token.conf"


def calls(box: Box) -> str:
    path = box.root / "calls"
    return path.read_text() if path.exists() else ""


def generated(home: Path) -> dict[str, str]:
    """What a systemd user manager has from the folder environment.d."""
    if not GENERATOR.exists():
        pytest.skip("systemd is not installed")
    environ = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
    done = subprocess.run([str(GENERATOR)], env=environ, capture_output=True, text=True, check=True)
    # The output is in the shell's own quoting.
    script = f"set -a\n{done.stdout}\nenv -0"
    shown = subprocess.run(
        ["sh", "-euc", script], env={"PATH": "/bin:/usr/bin"}, capture_output=True, check=True
    ).stdout
    return dict(pair.split("=", 1) for pair in shown.decode().split("\0") if pair)


def test_the_session_gets_a_key_of_its_own_and_undo_leaves_nothing(user: Box) -> None:
    before = tree(user)
    done = user.vx("setup", "--mode", "gateway", *WORDS)
    assert done.returncode == 0, done.stderr
    assert "restart running ones (systemctl --user restart NAME)" in done.stdout
    assert "log out and in for programs that your desktop's menu starts" in done.stdout
    assert file(user).stat().st_mode & 0o777 == 0o600
    found = generated(user.home)
    key = user.vx("gateway", "key", "--name", "desktop").stdout.strip()
    assert key.startswith(LOCAL_KEY_PREFIX)
    assert found["OPENAI_API_KEY"] == key
    names = ("OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_BASE_URL")
    assert {found[name] for name in names} == {"http://127.0.0.1:8490/v1"}
    assert "VX_TOKEN_EXPIRES_AT" not in found

    imported = [line for line in calls(user).splitlines() if "import-environment" in line or "dbus-update" in line]
    assert len(imported) == 2
    assert all("OPENAI_API_KEY OPENAI_BASE_URL" in line and key not in line for line in imported)
    assert calls(user).count(f"\nOPENAI_API_KEY={key}\n") == 2
    assert key not in done.stdout + done.stderr

    again = user.vx("setup", *WORDS)
    assert f"{file(user)} is up to date" in again.stdout
    undone = user.vx("setup", "--undo", "--yes")
    assert undone.returncode == 0, undone.stderr
    assert "unset-environment OPENAI_API_KEY" in calls(user)
    assert tree(user) == before


def test_a_dry_run_shows_the_names_and_makes_no_key(user: Box) -> None:
    before = tree(user)
    done = user.vx("setup", "--mode", "gateway", *WORDS, "--dry-run")
    assert f"write {file(user)}\n    # Written by" in done.stdout
    assert '    OPENAI_API_KEY="********"\n' in done.stdout
    assert tree(user) == before
    assert "import-environment" not in calls(user)


def test_never_in_direct_mode(user: Box) -> None:
    before = tree(user)
    done = user.vx("setup", *WORDS)
    assert (done.returncode, tree(user)) == (3, before)
    wrong, hint = done.stderr.splitlines()
    assert wrong.startswith("vx-token: --desktop needs gateway mode: profile default is in direct mode")
    assert hint == "hint: add: --mode gateway"


def test_undo_revokes_this_key_and_no_other(user: Box) -> None:
    user.vx("setup", "--mode", "gateway", *WORDS)
    user.vx("gateway", "key", "--name", "aider")
    user.vx("setup", "--undo", "--yes")
    assert [path.name for path in (user.home / ".local/state/vx-token/gateway.keys").iterdir()] == ["aider"]


def test_it_alone_can_be_undone(user: Box) -> None:
    user.vx("setup", "--mode", "gateway", *(word for word in WORDS if word != "--desktop"))
    before = tree(user)
    user.vx("setup", *WORDS)
    assert tree(user) != before
    done = user.vx("setup", "--undo", "--desktop", "--yes")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "done")
    assert {path: each for path, each in tree(user).items() if not path.endswith("setup.json")} == {
        path: each for path, each in before.items() if not path.endswith("setup.json")
    }
    assert user.vx("setup", "--undo", "--desktop", "--yes").stdout == "there is nothing to undo\n"


def test_without_a_user_manager_the_next_login_is_named(user: Box) -> None:
    (user.root / "bin/systemctl").write_text("#!/bin/sh\nexit 1\n")
    done = user.vx("setup", "--mode", "gateway", *WORDS)
    assert done.returncode == 0, done.stderr
    assert f"desktop    {desktop.AT_LOGIN}\n" in done.stdout
    assert "OPENAI_API_KEY" in generated(user.home)


def test_each_value_is_literal_for_systemd(tmp_path: Path) -> None:
    values = {"A_KEY": "$HOME ${HOME} \\d \"q\" 'p' `id` $$ $", "B_URL": "http://a/v1;http://b/v1", "C_KEY": "#a ;b "}
    session = UserManagerSession(tmp_path / ".config/environment.d")
    session.path.parent.mkdir(parents=True)
    session.path.write_text(session.text(values))
    found = generated(tmp_path)
    assert {name: found[name] for name in values} == values
    assert session.names(session.text(values)) == [*values]


def test_on_macos_an_agent_sets_the_variables_at_each_login_without_a_key_in_its_script(tmp_path: Path) -> None:
    run: list[list[str]] = []

    def record(argv: list[str], variables: Mapping[str, str]) -> bool:
        run.append(argv)
        return True

    environ = {"HOME": str(tmp_path), "VX_TOKEN_CONFIG": str(tmp_path / "state/config.toml")}
    session = desktop.session(environ, "darwin", 501)
    assert isinstance(session, LaunchdSession)
    config = Config(tmp_path, {"p": Profile("p", "demo", mode="gateway")}, "p")
    step = addition(session, environ, config, "p", record)
    assert step is not None
    assert "quit and open those that are running" in step.perform()
    assert session.path == tmp_path / "Library/LaunchAgents/local.vx-token.desktop.plist"
    assert session.path.stat().st_mode & 0o777 == 0o600
    agent = plistlib.loads(session.path.read_bytes())
    key = agent["EnvironmentVariables"]["OPENAI_API_KEY"]
    assert key.startswith(LOCAL_KEY_PREFIX)
    assert key not in repr(step) + str(step) + repr(run) + repr(agent["ProgramArguments"])
    assert run[-1] == ["launchctl", "bootstrap", "gui/501", str(session.path)]
    script = 'launchctl() { echo "$1 $2=$3"; }\n' + agent["ProgramArguments"][2]
    said = subprocess.run(["sh", "-euc", script], env=agent["EnvironmentVariables"], capture_output=True, check=True)
    assert f"setenv OPENAI_API_KEY={key}\n".encode() in said.stdout
    assert addition(session, environ, config, "p", record) is None

    undo = removal(session, environ, record)
    assert undo is not None
    undo.perform()
    assert ["launchctl", "unsetenv", "OPENAI_API_KEY"] in run
    assert not session.path.exists()
    assert removal(session, environ, record) is None


def test_a_profile_in_direct_mode_is_refused(tmp_path: Path) -> None:
    config = Config(tmp_path, {"p": Profile("p", "demo")}, "p")
    with pytest.raises(ConfigError, match="--desktop needs gateway mode"):
        addition(UserManagerSession(tmp_path), {}, config, "p", lambda *_: True)


def test_new_services_have_it_until_undo(account: Account) -> None:
    account.login()
    account.configure('mode = "gateway"\n')
    done = account.vx("setup", "--desktop", "--yes", "--no-service", "--no-hook", "--offline")
    assert done.status == 0, done.err
    service = ("systemd-run", "--user", "--wait", "--pipe", "--collect", "--quiet", "env")
    assert f"OPENAI_API_KEY={LOCAL_KEY_PREFIX}" in account.manager.run(*service).stdout
    account.manager.systemctl("daemon-reload")
    assert "OPENAI_BASE_URL=http://127.0.0.1:8490/v1" in account.manager.run(*service).stdout
    assert account.vx("setup", "--undo", "--yes").status == 0
    assert "OPENAI_" not in account.manager.run(*service).stdout
    assert not (account.manager.home / ".config/environment.d").exists()
