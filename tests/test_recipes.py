"""The recipes for other supervisors and for containers: what each would start, started as it would."""

import configparser
import contextlib
import json
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from accounts import LAUNCHER
from gateways import free_port
from sandbox import REPOSITORY, Box, until
from vx_token.emulator import Emulator


def section(page: str, heading: str) -> dict[str, str]:
    """The code blocks below a heading, by the first words of the paragraph before each."""
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8").split(f"\n{heading}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"\n\n(\w[^\n]*(?:\n[^\n]+)*)\n\n```\w+\n([\s\S]*?)```", "\n" + text)
    return {re.split("[,:;.]", intro)[0]: block for intro, block in blocks}


SUPERVISORS = section("service.md", "## Other supervisors")
ENTRY_POINTS = section("containers.md", "### Entry points")
ONCE, EACH_REQUEST = (
    "For a program that reads its key once",
    "For a program that reads `/run/vx-token/default/token` at each request",
)
RECIPES = SUPERVISORS | ENTRY_POINTS
BOOT = "/usr/local/bin:/usr/bin:/bin"


@dataclass
class Machine:
    """A user `me` on a machine that has just booted."""

    box: Box
    google: Emulator

    @property
    def home(self) -> Path:
        return self.box.home

    @property
    def environ(self) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": BOOT}

    @property
    def with_the_command(self) -> dict[str, str]:
        """As in a container's image, where the command is on the PATH."""
        return {**self.environ, "PATH": f"{self.home}/.local/bin:{BOOT}"}

    def recipe(self, name: str) -> str:
        """The text as this user would have adapted it."""
        text = RECIPES[name].replace("/home/me", str(self.home)).replace("/run/vx-token", str(self.home / "run"))
        return text.replace("=me\n", "=root\n")

    def file(self, name: str) -> Path:
        path = self.home / "recipe"
        path.write_text(self.recipe(name))
        path.chmod(0o700)
        return path

    def token(self, runtime: str = ".cache/vx-token") -> str:
        path = self.home / runtime / "default/token"
        return path.read_text() if path.exists() else ""

    def daemon(self) -> int:
        """The daemon's process, 0 while there is none."""
        path = self.home / ".cache/vx-token/.daemon.json"
        return int(json.loads(path.read_text())["pid"]) if path.exists() else 0

    @contextmanager
    def running(self, argv: list[str], environ: Mapping[str, str]) -> Iterator["subprocess.Popen[str]"]:
        """`argv` in a session of its own, which ends with the test whatever is left in it."""
        quiet, pipe = subprocess.DEVNULL, subprocess.PIPE
        with subprocess.Popen(
            argv, env=dict(environ), cwd="/", stdin=quiet, stdout=pipe, text=True, start_new_session=True
        ) as process:
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def serves_until_it_is_told_to_end(self, argv: list[str], environ: Mapping[str, str]) -> None:
        with self.running(argv, environ) as process:
            until(self.token, 15)
            assert self.google.identity_of(self.token())
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0


@pytest.fixture
def machine(box: Box, google: Emulator) -> Machine:
    program = box.home / ".local/bin/vx-token"
    program.parent.mkdir(parents=True)
    program.write_text(LAUNCHER)
    program.chmod(0o700)
    google.service_account(box.key)
    box.profile(url=google.base_url())
    place = box.home / ".config/vx-token/config.toml"
    place.parent.mkdir(parents=True)
    box.config.rename(place)
    return Machine(box, google)


def test_these_are_the_recipes() -> None:
    assert [*SUPERVISORS] == ["runit", "OpenRC", "supervisord", "cron"]
    assert [*ENTRY_POINTS] == [ONCE, EACH_REQUEST]


@pytest.mark.parametrize("name", ["runit", "OpenRC", ONCE, EACH_REQUEST])
def test_each_script_is_one_that_a_plain_shell_takes(machine: Machine, name: str) -> None:
    subprocess.run(["sh", "-n", str(machine.file(name))], check=True)


def test_runit(machine: Machine) -> None:
    machine.serves_until_it_is_told_to_end([str(machine.file("runit"))], machine.environ)


def test_openrc(machine: Machine) -> None:
    names = ("supervisor", "command", "command_args", "command_user", "retry", "supervise_daemon_args")
    show = "".join(f'printf "%s\\n" "${name}"; ' for name in names)
    done = subprocess.run(
        ["sh", "-euc", f'. "$0"; {show}', str(machine.file("OpenRC"))], capture_output=True, text=True, check=True
    )
    supervisor, command, arguments, user, retry, more = done.stdout.splitlines()
    assert (supervisor, user, retry) == ("supervise-daemon", "root", "TERM/30/KILL/5")
    words = shlex.split(more)
    assert set(words[::2]) == {"--env"}
    environ = dict(word.partition("=")[::2] for word in words[1::2])
    machine.serves_until_it_is_told_to_end([command, *shlex.split(arguments)], {"PATH": BOOT, **environ})


def test_supervisord(machine: Machine) -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(machine.recipe("supervisord"))
    program = parser["program:vx-token"]
    assert (program["autorestart"], program["exitcodes"], program["user"]) == ("unexpected", "0", "root")
    environ = dict(re.findall(r'(\w+)="([^"]*)"', program["environment"]))
    machine.serves_until_it_is_told_to_end(shlex.split(program["command"]), {"PATH": BOOT, **environ})


def test_cron(machine: Machine) -> None:
    setting, job = machine.recipe("cron").strip().split("\n")
    when, _, line = job.partition(" ")
    assert when == "@reboot"
    assert "%" not in line  # a line break to cron
    name, _, value = setting.partition("=")
    # cron starts a job in the home folder.
    argv = ["/bin/sh", "-c", 'cd && exec /bin/sh -c "$0"', line]
    with machine.running(argv, {**machine.environ, name: value}) as process:
        until(machine.token, 15)
        pid = until(machine.daemon)
        os.kill(pid, signal.SIGKILL)
        again = until(lambda: machine.daemon() if machine.daemon() != pid else 0, 20)
        os.kill(again, signal.SIGTERM)
        assert process.wait(10) == 0
    assert "keeps gemini fresh" in (machine.home / ".cache/vx-token.log").read_text()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


ASKS = """
import os, sys, urllib.request
body = b'{"model": "google/gemini-2.5-flash", "messages": [{"role": "user", "content": "hi"}]}'
headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}
url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
print(urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10).status, sys.argv[1], flush=True)
sys.exit(7)
"""


def test_a_containers_program_with_a_gateway_of_its_own(machine: Machine) -> None:
    environ = {**machine.with_the_command, "VX_TOKEN_RUNTIME_DIR": str(machine.home / "run")}
    argv = [str(machine.file(ONCE)), sys.executable, "-c", ASKS, "an argument"]
    with machine.running(argv, environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "200 an argument\n"
        assert process.wait(15) == 7


def test_a_containers_program_finds_the_first_token_when_it_starts(machine: Machine) -> None:
    argv = [str(machine.file(EACH_REQUEST)), "sh", "-c", "cat $VX_TOKEN_RUNTIME_DIR/default/token; echo; exec sleep 60"]
    with machine.running(argv, machine.with_the_command) as process:
        assert process.stdout is not None
        first = process.stdout.readline().strip()
        assert machine.google.identity_of(first)
        # The daemon beside it goes on.
        assert process.poll() is None
        until((machine.home / "run/.daemon.json").exists)


def test_a_container_beside_others_serves_them_with_the_key_that_compose_reads(machine: Machine) -> None:
    page = (REPOSITORY / "docs/containers.md").read_text(encoding="utf-8")
    [(prepare, compose)] = re.findall(r"```sh\n(mkdir[\s\S]*?)```\n\n```yaml\n([\s\S]*?)```", page)
    service, app = compose.split("  app:\n")
    folder = machine.home / "compose"
    folder.mkdir()
    machine.box.key.rename(folder / "key.json")
    port = free_port()
    own = f'base_url = "{machine.google.base_url()}"\nmode = "gateway"\n[gateway]\nport = {port}'
    script = prepare.replace('mode = "gateway"', own)
    subprocess.run(["sh", "-euc", script], cwd=folder, env=machine.with_the_command, check=True)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder / "gateway", folder / ".env")] == [0o700, 0o600]
    command = re.findall(r"entrypoint: \[(.*)\]", service)[0].split(", ")
    settings = dict(re.findall(r"^      (\w+): (\S+)$", service, re.MULTILINE))
    environ = machine.with_the_command | {
        name: value.replace("/gateway/", f"{folder}/gateway/").replace("/tmp", str(folder / "tmp"))
        for name, value in settings.items()
    }
    (folder / "tmp").mkdir()
    program = [str(machine.home / ".local/bin" / command[0]), *command[1:]]
    url = re.findall(r"OPENAI_BASE_URL: (\S+)", app)[0].replace("8490", str(port))
    name, _, key = (folder / ".env").read_text().strip().partition("=")
    assert f"{name}: ${{{name}}}" in app
    with machine.running(program, environ):
        until(lambda: is_open(port), 15)
        argv = [sys.executable, "-c", ASKS, "from beside"]
        done = subprocess.run(
            argv, env={name: key, "OPENAI_BASE_URL": url}, capture_output=True, text=True, check=False
        )
    assert done.stdout == "200 from beside\n", done.stderr
