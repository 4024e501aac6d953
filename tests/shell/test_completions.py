"""Completions offer what the program has: every command, every option, every choice, and the profiles there are."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click
import pytest

from shells import BASHES, ROOT, Runtime, environment, interactive, need, script
from vx_token.cli.main import cli
from vx_token.install import shell_startup

FOLDER = ROOT / "shell" / "completions"
Words = Callable[[str], set[str]]


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    runtime = Runtime(tmp_path / "runtime")
    runtime.folder("gemini")
    runtime.folder("other-2")
    (runtime.root / "default").symlink_to("gemini")
    return runtime


@pytest.fixture
def environ(tmp_path: Path, runtime: Runtime) -> Mapping[str, str]:
    return environment(tmp_path, runtime)


@pytest.fixture(params=["bash", "zsh", "fish"])
def words(
    request: pytest.FixtureRequest, tmp_path: Path, runtime: Runtime, environ: Mapping[str, str]
) -> Iterator[Words]:
    """What a Tab offers after a line, in a real shell."""
    need(request.param)
    if request.param == "zsh":
        yield from zsh(tmp_path, runtime)
    else:
        yield {"bash": bash, "fish": fish}[request.param](environ)


def bash(environ: Mapping[str, str]) -> Words:
    """The last word is completed; a line that ends in a blank completes an empty one."""

    def offered(line: str) -> set[str]:
        ask = (
            f"source {FOLDER}/vx-token.bash; read -ra COMP_WORDS <<<'{line}'; "
            + ("COMP_WORDS+=(''); " if line.endswith(" ") else "")
            + "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); "
            + 'f=$(complete -p "${COMP_WORDS[0]}"); f=${f#*-F }; ${f%% *}; printf \'%s\\n\' "${COMPREPLY[@]}"'
        )
        done = script(["bash", "--norc", "-u"], ask, environ)
        assert not done.stderr
        return set(done.stdout.split())

    return offered


def fish(environ: Mapping[str, str]) -> Words:
    def offered(line: str) -> set[str]:
        done = script(["fish", "--no-config"], f"source {FOLDER}/vx-token.fish; complete -C '{line}'", environ)
        assert not done.stderr
        return {entry.split("\t")[0] for entry in done.stdout.splitlines()}

    return offered


def zsh(home: Path, runtime: Runtime) -> Iterator[Words]:
    before = f"fpath=({FOLDER} $fpath); autoload -Uz compinit; compinit -u; LISTMAX=0; unsetopt auto_menu beep"
    with interactive("zsh", home / "home", runtime, before=before, hook=False) as shell:

        def offered(line: str) -> set[str]:
            # A list is shown, a single answer is put into the line; the line is then printed by being made an argument.
            shell.child.send(f"{line}\t\t\x01print -r -- all'' shown: \x05 done\r")
            shell.child.expect(r"all shown: [^\n]* done\r\n")
            answer = str(shell.child.after)
            # A line of the list begins with a name, and its description follows `--`. An echoed line does not.
            lines = [part for part in str(shell.child.before).splitlines() if re.match(r"[a-z-]", part)]
            listed = [part.partition(" -- ")[0] for part in lines]
            shell.wait()
            return set(re.findall(r"(?:--)?[A-Za-z][\w.-]*", " ".join([*listed, answer.partition(line)[2], answer])))

        yield offered


def tree(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from tree(child, (*path, name))


COMMANDS = dict(tree(cli))


def test_the_files_are_as_their_script_generates_them() -> None:
    argv = [sys.executable, str(ROOT / "scripts" / "completions"), "--check"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_command_is_offered(words: Words) -> None:
    for path, command in COMMANDS.items():
        if wanted := set(getattr(command, "commands", {})):
            assert wanted <= words(" ".join(["vx-token", *path, ""])), path


def test_every_option_is_offered_and_no_other(words: Words) -> None:
    for path, command in COMMANDS.items():
        options = {name for each in command.params if isinstance(each, click.Option) for name in each.opts}
        options |= {name for each in command.params for name in each.secondary_opts}
        wanted = {name for name in options | {"--help"} if name.startswith("--")}
        found = {word for word in words(" ".join(["vx-token", *path, "--"])) if word.startswith("--") and word != "--"}
        assert {name.split("=")[0] for name in found} == wanted, path


def test_every_choice_is_offered(words: Words) -> None:
    for path, command in COMMANDS.items():
        for each in command.params:
            if not isinstance(each.type, click.Choice):
                continue
            option = [each.opts[0]] if isinstance(each, click.Option) else []
            found = words(" ".join(["vx-token", *path, *option, ""]))
            assert set(each.type.choices) <= found, (path, each.name)


@pytest.mark.parametrize("line", ["vx-token print --profile ", "vx-token doctor --profile ", "vx-token-use "])
def test_profiles_are_the_folders_of_the_runtime_folder(words: Words, line: str) -> None:
    assert {"default", "gemini", "other-2"} <= words(line)


KNOWN = """\
{"project": "demo"}
{"asked": "models of google", "at": 1.0}
{"endpoint": "e-111", "location": "us-central1", "name": "{\\"endpoint\\": \\"forged\\"", "models": [{"id": "no"}]}
{"endpoint": "$(touch made)", "location": "us-central1", "name": "", "models": []}
{"model": "google/listed", "stage": "GA", "serverless": true}
{"model": "meta/to-deploy", "stage": "GA", "serverless": false}
{"probed": "google/listed", "url": "https://x.example", "ok": true, "at": 1.0, "detail": ""}
{"probed": "google/works", "url": "https://x.example", "ok": true, "at": 1.0, "detail": ""}
{"probed": "google/gone", "url": "https://x.example", "ok": false, "at": 1.0, "detail": ""}
"""


@pytest.fixture
def known(tmp_path: Path) -> None:
    for home in (tmp_path, tmp_path / "home"):
        folder = home / ".local/state/vx-token/known"
        folder.mkdir(parents=True)
        for part in (folder, *list(folder.parents)[:4]):
            part.chmod(0o700)
        (folder / "gemini.jsonl").write_text(KNOWN)


@pytest.mark.parametrize(
    ("line", "offered", "withheld"),
    [
        ("vx-token endpoints use ", {"e-111", "openapi"}, {"no", "forged", "made", "google"}),
        ("vx-token print --endpoint ", {"e-111", "openapi"}, {"no", "forged", "made", "google"}),
        ("vx-token print --model google/", {"listed", "works"}, {"gone", "deploy", "e-111"}),
    ],
)
def test_ids_are_those_that_were_found(
    words: Words, known: None, tmp_path: Path, line: str, offered: set[str], withheld: set[str]
) -> None:
    found = " ".join(words(line))
    assert all(name in found for name in offered), found
    assert not any(name in found for name in withheld), found
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("program", ["bash", *BASHES])
@pytest.mark.parametrize("options", ["", "--posix"])
def test_completion_works_in_every_bash_with_any_options(
    program: str, options: str, environ: Mapping[str, str]
) -> None:
    ask = (
        f"source {FOLDER}/vx-token.bash; set -f; IFS=_v; COMP_WORDS=(vx-token prin); COMP_CWORD=1; "
        "__vx_token_complete; echo $COMPREPLY; COMP_WORDS=(vx-token print --profile gem); COMP_CWORD=3; "
        "__vx_token_complete; echo $COMPREPLY $-"
    )
    done = script([need(program), "--norc", *options.split()], ask, environ)
    assert not done.stderr
    assert re.fullmatch(r"print\ngemini \w*f\w*\n", done.stdout)


def test_without_a_profile_fish_prints_nothing(tmp_path: Path, environ: Mapping[str, str]) -> None:
    (tmp_path / "vx-token").mkdir()
    ask = f"source {FOLDER}/vx-token.fish; complete -C 'vx-token print --profile '"
    places = {"VX_TOKEN_RUNTIME_DIR": "", "XDG_RUNTIME_DIR": str(tmp_path)}
    done = script([need("fish"), "--no-config"], ask, {**environ, **places})
    assert (done.stdout, done.stderr) == ("", "")


def test_no_python_is_started(environ: Mapping[str, str]) -> None:
    """None could be: there is no PATH."""
    ask = (
        f"source {FOLDER}/vx-token.bash; COMP_WORDS=(vx-token print --profile ''); COMP_CWORD=3; __vx_token_complete; "
        "echo ${#COMPREPLY[@]}"
    )
    done = script([need("bash"), "--norc"], ask, {**environ, "PATH": "/nowhere"})
    assert (done.stdout, done.stderr) == ("3\n", "")


@pytest.mark.parametrize(("kind", "compinit"), [("bash", ""), ("fish", ""), ("zsh", "before"), ("zsh", "after")])
def test_the_lines_of_setup_load_the_completion(kind: str, compinit: str, tmp_path: Path) -> None:
    """From a path with blanks and quotes; in zsh whether compinit runs before or after them."""
    need(kind)
    folder = tmp_path / "it's a folder"
    folder.symlink_to(ROOT / "shell")
    name = "_vx-token" if kind == "zsh" else f"vx-token.{kind}"
    lines = shell_startup.lines(kind, folder / f"vx-token.{kind}", folder / "completions" / name)
    load = "autoload -Uz compinit; compinit -u\n"
    before = {"before": load + lines, "after": lines + load}.get(compinit, lines)
    (tmp_path / "vx-token").touch(mode=0o755)  # fish completes only commands that exist
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    home = tmp_path / "home"
    with interactive(kind, home, Runtime(tmp_path / "run"), before=before, hook=False, environ=environ) as shell:
        shell.child.send("vx-token pri\t")
        shell.child.expect_exact("vx-token print")


# --- what other users can do -----------------------------------------------------------------------------------------

LOAD = {
    "bash": f"source {FOLDER}/vx-token.bash",
    "zsh": f"fpath=({FOLDER} $fpath); autoload -Uz compinit; compinit -u; LISTMAX=0; unsetopt auto_menu beep",
    "fish": f"source {FOLDER}/vx-token.fish",
}
COMMAND_NAMES = ("$(touch made)", "`touch made`", "a;touch made", "a\ntouch made", "${x[$(touch made)]}", "a b")
LINES = ("vx-token print --profile ", "vx-token-use ")
fallback = pytest.mark.skipif(
    Path(f"/run/user/{os.geteuid()}").is_dir(), reason="this user has a folder in /run/user, which comes first"
)


def tab(kind: str, home: Path, environ: Mapping[str, str], before: str = "") -> str:
    """All that a terminal shows after Tab was pressed twice behind each of LINES."""
    shown = ""
    with interactive(kind, home, Runtime(home), before=before + LOAD[kind], hook=False, environ=environ) as shell:
        for line in LINES:
            shell.child.send(f"{line}\t\t")
            shell.child.expect_exact(line)
            shell.child.send("\x05 \x15\x15")  # to the end of the line, and away with it
            shell.child.sendline("echo e''nd")
            shell.child.expect(r"end[\r\n]")
            shown += str(shell.child.before)
            shell.wait()
    return shown


@pytest.fixture(params=["bash", "zsh", "fish"])
def kind(request: pytest.FixtureRequest) -> str:
    need(request.param)
    return str(request.param)


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """A folder for temporary files with a runtime folder in it, as another user could have made it."""
    folder = tmp_path / "tmp"
    runtime = Runtime(folder / f"runtime-{os.geteuid()}" / "vx-token")
    runtime.folder("gemini")
    for path in (folder, *runtime.root.parents):
        if path.is_relative_to(folder):
            path.chmod(0o700)
    folder.chmod(0o1777)
    return folder


@fallback
def test_the_name_of_a_folder_is_never_executed(kind: str, tmp_path: Path, temporary: Path) -> None:
    for name in COMMAND_NAMES:
        Runtime(temporary / f"runtime-{os.geteuid()}" / "vx-token").folder(name)
    shown = tab(kind, tmp_path / "home", {"VX_TOKEN_RUNTIME_DIR": "", "TMPDIR": str(temporary)})
    assert "gemini" in shown
    assert "touch" not in shown
    assert not list(tmp_path.rglob("made"))


def test_on_a_mac_the_runtime_folder_is_in_the_users_library(kind: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    Runtime(home / "Library/Caches/TemporaryItems/vx-token").folder("gemini")
    (tmp_path / "uname").write_text("#!/bin/sh\necho Darwin\n")
    (tmp_path / "uname").chmod(0o755)
    environ = {"VX_TOKEN_RUNTIME_DIR": "", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    system = "" if kind == "fish" else "OSTYPE=darwin23; "
    assert "gemini" in tab(kind, home, environ, system)


def give_away(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    os.chown(path, 12345, -1)


def replace_by_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


SPOILS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a foreign folder for temporary files": ("", give_away),
    "an open folder for temporary files": ("", lambda path: path.chmod(0o777)),
    "a foreign folder in it": (f"runtime-{os.geteuid()}", give_away),
    "an open folder in it": (f"runtime-{os.geteuid()}", lambda path: path.chmod(0o770)),
    "a foreign runtime folder": (f"runtime-{os.geteuid()}/vx-token", give_away),
    "an open runtime folder": (f"runtime-{os.geteuid()}/vx-token", lambda path: path.chmod(0o702)),
    "a sticky runtime folder": (f"runtime-{os.geteuid()}/vx-token", lambda path: path.chmod(0o1777)),
    "a link": (f"runtime-{os.geteuid()}/vx-token", replace_by_link),
}


@fallback
@pytest.mark.parametrize("spoil", SPOILS)
def test_no_profile_is_offered_from_a_folder_that_another_user_controls(
    kind: str, tmp_path: Path, temporary: Path, spoil: str
) -> None:
    place, make = SPOILS[spoil]
    make(temporary / place)
    shown = tab(kind, tmp_path / "home", {"VX_TOKEN_RUNTIME_DIR": "", "TMPDIR": str(temporary)})
    assert "gemini" not in shown
    assert not list(tmp_path.rglob("made"))
