"""What bash alone makes hard: PS0, PROMPT_COMMAND in all its forms, traps, and options that change the language."""

import itertools
import os
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

import pytest

from sandbox import until
from shells import BASHES, HOOKS, Runtime, Shell, interactive, need, notices, version_of

Start = Callable[..., AbstractContextManager[Shell]]


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path / "runtime")


@pytest.fixture(params=["", *BASHES], ids=lambda path: Path(path or "bash").name)
def bash(request: pytest.FixtureRequest, tmp_path: Path, runtime: Runtime) -> Start:
    return partial(interactive, "bash", tmp_path / "home", runtime, program=request.param)


@pytest.fixture
def waiting(bash: Start) -> Start:
    """Only shells that can bring variables up to date between Enter and the command."""
    program = bash.keywords["program"] or need("bash")  # type: ignore[attr-defined]
    if version_of(program) < (4, 4):
        pytest.skip("bash < 4.4 has no PS0: the prompt is the only moment")
    return bash


def arm(shell: Shell, runtime: Runtime, token: str) -> None:
    """The token arrives after the prompt, so only an update between Enter and the command can read it."""
    runtime.remove()
    shell.run()
    runtime.write(token)


@pytest.mark.parametrize(
    "line",
    [
        "echo $OPENAI_API_KEY > {}",
        "printenv OPENAI_API_KEY | cat > {}",
        "(echo $OPENAI_API_KEY) > {}",
        "{{ echo $OPENAI_API_KEY; }} > {}",
        "[[ $OPENAI_API_KEY ]] && echo $OPENAI_API_KEY > {}",
        "for i in 1; do echo $OPENAI_API_KEY; done > {}",
        "if (( 1 )); then echo $OPENAI_API_KEY; fi > {}",
        "f() {{ echo $OPENAI_API_KEY; }}; f > {}",
        "x=$(echo $OPENAI_API_KEY); echo $x > {}",
        "echo $OPENAI_API_KEY > {} & wait",
        "cat > {} <<EOF\n$OPENAI_API_KEY\nEOF",
        "case x in\nx) echo $OPENAI_API_KEY ;;\nesac > {}",
        "! echo $OPENAI_API_KEY > {}",
        "eval 'echo $OPENAI_API_KEY' > {}",
        "exec 9> {}; echo $OPENAI_API_KEY >&9; exec 9>&-",
        "time echo $OPENAI_API_KEY > {}",
    ],
)
def test_whatever_kind_of_command_comes_next_it_has_the_new_token(
    waiting: Start, runtime: Runtime, tmp_path: Path, line: str
) -> None:
    with waiting() as it:
        arm(it, runtime, "tok-1")
        it.run(line.format(tmp_path / "answer"))
        it.run("wait")
    assert (tmp_path / "answer").read_text() == "tok-1\n"


def test_what_a_command_sets_is_kept_for_the_next_one(waiting: Start, runtime: Runtime) -> None:
    show = 'echo "$?|${PIPESTATUS[*]}|$_|${BASH_REMATCH[*]}|$REPLY|${MAPFILE[*]}|$OPTIND|$!|$IFS|$-|$(umask)|$SHLVL"'
    setup = "umask 027; OPTIND=3; IFS=:_; read -r REPLY <<<r; mapfile -t <<<m; [[ abc =~ b ]]; sleep 0 & wait"
    with waiting(hook=False, after="set +m") as it:
        it.run(setup)
        it.run("true | (exit 3) | (exit 4)")
        plain = it.out(show).split("|")
    with waiting(after="set +m") as it:
        it.run(setup)
        arm(it, runtime, "tok-1")
        it.run("true | (exit 3) | (exit 4)")
        hooked = it.out(show).split("|")
    process = 7  # $!, another number each time
    assert [*plain[:process], *plain[process + 1 :]] == [*hooked[:process], *hooked[process + 1 :]]
    assert plain[:2] == ["4", "0:3:4"]


def test_the_last_argument_survives_an_update(waiting: Start, runtime: Runtime) -> None:
    with waiting() as it:
        runtime.remove()
        it.run("true one two")
        runtime.write("tok-1")
        assert it.out('echo "$_ $OPENAI_API_KEY"') == "two tok-1\n"


def test_options_traps_jobs_and_descriptors_are_as_without_the_hook(bash: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    show = "{ set +o; shopt -p; trap; jobs; alias; ls /proc/$$/fd; }"
    found = []
    for hook in (False, True):
        with bash(hook=hook) as it:
            it.run("true")
            found.append([line for line in it.out(show).splitlines() if "URG" not in line])
    assert found[0] == found[1]


PROMPT_COMMANDS = {
    "unset": "unset PROMPT_COMMAND",
    "empty": "PROMPT_COMMAND=",
    "string": "PROMPT_COMMAND='mine'",
    "semicolon": "PROMPT_COMMAND='mine;'",
    "blanks": "PROMPT_COMMAND='mine ;  '",
    "newline": "PROMPT_COMMAND=$'mine\\n'",
    "comment": "PROMPT_COMMAND='mine # and why'",
    "exported": "export PROMPT_COMMAND='mine'",
    "array": "PROMPT_COMMAND=(mine)",
    "longer array": "PROMPT_COMMAND=('mine;' true)",
    "sparse array": "unset PROMPT_COMMAND; PROMPT_COMMAND[3]=true; PROMPT_COMMAND[0]=mine",
}


@pytest.mark.parametrize("form", PROMPT_COMMANDS)
def test_every_form_of_prompt_command_works_and_sees_the_status(bash: Start, runtime: Runtime, form: str) -> None:
    runtime.write("tok-1")
    with bash(before=f'mine() {{ seen="$? ${{PIPESTATUS[*]}}"; }}\n{PROMPT_COMMANDS[form]}') as it:
        assert "vx" not in it.banner
        assert "not found" not in it.banner
        it.run("(exit 3) | (exit 7)")
        if form not in {"unset", "empty"}:
            assert it.out("echo $seen") == "7 3 7\n"
        runtime.write("tok-2")
        shown = it.run()
        assert shown == "\r\n"
        assert it.seen("OPENAI_API_KEY") == "tok-2"
        it.run("vx-token-off")
        assert "vx_token" not in it.out('printf "%s\\n" "${PROMPT_COMMAND[@]}" "$PS0"')
        it.run("true | (exit 8)")
        if form not in {"unset", "empty"}:
            assert it.out("echo $seen") == "8 0 8\n"


STATUSES = {
    "true": "0 0",
    "(exit 3) | (exit 5)": "5 3 5",
    "true | true | true": "0 0 0 0",
    "! (exit 3) | (exit 4)": "0 3 4",
    "if false; then :; fi": "0 1",
    "set -o pipefail; (exit 3) | true": "3 3 0",
    "set -e; ! true": "1 0",
    "set -u; [[ a == b ]] || ! (exit 6) | true": "1 6 0",
}


def test_the_user_s_prompt_hooks_see_the_status_of_each_part_of_a_pipeline(bash: Start, runtime: Runtime) -> None:
    """Also when the prompt found a new token, and when its DEBUG trap is called for each of our expressions."""
    record = """mine() { seen="$? ${PIPESTATUS[*]}"; }; PROMPT_COMMAND='mine'"""
    found = []
    for hook in (False, True):
        with bash(hook=hook, before=record) as it:
            for trap in ("", "trap ': \"$BASH_COMMAND\"' DEBUG; set -T; "):
                for number, line in enumerate(STATUSES):
                    runtime.write(f"tok-{number}")
                    it.run(trap + line)
                    found.append(it.out('{ echo "$seen"; set +eu +o pipefail; }').strip())
    plain, hooked = found[: len(found) // 2], found[len(found) // 2 :]
    assert hooked == plain
    assert plain[: len(STATUSES)] == [*STATUSES.values()]  # in bash 3.2 a DEBUG trap loses them even without the hook


def test_an_empty_enter_leaves_the_status_of_a_pipeline(bash: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with bash(before="PROMPT_COMMAND=:") as it:
        it.run("(exit 3) | (exit 5)")
        it.run()
        runtime.write("tok-2")
        it.run()
        assert it.out('echo "$? ${PIPESTATUS[*]}"') == "5 3 5\n"


@pytest.mark.parametrize("strict", ["", "; set -e"])
def test_with_a_read_only_ps0_the_update_at_prompts_works(waiting: Start, runtime: Runtime, strict: str) -> None:
    with waiting(before=f"readonly PS0=x{strict}") as it:
        assert it.banner == ""
        runtime.write("tok-1")
        it.run()
        assert it.seen("OPENAI_API_KEY") == "tok-1"


@pytest.mark.parametrize("strict", ["", "; set -e"])
def test_with_a_read_only_prompt_command_the_update_before_commands_works(
    waiting: Start, runtime: Runtime, strict: str
) -> None:
    with waiting(before=f"readonly PROMPT_COMMAND=true{strict}") as it:
        assert it.banner == ""
        runtime.write("tok-1")
        assert it.seen("OPENAI_API_KEY") == "tok-1"


def test_a_child_shell_with_an_inherited_prompt_command_but_no_hook_prints_no_error(
    bash: Start, runtime: Runtime
) -> None:
    runtime.write("tok-1")
    with bash(before="export PROMPT_COMMAND=true PS0=", after="export PS1 PS0 PROMPT_COMMAND") as it:
        program = bash.keywords["program"] or "bash"  # type: ignore[attr-defined]
        shown = it.run(f"{program} --norc --noprofile -u") + it.run("true") + it.run()
        assert "vx" not in shown
        assert "not found" not in shown
        assert "unbound" not in shown


OPTIONS = {
    "errexit": "set -e",
    "nounset": "set -u",
    "strict": "set -euo pipefail",
    "posix": "set -o posix",
    "noclobber": "set -o noclobber",
    "allexport": "set -a",
    "noglob": "set -f",
    "vi": "set -o vi",
    "errtrace": "set -ET; trap 'echo ERR' ERR",
    "nullglob": "shopt -s nullglob failglob nocasematch extglob dotglob",
    "odd IFS": "IFS=_tv",
    "no IFS": "IFS=",
    "no promptvars": "shopt -u promptvars",
    "no aliases": "shopt -u expand_aliases",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options_that_change_the_syntax_have_no_effect(bash: Start, runtime: Runtime, option: str) -> None:
    runtime.write("tok-1", extra={"OTHER_KEY": "a b_c*"})
    found = []
    for hook in (False, True):
        with bash(hook=hook, before=OPTIONS[option]) as it:
            found.append([it.banner, it.run(), it.run("true"), it.run("! true"), it.run("echo $-")])
            if hook:
                runtime.write("tok-2", extra={"OTHER_KEY": "a b_c*"})
                it.run()
                seen = it.environment()
    assert found[0] == found[1]
    assert (seen["OPENAI_API_KEY"], seen["OTHER_KEY"]) == ("tok-2", "a b_c*")
    assert [name for name, value in seen.items() if "tok-2" in value] == ["OPENAI_API_KEY"]


@pytest.mark.parametrize("option", ["posix", "strict", "noclobber", "odd IFS"])
def test_off_on_and_use_work_under_such_options(bash: Start, runtime: Runtime, option: str) -> None:
    runtime.write("tok-1")
    runtime.write("tok-other", folder="other")
    with bash(before=OPTIONS[option]) as it:
        it.run("vx-token-off")
        assert it.seen("OPENAI_API_KEY") is None
        it.run("vx-token-on")
        assert it.seen("OPENAI_API_KEY") == "tok-1"
        it.run("vx-token-use other")
        assert it.seen("OPENAI_API_KEY") == "tok-other"


@pytest.mark.parametrize("option", ["v", "k"])
def test_options_that_print_or_reinterpret_commands_show_no_value(bash: Start, runtime: Runtime, option: str) -> None:
    runtime.write("tok-1")
    with bash() as it:
        it.run(f"set -{option}")
        shown = it.run() + it.run("true")
        runtime.write("tok-2")
        shown += it.run() + it.run("vx-token-off") + it.run("vx-token-on") + it.run()
        assert it.out('echo "$OPENAI_API_KEY $-"').startswith("tok-2 ")
        assert option in it.out("echo $-")
    # The line in PROMPT_COMMAND is the user's as well as ours; nothing that it calls is shown.
    assert not re.search(r"vx_token_|tok-", re.sub(r"for __vx_token_turn .*done", "", shown))


@pytest.mark.parametrize("attribute", ["-i", "-u"])
def test_an_attribute_set_by_the_user_does_not_change_the_token(bash: Start, runtime: Runtime, attribute: str) -> None:
    runtime.write("tok-1")
    with bash(before=f"declare {attribute} OPENAI_API_KEY 2>&-") as it:
        assert not notices(it.run() + it.run())
        assert it.seen("OPENAI_API_KEY") == "tok-1"
        it.run("vx-token-off")
        assert not it.seen("OPENAI_API_KEY")


def test_the_hook_works_in_a_restricted_shell(bash: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with bash(flags=("-r",)) as it:
        assert "restricted" not in it.banner
        runtime.write("tok-2")
        assert "restricted" not in it.run()
        assert "tok-2" in it.run("printenv OPENAI_API_KEY")


def test_hostile_aliases_and_functions_are_not_called(bash: Start, runtime: Runtime) -> None:
    words = "export unset printf read mapfile local shopt set trap kill eval return true test declare typeset date"
    names = "export printf read mapfile shopt kill eval true test date echo cat command_not_found_handle"
    names += " local return continue break declare set unset trap command :"
    functions = "\n".join(f"{name}() {{ builtin echo HIJACKED; }}" for name in names.split())
    aliases = "\n".join(f"alias {word}='builtin echo HIJACKED'" for word in words.split())
    runtime.write("tok-1")
    with bash(before=f"{functions}\n{aliases}", after="\\unalias -a") as it:
        assert "HIJACKED" not in it.banner
        runtime.write("tok-2")
        assert "HIJACKED" not in it.run()
        assert it.seen("OPENAI_API_KEY") == "tok-2"


def test_aliases_are_not_called_at_a_prompt(bash: Start, runtime: Runtime) -> None:
    words = "builtin export unset printf read mapfile local eval declare return true test"
    runtime.write("tok-1")
    with bash(before="\n".join(f"alias {word}='builtin echo HIJACKED'" for word in words.split())) as it:
        shown = it.banner + it.run() + it.run() + it.run("shopt -u promptvars") + it.run()
        runtime.write("tok-2")
        shown += it.run() + it.run() + it.run()
        assert "HIJACKED" not in shown
        assert it.seen("OPENAI_API_KEY") == "tok-2"


def test_a_read_only_key_leaves_a_usable_shell_and_prints_one_notice(bash: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with bash(before="readonly OPENAI_API_KEY=mine") as it:
        assert it.banner == ""
        assert notices(it.run() + it.run() + it.run("true")) == [
            "OPENAI_API_KEY is read-only in this shell, so no variable is set"
        ]
        found = it.environment()
        assert "OPENAI_BASE_URL" not in found
        assert it.out("echo $OPENAI_API_KEY") == "mine\n"


def test_a_trace_shows_no_token(bash: Start, runtime: Runtime) -> None:
    runtime.write("tok-secret-1")
    runtime.write("tok-secret-3", folder="other")
    with bash() as it:
        shown = it.run("set -x")
        runtime.write("tok-secret-2")
        shown += (
            it.run() + it.run("true") + it.run("vx-token-off") + it.run("vx-token-on") + it.run("vx-token-use other")
        )
        shown += it.run(f"source {HOOKS['bash']}")
        assert "tok-secret" not in shown
        assert "x" in it.out("echo $-")


# --- living with others --------------------------------------------------------------------------------------------


def test_a_debug_trap_sees_only_the_user_s_commands(waiting: Start, runtime: Runtime) -> None:
    with waiting(after="""log=(); trap 'log+=("$BASH_COMMAND")' DEBUG""") as it:
        arm(it, runtime, "tok-1")
        it.run("log=()")
        arm(it, runtime, "tok-2")
        it.run("true first")
        shown = it.out('printf "%s\\n" "${log[@]}"').splitlines()
    entry = {"__vx_token_prompt", "__vx_token_pending", "[[ -n 1 ]]"}  # the words of the entry in PROMPT_COMMAND
    assert [line for line in shown if "vx_token" in line and not any(word in line for word in entry)] == []
    assert "true first" in shown


def test_a_debug_trap_does_not_fire_for_a_prompt_that_waited_while_nothing_changed(
    waiting: Start, runtime: Runtime
) -> None:
    runtime.write("tok-1")
    logs = []
    with waiting(after="""log=(); trap 'log+=("$BASH_COMMAND")' DEBUG""") as it:
        it.run()
        for pause in (0, 3):
            it.run("log=()")
            due = time.time() + pause
            until(lambda due=due: time.time() > due)  # type: ignore[misc]
            it.run("true first")
            logs.append(it.out('printf "%s\\n" "${log[@]}"'))
    assert logs[0] == logs[1]
    assert "true first" in logs[0]


def test_a_terminal_that_reads_the_history_at_the_first_debug_trap_gets_the_typed_command(
    waiting: Start, runtime: Runtime
) -> None:
    """As VS Code and bash-preexec do; ours is there first, with the command before as BASH_COMMAND."""
    after = """
saved=$PROMPT_COMMAND armed= first=()
theirs() { eval "$saved"; armed=1; }
PROMPT_COMMAND=theirs
seen() { [[ ! $armed || $BASH_COMMAND == theirs ]] || { armed=; first+=("$(HISTTIMEFORMAT= history 1)"); }; }
trap seen DEBUG
"""
    with waiting(after=after) as it:
        for word in ("one", "two"):
            arm(it, runtime, f"tok-{word}")
            it.run(f"true {word}")
        shown = it.out('printf "%s\\n" "${first[@]}"').split("\n")
    assert [line.split()[1:] for line in shown[:2]] == [["true", "one"], ["true", "two"]]


def test_a_debug_trap_can_veto_a_command_and_the_next_one_has_the_new_token(waiting: Start, runtime: Runtime) -> None:
    after = "shopt -s extdebug; trap '[[ $BASH_COMMAND != *forbidden* ]]' DEBUG"
    with waiting(after=after) as it:
        arm(it, runtime, "tok-1")
        assert it.out("echo forbidden") == ""
        assert it.seen("OPENAI_API_KEY") == "tok-1"


def test_the_user_s_ps0_is_shown_and_ours_is_restored_when_it_is_set_again(waiting: Start, runtime: Runtime) -> None:
    with waiting(before="PS0='[ps0]'") as it:
        assert "[ps0]" in it.run("true")
        it.run("PS0='[other $(echo sub)]'")
        arm(it, runtime, "tok-1")
        shown = it.run("echo $OPENAI_API_KEY")
        assert "[other sub]" in shown
        assert "tok-1" in shown
        it.run("vx-token-off")
        assert it.out('echo "$PS0"') == "[other $(echo sub)]\n"


def test_with_a_substitution_after_ours_in_ps0_the_update_at_prompts_works(waiting: Start, runtime: Runtime) -> None:
    """As kitty did before 0.35: a trap that runs while bash reads the substitution ends the shell or its command."""
    after = r"""
theirs() { PS0=${PS0//'\[a\]'*'\[b\]'}; PS0+='\[a\]$(echo "[theirs]")\[b\]'; }
PROMPT_COMMAND+=$'\ntheirs'
"""
    with waiting(after=after) as it:
        it.run()
        arm(it, runtime, "tok-1")
        shown = it.run("true")
        assert it.out("echo $OPENAI_API_KEY") == "tok-1\n"
    assert "[theirs]" in shown
    assert "EOF" not in shown


def test_with_a_prompt_that_is_rewritten_each_time_the_update_at_prompts_works(bash: Start, runtime: Runtime) -> None:
    """starship and VS Code keep PROMPT_COMMAND in a variable of their own and put theirs in its place."""
    after = 'saved=$PROMPT_COMMAND; theirs() { eval "$saved"; PS0=; }; PROMPT_COMMAND=theirs'
    runtime.write("tok-1")
    with bash(after=after) as it:
        runtime.write("tok-2")
        it.run()
        assert it.seen("OPENAI_API_KEY") == "tok-2"
        it.run("vx-token-off")
        runtime.write("tok-3")
        it.run()
        assert it.seen("OPENAI_API_KEY") is None


def test_ps0_is_restored_although_nothing_else_has_changed(waiting: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with waiting() as it:
        for _ in range(3):
            it.run()
        it.run("PS0='[other]'")
        assert it.out('echo "$PS0"').startswith("[other]${__vx_token_gate")
        it.run("shopt -u promptvars")
        assert it.out('echo "$PS0"') == "[other]\n"
        it.run("shopt -s promptvars")
        assert it.out('echo "$PS0"').startswith("[other]${__vx_token_gate")


def test_a_stopped_clock_keeps_no_expired_token(bash: Start, runtime: Runtime) -> None:
    clocks = ("unset EPOCHSECONDS", "unset EPOCHSECONDS; EPOCHSECONDS=0", "EPOCHSECONDS=0")
    runtime.write("tok-1")
    with ExitStack() as stack:
        cases = [
            (stack.enter_context(bash(before=strict)), clock)
            for strict, clock in itertools.product((":", "set -u"), clocks)
        ]
        runtime.write("tok-2", life=5)
        shown = ["".join(it.run(line) for line in ["", "", "", clock, ""]) for it, clock in cases]
        until(lambda: time.time() > runtime.expires() + 0.1)
        for (it, clock), before in zip(cases, shown, strict=True):
            assert "has expired" in before + it.run(), clock
            assert it.seen("OPENAI_API_KEY") is None, clock


def test_a_urg_trap_of_the_user_s_stays(bash: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with bash(before="trap 'echo urgent' URG") as it:
        assert "urgent" in it.out("trap")
        assert "urgent" in it.run("kill -URG $$")
        runtime.write("tok-2")
        it.run()
        assert it.seen("OPENAI_API_KEY") == "tok-2"


def test_a_urg_trap_that_the_user_sets_later_stays_and_ours_is_removed(waiting: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with waiting() as it:
        it.run("vx-token-off")
        assert "URG" not in it.out("trap")
        it.run("vx-token-on")
        it.run("trap 'echo urgent' URG")
        arm(it, runtime, "tok-2")
        shown = it.run("true") + it.run(f"source {HOOKS['bash']}") + it.run("vx-token-off")
        assert "\nurgent" not in shown
        assert "urgent" in it.out("trap")


def test_the_user_s_traps_run_as_without_the_hook(bash: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with bash(after="trap 'echo bye' EXIT; trap 'echo usr' USR1") as it:
        assert "usr" in it.run("kill -USR1 $$")
        it.child.sendline("exit")
        it.child.expect_exact("bye")


def test_a_shell_started_by_exec_uses_the_inherited_values(bash: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with bash(before="export OPENAI_API_KEY=${OPENAI_API_KEY-sk-user}") as it:
        assert it.seen("OPENAI_API_KEY") == "tok-1"
        runtime.write("tok-2")
        program = bash.keywords["program"] or "bash"  # type: ignore[attr-defined]
        it.run(f"exec {program} --noprofile --rcfile {it.home}/.bashrc -i")
        assert it.seen("OPENAI_API_KEY") == "tok-2"


def test_direnv_may_restore_an_old_token_or_set_its_own_key(bash: Start, runtime: Runtime, tmp_path: Path) -> None:
    direnv = need("direnv")
    runtime.write("tok-1")
    folder = tmp_path / "home" / "work"
    folder.mkdir(parents=True)
    (folder / ".envrc").write_text("export OPENAI_API_KEY=sk-project\n")
    with bash(after=f'eval "$({direnv} hook bash)"') as it:
        it.run(f"direnv allow {folder}")
        it.run(f"cd {folder}")
        it.run()
        found = it.environment()
        assert found["OPENAI_API_KEY"] == "sk-project"
        assert "OPENAI_BASE_URL" not in found
        runtime.write("tok-2")
        it.run("cd /")
        it.run()
        it.run()
        found = it.environment()
        assert found["OPENAI_API_KEY"] == "tok-2"
        assert "OPENAI_BASE_URL" in found


# The real one, which no registry has: VX_TOKEN_BASH_PREEXEC=/path/to/bash-preexec.sh; without it, its technique.
PREEXEC = [path for path in [os.environ.get("VX_TOKEN_BASH_PREEXEC")] if path] or ["imitated"]
IMITATION = r"""
__ready=
__invoke() {
    [[ $__ready ]] || return 0
    __ready=
    preexec "$(HISTTIMEFORMAT= builtin history 1 | sed 's/^ *[0-9]* *//')"
}
__prompted() { local status=$?; (exit $status); precmd; __ready=1; return $status; }
PROMPT_COMMAND="__prompted${PROMPT_COMMAND:+;$PROMPT_COMMAND}"
trap '[[ $BASH_COMMAND == __prompted* ]] || __invoke' DEBUG
"""


@pytest.mark.parametrize("path", PREEXEC)
def test_bash_preexec_and_the_hook_work_together(waiting: Start, runtime: Runtime, tmp_path: Path, path: str) -> None:
    if path == "imitated":
        path = str(tmp_path / "preexec.sh")
        Path(path).write_text(IMITATION)
    after = f'source {path}\npreexec() {{ ran+=("$1"); }}\nprecmd() {{ codes+=($?); }}'
    with waiting(after=after) as it:
        arm(it, runtime, "tok-1")
        assert it.out("echo $OPENAI_API_KEY") == "tok-1\n"
        it.run("sh -c 'exit 9'")
        assert "9" in it.out('echo "${codes[@]}"').split()
        shown = it.out('printf "%s\\n" "${ran[@]}"')
        assert "vx_token" not in shown
        assert shown.count("exit 9") == 1
