"""The README's promises that can be checked, and those that were wrong once."""

import os
import re
import shlex
import subprocess

import pytest
from click.testing import CliRunner

from sandbox import REPOSITORY, Box
from vx_token.cli.main import cli
from vx_token.emulator import Emulator

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PAGES = {"README.md": README} | {page.name: page.read_text() for page in (REPOSITORY / "docs").glob("*.md")}
LONG_RUNNING = r"aider|jupyter|open-webui|opencode"


def test_its_two_commands_are_there_to_be_run() -> None:
    for name in re.findall(r"^\$ (scripts/\w+)", README, re.MULTILINE):
        assert os.access(REPOSITORY / name, os.X_OK), name
        subprocess.run(["sh", "-n", name], cwd=REPOSITORY, check=True)
    assert {"scripts/demo", "scripts/test"} <= set(re.findall(r"scripts/\w+", README))


def test_its_pictures_and_links_are_there() -> None:
    targets = re.findall(r"\]\(((?!https?:)[^)#]+)", README)
    assert "docs/images/demo.svg" in targets
    assert [target for target in targets if not (REPOSITORY / target).exists()] == []


def test_the_picture_shows_a_client_that_fails_beside_four_that_are_served() -> None:
    picture = (REPOSITORY / "docs/images/demo.svg").read_text(encoding="utf-8")
    assert "DEAD 401" in picture
    ways = dict(
        re.findall(r">([^<>]+)</text>\n<text [^>]*>((\d+) of (?:\3) answered)<", picture)[n][:2] for n in range(4)
    )
    assert {"gateway key once", "new command", "curl -H @header", "vx-token print"} == ways.keys()
    # Nothing is loaded from elsewhere.
    assert re.findall(r"href=|src=|\burl\(|@import", picture) == []


def test_its_status_is_what_status_prints_for_a_gcloud_login(
    box: Box, google: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    google.authorized_user(box.key)
    box.profile("default", url=google.base_url())
    box.refresh()
    for name, value in box.environ.items():
        monkeypatch.setenv(name, value)
    printed = CliRunner().invoke(cli, ["status"]).output.splitlines()
    shown = re.findall(r"^\$ vx-token status\n(.*)\n(.*)$", README, re.MULTILINE)[0]
    assert shown[0].split() == printed[0].split()
    assert re.sub(r"[\d:m]+", "#", shown[1]).split()[:3] == re.sub(r"[\d:m]+", "#", printed[1]).split()[:3]
    assert shown[1].split()[-1] == printed[1].split()[-1] == "authorized_user"
    assert not any("me@example.com" in text for text in PAGES.values())


@pytest.mark.parametrize("kind", ["bash", "fish"])
def test_setup_sets_up_the_login_shell_and_another_one_when_it_is_named(
    signed_in: Box, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for name, value in {**signed_in.environ, "SHELL": f"/bin/{kind}"}.items():
        monkeypatch.setenv(name, value)

    def loads(name: str) -> bool:
        path = signed_in.home / name
        return path.exists() and "# >>> vx-token >>>" in path.read_text()

    command = re.findall(r"`vx-token (setup --shell zsh)`", README)[0]
    files = {"bash": ".bashrc", "fish": ".config/fish/conf.d/vx-token.fish", "zsh": ".zshrc"}
    for words, shells in (("setup", {kind}), (command, {kind, "zsh"})):
        done = CliRunner().invoke(cli, [*shlex.split(words), "--yes", "--no-service"])
        assert done.exit_code == 0, done.output
        assert {shell for shell, file in files.items() if loads(file)} == shells
    assert not any("every command in a new shell" in text for text in PAGES.values())


def commands_of_a_long_running_program() -> list[tuple[str, str]]:
    found = [(name, line) for name, text in PAGES.items() for line in re.findall(r"vx-token exec[^`\n]*", text)]
    return [(name, line) for name, line in found if re.search(rf"-- ({LONG_RUNNING})\b", line)]


def test_a_program_that_runs_for_hours_is_started_with_a_gateway_only() -> None:
    """`exec` in direct mode gives it a key for an hour; tests/gateway/test_daemon.py proves that --gateway lasts."""
    assert commands_of_a_long_running_program()
    assert [line for line in commands_of_a_long_running_program() if "--gateway" not in line[1]] == []
    direct = [
        name
        for name, text in PAGES.items()
        if re.search(rf"^\$ ({LONG_RUNNING})\b", text, re.MULTILINE) and name != "gateway.md"
    ]
    assert direct == []
