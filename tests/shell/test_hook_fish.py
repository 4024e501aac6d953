"""What fish alone makes hard: universal variables, key bindings, private mode, functions over builtins."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from sandbox import until
from shells import HOOKS, Runtime, Shell, interactive

Start = Callable[..., AbstractContextManager[Shell]]


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path / "runtime")


@pytest.fixture
def fish(tmp_path: Path, runtime: Runtime) -> Start:
    return partial(interactive, "fish", tmp_path / "home", runtime)


def test_a_universal_variable_is_hidden_until_off(fish: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with fish(before="set -Ux OPENAI_API_KEY sk-universal") as it:
        assert it.seen("OPENAI_API_KEY") == "tok-1"
        runtime.write("tok-2")
        it.run()
        assert it.seen("OPENAI_API_KEY") == "tok-2"
        assert it.out("set -U | string match -r 'tok-|vx_token'") == ""
        it.run("vx-token-off")
        assert it.seen("OPENAI_API_KEY") == "sk-universal"


def test_a_variable_made_universal_in_this_shell_does_not_remove_ours(fish: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with fish() as it:
        it.run("set -Ux OPENAI_API_KEY sk-universal")
        runtime.write("tok-2")
        it.run()
        assert it.seen("OPENAI_API_KEY") == "tok-2"


@pytest.mark.parametrize(
    "setting",
    [
        "fish_vi_key_bindings",
        "set -g fish_greeting hello",
        "set -g fish_trace",
        "set -g IFS",
        "set -g status_color red",
        "function fish_mode_prompt; end",
        "set -gx PATH /usr/bin",
    ],
)
def test_the_user_s_settings_have_no_effect(fish: Start, runtime: Runtime, setting: str) -> None:
    runtime.write("tok-1")
    with fish(before=setting) as it:
        runtime.write("tok-2")
        it.run()
        assert it.seen("OPENAI_API_KEY") == "tok-2"
        assert "vx_token" not in it.out("set -gx")


@pytest.mark.parametrize("flags", [("--private",), ("--login",), ("--features=no-stderr-nocaret",)])
def test_start_options_have_no_effect(fish: Start, runtime: Runtime, flags: tuple[str, ...]) -> None:
    runtime.write("tok-1")
    with fish(flags=flags) as it:
        runtime.write("tok-2")
        it.run()
        assert it.seen("OPENAI_API_KEY") == "tok-2"


def test_functions_that_shadow_builtins_are_not_called(fish: Start, runtime: Runtime) -> None:
    # Not echo: fish's own functions call it.
    names = "printf math contains count path emit random true false isatty seq date cat"
    functions = "\n".join(f"function {name}; builtin echo HIJACKED; end" for name in names.split())
    runtime.write("tok-1")
    with fish(before=functions, after="functions -e printf math count contains") as it:
        assert "HIJACKED" not in it.banner
        runtime.write("tok-2")
        shown = it.run("vx-token-off") + it.run("vx-token-on") + it.run()
        assert "HIJACKED" not in shown
        assert it.seen("OPENAI_API_KEY") == "tok-2"
        runtime.write("", status="login", notice="log in")
        shown = it.run() + it.run("vx-token-use none")
        assert "HIJACKED" not in shown
        assert "vx-token: log in" in shown


def test_what_a_command_sets_is_kept_for_the_next_one(fish: Start, runtime: Runtime) -> None:
    found = []
    for hook in (False, True):
        with fish(hook=hook) as it:
            it.run("umask 027")
            runtime.write(f"tok-{hook}")
            it.run("true | sh -c 'exit 3' | sh -c 'exit 4'")
            runtime.write(f"tok-{hook}-2")
            found.append(it.out('echo "$status|$pipestatus|$umask"'))
    assert found[0] == found[1]
    assert found[0].startswith("4|0 3 4|")


def test_a_trace_shows_no_token(fish: Start, runtime: Runtime) -> None:
    runtime.write("tok-secret-1")
    runtime.write("tok-secret-3", folder="other")
    with fish() as it:
        shown = it.run("set -g fish_trace 1")
        runtime.write("tok-secret-2")
        shown += (
            it.run() + it.run("true") + it.run("vx-token-off") + it.run("vx-token-on") + it.run("vx-token-use other")
        )
        assert "tok-secret" not in shown


def test_all_names_have_our_prefix_and_none_is_exported(fish: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    found = []
    for hook in (False, True):
        with fish(hook=hook) as it:
            found.append(set(it.out("begin; set -n; functions -na; end").split()))
    added = {name for name in found[1] - found[0] if "vx" not in name.lower() and not name.startswith("OPENAI_")}
    assert not added
    assert not found[0] - found[1]


def test_without_proc_a_prompt_runs_no_update_and_a_token_expires_in_time(
    fish: Start, runtime: Runtime, tmp_path: Path
) -> None:
    """As on macOS, where the age of the root folder is the only clock."""
    hook = tmp_path / "hook.fish"
    hook.write_text(HOOKS["fish"].read_text().replace("/proc/uptime", "/nowhere"))
    runtime.write("tok-1")
    with fish(hook=False, before=f"source {hook}") as it:
        runtime.write("tok-2", life=8)
        expires = runtime.expires()
        for _ in range(3):
            it.run()
        it.run("functions -c __vx_token_update_variables original")
        it.run("function __vx_token_update_variables; builtin echo UPDATED; end")
        assert "UPDATED" not in it.run()
        it.run("functions -e __vx_token_update_variables; functions -c original __vx_token_update_variables")
        until(lambda: time.time() > expires + 0.1, seconds=20)
        assert "has expired" in it.run()
        assert it.seen("OPENAI_API_KEY") is None


@pytest.mark.parametrize(
    "line",
    [
        "echo $OPENAI_API_KEY > {}",
        "printenv OPENAI_API_KEY | cat > {}",
        "begin; echo $OPENAI_API_KEY; end > {}",
        "for i in 1; echo $OPENAI_API_KEY; end > {}",
        "echo (echo $OPENAI_API_KEY) > {}",
        "sh -c 'printenv OPENAI_API_KEY > {}' & wait",
    ],
)
def test_whatever_kind_of_command_comes_next_it_has_the_new_token(
    fish: Start, runtime: Runtime, tmp_path: Path, line: str
) -> None:
    with fish() as it:
        it.run()
        runtime.write("tok-1")
        it.run(line.format(tmp_path / "answer"))
    assert (tmp_path / "answer").read_text() == "tok-1\n"
