"""Hooks without a terminal, the snippet in plain POSIX shells, and what linters say."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from shells import HOOKS, ROOT, URL, Runtime, environment, need, script

COMPLETIONS = ROOT / "shell" / "completions"
QUIET = {
    "bash": ["bash", "--noprofile", "--norc", "-euo", "pipefail"],
    "zsh": ["zsh", "-f", "-euo", "pipefail"],
    "fish": ["fish", "--no-config"],
}
POSIX = {
    "sh": ["sh", "-eu"],
    "dash": ["dash", "-eu"],
    "ash": ["busybox", "ash", "-eu"],
    "mksh": ["mksh", "-eu"],
    "ksh": ["ksh", "-eu"],
    "bash": ["bash", "--posix", "-eu"],
    "zsh": ["zsh", "--emulate", "sh", "-eu"],
}


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path / "runtime")


@pytest.fixture
def environ(tmp_path: Path, runtime: Runtime) -> Mapping[str, str]:
    return environment(tmp_path, runtime)


@pytest.mark.parametrize("kind", HOOKS)
def test_a_strict_script_gets_the_variables_and_nothing_else(
    kind: str, runtime: Runtime, environ: Mapping[str, str]
) -> None:
    need(kind)
    runtime.write("tok-1")
    show = {
        "bash": 'trap; echo "${PROMPT_COMMAND-}${PS0-}"',
        "zsh": 'trap; echo "${precmd_functions-}${preexec_functions-}"',
        "fish": "functions --handlers | string match '*vx_token*'; echo",
    }[kind]
    done = script(QUIET[kind], f"source {HOOKS[kind]}; printenv OPENAI_API_KEY OPENAI_BASE_URL\n{show}", environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"tok-1\n{URL}\n\n", "")


@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize("state", ["missing", "login", "bad", "dead"])
def test_without_a_token_a_strict_script_goes_on_in_silence(
    kind: str, state: str, runtime: Runtime, environ: Mapping[str, str]
) -> None:
    need(kind)
    if state == "login":
        runtime.write("", status="login", notice="log in")
    elif state == "bad":
        runtime.put("rm -rf /\n")
    elif state == "dead":
        runtime.write("tok-1", life=-1)
    done = script(QUIET[kind], f"source {HOOKS[kind]}; echo on; printenv OPENAI_API_KEY; true", environ)
    assert (done.stdout, done.stderr) == ("on\n", "")


@pytest.mark.parametrize("kind", HOOKS)
def test_the_hook_loads_by_eval(kind: str, runtime: Runtime, environ: Mapping[str, str]) -> None:
    need(kind)
    runtime.write("tok-1")
    load = f"cat {HOOKS[kind]} | source" if kind == "fish" else f'eval "$(cat {HOOKS[kind]})"'
    done = script(QUIET[kind], f"{load}; printenv OPENAI_API_KEY", environ)
    assert (done.stdout, done.stderr) == ("tok-1\n", "")


def test_bash_env_serves_every_script(runtime: Runtime, environ: Mapping[str, str], tmp_path: Path) -> None:
    runtime.write("tok-1")
    (tmp_path / "script").write_text("set -u\nprintenv OPENAI_API_KEY; echo $OPENAI_API_BASE >&2")
    for argv in (["bash"], ["bash", "-r"], ["bash", "-e"]):
        done = subprocess.run(
            [*argv, str(tmp_path / "script")],
            env={**environ, "BASH_ENV": str(HOOKS["bash"])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "tok-1\n", f"{URL}\n")


def test_zshenv_serves_every_script(runtime: Runtime, environ: Mapping[str, str], tmp_path: Path) -> None:
    need("zsh")
    runtime.write("tok-1")
    (tmp_path / ".zshenv").write_text(f"source {HOOKS['zsh']}\n")
    done = script(["zsh", "-u"], "printenv OPENAI_API_KEY", {**environ, "ZDOTDIR": str(tmp_path)})
    assert (done.stdout, done.stderr) == ("tok-1\n", "")


def test_a_fish_script_is_served_by_its_configuration(
    runtime: Runtime, environ: Mapping[str, str], tmp_path: Path
) -> None:
    need("fish")
    runtime.write("tok-1")
    (tmp_path / ".config" / "fish").mkdir(parents=True)
    (tmp_path / ".config" / "fish" / "config.fish").write_text(f"source {HOOKS['fish']}\n")
    done = script(["fish"], "printenv OPENAI_API_KEY", environ)
    assert (done.stdout, done.stderr) == ("tok-1\n", "")


@pytest.mark.parametrize("kind", HOOKS)
def test_a_token_given_to_a_script_of_a_shell_with_the_hook_wins(
    kind: str, runtime: Runtime, environ: Mapping[str, str], tmp_path: Path
) -> None:
    """The variables that the parent's hook exports tell its values from one that was put in front of the command."""
    need(kind)
    runtime.write("tok-1")
    (tmp_path / "script").write_text("printenv OPENAI_API_KEY")
    with_hook = f"BASH_ENV={HOOKS['bash']} bash {tmp_path}/script"
    line = f"source {HOOKS[kind]}; env {with_hook}; env OPENAI_API_KEY=mine {with_hook}"
    done = script(QUIET[kind], line, environ)
    assert (done.stdout, done.stderr) == ("tok-1\nmine\n", "")


# Where this user has a folder in /run/user, that comes before the one in tmp.
PLACES = ["explicit", "xdg", *(["tmp"] if not Path(f"/run/user/{os.geteuid()}").is_dir() else [])]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", HOOKS)
def test_the_runtime_folder_is_found_as_the_program_finds_it(kind: str, place: str, tmp_path: Path) -> None:
    need(kind)
    roots = {
        "explicit": tmp_path / "x",
        "xdg": tmp_path / "vx-token",
        "tmp": tmp_path / f"runtime-{os.geteuid()}/vx-token",
    }
    runtime = Runtime(roots[place])
    runtime.write("tok-1")
    tmp_path.chmod(0o700)
    environ = {k: v for k, v in environment(tmp_path, runtime).items() if k != "VX_TOKEN_RUNTIME_DIR"}
    environ |= {
        "explicit": {"VX_TOKEN_RUNTIME_DIR": str(tmp_path / "x"), "XDG_RUNTIME_DIR": "/nowhere"},
        "xdg": {"XDG_RUNTIME_DIR": str(tmp_path)},
        "tmp": {"TMPDIR": str(tmp_path)},
    }[place]
    done = script(QUIET[kind], f"source {HOOKS[kind]}; printenv OPENAI_API_KEY", environ)
    assert (done.stdout, done.stderr) == ("tok-1\n", "")


@pytest.mark.parametrize("kind", HOOKS)
def test_a_profile_of_the_environment_is_the_one_that_is_read(
    kind: str, runtime: Runtime, environ: Mapping[str, str]
) -> None:
    need(kind)
    runtime.write("tok-1")
    runtime.write("tok-other", folder="other")
    done = script(
        QUIET[kind], f"source {HOOKS[kind]}; printenv OPENAI_API_KEY", {**environ, "VX_TOKEN_PROFILE": "other"}
    )
    assert done.stdout == "tok-other\n"


@pytest.mark.parametrize("shell", POSIX)
def test_the_snippet_is_posix_sh(shell: str, runtime: Runtime, environ: Mapping[str, str]) -> None:
    need(POSIX[shell][0])
    odd = 'a $b `c` "d" e\\f %s * ~ #! (x) {y} [z] <&> | ; ü'
    runtime.write("ya29.Ab-_~+/==", extra={"ODD": odd})
    done = script(POSIX[shell], f". {runtime.file()}; printenv OPENAI_API_KEY ODD", environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"ya29.Ab-_~+/==\n{odd}\n", "")


# --- linters -------------------------------------------------------------------------------------------------------


def clean(*argv: str) -> None:
    need(argv[0])
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_shellcheck_finds_nothing() -> None:
    checks = "add-default-case,avoid-nullary-conditions,check-unassigned-uppercase,deprecate-which,quote-safe-variables"
    clean(
        "shellcheck", "-o", checks, "-e", "SC2248,SC2244,SC2249", str(HOOKS["bash"]), str(COMPLETIONS / "vx-token.bash")
    )


def test_the_bash_files_are_formatted() -> None:
    clean("shfmt", "-i", "2", "-ci", "-d", str(HOOKS["bash"]), str(COMPLETIONS / "vx-token.bash"))


def test_zsh_parses_its_files() -> None:
    clean("zsh", "-f", "-n", str(HOOKS["zsh"]))
    clean("zsh", "-f", "-n", str(COMPLETIONS / "_vx-token"))


def test_zsh_compiles_its_hook(tmp_path: Path) -> None:
    clean("zsh", "-f", "-c", f"zcompile -R {tmp_path}/out {HOOKS['zsh']}")


def test_fish_parses_its_files_and_finds_them_indented() -> None:
    for path in (HOOKS["fish"], COMPLETIONS / "vx-token.fish"):
        clean("fish", "--no-execute", str(path))
        clean("fish_indent", "--check", str(path))
