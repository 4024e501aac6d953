"""The README's promises that can be checked: its commands are there."""

import os
import re
import subprocess

import pytest

from sandbox import REPOSITORY, Box

README = (REPOSITORY / "README.md").read_text()


def test_its_two_commands_are_there_to_be_run() -> None:
    for name in re.findall(r"^\$ (scripts/\w+)", README, re.MULTILINE):
        assert os.access(REPOSITORY / name, os.X_OK), name
        subprocess.run(["sh", "-n", name], cwd=REPOSITORY, check=True)
    assert {"scripts/demo", "scripts/test"} <= set(re.findall(r"scripts/\w+", README))


@pytest.mark.parametrize("words", sorted(set(re.findall(r"vx-token ((?:[a-z]+ ?)+)", README))))
def test_each_command_it_names_exists(box: Box, words: str) -> None:
    known = box.vx("--help").stdout
    command = words.split(maxsplit=1)[0]
    assert re.search(rf"^  {command}\b", known, re.MULTILINE) or command in ("is", "run"), words
    assert box.vx(command, "--help").returncode == 0
