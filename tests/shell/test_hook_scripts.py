"""Hooks without a terminal, the env file in plain POSIX shells, and linters."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from shells import BASHES, HOOKS, ROOT, URL, Runtime, environment, interactive, need, script
from vx_token.config import presets
from vx_token.system.safe_path import unsafe_part

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
def test_without_a_token_a_strict_script_continues_silently(
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


NAMES = ["OPENAI_API_KEY", "OPENAI_BASE_URL", "VX_TOKEN_EXPIRES_AT", "VX_TOKEN_HOOK", "VX_TOKEN_STATUS", "PS0"]


@pytest.mark.parametrize("options", ["", "--posix"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["bash", "zsh", *BASHES])
def test_a_read_only_variable_ends_no_strict_script(
    kind: str, name: str, options: str, runtime: Runtime, environ: Mapping[str, str]
) -> None:
    runtime.write("tok-1")
    hook = HOOKS["zsh" if need(kind).endswith("zsh") else "bash"]
    argv = [kind, "-f"] if kind == "zsh" else [kind, *options.split()]
    done = script([*argv, "-eu"], f"readonly {name}=mine; . {hook}; echo on", environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, "on\n", "")


def test_a_fish_without_path_can_load_the_hook(runtime: Runtime, environ: Mapping[str, str], tmp_path: Path) -> None:
    """As before 3.5, where an unknown builtin makes a whole file unreadable."""
    need("fish")
    runtime.write("tok-1")
    text = HOOKS["fish"].read_text().replace("set -l path path", "set -l path nopath")
    assert "builtin path" not in text
    (tmp_path / "old.fish").write_text(text)
    prompts = "; ".join(["__vx_token_update_prompt"] * 3)
    line = f"source {tmp_path}/old.fish; {prompts}; printenv OPENAI_API_KEY"
    done = script(QUIET["fish"], line, environ)
    assert (done.stdout, done.stderr) == ("tok-1\n", "")


@pytest.mark.parametrize("kind", HOOKS)
def test_a_child_in_another_locale_recognizes_our_values(
    kind: str, runtime: Runtime, environ: Mapping[str, str]
) -> None:
    need(kind)
    runtime.write("tok-1", extra={"OPENAI_MODEL": "mödelß"})
    child = f"env LC_ALL=C {' '.join(QUIET[kind])} -c 'source {HOOKS[kind]}; vx-token-off; env'"
    done = script(QUIET[kind], f"source {HOOKS[kind]}; {child}", environ)
    assert done.stderr == ""
    assert not [line for line in done.stdout.splitlines() if line.startswith("OPENAI_")]


# What tools read, and what shells, loaders and interpreters act on.
SET_BY_FILES = """
OPENAI_API_KEY OPENAI_API_KEYS OPENAI_BASE_URL OPENAI_API_BASE OPENAI_API_BASE_URL OPENAI_API_BASE_URLS OPENAI_MODEL
OPENAI_API_MODEL OPENAI_HOST OPENAI_BASE_PATH OPENAI_URL OPENAI_API_HOST OPENAI_AGENTS_DISABLE_TRACING AI_API_KEY
AVANTE_OPENAI_API_KEY OCO_API_KEY OCO_API_URL OCO_AI_PROVIDER OCO_MODEL GPTME_OPENAI_RESPONSES_API VX_TOKEN_EXPIRES_AT
AZURE_OPENAI_KEY LANGSMITH_API_KEY GOOGLE_CLOUD_PROJECT HTTPS_PROXY no_proxy
"""
NEVER_SET = """
MAILPATH MAIL TMOUT FUNCNEST GLIBC_TUNABLES PROMPT_COMMAND PS0 PS1 PS4 LD_PRELOAD LD_LIBRARY_PATH PATH IFS ENV BASH_ENV
DYLD_INSERT_LIBRARIES HOME SHELL PYTHONPATH PYTHONSTARTUP PYTHON_TOKEN GIT_SSH_COMMAND GIT_PROXY VX_TOKEN_PROFILE
VX_TOKEN_KEY VX_TOKEN_HOOK _KEY __vx_token_KEY FISH_KEY fish_KEY ZSH_HOST COMP_KEY MANPATH FPATH path fpath status LANG
OPENAI_CUSTOM_HEADERS API_BASE_URL OPENAI_ORG_ID OPENAI_PROJECT_ID LC_ALL TERM EDITOR PAGER TZ 9_KEY A-KEY KEY URL
"""


def names_of_all_kinds(environ: Mapping[str, str]) -> list[str]:
    """Names of tools, the shells' own variables, and each prefix and suffix of the rule with its near misses."""
    modules = "zsh/parameter zsh/datetime zsh/system zsh/terminfo zsh/mapfile zsh/zle zsh/sched zsh/watch"
    special = f"zmodload -s {modules}; print -l ${{(k)parameters[(R)*special*]}}"
    names = [*SET_BY_FILES.split(), *NEVER_SET.split()]
    names += script([need("zsh"), "-f"], special, environ).stdout.split()
    names += script(["bash", "--norc"], "compgen -v", environ).stdout.split()
    names += script([need("fish"), "--no-config"], "set -n", environ).stdout.split()
    words = [
        *re.findall(r"\w+", presets.ALLOWED),
        "_PATH",
        "_OPTIONS",
        "_COMMAND",
        "_TOKENS",
        "OPENAI",
        "HISTORY",
        "GIT",
    ]
    names += [f"{first}{second}" for first in ("", "A", "GIT_A", "LDX", "PYTHON", "NODE_A") for second in words]
    names += [f"{prefix}A_KEY" for prefix in (*presets.PREFIXES, "a", "Ld_")] + [
        "OPENAI_",
        "openai_x",
        "A_key",
        "A__KEY",
    ]
    return sorted(set(names))


@pytest.mark.parametrize("kind", HOOKS)
def test_the_hooks_accept_exactly_the_names_that_the_configuration_accepts(
    kind: str, environ: Mapping[str, str]
) -> None:
    names = names_of_all_kinds(environ)
    taken = [name for name in names if presets.exportable(name)]
    assert set(SET_BY_FILES.split()) <= set(taken)
    assert not set(NEVER_SET.split()) & set(taken)
    ask = {
        "bash": 'for n in "$@"; do __vx_token_is_allowed_name "$n" && echo "$n"; done; true',
        "zsh": 'emulate -R zsh; for n in "$@"; do __vx_token_is_allowed_name "$n" && echo "$n"; done; true',
        "fish": "for n in $argv; __vx_token_is_allowed_name $n; and echo $n; end; true",
    }[kind]
    shell = [need(kind), *QUIET[kind][1:2], "-c", f"source {HOOKS[kind]}; {ask}", *([] if kind == "fish" else ["-"])]
    done = subprocess.run([*shell, *names], env=dict(environ), capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout.split(), done.stderr) == (taken, "")


@pytest.mark.parametrize("kind", HOOKS)
def test_a_file_that_sets_a_variable_of_the_shell_is_ignored(
    kind: str, runtime: Runtime, environ: Mapping[str, str], tmp_path: Path
) -> None:
    need(kind)
    for name, value in (("MAILPATH", f"/tmp?$(touch {tmp_path}/run)"), ("TMOUT", "1"), ("FUNCNEST", "1")):
        runtime.write("tok-1", extra={name: value})
        done = script(QUIET[kind], f"source {HOOKS[kind]}; printenv OPENAI_API_KEY {name}; true", environ)
        assert (done.stdout, done.stderr) == ("", "")
    assert not (tmp_path / "run").exists()


# The documented lines of the start-up files.
LOAD = {
    "bash": 'eval "$(vx-token hook bash)"',
    "zsh": 'eval "$(vx-token hook zsh)"',
    "fish": "vx-token hook fish | source",
}


def command_on_path(folder: Path) -> str:
    """A PATH on which this checkout's vx-token is found."""
    (folder / "bin").mkdir()
    command = folder / "bin" / "vx-token"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT}/src exec {sys.executable} -P -m vx_token "$@"\n')
    command.chmod(0o755)
    return f"{folder}/bin:{os.environ['PATH']}"


@pytest.mark.parametrize("kind", HOOKS)
def test_the_hook_and_the_completion_define_no_function_of_the_same_name(kind: str) -> None:
    pattern = re.compile(
        r"^ *(?:function )?(\w+)(?: *\(\) *\{)" if kind != "fish" else r"^ *function (\S+)", re.MULTILINE
    )
    completion = COMPLETIONS / ("_vx-token" if kind == "zsh" else f"vx-token.{kind}")
    theirs = set(pattern.findall(completion.read_text()))
    assert theirs
    assert not theirs & set(pattern.findall(HOOKS[kind].read_text()))


@pytest.mark.parametrize("kind", HOOKS)
def test_a_strict_script_loads_the_hook_as_documented(
    kind: str, runtime: Runtime, environ: Mapping[str, str], tmp_path: Path
) -> None:
    need(kind)
    runtime.write("tok-1")
    path = {"PATH": command_on_path(tmp_path)}
    done = script(QUIET[kind], f"{LOAD[kind]}; printenv OPENAI_API_KEY", {**environ, **path})
    assert (done.stdout, done.stderr) == ("tok-1\n", "")


WORDS = (  # not `eval`, which is the user's own word in that line
    "alias autoload break builtin command continue declare disable echo emulate enable export false functions getopts"
    " hash integer let local mapfile print printf read readonly return set setopt shift shopt source sysread test trap"
    " true typeset unalias unset unsetopt whence zmodload zstat . : ["
)
ALIASES = "\n".join(f"alias -- '{word}=builtin echo HIJACKED'" for word in WORDS.split())
HOSTILE = {
    "bash aliases": ("bash", ALIASES.replace("alias -- ", "\\alias -- "), "\\unalias -a"),
    "zsh aliases": ("zsh", ALIASES.replace("alias -- ", "'alias' -- "), "'unalias' -m '*'"),
    "zsh global aliases": (
        "zsh",
        "\n".join(f"'alias' -g {word}='; echo HIJACKED;'" for word in ("vx", "ok", "text", "source", "add", "local")),
        "'unalias' -m '*'",
    ),
    "zsh sh_glob": ("zsh", "setopt sh_glob", "unsetopt sh_glob"),
    "zsh ksh_glob": ("zsh", "setopt ksh_glob sh_glob no_bare_glob_qual", "unsetopt sh_glob"),
    "zsh braces": ("zsh", "setopt ignore_braces ignore_close_braces", "unsetopt ignore_braces ignore_close_braces"),
    "zsh csh": ("zsh", "setopt csh_junkie_loops csh_junkie_quotes rc_quotes", "unsetopt csh_junkie_quotes"),
    "zsh sh": ("zsh", "emulate sh; setopt sh_glob ksh_arrays posix_builtins", "emulate zsh"),
    "fish functions": (
        "fish",
        "\n".join(f"function {word}; builtin echo HIJACKED; end" for word in ("printf", "math")),
        "functions -e printf math",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_the_documented_line_works_with_any_aliases_and_options_before_it(
    case: str, runtime: Runtime, tmp_path: Path
) -> None:
    kind, before, after = HOSTILE[case]
    runtime.write("tok-1")
    path = {"PATH": command_on_path(tmp_path)}
    lines = f"{before}\n{LOAD[kind]}\n"
    with interactive(kind, tmp_path / "home", runtime, hook=False, before=lines, after=after, environ=path) as shell:
        assert kind == "fish" or shell.banner == ""  # fish asks its terminal first
        assert shell.seen("OPENAI_API_KEY") == "tok-1"
        runtime.write("tok-2")
        assert "HIJACKED" not in shell.run()
        assert shell.seen("OPENAI_API_KEY") == "tok-2"
        shell.run("vx-token-off")
        assert shell.seen("OPENAI_API_KEY") is None


def test_the_hook_in_bash_env_works_for_every_script(
    runtime: Runtime, environ: Mapping[str, str], tmp_path: Path
) -> None:
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


def test_the_hook_in_zshenv_works_for_every_script(
    runtime: Runtime, environ: Mapping[str, str], tmp_path: Path
) -> None:
    need("zsh")
    runtime.write("tok-1")
    (tmp_path / ".zshenv").write_text(f"source {HOOKS['zsh']}\n")
    done = script(["zsh", "-u"], "printenv OPENAI_API_KEY", {**environ, "ZDOTDIR": str(tmp_path)})
    assert (done.stdout, done.stderr) == ("tok-1\n", "")


def test_the_hook_in_config_fish_works_for_every_script(
    runtime: Runtime, environ: Mapping[str, str], tmp_path: Path
) -> None:
    need("fish")
    runtime.write("tok-1")
    (tmp_path / ".config" / "fish").mkdir(parents=True)
    (tmp_path / ".config" / "fish" / "config.fish").write_text(f"source {HOOKS['fish']}\n")
    done = script(["fish"], "printenv OPENAI_API_KEY", environ)
    assert (done.stdout, done.stderr) == ("tok-1\n", "")


@pytest.mark.parametrize("kind", HOOKS)
def test_a_prefix_assignment_to_a_script_has_priority(
    kind: str, runtime: Runtime, environ: Mapping[str, str], tmp_path: Path
) -> None:
    """The marker that the parent's hook exports distinguishes its values from a prefix assignment."""
    need(kind)
    runtime.write("tok-1")
    (tmp_path / "script").write_text("printenv OPENAI_API_KEY")
    with_hook = f"BASH_ENV={HOOKS['bash']} bash {tmp_path}/script"
    line = f"source {HOOKS[kind]}; env {with_hook}; env OPENAI_API_KEY=mine {with_hook}"
    done = script(QUIET[kind], line, environ)
    assert (done.stdout, done.stderr) == ("tok-1\nmine\n", "")


# The folders, by name and mode, and the environment; "." is the test's own folder.
PLACES: Mapping[str, tuple[Mapping[str, int], Mapping[str, str]]] = {
    "explicit": ({"x": 0o700, "run": 0o700}, {"VX_TOKEN_RUNTIME_DIR": "./x", "XDG_RUNTIME_DIR": "./run"}),
    "xdg": ({"run": 0o700}, {"XDG_RUNTIME_DIR": "./run"}),
    "xdg that others may read": ({"run": 0o755}, {"XDG_RUNTIME_DIR": "./run"}),
    "xdg like /tmp": ({"run": 0o1777}, {"XDG_RUNTIME_DIR": "./run"}),
    "xdg that is not there": ({"tmp": 0o700}, {"XDG_RUNTIME_DIR": "./run", "TMPDIR": "./tmp"}),
    "xdg that is relative": ({"tmp": 0o700}, {"XDG_RUNTIME_DIR": "run", "TMPDIR": "./tmp"}),
    "xdg of another user": ({"theirs": 0o777, "tmp": 0o700}, {"XDG_RUNTIME_DIR": "./theirs", "TMPDIR": "./tmp"}),
    "TMPDIR": ({"tmp": 0o755}, {"TMPDIR": "./tmp"}),
    "TMPDIR that is not there": ({"tmp": 0o700}, {"TMPDIR": "./none", "TMP": "./tmp"}),
    "TEMP before TMP": ({"a": 0o700, "b": 0o700}, {"TEMP": "./a", "TMP": "./b"}),
    "nothing": ({}, {}),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_runtime_folder_is_found_as_the_program_finds_it(place: str, tmp_path: Path) -> None:
    folders, settings = PLACES[place]
    for name, mode in folders.items():
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
        if name == "theirs":
            os.chown(tmp_path / name, 65534, -1) if os.geteuid() == 0 else (tmp_path / name).rmdir()
    environ = environment(tmp_path, Runtime(tmp_path)) | {"VX_TOKEN_RUNTIME_DIR": ""}
    environ |= {name: value.replace("./", f"{tmp_path}/") for name, value in settings.items()}
    argv = [sys.executable, "-P", "-m", "vx_token", "path", "env.sh"]
    more = {"PYTHONPATH": str(ROOT / "src")}
    told = subprocess.run(argv, env=environ | more, capture_output=True, text=True, check=True).stdout
    ask = {"bash": "$__vx_token_file", "zsh": "$__vx_token[file]", "fish": "$__vx_token_file"}
    for kind in filter(shutil.which, HOOKS):
        done = script(QUIET[kind], f'source {HOOKS[kind]}; echo "{ask[kind]}"', environ)
        assert (done.stdout.replace(".fish", ".sh"), done.stderr) == (told, ""), kind


def stranger(path: Path) -> None:
    """Give a folder to another user, which only root can."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    os.chown(path, 65534, 65534)


def sticky_stranger(path: Path) -> None:
    """Give a folder to another user and make it writable by all."""
    stranger(path)
    path.chmod(0o1777)


def linked(path: Path) -> None:
    """Put a link in the place of a folder that others can write."""
    path.rename(path.with_name("elsewhere"))
    path.with_name("elsewhere").chmod(0o777)
    path.symlink_to("elsewhere")


WAYS: Mapping[str, Callable[[Path], object]] = {
    "ours": lambda path: path.chmod(0o755),
    "sticky": lambda path: path.chmod(0o1777),
    "a folder that others can write": lambda path: path.chmod(0o777),
    "a folder that the group can write": lambda path: path.chmod(0o770),
    "a link to a folder that others can write": linked,
    "another user's folder": stranger,
    "another user's sticky folder": sticky_stranger,
}


@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize("way", WAYS)
def test_a_file_is_read_only_if_no_other_user_can_replace_a_folder_on_the_way(
    kind: str, way: str, environ: Mapping[str, str], tmp_path: Path
) -> None:
    """The file is ours, but the owner of a folder on the way can put another one in its place at any time."""
    need(kind)
    (tmp_path / "way").mkdir()
    runtime = Runtime(tmp_path / "way" / "vx-token")
    runtime.write("tok-1")
    WAYS[way](tmp_path / "way")
    assert (unsafe_part(str(runtime.root))[0] == "") == (way in {"ours", "sticky"})
    told = {**environ, "VX_TOKEN_RUNTIME_DIR": str(runtime.root)}
    done = script(QUIET[kind], f"source {HOOKS[kind]}; printenv OPENAI_API_KEY; true", told)
    assert (done.stdout, done.stderr) == ("tok-1\n" if way in {"ours", "sticky"} else "", "")


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
    runtime.write("ya29.Ab-_~+/==", extra={"ODD_KEY": odd})
    done = script(POSIX[shell], f". {runtime.file()}; printenv OPENAI_API_KEY ODD_KEY", environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"ya29.Ab-_~+/==\n{odd}\n", "")


# --- structure ---------------------------------------------------------------------------------------------------


def test_the_hooks_have_the_same_functions_in_the_same_order() -> None:
    definition = re.compile(r"^(?:function __vx_token_(\w+)|__vx_token_(\w+)\(\) \{)", re.MULTILINE)
    names = {
        kind: [fish or other for fish, other in definition.findall(path.read_text())] for kind, path in HOOKS.items()
    }
    shared = set.intersection(*map(set, names.values()))
    assert len(shared) > 30
    orders = [[name for name in names[kind] if name in shared] for kind in HOOKS]
    assert orders[0] == orders[1] == orders[2]


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
