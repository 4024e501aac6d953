"""What is assigned is what each real shell then has, whatever the value holds."""

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vx_token.errors import ConfigError
from vx_token.outputs import shell
from vx_token.system import shipped

PROGRAMS: Mapping[str, list[str]] = {
    "sh": ["sh", "-eu"],
    "bash": ["bash", "--norc", "--noprofile", "-eu"],
    "zsh": ["zsh", "-f", "-eu"],
    "fish": ["fish", "--no-config"],
}
NASTY = [
    "'",
    "\\",
    "\\'",
    "''",
    '"',
    "$HOME",
    "`id`",
    "$(id)",
    "~",
    "~root",
    "a:~root",
    "!!",
    "*",
    "#x",
    " x ",
    "-n",
    "é😀",
    "%s",
    "a=b",
]

printable = st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" "), min_size=1)
real = st.text("ABCabc019-._~+/", min_size=1).map(lambda token: f"ya29.{token}=")
a_few_processes = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def values_in(program: list[str], script: str, names: list[str]) -> list[str]:
    """The values that a real shell has after it has run `script`."""
    echo = "\n".join(f'printf "%s\\0" "${name}"' for name in names)
    done = subprocess.run(
        program, input=f"{script}{echo}\n".encode(), env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("kind", PROGRAMS)
@given(values=st.lists(printable, min_size=1, max_size=20))
@example(values=NASTY)
@a_few_processes
def test_a_shell_has_each_value_to_the_letter(kind: str, require: Callable[[str], str], values: list[str]) -> None:
    program = [require(PROGRAMS[kind][0]), *PROGRAMS[kind][1:]]
    variables = {f"V{number}": value for number, value in enumerate(values)}
    assert values_in(program, shell.assignments(kind, variables), list(variables)) == values


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_shells_children_have_the_value_too(kind: str, require: Callable[[str], str]) -> None:
    program = [require(PROGRAMS[kind][0]), *PROGRAMS[kind][1:]]
    script = shell.assignments(kind, {"V": "a 'b' \\c"}) + "env | grep ^V=\n"
    done = subprocess.run(program, input=script, text=True, capture_output=True, timeout=20, check=True)
    assert done.stdout == "V=a 'b' \\c\n"


@given(values=st.lists(printable, min_size=1, max_size=20))
@example(values=NASTY)
@a_few_processes
def test_a_dotenv_file_reads_the_same_in_a_shell(require: Callable[[str], str], values: list[str]) -> None:
    variables = {f"V{number}": value for number, value in enumerate(values)}
    script = shell.assignments("dotenv", variables)
    assert values_in([require("sh"), "-eu"], script, list(variables)) == values


@given(real | st.just("https://us-central1-aiplatform.googleapis.com/v1/projects/p.com:x/endpoints/openapi"))
def test_a_dotenv_file_quotes_nothing_that_is_really_exported(value: str) -> None:
    """`docker --env-file` would take the quotes for a part of the value."""
    assert shell.dotenv("V", value) == f"V={value}"


@given(st.dictionaries(st.from_regex(r"\A[A-Z_][A-Z0-9_]*\Z"), st.text()))
def test_json_reads_back_as_it_was(variables: dict[str, str]) -> None:
    assert json.loads(shell.assignments("json", variables)) == variables


@given(st.lists(printable, max_size=5))
def test_each_variable_is_one_line(values: list[str]) -> None:
    variables = {f"V{number}": value for number, value in enumerate(values)}
    for kind in shell.LINE:
        assert shell.assignments(kind, variables).count("\n") == len(values)


@pytest.mark.parametrize("kind", shipped.HOOKS)
def test_a_hook_is_loaded_by_one_line_whatever_its_path(
    kind: str, require: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "it's $HOME `id` \\ \\' * \" #"
    folder.mkdir()
    (folder / "hook").write_text("echo loaded\n")
    monkeypatch.setattr(shell, "hook_file", lambda kind: folder / "hook")
    line = shell.hook(kind)
    program = [require(PROGRAMS[kind][0]), *PROGRAMS[kind][1:]]
    load = "cat | source" if kind == "fish" else 'eval "$(cat)"'
    done = subprocess.run([*program, "-c", load], input=line, text=True, capture_output=True, check=False)
    assert (line.count("\n"), done.stdout, done.stderr) == (1, "loaded\n", "")


def test_a_file_that_does_not_ship_is_an_error_with_a_hint() -> None:
    with pytest.raises(ConfigError, match="has no shell/") as found:
        shipped.shipped("shell/vx-token.tcsh")
    assert found.value.hint


def test_the_repositorys_own_file_is_the_one_that_is_found() -> None:
    assert (
        shipped.shipped("systemd/vx-token.service") == Path(__file__).parent.parent.parent / "systemd/vx-token.service"
    )
