"""Each error's hint names the right word or a command that works where it is shown."""

import contextlib
import io
import os
import re
import shlex
import sys
import sysconfig
from pathlib import Path

import pytest

from sandbox import REPOSITORY, Box
from vx_token.cli import output
from vx_token.cli.main import run
from vx_token.install import service, setup_record
from vx_token.system import installation, shipped
from vx_token.system.installation import Installation, add_command, remove_command
from vx_token.vertex import known


@pytest.fixture
def user(box: Box, monkeypatch: pytest.MonkeyPatch) -> Box:
    """A user whose environment is this process's."""
    for name in {*os.environ} - {*box.environ} - {"PYTEST_CURRENT_TEST"}:
        monkeypatch.delenv(name)
    for name, value in box.environ.items():
        monkeypatch.setenv(name, value)
    return box


def ran(*words: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run([*words])
    return status, out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("prnt", "did you mean 'print'? see: vx-token --help"),
        ("service instal", "did you mean 'install'? see: vx-token service --help"),
        ("print --profil x", "did you mean '--profile'? see: vx-token print --help"),
        ("setup --no-hok", "did you mean '--no-hook'? see: vx-token setup --help"),
        ("--profile work print", "put --profile after the command; see: vx-token --help"),
        ("path tokn", "did you mean 'token'? see: vx-token path --help"),
        ("env --shell bsh", "did you mean 'bash'? see: vx-token env --help"),
        ("print --profile gemni", "did you mean 'gemini'? profiles there: gemini"),
        ("help troubleshoting", "did you mean 'troubleshooting'? list the topics: vx-token help"),
        ("xyzzy", "see: vx-token --help"),
    ],
)
def test_a_misspelled_word_is_answered_by_the_right_one(user: Box, words: str, hint: str) -> None:
    user.profile()
    status, out, err = ran(*words.split())
    assert (status, out) == (3 if "gemni" in words else 2, "")
    assert err.splitlines()[1:] == [f"hint: {hint}"]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('[profiles.a]\nprojct = "p"', "did you mean 'project'? known keys: "),
        ('projct = "p"', "did you mean 'project' in [profiles.NAME]? known keys: default_profile"),
        ('[gateway]\nprot = 1\n[profiles.a]\nproject = "p"', "did you mean 'port'? known keys: access_log"),
        ('[profile.a]\nproject = "p"', "did you mean 'profiles'? known keys: default_profile"),
        ('default_profile = "wrk"\n[profiles.work]\nproject = "p"', "did you mean 'work'? profiles there: work"),
        ("project = my-project", "strings need quotes; see: vx-token help configuration"),
    ],
)
def test_a_misspelled_key_is_answered_by_the_right_one(user: Box, text: str, hint: str) -> None:
    user.config.write_text(text)
    status, _, err = ran("print")
    assert status == 3
    assert err.splitlines()[1].startswith(f"hint: {hint}")


# --- the command that adds an optional part ---------------------------------------------------------------------------

PARTS = ["aiohttp>=3.14.2", "prometheus-client>=0.20"]


@pytest.mark.parametrize(
    ("manager", "pip", "command"),
    [
        ("pipx", True, "pipx inject vx 'aiohttp>=3.14.2' 'prometheus-client>=0.20'"),
        ("uv", False, "uv tool install --force '/src/vx token[gateway]'"),
        ("pip", True, "/opt/vx/bin/python -m pip install 'aiohttp>=3.14.2' 'prometheus-client>=0.20'"),
        (
            "pip",
            False,
            "uv pip install --python /opt/vx/bin/python 'aiohttp>=3.14.2' 'prometheus-client>=0.20'",
        ),
        ("system", True, "pipx install '/src/vx token[gateway]'"),
    ],
)
def test_the_command_for_an_extra_fits_the_installation(manager: str, pip: bool, command: str) -> None:
    installed = Installation(Path("/opt/vx"), "/opt/vx/bin/python", "/src/vx token", manager, pip)
    assert add_command("gateway", PARTS, installed) == command


@pytest.mark.parametrize(
    ("manager", "pip", "command"),
    [
        ("pipx", True, "pipx uninstall vx"),
        ("uv", False, "uv tool uninstall vx-token"),
        ("pip", True, "/opt/vx/bin/python -m pip uninstall vx-token"),
        ("pip", False, "uv pip uninstall --python /opt/vx/bin/python vx-token"),
        ("system", True, ""),
    ],
)
def test_the_command_that_removes_the_program_fits_the_installation(manager: str, pip: bool, command: str) -> None:
    assert remove_command(Installation(Path("/opt/vx"), "/opt/vx/bin/python", "x", manager, pip)) == command


def test_pip_is_never_named_for_a_python_that_another_program_manages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    hint = installation.how_to_add("gateway")
    assert hint.startswith("run: pipx install ")
    assert "pip install" not in hint


@pytest.mark.parametrize(("name", "manager"), [("pipx_metadata.json", "pipx"), ("uv-receipt.toml", "uv"), ("", "pip")])
def test_the_manager_of_an_environment_is_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, manager: str
) -> None:
    (tmp_path / name).touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert installation.installation().manager == manager


def test_the_requirements_are_those_of_the_extra() -> None:
    words = shlex.split(installation.how_to_add("gateway"))
    assert any(word.startswith("aiohttp") for word in words)
    assert not any(word.startswith(("openai", "click")) for word in words)


# --- commands that work where they are shown --------------------------------------------------------------------------


def test_a_hint_has_the_path_of_a_program_that_is_not_in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "a venv" / "vx-token"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    hint = "run: vx-token service start, or see: vx-token service logs"
    assert output.runnable(hint) == hint.replace("vx-token", f"'{program}'")
    assert output.runnable("see: vx-token --help") == f"see: '{program}' --help"
    assert output.runnable("install vx-token again") == "install vx-token again"
    written = '    +   eval "$(vx-token hook bash)"'
    assert output.runnable(written) == written
    monkeypatch.chdir(program.parent)
    monkeypatch.setattr(sys, "argv", ["./vx-token"])
    assert output.runnable("run: vx-token status") == f"run: '{program}' status"
    monkeypatch.setenv("PATH", str(program.parent))
    assert output.runnable(hint) == hint


# --- documentation that is installed ----------------------------------------------------------------------------------


def test_help_prints_a_page_or_the_help_of_a_command(user: Box) -> None:
    status, listed, _ = ran("help")
    assert status == 0
    assert [line.split()[0] for line in listed.splitlines()] == [*shipped.pages()]
    assert ran("help", "configuration") == (0, (REPOSITORY / "docs/configuration.md").read_text(), "")
    status, text, _ = ran("help", "service", "install")
    assert (status, text.partition("\n")[0]) == (0, "Usage: vx-token service install [OPTIONS]")


def test_no_text_of_the_program_names_a_file_that_is_not_installed() -> None:
    files = [path for folder in ("src", "shell") for path in (REPOSITORY / folder).rglob("*") if path.is_file()]
    texts = {path: path.read_text() for path in files if path.suffix in (".py", ".bash", ".zsh", ".fish", "")}
    assert not [path for path, text in texts.items() if re.search(r"(?<![\w/.-])docs/\w|README\.md", text)]
    topics = {match for text in texts.values() for match in re.findall(r"vx-token help ([a-z][\w-]*)", text)}
    topics -= {"install"}  # in an example of `help service install`
    assert {"configuration", "service", "shell"} <= topics <= {*shipped.pages()}


def test_path_prints_every_file_that_the_documentation_lists(user: Box) -> None:
    user.profile()
    section = (REPOSITORY / "docs/configuration.md").read_text().partition("\n## Files\n")[2].partition("\n## ")[0]
    cells = " ".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    cells = re.sub("/<profile>.jsonl?", "", cells)  # `path known` and `path files` print the folders of these
    names = {
        name.rsplit("/")[-1].removeprefix(".").replace("config.toml", "config") for name in re.findall("`(.+?)`", cells)
    }
    assert {"config", "setup.json", "gateway.key", "gateway.sock", "token", "events.json", "default"} <= names
    for name in names:
        status, out, _ = ran("path", name)
        assert (status, Path(out.strip()).stem.removeprefix(".")) == (0, Path(name).stem), name


def test_the_names_of_path_are_those_of_the_files(user: Box) -> None:
    user.profile()
    assert ran("path", "setup.json")[1] == f"{setup_record._path(os.environ)}\n"
    assert ran("path", "known")[1] == f"{user.root / known.FOLDER}\n"
    assert ran("path", "service.log")[1] == f"{user.root / service.LOG}\n"
    assert ran("path", "gateway.sock")[1] == f"{user.runtime / service.GATEWAY_SOCKET}\n"
