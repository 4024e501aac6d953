"""Each vx-token command in a code block of README.md and docs is run as written; each one in a sentence is valid."""

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import pexpect
import pytest

import accounts
import forked
import gateways
from newcomer import Newcomer
from sandbox import REPOSITORY, Box, until
from usermanager import UserManager
from vx_token.cli.main import cli
from vx_token.emulator import Emulator

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
SHELLS = {"console", "sh", "bash", "cron"}

NOT_RUN = {
    *("aider", "cat", "cd", "chmod", "cp", "curl", "docker", "echo", "export", "gcloud", "git", "install", "jq"),
    *("less", "loginctl", "mkdir", "pipx", "python3", "rm", "systemctl", "systemd-sysusers", "umask", "usermod"),
}
"""Programs of others with which a line of a code block may begin; the tests do not run them."""

OTHER_WORDS = {"done", "eval", "exec", "nohup", "until", "scripts/demo", "scripts/test"}

CHANGE_THE_MACHINE = {"setup", "service"}
"""Commands that need a user manager, so they are run under the tests' own one."""

ENDPOINT = "1234567890"
IN_BLOCKS = {'"$@"': "my-program", "$HOME": "home"}
"""What stands in a code block for words of the reader's, and what is run instead; the folder is the working folder."""

IN_SENTENCES = {
    "COMMAND --help": "print --help",
    "COMMAND": "true",
    "TOOL": "llm",
    "TOPIC": "service",
    "NAME": "gemini",
    "path gemini": "path token",
    "ID": ENDPOINT,
    "bash|zsh|fish": "zsh",
    "[-n N] [-f]": "-n 5 -f",
}
"""Placeholders in sentences and what is parsed instead, in the order of the replacements."""

Words = tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """A command line of a code block, with continuation lines joined."""

    page: str
    text: str

    def commands(self) -> Iterator[Words]:
        """The vx-token commands in it, word by word, without what the shell reads."""
        for _, text in re.findall(
            r"(^|[(|;\"`'=] *|(?:exec|nohup|until|/|[A-Z_]=\S+) ?)vx-token(?= |$)((?: ?[^ |;&()<>#]+)*)", self.text
        ):
            written = text.split('"')[0] if text.count('"') % 2 else text
            if written.strip() not in ("", '"'):
                yield tuple(shlex.split(replaced(written, IN_BLOCKS)))


def replaced(text: str, table: dict[str, str]) -> str:
    for placeholder, value in table.items():
        text = text.replace(placeholder, value)
    return text


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
COMMANDS = {
    page: [*dict.fromkeys(words for line in LINES if line.page == page for words in line.commands())]
    for page in {line.page for line in LINES}
}
"""The commands of each page, in the order of the page."""

PATIENCE = 300.0
"""Seconds for what takes one on an idle machine."""


def test_there_are_commands_in_the_pages() -> None:
    assert len(COMMANDS) > 8
    assert len({words for page in COMMANDS.values() for words in page}) > 50
    assert len(INLINE) > 50


def test_each_line_begins_with_a_command_of_ours_or_a_known_one() -> None:
    for line in LINES:
        command = re.sub(r"^( |[A-Za-z_]+=(\$\([^)]*\)|\S*)|@reboot|7 \* \* \* \*|#.*)+", "", line.text)
        first, *_ = [*command.split(), ""]
        assert not first or first.endswith("vx-token") or first in NOT_RUN | OTHER_WORDS, f"{line.page}: {line.text}"


def parse(text: str) -> None:
    """Parse a command line as click does when it is run; arguments may be missing, as in "`exec --gateway` lasts".

    Raises:
        click.UsageError: a command, an option or an argument is invalid.
    """
    command: click.Command = cli
    context = click.Context(cli, info_name="vx-token")
    rest = shlex.split(text)[1:]
    while isinstance(command, click.Group) and rest and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    try:
        context = command.make_context(str(command.name), rest, context)
    except click.exceptions.Exit:  # --help
        return
    except click.MissingParameter as error:
        if not isinstance(error.param, click.Argument):
            raise
    if isinstance(command, click.Group) and context._protected_args:
        raise click.UsageError(f"no such command: {context._protected_args}")


@pytest.mark.parametrize("page", sorted({page for page, _ in INLINE}))
def test_each_command_in_a_sentence_is_valid(page: str, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(box.root)
    (box.root / "key.json").touch()
    for text in sorted(text for name, text in INLINE if name == page):
        try:
            parse(replaced(text, IN_SENTENCES))
        except click.UsageError as error:
            pytest.fail(f"{page}: {text}: {error.format_message()}")


@pytest.mark.parametrize("text", ["prnt", "print --min-tl 5m", "path tokn", "connect --undo llm x", "endpoints usr 1"])
def test_a_wrong_command_in_a_sentence_is_noticed(text: str) -> None:
    with pytest.raises(click.UsageError):
        parse(f"vx-token {text}")


PROGRAM = f"""\
#!{sys.executable}
import os, sys, urllib.request
body = b'{{"model": "google/gemini-2.5-flash", "messages": [{{"role": "user", "content": "hi"}}]}}'
headers = {{"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}}
url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
status = urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30).status
print("answered", status, *sys.argv[1:])
"""
"""What the pages start by `exec`: a program that sends a request."""

PROGRAMS = ("bin/docker", "bin/jupyter", "bin/pytest", "bin/my-program", "home/bin/summarize", "summarize.py")


@dataclass(frozen=True)
class Reader:
    """A user at a terminal, with a profile, a login, a gateway, a key file, a deployed endpoint and those programs."""

    box: Box
    google: Emulator
    port: int

    @contextmanager
    def running(self, words: Words) -> Iterator[forked.Command]:
        """Type a command, and Enter at each of its questions."""
        master, slave = os.openpty()
        try:
            os.write(master, b"\n" * 9)
            command = forked.Command(words, self.box.environ, self.box.root, stdin=os.ttyname(slave))
            with command:
                try:
                    yield command
                finally:
                    command.kill()
        finally:
            os.close(master)
            os.close(slave)

    def run(self, words: Words) -> tuple[int, str]:
        with self.running(words) as command:
            out, err = command.communicate(PATIENCE)
            return command.wait(), out + err

    def served(self) -> bool:
        """Whether the gateway answers a request."""
        try:
            status, _ = gateways.ask(self.port, "/v1/models", gateways.local_key(self.box))
        except OSError:
            return False
        return status == 200

    def watches(self, words: Words) -> tuple[int, str]:
        argv, environ = self.box.command(*words), {**self.box.environ, "TERM": "xterm-256color"}
        with pexpect.spawn(argv[0], argv[1:], env=environ, cwd=self.box.root, timeout=PATIENCE) as terminal:
            terminal.expect("gemini")
            terminal.send("q")
            terminal.expect(pexpect.EOF)
        return terminal.exitstatus or 0, ""

    def interrupted(self, words: Words, works: Callable[[str], object]) -> tuple[int, str]:
        """Start a long-running command, wait until it works, and press Ctrl-C."""
        with self.running(words) as command:
            until(lambda: works(command.written()[0]) or command.poll() is not None, PATIENCE, " ".join(words))
            assert command.poll() is None, command.written()
            command.send_signal(signal.SIGINT)
            status = command.wait(PATIENCE)
            return (0 if status == 130 else status), "".join(command.written())

    def tails(self, words: Words) -> tuple[int, str]:
        until(self.served, PATIENCE)
        return self.interrupted(words, lambda shown: "gemini/models" in shown)


Run = Callable[[Reader, Words], tuple[int, str]]
FOREGROUND: dict[Words, Run] = {
    ("demo",): lambda reader, words: reader.interrupted(words, lambda shown: "ok   200" in shown),
    ("gateway",): lambda reader, words: reader.interrupted(words, lambda _: reader.served()),
    ("run",): lambda reader, words: reader.interrupted(words, lambda _: reader.box.read("token") and reader.served()),
}
"""Servers, which are ended when they have shown that they work."""

BESIDE_THE_DAEMON: dict[Words, Run] = {("gateway", "tail"): Reader.tails, ("status", "--watch"): Reader.watches}
"""Other commands that do not end by themselves; they show what the daemon does."""


@pytest.fixture
def reader(box: Box, google: Emulator) -> Reader:
    google.service_account(box.key)
    google.deploy(ENDPOINT, models=["llama"])
    port = gateways.free_port()
    gateways.configure(box, google, port, "enabled = true", url=google.base_url(location="us-central1"), mode="direct")
    (box.root / "key.json").write_bytes(box.key.read_bytes())
    for name in PROGRAMS:
        path = box.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(PROGRAM)
        path.chmod(0o700)
    box.environ["PATH"] = f"{box.root}/bin:{box.environ['PATH']}"
    box.refresh()
    return Reader(box, google, port)


def succeeded(words: Words, status: int, output: str) -> bool:
    if words[0] == "exec":
        return status == 0 and "answered 200" in output
    # doctor's status is 1 when it finds something, such as a shell without the hook.
    return status == 0 or (status == 1 and words[0] == "doctor" and re.search(r"\d failure", output) is not None)


def to_run(page: str) -> list[Words]:
    return [words for words in COMMANDS[page] if words[0] not in CHANGE_THE_MACHINE and words not in FOREGROUND]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", sorted(page for page in COMMANDS if to_run(page)))
def test_each_command_of_a_page_runs(reader: Reader, page: str) -> None:
    failed = []
    with reader.box.daemon():
        for words in to_run(page):
            status, output = BESIDE_THE_DAEMON.get(words, Reader.run)(reader, words)
            if not succeeded(words, status, output):
                failed.append(f"{' '.join(words)}: {status} {output}")
    assert not failed, "\n".join(failed)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "words",
    [pytest.param(words, marks=pytest.mark.slow if words == ("demo",) else ()) for words in FOREGROUND],
    ids=" ".join,
)
def test_each_command_of_a_page_that_serves_in_the_foreground_runs(reader: Reader, words: Words) -> None:
    assert any(words in commands for commands in COMMANDS.values())
    status, output = FOREGROUND[words](reader, words)
    assert status == 0, output


CHANGES = [line for line in LINES if any(words[0] in CHANGE_THE_MACHINE for words in line.commands())]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", sorted({line.page for line in CHANGES}))
def test_each_command_of_a_page_that_changes_the_machine_runs(
    user_manager: UserManager, google: Emulator, page: str
) -> None:
    with accounts.opened(user_manager, google) as account, ExitStack() as undone:
        undone.callback(account.vx, "setup", "--undo", "--yes")  # start-up files that were there before
        user = Newcomer(user_manager, google)
        user.login("authorized_user")
        user.login("service_account")
        for line in [line for line in CHANGES if line.page == page]:
            command = re.sub(r" {2,}.*", "", line.text)  # what the line does
            if command.endswith("--follow"):
                user.interrupt(command)
            else:
                user.answer_questions(command)
