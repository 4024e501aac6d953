"""Every command as a process: what it prints, how it ends, and that its help shows an example."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sandbox import REPOSITORY, Box, until
from vx_token import __version__
from vx_token.cli.main import cli
from vx_token.emulator import Emulator

COMMANDS = ("print", "env", "exec", "refresh", "run", "status", "hook", "path")
EXPORTED = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_BASE_URL")


def ran(box: Box, *words: str) -> str:
    """What a command says that succeeds."""
    done = box.vx(*words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def in_shell(box: Box, *argv: str) -> str:
    """What a shell's script says that succeeds in silence."""
    done = subprocess.run(argv, env=box.environ, cwd=box.root, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_version_is_told(box: Box) -> None:
    assert ran(box, "--version") == f"vx-token {__version__}\n"


def every(command: click.Command, *names: str) -> Iterator[tuple[str, ...]]:
    """The words of a command and of all below it."""
    yield names
    for name, each in command.commands.items() if isinstance(command, click.Group) else ():
        yield from every(each, *names, name)


@pytest.mark.parametrize("words", [*every(cli)], ids=lambda words: " ".join(words) or "vx-token")
def test_help_ends_with_an_example(words: tuple[str, ...]) -> None:
    said, short = (
        CliRunner().invoke(cli, [*words, option], prog_name="vx-token").output for option in ("--help", "-h")
    )
    assert said.startswith("Usage: vx-token")
    _, mark, example = said.partition("\n\n  Example:\n")
    assert mark
    assert 1 <= len(example.splitlines()) <= 5
    assert all(line.startswith("    ") for line in example.splitlines())
    assert all(len(line) <= 100 for line in said.splitlines())
    assert short == said


def test_all_commands_are_looked_at() -> None:
    assert {("print",), ("service", "logs"), ("gateway", "rotate-key")} < set(every(cli))


@pytest.mark.parametrize("group", [[], ["service"]], ids=str)
def test_a_group_alone_shows_its_help_as_a_mistake(box: Box, group: list[str]) -> None:
    done = box.vx(*group)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ran(box, *group, "--help")
    assert "\nCommands:\n" in done.stderr or "\nEveryday:\n" in done.stderr


def test_no_command_is_cut_off_in_a_list_of_commands() -> None:
    for words in every(cli):
        said = CliRunner().invoke(cli, [*words, "--help"], prog_name="vx-token", terminal_width=80).output
        command = cli
        for word in words:
            command = command.commands[word]  # type: ignore[assignment]
        for name, each in command.commands.items() if isinstance(command, click.Group) else ():
            width = max(map(len, command.commands))
            assert f"\n  {name:<{width}}  {each.get_short_help_str(1000)}\n" in said


def test_each_command_has_one_place_in_the_list() -> None:
    listed = [name for names in cli.sections.values() for name in names]
    assert sorted(listed) == sorted(cli.commands)


def test_quiet_leaves_errors_only(signed_in: Box, google: Emulator) -> None:
    assert ran(signed_in, "refresh", "--quiet") == ""
    assert ran(signed_in, "refresh").startswith("gemini: fresh token, ")
    assert ran(signed_in, "gateway", "rotate-key", "-q") == ""
    assert ran(signed_in, "status", "--quiet") == ""
    doctor = signed_in.vx("doctor", "-q").stdout.splitlines()
    assert doctor
    assert not [line for line in doctor if line.startswith("ok")]
    google.fail("token", status=503, times=None)
    done = signed_in.vx("refresh", "-q")
    assert (done.returncode, done.stdout, bool(done.stderr)) == (5, "", True)


def test_help_needs_no_configuration(box: Box) -> None:
    box.environ["VX_TOKEN_CONFIG"] = "/nowhere"
    box.environ["VX_TOKEN_RUNTIME_DIR"] = "/proc/nowhere"
    for command in COMMANDS:
        ran(box, command, "--help")


@pytest.mark.parametrize(
    "words", [["prnt"], ["--bogus"], ["exec"], ["hook"], ["hook", "csh"], ["path", "nose"], ["env", "--shell", "csh"]]
)
def test_wrong_usage_ends_with_2_and_a_hint(signed_in: Box, words: list[str]) -> None:
    done = signed_in.vx(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["vx-token", "hint"]


@pytest.mark.parametrize(
    "command", ["print", "env", "refresh", "status", "run", "exec true", "path token --profile gemini"]
)
def test_a_wrong_configuration_ends_with_3(box: Box, command: str) -> None:
    box.profile(lifetime="soon")
    done = box.vx(*command.split())
    assert done.returncode == 3
    assert command == "status" or not done.stdout
    assert f"{box.config}: profiles.gemini.lifetime" in done.stderr
    assert "\nhint: allowed: a duration" in done.stderr


@pytest.mark.parametrize("name", ["GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", "VX_TOKEN_LOCATION"])
def test_a_wrong_variable_is_named_and_not_a_file(box: Box, name: str) -> None:
    del box.environ["VX_TOKEN_CONFIG"]
    box.environ |= {"GOOGLE_CLOUD_PROJECT": "demo", name: "p';x"}
    done = box.vx("env")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"vx-token: {name} ")
    assert "config.toml" not in done.stderr


@pytest.mark.parametrize("kind", ["sh", "bash", "zsh"])
def test_env_can_be_evaluated(signed_in: Box, google: Emulator, require: Callable[[str], str], kind: str) -> None:
    script = f'set -eu; eval "$({" ".join(signed_in.command("env", "--shell", kind))})"; env'
    said = dict(line.split("=", 1) for line in in_shell(signed_in, require(kind), "-c", script).splitlines())
    check_exports(said, google)


def test_env_can_be_sourced_by_fish(signed_in: Box, google: Emulator, require: Callable[[str], str]) -> None:
    script = f"{' '.join(signed_in.command('env', '--shell', 'fish'))} | source; env"
    said = dict(line.split("=", 1) for line in in_shell(signed_in, require("fish"), "-c", script).splitlines())
    check_exports(said, google)


def check_exports(said: dict[str, str], google: Emulator) -> None:
    last = google.issued[-1]
    assert [said[name] for name in EXPORTED] == [last.value, *[google.base_url()] * 3]
    assert said["OPENAI_AGENTS_DISABLE_TRACING"] == "1"
    assert abs(int(said["VX_TOKEN_EXPIRES_AT"]) - last.expires_at) < 2
    assert not {"OPENAI_MODEL", "API_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS"} & set(
        said
    )


def test_env_speaks_dotenv_and_json(signed_in: Box, google: Emulator) -> None:
    check_exports(json.loads(ran(signed_in, "env", "--shell", "json")), google)
    lines = ran(signed_in, "env", "--shell", "dotenv").splitlines()
    check_exports(dict(line.split("=", 1) for line in lines), google)


def test_the_model_and_the_users_own_variables_are_exported(box: Box, google: Emulator) -> None:
    google.service_account(box.key)
    box.profile(url=google.base_url(), model="google/gemini-2.5-flash", export=["MY_KEY={token}", "MY_URL={base_url}"])
    said = json.loads(ran(box, "env", "--shell", "json"))
    assert said["OPENAI_MODEL"] == "google/gemini-2.5-flash"
    assert (said["MY_KEY"], said["MY_URL"]) == (google.issued[-1].value, google.base_url())
    assert f"export MY_KEY='{said['MY_KEY']}'\n" in box.read("env.sh")


def test_the_snippets_are_what_env_says(signed_in: Box, require: Callable[[str], str]) -> None:
    said = json.loads(ran(signed_in, "env", "--shell", "json"))
    for shell, name in (("sh", "env.sh"), ("fish", "env.fish")):
        path = signed_in.runtime / "default" / name
        found = in_shell(signed_in, require(shell), "-c", f". {path}; env" if shell == "sh" else f"source {path}; env")
        assert said.items() <= dict(line.split("=", 1) for line in found.splitlines()).items()


def test_exec_replaces_itself_by_the_command(signed_in: Box, google: Emulator) -> None:
    script = 'echo "$$ $OPENAI_API_KEY $OPENAI_BASE_URL $VX_TOKEN_PROFILE $1"; exit 7'
    argv = ["exec", "--profile", "gemini", "--", "sh", "-c", script, "sh", "--help me"]
    with signed_in.start(*argv, stdout=subprocess.PIPE) as process:
        said, _ = process.communicate(timeout=20)
    assert process.returncode == 7
    assert said == f"{process.pid} {google.issued[-1].value} {google.base_url()} gemini --help me\n"


@pytest.mark.parametrize("ours", [(), ("--profile", "gemini"), ("--gateway",)], ids=" ".join)
def test_execs_command_keeps_all_words_from_its_own_name_on(signed_in: Box, ours: tuple[str, ...]) -> None:
    theirs = ["--model", "X", "-la", "--profile", "none", "--gateway", "--", "-x", "--help"]
    code = "import json, sys; print(json.dumps(sys.argv[1:]))"
    for separator in ((), ("--",)):
        said = ran(signed_in, "exec", *ours, *separator, sys.executable, "-c", code, *theirs)
        assert json.loads(said) == theirs


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_exec_leaves_no_signal_ignored_that_python_ignores(signed_in: Box) -> None:
    pipes = ["bash", "-c", "yes | head -n1; echo ${PIPESTATUS[@]}"]
    assert ran(signed_in, "exec", "--", *pipes) == "y\n141 0\n"
    assert ignored(ran(signed_in, "exec", "--", "cat", "/proc/self/status")) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_exec_leaves_ignored_what_its_caller_ignores(signed_in: Box) -> None:
    argv = ["/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh", *signed_in.command("exec", "cat", "/proc/self/status")]
    assert ignored(in_shell(signed_in, *argv)) == {signal.SIGHUP}


def ignored(status: str) -> set[int]:
    """The signals that a process ignores, of those that Python or nohup would."""
    mask = int(next(line for line in status.splitlines() if line.startswith("SigIgn:")).split()[1], 16)
    return {number for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP) if mask >> (number - 1) & 1}


def test_exec_leaves_stdin_to_the_command(signed_in: Box) -> None:
    argv = signed_in.command("exec", "--", "cat")
    done = subprocess.run(argv, env=signed_in.environ, input="hello", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello", "")


def test_a_signal_reaches_the_command(signed_in: Box) -> None:
    ready = signed_in.root / "ready"
    script = f"trap 'exit 9' TERM; echo > {ready}; while :; do sleep 0.05; done"
    with signed_in.start("exec", "--", "sh", "-c", script) as process:
        until(ready.exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 9


def test_exec_ends_as_shells_do_when_there_is_no_such_command(signed_in: Box) -> None:
    missing = signed_in.vx("exec", "--", "no-such-command")
    assert (missing.returncode, missing.stdout) == (127, "")
    assert missing.stderr == "vx-token: command not found: 'no-such-command'\nhint: check the name and PATH\n"
    done = signed_in.vx("exec", "--", str(signed_in.config))
    assert (done.returncode, done.stdout) == (126, "")
    assert "hint: " in done.stderr


@pytest.mark.parametrize("words", [("exec",), ("exec", "--gateway")], ids=" ".join)
def test_an_empty_name_is_no_command(signed_in: Box, words: tuple[str, ...]) -> None:
    done = signed_in.vx(*words, "--", "")
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr == "vx-token: command not found: ''\nhint: check the name and PATH\n"


def test_exec_starts_nothing_without_a_token(signed_in: Box, google: Emulator) -> None:
    google.fail("token", None, kind="html")
    done = signed_in.vx("exec", "--", "touch", str(signed_in.root / "started"))
    assert (done.returncode, done.stdout) == (5, "")
    assert not (signed_in.root / "started").exists()


def test_refresh_tells_what_it_got_and_not_the_token(signed_in: Box, google: Emulator) -> None:
    said = ran(signed_in, "refresh")
    assert said in {"gemini: fresh token, 60m left\n", "gemini: fresh token, 59m left\n"}
    assert google.issued[-1].value not in said


def test_paths_lead_to_the_files(signed_in: Box) -> None:
    signed_in.refresh()
    for name in ("token", "header", "env.sh", "env.fish", "state.json", "lock"):
        assert ran(signed_in, "path", name) == f"{signed_in.runtime}/default/{name}\n"
        assert (signed_in.runtime / "default" / name).is_file()
    assert ran(signed_in, "path", "--profile", "gemini", "token") == f"{signed_in.runtime}/gemini/token\n"
    assert ran(signed_in, "path", "config") == f"{signed_in.config}\n"
    assert ran(signed_in, "path", "runtime") == f"{signed_in.runtime}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_hook_prints_one_line_that_loads_the_shipped_file(box: Box, shell: str) -> None:
    file = ran(box, "path", f"hook-{shell}").strip()
    line = ran(box, "hook", shell)
    assert (line.count("\n"), shlex.split(line)) == (1, ["builtin", "source", file])


def test_options_beat_the_environment_and_that_the_file(signed_in: Box) -> None:
    url = "https://{}-aiplatform.googleapis.com/v1/projects/{}/locations/{}/endpoints/openapi"
    signed_in.config.write_text(
        f'[profiles.gemini]\nproject = "file"\nlocation = "us-east1"\ncredentials = "{signed_in.key}"\n'
    )

    def base(*words: str) -> object:
        return json.loads(ran(signed_in, "print", "--format", "json", *words))["base_url"]

    assert base() == url.format("us-east1", "file", "us-east1")
    signed_in.environ["VX_TOKEN_PROJECT"] = "environment"
    signed_in.environ["VX_TOKEN_LOCATION"] = "us-west1"
    assert base() == url.format("us-west1", "environment", "us-west1")
    assert base("--project", "option") == url.format("us-west1", "option", "us-west1")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "command",
    [
        *("print", "print --min-ttl 1m", "print --format json", "env", "refresh", "status", "status --json", "doctor"),
        *("path config", "gateway key", "--help", "env --help", "--version", "hook bash", "completion zsh"),
    ],
)
def test_an_answer_that_cannot_be_written_is_told(signed_in: Box, command: str) -> None:
    signed_in.refresh()  # so that the quick answer is tried, too
    argv = ["/bin/sh", "-c", 'exec "$@" >/dev/full', "sh", *signed_in.command(*command.split())]
    done = subprocess.run(argv, env=signed_in.environ, cwd=signed_in.root, capture_output=True, text=True, check=False)
    first, second = done.stderr.splitlines()
    assert first == "vx-token: cannot write the output: No space left on device"
    assert second.startswith("hint: ")
    assert done.returncode == 5
    silent = [*argv[:2], 'exec "$@" >/dev/full 2>/dev/full', *argv[3:]]
    assert subprocess.run(silent, env=signed_in.environ, cwd=signed_in.root, check=False).returncode == 5


@pytest.mark.parametrize("command", ["print", "env", "status", "doctor", "--help", "--version", "hook bash"])
def test_a_reader_that_went_away_hears_no_more(signed_in: Box, command: str) -> None:
    script = '{ sleep 0.3; "$@"; echo "status $?" >&2; } | :'
    argv = ["/bin/sh", "-c", script, "sh", *signed_in.command(*command.split())]
    done = subprocess.run(argv, env=signed_in.environ, cwd=signed_in.root, capture_output=True, text=True, check=False)
    assert done.stderr == "status 141\n"


THEIRS = "\udcff ö"  # a byte that is no UTF-8
C_LOCALE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def test_a_locale_that_cannot_say_a_value_changes_nothing(box: Box, google: Emulator) -> None:
    google.service_account(box.key)
    box.profile(url=google.base_url(), model="é", export=["RAW_MODEL={model}"])
    dump = [sys.executable, "-c", "import os; print(os.environb[b'RAW_MODEL'], os.environb[b'THEIRS'])"]
    expected = f"{'é'.encode()!r} {os.fsencode(THEIRS)!r}\n"
    for locale in ({}, C_LOCALE):
        box.environ |= {**locale, "THEIRS": THEIRS}
        said = ran(box, "env")
        assert "export OPENAI_MODEL='é'\n" in said
        for words in (("exec",), ("exec", "--gateway")):
            assert ran(box, *words, "--", *dump) == expected
        ran(box, "status")
        assert "…" in ran(box, "env", "--help")


@pytest.mark.parametrize("command", ["env", "print", "refresh"])
def test_an_interrupt_is_no_traceback(signed_in: Box, google: Emulator, command: str) -> None:
    google.fail("token", None, kind="hang")
    with signed_in.start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until(lambda: google.count("token"), what="the request")
        process.send_signal(signal.SIGINT)
        said, told = process.communicate(timeout=10)
    assert (process.returncode, said) == (130, "")
    assert "Traceback" not in told


def test_a_watched_status_ends_with_an_interrupt(signed_in: Box) -> None:
    with signed_in.start("status", "--watch", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert "PROFILE" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("shell", "name"), [("bash", "vx-token.bash"), ("zsh", "_vx-token"), ("fish", "vx-token.fish")]
)
def test_completion_prints_the_shipped_file(box: Box, shell: str, name: str) -> None:
    assert box.vx("completion", shell).stdout == (REPOSITORY / "shell/completions" / name).read_text()
