"""Setup and its undo: transcripts of the real command, real shells afterwards, and homes compared byte by byte."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts import Account
from sandbox import REPOSITORY, Box, until
from shells import quiet_fish
from terminals import at_terminal, ended
from usermanager import UserManager
from vx_token.config import toml_edit
from vx_token.emulator import Emulator
from vx_token.errors import ConfigError
from vx_token.install import rcfile, shell_startup
from vx_token.system import installation, shipped

Tree = dict[str, tuple[int, bytes | str]]


@pytest.fixture
def fresh(box: Box) -> Box:
    """A login shell's environment: bash, the default places, nothing configured."""
    del box.environ["VX_TOKEN_CONFIG"], box.environ["VX_TOKEN_RUNTIME_DIR"]
    box.runtime.mkdir(0o700)
    box.environ |= {"XDG_RUNTIME_DIR": str(box.runtime), "SHELL": "/bin/bash"}
    return box


@pytest.fixture
def logged_in(fresh: Box, google: Emulator) -> Box:
    """The same after `gcloud auth application-default login`."""
    path = fresh.home / ".config/gcloud/application_default_credentials.json"
    path.parent.mkdir(parents=True)
    google.authorized_user(path)
    return fresh


def tree(box: Box) -> Tree:
    """All that is in the home and the runtime folder: modes, contents, and where links lead."""
    paths = [path for root in (box.home, box.runtime) for path in sorted(root.rglob("*"))]
    return {str(path): (path.lstat().st_mode, _content(path)) for path in paths}


def _content(path: Path) -> bytes | str:
    return str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else ""


def told(box: Box, text: str) -> str:
    """The transcript with the home as `~` and the hooks' folder as `SHELL`."""
    return text.replace(str(box.home), "~").replace(str(REPOSITORY / "shell"), "SHELL")


def setup(box: Box, *words: str, status: int = 0) -> str:
    done = box.vx("setup", *words)
    assert done.returncode == status, done.stdout + done.stderr
    return told(box, done.stderr if status else done.stdout)


def config(box: Box) -> Path:
    return box.home / ".config/vx-token/config.toml"


BLOCK = """\
    + # >>> vx-token >>>
    + # Managed by `vx-token setup`; `vx-token setup --undo` removes it.
    + if [ -z "${BASH_VERSION-}" ]; then
    +   :
    + elif [ -r SHELL/vx-token.bash ]; then
    +   . SHELL/vx-token.bash
    +   __vx_token_load_completion() { . SHELL/completions/vx-token.bash && return 124; }
    +   complete -F __vx_token_load_completion vx-token
    + elif command -v vx-token >/dev/null; then
    +   eval "$(vx-token hook bash)"
    + fi
    + # <<< vx-token <<<
"""

PLAN = f"""\
login      authorized_user (~/.config/gcloud/application_default_credentials.json)
project    demo (--project)
write ~/.config/vx-token/config.toml
    + [profiles.default]
    + project = "demo"
    + location = "global"
write ~/.bashrc
{BLOCK}write ~/.profile
{BLOCK}link {len(shipped.man_pages())} manual pages into ~/.local/share/man/man1
"""


def test_a_dry_run_shows_every_line_and_changes_nothing(logged_in: Box) -> None:
    before = tree(logged_in)
    assert setup(logged_in, "--dry-run", "--no-service", "--project", "demo") == PLAN
    assert tree(logged_in) == before


GONE = ["done; open shells keep the hook until they exit", installation.how_to_remove()]
DONE = """\
login      authorized_user (~/.config/gcloud/application_default_credentials.json)
hook       loaded by the block in ~/.bashrc
there is nothing to change
gemini: a live token, 59m left
gemini: google/gemini-2.5-flash answered in 0."""


def test_a_second_run_changes_nothing_and_undo_leaves_nothing(logged_in: Box, google: Emulator) -> None:
    before = tree(logged_in)
    words = ("--yes", "--no-service", "--profile", "gemini", "--base-url", google.base_url())
    first = setup(logged_in, *words)
    assert re.search(
        r"gemini: google/gemini-2.5-flash answered in \d.\d s\n\ntry it, in a new shell:\n  vx-token", first
    )
    between = tree(logged_in)

    assert setup(logged_in, *words).startswith(DONE)
    assert setup(logged_in, "--yes", "--no-service").startswith(DONE)
    assert setup(logged_in, "--yes", "--no-service", "--quiet") == ""
    assert tree(logged_in) == between
    assert google.count("token") == 1

    assert setup(logged_in, "--undo", "--dry-run").startswith("remove ~/.bashrc\nremove ~/.profile\n")
    assert tree(logged_in) == between
    assert setup(logged_in, "--undo", "--yes").splitlines()[-2:] == GONE
    assert tree(logged_in) == before
    assert setup(logged_in, "--undo", "--yes").splitlines() == ["there is nothing to undo", GONE[1]]


@pytest.mark.parametrize("named", ["", "tokens"])
def test_undo_takes_what_commands_and_a_daemon_left_without_a_service(
    logged_in: Box, google: Emulator, named: str
) -> None:
    if named:
        logged_in.environ["VX_TOKEN_RUNTIME_DIR"] = str(logged_in.runtime / named)
    before = tree(logged_in)
    setup(logged_in, "--yes", "--no-service", "--base-url", google.base_url(), "--profile", "gemini")
    with (logged_in.root / "daemon.log").open("w") as log, logged_in.start("run", stderr=log) as process:
        until(lambda: "fresh token" in logged_in.log)
        process.terminate()
    assert logged_in.vx("print", "--location", "us-central1").returncode == 0
    logged_in.environ["VX_TOKEN_LIFETIME"] = "20m"
    assert logged_in.vx("print").returncode == 0
    del logged_in.environ["VX_TOKEN_LIFETIME"]
    assert logged_in.vx("gateway", "key").returncode == 0
    setup(logged_in, "--undo", "--yes")
    assert tree(logged_in) == before


def test_without_a_login_it_says_the_one_command_and_changes_nothing(fresh: Box) -> None:
    before = tree(fresh)
    gcloud = fresh.root / "gcloud"
    gcloud.write_text("#!/bin/sh\n")
    gcloud.chmod(0o700)
    fresh.environ["PATH"] = str(fresh.root)
    assert setup(fresh, "--yes", "--project", "demo", status=4) == (
        "vx-token: no Google login was found\n"
        "hint: run: gcloud auth application-default login (then again: vx-token setup)\n"
    )
    gcloud.unlink()
    assert setup(fresh, "--yes", "--project", "demo", status=4) == (
        "vx-token: no Google login was found\n"
        "hint: with a key file: vx-token setup --credentials KEY.json; else install gcloud "
        "(https://cloud.google.com/sdk/docs/install) and run: gcloud auth application-default login\n"
    )
    assert tree(fresh) == before


@pytest.mark.parametrize(
    ("content", "wrong"),
    [("{", "is not JSON"), ("[]", "holds no JSON object"), ('{"type": "odd"}', "has an unknown type: 'odd'")],
)
def test_a_credential_file_that_cannot_work_is_named(fresh: Box, content: str, wrong: str) -> None:
    fresh.key.write_text(content)
    said = setup(fresh, "--yes", "--credentials", str(fresh.key), status=3)
    assert said.startswith(f"vx-token: the credential file {fresh.key} {wrong}\nhint: ")


def test_questions_need_a_terminal(logged_in: Box) -> None:
    assert setup(logged_in, status=2) == (
        "vx-token: setup asks questions, but stdin is not a terminal\nhint: add --yes to use all defaults\n"
    )


# --- project and location ----------------------------------------------------------------------------------------


def plan_of(box: Box, *words: str) -> str:
    return setup(box, "--dry-run", "--no-service", "--no-hook", *words)


def test_the_project_is_found_in_the_environment_then_the_login_then_gcloud(logged_in: Box, google: Emulator) -> None:
    before = setup(logged_in, "--yes", "--no-service", status=2)
    assert before.startswith("vx-token: the Google Cloud project is not known\n")

    folder = logged_in.home / ".config/gcloud"
    (folder / "configurations").mkdir()
    (folder / "active_config").write_text("work")
    (folder / "configurations/config_work").write_text("[core]\nproject = from-gcloud\n\n[ai]\nregion = us-east5\n\n")
    found = plan_of(logged_in)
    assert "project    from-gcloud (gcloud's configuration work)\nlocation   us-east5 (gcloud's" in found
    assert '+ project = "from-gcloud"\n    + location = "us-east5"\n' in found

    google.authorized_user(folder / "application_default_credentials.json", quota_project_id="from-login")
    assert "project    from-login (the login's own)\n" in plan_of(logged_in)

    logged_in.environ |= {"GOOGLE_CLOUD_PROJECT": "from-environment", "GOOGLE_CLOUD_LOCATION": "eu"}
    found = plan_of(logged_in)
    assert "project    from-environment (GOOGLE_CLOUD_PROJECT)\nlocation   eu (GOOGLE_CLOUD_LOCATION)\n" in found

    assert "project    mine (--project)\n" in plan_of(logged_in, "--project", "mine")


def test_a_flag_with_an_impossible_value_is_refused_by_its_name(logged_in: Box) -> None:
    said = setup(logged_in, "--yes", "--project", "No Project", status=3)
    assert said.startswith("vx-token: option --project ")
    assert not config(logged_in).exists()


# --- an existing configuration -----------------------------------------------------------------------------------

OLD = '# mine\n[profiles.work]\nproject = "old"  # the old one\nexport = [\n  "goose",\n]\n\n[gateway]\nport = 8999\n'


def written(box: Box, text: str = OLD) -> Path:
    path = config(box)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(0o640)
    return path


def test_an_existing_profile_is_right_as_it_is(logged_in: Box) -> None:
    path = written(logged_in)
    assert "config.toml" not in plan_of(logged_in)
    assert path.read_text() == OLD


def test_only_the_value_that_was_asked_for_changes(logged_in: Box, google: Emulator) -> None:
    path = written(logged_in)
    setup(logged_in, "--yes", "--no-service", "--no-hook", "--project", "new", "--base-url", google.base_url())
    expected = OLD.replace('"old"', '"new"').replace(
        "[profiles.work]\n", f'[profiles.work]\nbase_url = "{google.base_url()}"\n'
    )
    assert path.read_text() == expected
    assert path.stat().st_mode & 0o777 == 0o640
    setup(logged_in, "--undo", "--yes")
    assert path.read_text() == OLD


def test_a_new_profile_leaves_the_default_what_it_was(logged_in: Box, google: Emulator) -> None:
    path = written(logged_in)
    setup(logged_in, "--yes", "--no-service", "--no-hook", "--profile", "home", "--base-url", google.base_url())
    added = f'\n[profiles.home]\nbase_url = "{google.base_url()}"\n'
    assert path.read_text() == 'default_profile = "work"\n' + OLD + added


def test_undo_keeps_a_configuration_that_was_changed_since(logged_in: Box, google: Emulator) -> None:
    setup(logged_in, "--yes", "--no-service", "--no-hook", "--base-url", google.base_url())
    with config(logged_in).open("a") as file:
        file.write('model = "google/gemini-2.5-flash"\n')
    said = setup(logged_in, "--undo", "--yes")
    assert "~/.config/vx-token/config.toml stays: it was changed after setup wrote it\n" in said
    assert config(logged_in).exists()


def test_a_broken_configuration_is_left_alone(logged_in: Box) -> None:
    path = written(logged_in, "profiles = nonsense\n")
    assert "is not valid TOML" in setup(logged_in, "--yes", "--project", "demo", status=3)
    assert path.read_text() == "profiles = nonsense\n"


def test_a_linked_configuration_stays_a_link(logged_in: Box, google: Emulator) -> None:
    real = logged_in.root / "dotfiles.toml"
    real.write_text(OLD)
    config(logged_in).parent.mkdir(parents=True)
    config(logged_in).symlink_to(real)
    setup(logged_in, "--yes", "--no-service", "--no-hook", "--project", "new", "--base-url", google.base_url())
    assert config(logged_in).is_symlink()
    assert 'project = "new"  # the old one' in real.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "",
        OLD,
        'default_profile = "work"\n' + OLD,
        "[profiles.work]\nproject='single'",
        "[ profiles . \"work\" ]\nproject = 'single'\n",
        '[profiles.work]\n[profiles.work.aliases]\nproject = "not mine"\n',
        "[profiles.default]\nproject = 'single'\n[profiles.work]\n",
        '[profiles.work]\r\nproject = "windows"\r\n',
    ],
)
@pytest.mark.parametrize("name", ["work", "new", "a.b"])
def test_edited_toml_means_what_was_asked_for(text: str, name: str) -> None:
    import tomllib

    values = {"project": "p", "credentials": '/a "b"/\\c'}
    after = tomllib.loads(toml_edit.with_profile(text, name, values))
    assert after["profiles"][name] == tomllib.loads(text).get("profiles", {}).get(name, {}) | values


@pytest.mark.parametrize(
    "text",
    [
        'profiles = { work = { project = "old" } }\n',
        '[profiles]\nwork.project = "old"\n',
        '[profiles.work]\nproject = """old"""\n',
        "note = '''\n[profiles.work]\n'''\n[profiles.work]\n",
    ],
)
def test_toml_that_cannot_be_edited_with_certainty_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any kind of it, TOML's own too
        toml_edit.with_profile(text, "work", {"project": "new"})


# --- the start-up files ------------------------------------------------------------------------------------------


def hooked(box: Box, *words: str) -> str:
    return setup(box, "--yes", "--no-service", "--project", "demo", *words)


@pytest.mark.parametrize("text", ["", "alias ll='ls -l'\n", "no newline at the end", "\n\n", "a\r\nb\r\n", "caf\xe9"])
def test_mode_link_and_all_bytes_outside_the_block_stay(logged_in: Box, google: Emulator, text: str) -> None:
    real, rc = logged_in.root / "dotfiles" / "bashrc", logged_in.home / ".bashrc"
    real.parent.mkdir()
    real.write_bytes(text.encode("latin-1"))
    real.chmod(0o604)
    rc.symlink_to(real)
    hooked(logged_in, "--base-url", google.base_url())
    assert real.read_bytes().startswith(text.encode("latin-1"))
    assert rcfile.has_block(real.read_bytes())
    assert (rc.is_symlink(), real.stat().st_mode & 0o777) == (True, 0o604)

    setup(logged_in, "--undo", "--yes")
    assert (rc.is_symlink(), real.read_bytes()) == (True, text.encode("latin-1"))


def test_a_link_that_led_nowhere_leads_nowhere_again(logged_in: Box, google: Emulator) -> None:
    rc, real = logged_in.home / ".bashrc", logged_in.home / "dotfiles/bashrc"
    rc.symlink_to(real)
    before = tree(logged_in)
    hooked(logged_in, "--base-url", google.base_url())
    assert rcfile.has_block(real.read_bytes())
    setup(logged_in, "--undo", "--yes")
    assert tree(logged_in) == before


LINE = st.binary(max_size=12).filter(lambda line: b">>>" not in line and b"<<<" not in line)


@given(before=LINE, after=LINE)
def test_what_surrounds_the_block_never_changes(before: bytes, after: bytes) -> None:
    assert rcfile.without_block(rcfile.with_block(before, rcfile.block("one\n"))) == before
    data = before + b"\n" + rcfile.block("one\n") + after
    changed = rcfile.with_block(data, rcfile.block("two\n"))
    assert changed == before + b"\n" + rcfile.block("two\n") + after
    assert rcfile.without_block(data) == before + b"\n" + after


@pytest.mark.parametrize("text", [f"{rcfile.BEGIN}\nleft\n", f"{rcfile.END}\n", f"{rcfile.BEGIN}\r\n{rcfile.END}\r\n"])
def test_a_block_with_one_end_is_not_touched(text: str) -> None:
    with pytest.raises(ConfigError, match="is incomplete"):
        rcfile.with_block(text.encode(), rcfile.block("new\n"))
    with pytest.raises(ConfigError, match="is incomplete"):
        rcfile.without_block(text.encode())


def test_an_old_block_is_replaced_where_it_stands(logged_in: Box, google: Emulator) -> None:
    rc = logged_in.home / ".bashrc"
    rc.write_bytes(b"first\n" + rcfile.block("old\n") + b"last\n")
    hooked(logged_in, "--base-url", google.base_url())
    assert rc.read_bytes().startswith(b"first\n" + rcfile.BEGIN.encode())
    assert rc.read_bytes().endswith(rcfile.END.encode() + b"\nlast\n")
    assert b"old" not in rc.read_bytes()


def test_a_hook_that_the_user_loads_by_hand_is_enough(logged_in: Box, google: Emulator) -> None:
    rc = logged_in.home / ".bashrc"
    rc.write_text('# mine\neval "$(vx-token hook bash)"\n')
    assert "hook       loaded by ~/.bashrc line 2\n" in hooked(logged_in, "--base-url", google.base_url())
    assert rc.read_text() == '# mine\neval "$(vx-token hook bash)"\n'
    assert not (logged_in.home / ".profile").exists()


def test_without_a_place_for_manual_pages_the_rest_is_set_up(logged_in: Box, google: Emulator) -> None:
    (logged_in.home / ".local").mkdir()
    (logged_in.home / ".local/share").write_text("no folder")
    done = setup(logged_in, "--yes", "--no-service", "--base-url", google.base_url())
    assert "man pages  not linked: " in done
    assert "default: a live token" in done


def test_folders_that_were_empty_before_stay(logged_in: Box, google: Emulator) -> None:
    for name in (".config/vx-token", ".local/state", ".config/fish/conf.d"):
        (logged_in.home / name).mkdir(parents=True)
    before = tree(logged_in)
    hooked(logged_in, "--base-url", google.base_url())
    hooked(logged_in, "--base-url", google.base_url(), "--shell", "fish")
    setup(logged_in, "--undo", "--yes")
    assert tree(logged_in) == before


def test_undo_removes_a_block_that_no_record_knows(fresh: Box) -> None:
    (fresh.home / ".zshrc").write_bytes(b"mine\n" + rcfile.block("ours\n"))
    setup(fresh, "--undo", "--yes")
    assert (fresh.home / ".zshrc").read_bytes() == b"mine\n"


def test_undo_tells_of_a_block_that_it_cannot_take_out(fresh: Box) -> None:
    (fresh.home / ".zshrc").write_text(f"{rcfile.BEGIN}\nmine\n")
    told = "~/.zshrc stays: its vx-token block is incomplete, remove the lines "
    assert setup(fresh, "--undo", "--yes").startswith(told)
    (fresh.home / ".bashrc").write_bytes(rcfile.block("ours\n"))
    assert f"\n{told}" in setup(fresh, "--undo", "--yes")
    assert (fresh.home / ".bashrc").read_bytes() == b""
    assert (fresh.home / ".zshrc").read_text() == f"{rcfile.BEGIN}\nmine\n"


# What useradd puts into a home, and what only looks as if it loaded .bashrc.
SKELETON = "case $- in *i*) ;; *) return ;; esac\n"


@pytest.mark.parametrize("login", ['. "$HOME/.bashrc"\n', "# .bashrc is for the other shells\n"])
def test_a_login_shell_without_a_prompt_has_a_live_token(logged_in: Box, google: Emulator, login: str) -> None:
    (logged_in.home / ".bashrc").write_text(SKELETON)
    (logged_in.home / ".bash_profile").write_text(login)
    before = tree(logged_in)
    hooked(logged_in, "--base-url", google.base_url())
    for option in ("-lc", "-lic", "-ic"):
        argv = ["bash", option, "printenv OPENAI_API_KEY"]
        done = subprocess.run(argv, env=logged_in.environ, capture_output=True, text=True, timeout=30, check=False)
        assert google.identity_of(done.stdout.strip()), option
    setup(logged_in, "--undo", "--yes")
    assert tree(logged_in) == before


def test_a_start_up_file_that_cannot_be_written_is_named(logged_in: Box) -> None:
    (logged_in.home / ".bashrc").mkdir()
    said = setup(logged_in, "--yes", "--no-service", "--project", "demo", status=3)
    assert said.startswith("vx-token: cannot read ~/.bashrc: Is a directory\n")


def test_a_shell_without_a_hook_is_told_what_works(logged_in: Box) -> None:
    logged_in.environ["SHELL"] = "/bin/tcsh"
    said = setup(logged_in, "--dry-run", "--no-service", "--project", "demo")
    assert "hook       none for your shell; choose another with --shell, or use: vx-token exec -- COMMAND\n" in said


@pytest.mark.parametrize("shell", ["/bin/sh", "/usr/sbin/nologin"])
def test_a_shell_that_nobody_chose_counts_as_bash(fresh: Box, shell: str) -> None:
    fresh.environ["SHELL"] = shell
    assert shell_startup.login_shell(fresh.environ) == "bash"
    assert shell_startup.login_shell(fresh.environ | {"PATH": "/nowhere"}) == ""


NEW_SHELLS = {
    "bash": [["bash", "-i"], ["bash", "-l"]],
    "zsh": [["zsh", "-i"]],
    "fish": [["fish", "-i"], ["fish", "-l"]],
}


@pytest.mark.parametrize("kind", NEW_SHELLS)
def test_every_new_shell_has_a_live_token(
    logged_in: Box, google: Emulator, kind: str, require: Callable[[str], str]
) -> None:
    require(kind)
    quiet_fish(logged_in.home)
    before = tree(logged_in)
    hooked(logged_in, "--base-url", google.base_url(), "--shell", kind)
    for argv in NEW_SHELLS[kind]:
        shown = subprocess.run(
            [*argv, "-c", "printenv OPENAI_API_KEY"],
            env=logged_in.environ,
            cwd=logged_in.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert google.identity_of(shown.stdout.strip()), shown.stderr
    shutil.rmtree(logged_in.home / ".local/share", ignore_errors=True)  # fish's own
    shutil.rmtree(logged_in.home / ".cache", ignore_errors=True)
    setup(logged_in, "--undo", "--yes")
    ours = {path for path in set(tree(logged_in)) - set(before) if "vx-token" in path}
    assert ours == set()


# --- a person at a terminal --------------------------------------------------------------------------------------


def test_a_person_is_asked_what_cannot_be_found(logged_in: Box) -> None:
    before = tree(logged_in)
    terminal = at_terminal(logged_in, "setup", "--no-service")
    terminal.expect_exact("the Google Cloud project: ")
    terminal.sendline("demo")
    terminal.expect_exact("the location (global, us, eu or a region) [global]: ")
    terminal.sendline("")
    terminal.expect_exact("Set OPENAI_API_KEY automatically in new bash shells? [Y/n]: ")
    terminal.sendline("n")
    terminal.expect_exact('+ project = "demo"')
    terminal.expect_exact("Do this? [Y/n]: ")
    terminal.sendline("n")
    assert ended(terminal) == 0
    assert tree(logged_in) == before


def test_ctrl_c_at_a_question_changes_nothing(logged_in: Box) -> None:
    before = tree(logged_in)
    terminal = at_terminal(logged_in, "setup", "--no-service")
    terminal.expect_exact("the Google Cloud project: ")
    terminal.sendintr()
    terminal.expect_exact("vx-token: interrupted; nothing changed\r\nhint: run it again: vx-token setup\r\n")
    assert ended(terminal) == 130
    assert tree(logged_in) == before


# --- with the service, as an ordinary user -----------------------------------------------------------------------


@pytest.fixture
def user(account: Account) -> UserManager:
    """An ordinary user after `gcloud auth application-default login`."""
    account.login("authorized_user", account.adc)
    return account.manager


def test_from_nothing_to_a_new_login_shell_and_back_to_nothing(user: UserManager, google: Emulator) -> None:
    before = user.tree()
    # The environment tells no SHELL, and the account has the one that useradd gives.
    words = ("vx-token", "setup", "--yes", "--base-url", google.base_url())
    done = user.run(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the service is running: default: 60 min left" in done.stdout

    shell = user.run("bash", "-lic", "printenv OPENAI_API_KEY")
    assert google.identity_of(shell.stdout.strip()), shell.stderr
    healthy = user.run("bash", "-lic", "vx-token doctor --live --json")
    assert [check for check in json.loads(healthy.stdout)["checks"] if check["ok"] != "ok"] == []

    pid = user.show("vx-token.service", "MainPID")
    again = user.run(*words)
    assert "service    is running\nthere is nothing to change\n" in again.stdout
    assert user.show("vx-token.service", "MainPID") == pid

    note = user.runtime / "vx-token/.daemon.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"version": "0.0.1"}))  # as after an upgrade
    assert "the service is running: default: " in user.run(*words).stdout
    assert user.show("vx-token.service", "MainPID") != pid

    undone = user.run("vx-token", "setup", "--undo", "--yes")
    assert undone.returncode == 0, undone.stderr
    assert user.tree() == before
    assert user.show("vx-token.service", "LoadState") == "not-found"


def test_undo_leaves_a_service_that_was_there_before(user: UserManager, google: Emulator) -> None:
    url = {"VX_TOKEN_BASE_URL": google.base_url()}
    assert user.run("vx-token", "service", "install", env=url).returncode == 0
    before = user.tree()
    done = user.run("vx-token", "setup", "--yes", "--base-url", google.base_url())
    assert "the service is running: default: 60 min left" in done.stdout  # without the variable it is another unit
    assert user.run("vx-token", "setup", "--undo", "--yes").returncode == 0
    assert user.tree() == before
    # The daemon has seen the configuration go, and its reload may be under way.
    until(lambda: user.show("vx-token.service", "ActiveState") == "active")
    assert user.show("vx-token.service", "NRestarts") == "0"


def test_start_up_files_of_each_shell_are_found(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "ZDOTDIR": str(tmp_path / "z"), "XDG_CONFIG_HOME": str(tmp_path / "c")}
    assert shell_startup.HOOK_TARGETS["zsh"](environ) == [tmp_path / "z/.zshrc"]
    assert shell_startup.HOOK_TARGETS["fish"](environ) == [tmp_path / "c/fish/conf.d/vx-token.fish"]
    assert shell_startup.HOOK_TARGETS["bash"](environ) == [tmp_path / ".bashrc", tmp_path / ".profile"]


def test_undo_removes_what_a_killed_setup_left(logged_in: Box, google: Emulator) -> None:
    before = tree(logged_in)
    setup(logged_in, "--yes", "--no-service", "--offline", "--profile", "gemini", "--base-url", google.base_url())
    state = logged_in.home / ".local/state/vx-token"
    for name in (".bashrc", ".config/vx-token/config.toml", ".local/state/vx-token/setup.json"):
        path = logged_in.home / name
        path.with_name(f".{path.name}.0123456789ab").write_text("a part")
    for link in (logged_in.home / ".local/share/man/man1").iterdir():  # as if it had made no link yet
        link.unlink()
    assert (state / "setup.json").exists()
    setup(logged_in, "--undo", "--yes")
    assert tree(logged_in) == before


def test_an_undo_that_cannot_read_its_record_changes_nothing(logged_in: Box, google: Emulator) -> None:
    setup(logged_in, "--yes", "--no-service", "--offline", "--profile", "gemini", "--base-url", google.base_url())
    record = logged_in.home / ".local/state/vx-token/setup.json"
    text = record.read_text()
    record.unlink()
    record.mkdir()
    between = tree(logged_in)
    assert "vx-token: cannot read ~/.local/state/vx-token/setup.json" in setup(logged_in, "--undo", "--yes", status=3)
    assert tree(logged_in) == between
    record.rmdir()
    record.write_text(text)
    setup(logged_in, "--undo", "--yes")
    assert not config(logged_in).exists()
