"""What zsh alone makes hard: options that change the language, and other people's hooks."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from shells import HOOKS, Runtime, Shell, interactive, notices

Start = Callable[..., AbstractContextManager[Shell]]


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path / "runtime")


@pytest.fixture
def zsh(tmp_path: Path, runtime: Runtime) -> Start:
    return partial(interactive, "zsh", tmp_path / "home", runtime)


OPTIONS = {
    "KSH_ARRAYS": "setopt ksh_arrays",
    "SH_WORD_SPLIT": "setopt sh_word_split",
    "NO_UNSET": "setopt no_unset",
    "ERR_EXIT": "setopt err_exit",
    "ERR_RETURN": "setopt err_return",
    "GLOB_SUBST": "setopt glob_subst",
    "strict": "set -euo pipefail",
    "ALL_EXPORT": "setopt all_export",
    "NO_CLOBBER": "setopt no_clobber",
    "CSH_NULL_GLOB": "setopt csh_null_glob extended_glob",
    "NO_NOMATCH": "setopt no_nomatch no_glob no_equals",
    "WARN_CREATE_GLOBAL": "setopt warn_create_global warn_nested_var",
    "RC_EXPAND_PARAM": "setopt rc_expand_param",
    "TYPESET_SILENT": "setopt no_typeset_silent posix_builtins",
    "PROMPT_SUBST": "setopt prompt_subst no_prompt_percent prompt_bang",
    "NO_MULTIBYTE": "setopt no_multibyte",
    "POSIX_IDENTIFIERS": "setopt posix_identifiers posix_strings posix_aliases",
    "KSH_OPTION_PRINT": "setopt ksh_option_print ksh_typeset ksh_glob",
    "odd IFS": "IFS=_tv",
    "vi": "bindkey -v",
    "emulate sh": "emulate sh",
    "emulate ksh": "emulate ksh",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options_that_change_the_syntax_have_no_effect(zsh: Start, runtime: Runtime, option: str) -> None:
    runtime.write("tok-1", extra={"OTHER_KEY": "a b_c*"})
    runtime.write("tok-other", folder="other")
    found = []
    for hook in (False, True):
        with zsh(hook=hook, before=OPTIONS[option]) as it:
            found.append([it.banner, it.run(), it.run("true"), it.run("! true"), it.out("set -o")])
            if hook:
                runtime.write("tok-2", extra={"OTHER_KEY": "a b_c*"})
                seen = it.environment()
                assert (seen["OPENAI_API_KEY"], seen["OTHER_KEY"]) == ("tok-2", "a b_c*")
                assert [name for name, value in seen.items() if "tok-2" in value] == ["OPENAI_API_KEY"]
                it.run("vx-token-off")
                assert it.seen("OPENAI_API_KEY") is None
                it.run("vx-token-on")
                it.run("vx-token-use other")
                assert it.seen("OPENAI_API_KEY") == "tok-other"
    assert found[0] == found[1]


def test_loading_changes_no_option_and_all_names_have_our_prefix(zsh: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    show = "{ set -o; print -l ${(ok)parameters} ${(ok)functions} ${(ok)aliases} ${(ok)builtins}; trap; }"
    found = []
    for hook in (False, True):
        with zsh(hook=hook) as it:
            it.run("true")
            found.append(set(it.out(show).splitlines()))
    added = {name for name in found[1] - found[0] if "vx" not in name.lower() and not name.startswith("OPENAI_")}
    # zsh makes the two lists when the first hook of any kind registers; sysread and zstat are builtins of zsh's own.
    assert added <= {"precmd_functions", "preexec_functions", "sysread", "zstat"}
    assert not found[0] - found[1]


def test_hostile_aliases_and_functions_are_not_called(zsh: Start, runtime: Runtime) -> None:
    words = (
        "builtin export unset local typeset setopt emulate print printf read shift return case if true eval zmodload"
    )
    aliases = "\n".join(f"alias {word}='echo HIJACKED'" for word in words.split())
    names = "export unset local typeset setopt emulate print printf read shift true eval test zmodload return continue"
    functions = "\n".join(f"function {name} {{ builtin echo HIJACKED }}" for name in names.split())
    spread = "alias -g vx='; echo HIJACKED;' ok='; echo HIJACKED;'"
    runtime.write("tok-1")
    with zsh(before=f"{functions}\n{aliases}\n{spread}", after="'unalias' -m '*'; 'unfunction' setopt") as it:
        assert "HIJACKED" not in it.banner
        runtime.write("tok-2")
        assert "HIJACKED" not in it.run()
        assert it.seen("OPENAI_API_KEY") == "tok-2"
        assert "HIJACKED" not in it.run("vx-token-off")
        assert it.seen("OPENAI_API_KEY") is None


def test_the_user_s_hooks_run_and_see_the_status(zsh: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    after = "after() { code=$? }; precmd_functions+=(after); precmd() { own=$? }; preexec() { ran=$1 }"
    with zsh(before="before() { early=$? }; precmd_functions=(before)", after=after) as it:
        it.run("(exit 7)")
        assert it.out('echo "$code $own $early"') == "7 7 7\n"
        it.run("true words")
        assert it.out("echo $ran").startswith("echo $ran")


def test_what_a_command_sets_is_kept_for_the_next_one(zsh: Start, runtime: Runtime) -> None:
    show = 'echo "$?|$pipestatus|$_|$MATCH|$match|$REPLY|$reply|$OPTIND|$-|$(umask)|$IFS"'
    setup = "umask 027; OPTIND=3; REPLY=r; reply=(a b); [[ abc =~ (b) ]]"
    found = []
    for hook in (False, True):
        with zsh(hook=hook) as it:
            it.run(setup)
            runtime.write(f"tok-{hook}")
            it.run("true | (exit 3) | (exit 4)")
            runtime.write(f"tok-{hook}-2")
            found.append(it.out(show))
    assert found[0] == found[1]
    assert found[0].startswith("4|0 3 4|")


def test_the_last_argument_survives(zsh: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    found = []
    for hook in (False, True):
        with zsh(hook=hook) as it:
            it.run("true one two")
            found.append(it.out("echo $_"))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "line",
    [
        "echo $OPENAI_API_KEY > {}",
        "printenv OPENAI_API_KEY | cat > {}",
        "(echo $OPENAI_API_KEY) > {}",
        "for i in 1; do echo $OPENAI_API_KEY; done > {}",
        "f() {{ echo $OPENAI_API_KEY }}; f > {}",
        "cat > {} <<EOF\n$OPENAI_API_KEY\nEOF",
        "echo $OPENAI_API_KEY > {} & wait",
        "echo ${{OPENAI_API_KEY}} >| {}",
    ],
)
def test_whatever_kind_of_command_comes_next_it_has_the_new_token(
    zsh: Start, runtime: Runtime, tmp_path: Path, line: str
) -> None:
    with zsh() as it:
        it.run()
        runtime.write("tok-1")
        it.run(line.format(tmp_path / "answer"))
        it.run("wait")
    assert (tmp_path / "answer").read_text() == "tok-1\n"


def test_a_read_only_key_leaves_a_usable_shell_and_prints_one_notice(zsh: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with zsh(before="readonly OPENAI_API_KEY=mine") as it:
        assert it.banner == ""
        assert notices(it.run() + it.run() + it.run("true")) == [
            "OPENAI_API_KEY is read-only in this shell, so no variable is set"
        ]
        assert it.seen("OPENAI_BASE_URL") is None
        assert it.out("echo $OPENAI_API_KEY") == "mine\n"


def test_a_trace_shows_no_token(zsh: Start, runtime: Runtime) -> None:
    runtime.write("tok-secret-1")
    runtime.write("tok-secret-3", folder="other")
    with zsh() as it:
        shown = it.run("set -x")
        runtime.write("tok-secret-2")
        shown += (
            it.run() + it.run("true") + it.run("vx-token-off") + it.run("vx-token-on") + it.run("vx-token-use other")
        )
        shown += it.run(f"source {HOOKS['zsh']}")
        assert "tok-secret" not in shown
        assert it.out("[[ -o xtrace ]] && echo on") == "on\n"


def test_nothing_is_written_while_an_instant_prompt_is_shown(zsh: Start, runtime: Runtime) -> None:
    """powerlevel10k captures output before the first prompt and prints a warning about it."""
    runtime.write("", status="login", notice="log in")
    before = (
        "exec 4>&1 1>$HOME/captured 2>&1; release() { exec 1>&4 2>&4; precmd_functions=(${precmd_functions:#release}) }"
    )
    with zsh(before=before, after="precmd_functions+=(release)") as it:
        assert (it.home / "captured").read_text() == ""
        assert notices(it.run()) == ["log in"]


def test_a_tied_or_special_parameter_is_never_set(zsh: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    for name in ("path", "fpath", "status", "psvar", "precmd_functions", "SECONDS", "histchars"):
        runtime.write("tok-2", extra={name: "/nowhere"})
        with zsh() as it:
            assert it.seen("OPENAI_API_KEY") is None, name
