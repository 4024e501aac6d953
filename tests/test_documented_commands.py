"""Every vx-token command in README.md and docs is run, or named here with the test that runs it."""

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sandbox import REPOSITORY, Box
from vx_token.cli.main import cli

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
SHELLS = {"console", "sh", "bash", "cron"}

RUN_BY = {
    **dict.fromkeys(
        (f"vx-token connect {word}" for word in ("llm", "--undo")),
        "tools/test_connect.py",
    ),
    "vx-token demo": "cli/test_demo.py",
    "vx-token endpoints use": "cli/test_endpoints.py",
    "vx-token gateway": "gateway/test_daemon.py",
    "vx-token gateway tail": "gateway/test_tail.py",
    "vx-token models --publisher google --probe": "cli/test_models.py",
    "vx-token run": "daemon/test_daemon.py",
    "vx-token status --watch": "cli/test_watch.py",
    **dict.fromkeys(
        (f"vx-token service {verb}" for verb in ("logs", "restart", "start", "status", "stop")),
        "install/test_service.py",
    ),
}
"""Commands that need more than a profile with a login, and the tests that run them."""

DRY = ("setup", "service install", "service uninstall")
"""Commands that change the machine: run here with --dry-run, and for real by tests/install and test_first_hour.py."""

NOT_RUN = {
    *("aider", "cat", "cd", "chmod", "cp", "curl", "docker", "echo", "export", "gcloud", "git", "jq", "less"),
    *("loginctl", "mkdir", "pipx", "python3", "rm", "systemctl", "umask"),
}
"""Programs of others with which a line of a code block may begin; the tests do not run them."""

OTHER_WORDS = {"done", "eval", "exec", "nohup", "until", "scripts/demo", "scripts/test"}


@dataclass(frozen=True)
class Line:
    """A command line of a code block, with continuation lines joined."""

    page: str
    text: str

    def commands(self) -> Iterator[tuple[str, ...]]:
        """The vx-token commands in it, word by word, without what the shell reads and without `exec`'s COMMAND."""
        for _, text in re.findall(
            r"(^|[(|;\"`'=] *|(?:exec|nohup|until|/|[A-Z_]=\S+) ?)vx-token(?= |$)((?: ?[^ |;&()<>#]+)*)", self.text
        ):
            words = shlex.split(text.split('"')[0] if text.count('"') % 2 else text)
            yield tuple(words[: words.index("--")] if "--" in words else words)


def lines(page: Path) -> Iterator[Line]:
    """The command lines of a page's code blocks for shells; in a console block those after a prompt."""
    text = page.read_text(encoding="utf-8")
    for kind, block in re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if kind in SHELLS and not block.startswith("#!/sbin/openrc-run"):  # tests/test_recipes.py runs that
            body = re.sub(r"<<'?END'?\n.*?\nEND\n", "\n", block, flags=re.DOTALL)
            for line in re.sub(r" *\\\n *", " ", body).splitlines():
                if kind != "console" or line.startswith("$ "):
                    yield Line(page.name, line.removeprefix("$ "))


LINES = [line for page in PAGES for line in lines(page)]
BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
INLINE = {
    (page.name, text) for page in PAGES for text in re.findall(r"`(vx-token [^`]+)`", BLOCK.sub("", page.read_text()))
}


def test_there_are_commands_in_the_pages() -> None:
    assert len({line.page for line in LINES}) > 8
    assert len(INLINE) > 50


def resolved(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that these words name, and the words after its name."""
    command: click.Command = cli
    rest = words[1:]
    while isinstance(command, click.Group) and rest and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    return command, rest


@pytest.mark.parametrize("page", sorted({page for page, _ in INLINE}))
def test_each_command_in_a_sentence_exists_with_its_options(page: str) -> None:
    for text in sorted(text for name, text in INLINE if name == page):
        command, rest = resolved(re.sub(r"[\[\]]", " ", text).split(" -- ")[0].split())
        assert command is not cli or (rest and rest[0].startswith(("-", "COMMAND"))), f"{page}: {text}"
        options = {name for param in command.params for name in (*param.opts, *param.secondary_opts)} | {"--help"}
        assert {word for word in rest if word.startswith("-")} <= options, f"{page}: {text}"


def test_each_line_begins_with_a_command_of_ours_or_a_known_one() -> None:
    for line in LINES:
        command = re.sub(r"^( |[A-Z_]+=(\$\([^)]*\)|\S*)|@reboot|7 \* \* \* \*|#.*)+", "", line.text)
        first, *_ = [*command.split(), ""]
        assert not first or first.endswith("vx-token") or first in NOT_RUN | OTHER_WORDS, f"{line.page}: {line.text}"


COMMANDS = {" ".join(["vx-token", *words]): words for line in LINES for words in line.commands() if words}


@pytest.fixture
def reader(signed_in: Box, monkeypatch: pytest.MonkeyPatch) -> Box:
    """The environment of a reader with a profile, a login and a key file, in this process."""
    for name in list(os.environ):
        if name.startswith(("VX_TOKEN_", "OPENAI_", "GOOGLE_")):
            monkeypatch.delenv(name)
    for name, value in signed_in.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(signed_in.root)
    (signed_in.root / "key.json").write_bytes(signed_in.key.read_bytes())
    return signed_in


def test_each_command_of_a_code_block_runs(reader: Box) -> None:
    assert len(COMMANDS) > 30
    failed = []
    for text, words in sorted(COMMANDS.items()):
        name = " ".join(words[:2])
        if text in RUN_BY or f"vx-token {name}" in RUN_BY:
            continue
        argv = [*words, *(["--dry-run"] if name.startswith(DRY) and "--dry-run" not in words else [])]
        if words[0] == "exec":
            done = reader.vx(*argv, "--", "true")
            status, output = done.returncode, done.stderr
        else:
            result = CliRunner().invoke(cli, argv, prog_name="vx-token")
            status, output = result.exit_code, f"{result.output}{result.exception!r}"
        # doctor's status is 1 when it finds something, such as a shell without the hook.
        if status != 0 and not (status == 1 and words[0] == "doctor" and "failure" in output):
            failed.append(f"{text}: {status} {output}")
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize(("text", "test"), RUN_BY.items())
def test_each_command_that_is_not_run_here_is_run_there(text: str, test: str) -> None:
    words = text.split()[1:]
    assert any(command.startswith(text) for command in COMMANDS)
    source = (REPOSITORY / "tests" / test).read_text()
    assert re.search(rf'"{words[-1]}"|\.daemon\(', source), f"{test} does not run {text}"
