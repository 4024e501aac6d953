"""Behaviour that all hooks share, in real interactive bash, zsh and fish."""

import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sandbox import Box, until
from shells import (
    BASHES,
    HOOKS,
    URL,
    Runtime,
    Shell,
    interactive,
    need,
    notices,
    rotating,
    snippet,
    version_of,
)
from vx_token.emulator import Emulator

LIFE = 5.0  # seconds that a token of the emulator's lives: a busy machine needs some to get the next
Start = Callable[..., AbstractContextManager[Shell]]
SHELLS = [*((kind, "") for kind in HOOKS), *(("bash", path) for path in BASHES)]
COMPANIONS = ("OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_BASE_URL")
NAMES = ("OPENAI_API_KEY", *COMPANIONS, "OPENAI_AGENTS_DISABLE_TRACING", "VX_TOKEN_EXPIRES_AT")


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """A runtime folder in memory, as a user's is, because a busy disk would delay short-lived tokens."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Runtime(Path(folder) / "runtime")


@pytest.fixture(params=SHELLS, ids=lambda shell: Path(shell[1] or shell[0]).name)
def shell(request: pytest.FixtureRequest, tmp_path: Path, runtime: Runtime) -> Start:
    kind, program = request.param
    return partial(interactive, kind, tmp_path / "home", runtime, program=program)


def kind_of(shell: Start) -> str:
    return str(shell.args[0])  # type: ignore[attr-defined]


def need_updates_before_commands(shell: Start) -> None:
    program = shell.keywords["program"]  # type: ignore[attr-defined]
    if program and version_of(program) < (4, 4):
        pytest.skip("bash < 4.4 has no PS0: the prompt is the only moment")


def assign(kind: str, name: str, value: str) -> str:
    return f"set -gx {name} {value}" if kind == "fish" else f"export {name}={value}"


def unassign(kind: str, name: str) -> str:
    return f"set -eg {name}" if kind == "fish" else f"unset {name}"


def ours(environ: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name in NAMES}


def wait_until_past(expiry: float) -> None:
    """Wait until `expiry` has passed for shells too, whose clock may lag by a tick."""
    until(lambda: time.time() > expiry + 0.05)


# --- loading -------------------------------------------------------------------------------------------------------


def test_a_command_gets_the_token_and_the_related_variables(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-1", extra={"OPENAI_MODEL": "google/gemini-2.5-flash", "OTHER_KEY": 'a $b `c` "d" e\\f %s *'})
    with shell() as it:
        found = it.environment()
    assert found["OPENAI_API_KEY"] == "tok-1"
    assert {found[name] for name in COMPANIONS} == {URL}
    assert found["OPENAI_MODEL"] == "google/gemini-2.5-flash"
    assert found["OTHER_KEY"] == 'a $b `c` "d" e\\f %s *'
    assert found["VX_TOKEN_STATUS"] in {"gemini 59m", "gemini 60m"}


def test_the_terminal_shows_the_same_bytes_with_and_without_the_hook(shell: Start, runtime: Runtime) -> None:
    runtime.write()
    shown = []
    for hook in (False, True):
        with shell(hook=hook) as it:
            shown.append([it.banner, it.run(), it.run(), it.run("true"), it.run()])
    assert shown[0] == shown[1]


def test_loading_repeatedly_registers_once(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    load = f"source {HOOKS[kind_of(shell)]}\n"
    count = {
        "bash": 'printf \'%s\\n\' "${PROMPT_COMMAND[@]}" "$PS0" | grep -c vx_token',
        "zsh": "print -l $precmd_functions $preexec_functions | grep -c vx_token",
        "fish": "functions --handlers | grep -c vx_token",
    }[kind_of(shell)]
    with shell() as it:
        once = it.out(count)
    with shell(after=load * 2) as it:
        assert it.out(count) == once
        assert it.banner == "" or "vx" not in it.banner
        it.run(load.strip())
        assert it.seen("OPENAI_API_KEY") == "tok-1"
        assert it.out(count) == once


def test_the_longest_token_and_many_variables_arrive_complete(shell: Start, runtime: Runtime) -> None:
    token = "ya29." + "Ab-_~+/." * 2040 + "=="
    runtime.write(token, extra={f"EXTRA_{number}_KEY": "x" for number in range(100)})
    with shell() as it:
        found = it.environment()
        assert (found["OPENAI_API_KEY"], found["EXTRA_99_KEY"]) == (token, "x")


# --- freshness -----------------------------------------------------------------------------------------------------


def test_the_next_prompt_has_the_new_token(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with shell() as it:
        for number in range(2, 6):
            runtime.write(f"tok-{number}")
            it.run()
            assert it.seen("OPENAI_API_KEY") == f"tok-{number}"


@contextmanager
def vertex() -> Iterator[str]:
    """A server that answers 200 to a bearer of `rotating` that lives, and 401 with what was wrong to any other."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            bearer = self.headers.get("Authorization", "none")
            end = bearer.rpartition("-")[2]
            late = time.time() - int(end) / 1000 if end.isdigit() else 0
            self.send_response(200 if end.isdigit() and late < 0 else 401)
            self.end_headers()
            if not end.isdigit() or late >= 0:
                self.wfile.write(f" {late:.3f} s late: {bearer}".encode())

        def log_message(self, *args: object) -> None:
            """Prints nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("rounds", "beside"), [(1, 1), pytest.param(10, 10, marks=pytest.mark.slow)])
def test_after_two_idle_token_lifetimes_the_next_command_gets_a_200(
    shell: Start, runtime: Runtime, rounds: int, beside: int
) -> None:
    need("curl")
    need_updates_before_commands(shell)
    ask = "curl -s -w '%{http_code}\\n' -H \"Authorization: Bearer $OPENAI_API_KEY\""
    with vertex() as url, rotating(runtime), several(shell, beside) as shells:
        # The prompts were drawn more than two lifetimes of their token ago.
        answers = [answer for _ in range(rounds) for answer in after_idling(shells, 4.2, f"{ask} {url}")]
    assert answers == ["200\n"] * rounds * beside


@pytest.mark.parametrize(("rounds", "beside"), [(1, 1), pytest.param(4, 5, marks=pytest.mark.slow)])
def test_after_the_daemon_refreshed_the_token_the_next_command_gets_a_200(
    shell: Start, tmp_path: Path, google: Emulator, rounds: int, beside: int
) -> None:
    """The same with the real daemon and the emulator's Google."""
    need_updates_before_commands(shell)
    google.lifetime = LIFE
    (tmp_path / "user").mkdir()
    user = Box(tmp_path / "user")
    google.service_account(user.key)
    user.profile(url=google.base_url())
    ask = "curl -s -o /dev/null -w '%{http_code}\\n' $OPENAI_BASE_URL/chat/completions"
    ask += """ -H "Authorization: Bearer $OPENAI_API_KEY" -H 'Content-Type: application/json'"""
    ask += """ -d '{"model": "google/gemini-2.5-flash", "messages": [{"role": "user", "content": "hello"}]}'"""
    served = partial(shell, environ={"VX_TOKEN_RUNTIME_DIR": str(user.runtime)})
    with user.daemon(), several(served, beside) as shells:
        until(lambda: user.read("token", "default"), 60)
        answers = [answer for _ in range(rounds) for answer in after_idling(shells, 2 * LIFE + 0.2, ask)]
    assert answers == ["200\n"] * rounds * beside


@contextmanager
def several(shell: Start, count: int) -> Iterator[list[Shell]]:
    """So many of the shell, because one that waits leaves the processor to others."""
    with ExitStack() as stack:
        yield [stack.enter_context(shell()) for _ in range(count)]


def after_idling(shells: list[Shell], seconds: float, line: str) -> list[str]:
    """Draw all prompts, wait, and return what the line writes in each shell."""
    for each in shells:
        each.run()
    drawn = time.monotonic()
    until(lambda: time.monotonic() - drawn > seconds, seconds + 10)
    return [each.out(line) for each in shells]


def short_lived_token(shell: Shell, runtime: Runtime) -> float:
    """Give the shell a token of few seconds, more on a slow machine, and return the second in which it expires."""
    for life in (4, 8, 16, 32):
        runtime.write("short-lived", life=life)
        shell.run()
        found = shell.seen("OPENAI_API_KEY")
        if time.time() < runtime.expires() - 2:
            assert found == "short-lived"
            return runtime.expires()
    pytest.fail("the machine is too slow")


def test_a_command_never_gets_an_expired_token(shell: Start, runtime: Runtime) -> None:
    need_updates_before_commands(shell)
    runtime.write()
    with shell() as it:
        expiry = short_lived_token(it, runtime)
        it.run()
        wait_until_past(expiry)
        assert not ours(it.environment())


def test_a_file_replaced_as_fast_as_possible_is_never_seen_in_part(shell: Start, runtime: Runtime) -> None:
    with rotating(runtime, life=3600, pause=0), shell() as it:
        for _ in range(20):
            found = it.environment()
            assert re.fullmatch(r"tok-\d+-\d+", found["OPENAI_API_KEY"])
            assert set(ours(found)) == set(NAMES)


# --- trouble with the file -----------------------------------------------------------------------------------------


def test_a_file_that_appears_later_is_used_silently(shell: Start, runtime: Runtime) -> None:
    with shell() as it:
        found = it.environment()
        assert not ours(found)
        assert found["VX_TOKEN_HOOK"], "doctor detects the hook by this variable"
        assert not notices(it.run())
        runtime.write("tok-1")
        assert not notices(it.run() + it.run())
        assert it.seen("OPENAI_API_KEY") == "tok-1"


def test_when_the_file_is_removed_the_variables_are_unset_with_one_notice(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with shell() as it:
        it.run()
        runtime.remove()
        assert len(notices(it.run())) == 1
        assert not ours(it.environment())
        assert not notices(it.run() + it.run())
        runtime.write("tok-2")
        assert not notices(it.run() + it.run())
        assert it.seen("OPENAI_API_KEY") == "tok-2"


def test_an_expired_token_gives_one_notice(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with shell() as it:
        runtime.write("tok-2", life=2)
        shown = it.run()
        wait_until_past(runtime.expires())
        assert notices(shown + it.run() + it.run() + it.run()) == [
            "the token of gemini has expired; run: vx-token status"
        ]
        assert it.seen("VX_TOKEN_STATUS") == "gemini expired"


def test_each_required_login_gives_one_notice(shell: Start, runtime: Runtime) -> None:
    words = "Google wants you to log in again; run: gcloud auth application-default login"
    runtime.write("tok-1")
    with shell() as it:
        it.run()
        for _ in range(2):
            runtime.write("", status="login", notice=words)
            assert notices(it.run() + it.run() + it.run()) == [words]
            assert it.seen("VX_TOKEN_STATUS") == "gemini login"
            assert it.seen("OPENAI_API_KEY") is None
            runtime.write("tok-2")
            assert notices(it.run() + it.run()) == []
            assert it.seen("OPENAI_API_KEY") == "tok-2"


def test_a_valid_token_is_used_while_a_login_is_required(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-1", status="login", notice="log in")
    with shell() as it:
        assert notices(it.run()) == ["log in"]
        assert it.seen("OPENAI_API_KEY") == "tok-1"


def test_nothing_is_printed_before_the_first_prompt(shell: Start, runtime: Runtime) -> None:
    runtime.write("", status="login", notice="log in")
    with shell() as it:
        assert not notices(it.banner)
        assert notices(it.run()) == ["log in"]


def test_a_failed_refresh_is_silent_while_the_token_is_valid(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with shell() as it:
        it.run()
        runtime.write("tok-1", status="retrying")
        assert not notices(it.run() + it.run())
        assert it.seen("OPENAI_API_KEY") == "tok-1"


GOOD = snippet("tok-new")
BAD = {
    "empty": "",
    "only the first line": GOOD.splitlines(keepends=True)[0],
    "no end mark": GOOD.replace("# end\n", ""),
    "cut in the token": GOOD[: GOOD.index("tok-new") + 5],
    "cut in the end mark": GOOD[:-3],
    "more after the end": GOOD + "export OPENAI_API_KEY='x'\n",
    "a command": GOOD.replace("# end", "touch CANARY\n# end"),
    "a command after an export": GOOD.replace("'tok-new'", "'tok-new'; touch CANARY"),
    "a command in double quotes": GOOD.replace("'tok-new'", '"$(touch CANARY)"'),
    "a quote that closes early": GOOD.replace("'tok-new'", "'tok'$(touch CANARY)'new'"),
    "no quotes": GOOD.replace("'tok-new'", "tok-new"),
    "an empty value": GOOD.replace("'tok-new'", "''"),
    "a control character": GOOD.replace("tok-new", "tok\x1b[2Jnew"),
    "a carriage return": GOOD.replace("\n", "\r\n"),
    "a name twice": GOOD.replace("# end", "export OPENAI_API_KEY='other'\n# end"),
    "PATH": GOOD.replace("# end", "export PATH='/nowhere'\n# end"),
    "LD_PRELOAD": GOOD.replace("# end", "export LD_PRELOAD='/nowhere'\n# end"),
    "PROMPT_COMMAND": GOOD.replace("# end", "export PROMPT_COMMAND='touch CANARY'\n# end"),
    "a name with a subscript": GOOD.replace("# end", "export a[$(touch CANARY)]='1'\n# end"),
    "another version": GOOD.replace("env.sh 1", "env.sh 2"),
    "an expiry that is no number": re.sub(r"expires: \d+", "expires: x[$(touch CANARY)]", GOOD),
    "no expiry": re.sub(r"# expires: \d+\n", "", GOOD),
    "an unknown status": GOOD.replace("status: fresh", "status: $(touch CANARY)"),
    "an unknown mode": GOOD.replace("mode: direct", "mode: other"),
    "a profile that is no name": GOOD.replace("profile: gemini", "profile: $(touch CANARY)"),
    "two megabytes of junk": "x" * 2_000_000,
    "a hundred lines": GOOD.replace("# end", "# more\n" * 100 + "# end").replace("# end\n", ""),
}


def test_a_malformed_file_executes_nothing_and_removes_nothing(shell: Start, runtime: Runtime, tmp_path: Path) -> None:
    """A shell with a live token keeps it to its end."""
    runtime.write("tok-1")
    canary = tmp_path / "home" / "CANARY"
    with shell() as it:
        for what, text in BAD.items():
            runtime.put(text)
            it.run()
            assert it.seen("OPENAI_API_KEY") == "tok-1", what
            assert it.environment()["PATH"] == os.environ["PATH"], what
            assert not canary.exists(), what
        runtime.write("tok-2")
        it.run()
        assert it.seen("OPENAI_API_KEY") == "tok-2"


def test_a_malformed_file_sets_nothing_in_a_new_shell_and_gives_one_notice(shell: Start, runtime: Runtime) -> None:
    runtime.put(BAD["a command"])
    with shell() as it:
        assert not ours(it.environment())
        runtime.put(BAD["no end mark"])
        assert len(notices(it.run() + it.run())) <= 1


def test_a_valid_token_expires_in_time_although_the_file_is_malformed(shell: Start, runtime: Runtime) -> None:
    runtime.write()
    with shell() as it:
        expiry = short_lived_token(it, runtime)
        runtime.put(BAD["no end mark"])
        it.run()
        assert it.seen("OPENAI_API_KEY") == "short-lived" or time.time() > expiry
        wait_until_past(expiry)
        it.run()
        assert not ours(it.environment())


def spoil(path: Path, what: str) -> None:
    """Make `path` something that must not be read."""
    if what == "another user's":
        os.chown(path, 65534, 65534)
        return
    if what == "unreadable":
        path.chmod(0)
        return
    path.unlink()
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("none")


# Only root can give a file away, and root can read everything.
SPOILT = ["folder", "fifo", "dangling link", "unreadable" if os.geteuid() else "another user's"]


@pytest.mark.parametrize("what", SPOILT)
def test_only_a_regular_file_of_the_user_is_read(shell: Start, runtime: Runtime, what: str) -> None:
    runtime.write("tok-1")
    path = runtime.file(kind_of(shell))
    with shell(lowered=os.geteuid() == 0) as it:
        it.run()
        spoil(path, what)
        assert len(notices(it.run() + it.run())) == 1
        assert not ours(it.environment())


def test_a_folder_that_another_user_has_created_again_in_a_sticky_one_is_not_read(shell: Start, tmp_path: Path) -> None:
    """As in /tmp, where a cleaner may remove our folder while the shell lives. Its file is ours, through a link."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    runtime, hidden = Runtime(shared / f"runtime-{os.geteuid()}" / "vx-token"), Runtime(tmp_path / "hidden")
    runtime.write("tok-1")
    hidden.write("tok-2")
    place = {"TMPDIR": str(shared), "XDG_RUNTIME_DIR": "", "VX_TOKEN_RUNTIME_DIR": str(runtime.root)}
    with shell(environ=place) as it:
        for _ in range(3):
            it.run()
        assert it.seen("OPENAI_API_KEY") == "tok-1"
        runtime.root.parent.rename(tmp_path / "removed")
        runtime.root.mkdir(parents=True)
        (runtime.root / "default").symlink_to(hidden.folder())
        for path in (runtime.root.parent, runtime.root):
            os.chown(path, 65534, 65534)
        assert notices(it.run()) == [
            f"{runtime.file(it.kind)} is ignored because other users can replace it; run: vx-token status"
        ]
        assert not ours(it.environment())


# --- whose value it is ---------------------------------------------------------------------------------------------


def test_off_restores_the_user_s_values_and_on_sets_ours_again(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    before = assign(kind_of(shell), "OPENAI_API_KEY", "sk-user")
    with shell(before=before) as it:
        for _ in range(2):
            assert it.seen("OPENAI_API_KEY") == "tok-1"
            it.run("vx-token-off")
            found = it.environment()
            assert ours(found) == {"OPENAI_API_KEY": "sk-user"}
            assert not [name for name in found if name.startswith("VX_TOKEN_") and name != "VX_TOKEN_RUNTIME_DIR"]
            runtime.write("tok-1")
            it.run()
            assert it.seen("OPENAI_API_KEY") == "sk-user"
            it.run("vx-token-on")
        assert it.seen("OPENAI_BASE_URL") == URL


def test_off_unsets_variables_that_did_not_exist_and_restores_the_export_attribute(
    shell: Start, runtime: Runtime
) -> None:
    program = shell.keywords["program"]  # type: ignore[attr-defined]
    if program and version_of(program) < (4, 4):
        pytest.skip("bash < 4.4 cannot read attributes without a fork")
    runtime.write("tok-1")
    plain = "set -g OPENAI_API_KEY sk-user" if kind_of(shell) == "fish" else "OPENAI_API_KEY=sk-user"
    with shell(before=plain) as it:
        assert it.seen("OPENAI_API_KEY") == "tok-1"
        it.run("vx-token-off")
        assert not ours(it.environment())
        assert it.out('echo "$OPENAI_API_KEY"') == "sk-user\n"


def test_a_key_set_by_the_user_pauses_the_hook_until_it_is_unset(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    kind = kind_of(shell)
    with shell() as it:
        it.run()
        it.run(assign(kind, "OPENAI_API_KEY", "sk-mine"))
        runtime.write("tok-2")
        assert len(notices(it.run())) <= 1
        found = it.environment()
        assert ours(found) == {"OPENAI_API_KEY": "sk-mine"}, "our URL must not meet a foreign key"
        assert found["VX_TOKEN_STATUS"] == "gemini paused"
        assert not notices(it.run() + it.run())
        it.run(unassign(kind, "OPENAI_API_KEY"))
        found = it.environment()
        assert found["OPENAI_API_KEY"] == "tok-2"
        assert found["OPENAI_BASE_URL"] == URL


def again(it: Shell) -> str:
    """The line by which a shell becomes a new one that reads the same rc file."""
    bash = f"exec bash --noprofile --rcfile {it.home}/.bashrc -i"
    return {"bash": bash, "zsh": "exec zsh --no-globalrcs -i", "fish": "exec fish -i"}[it.kind]


def become(it: Shell, line: str) -> str:
    """Type a line that starts another shell; all that is shown until the second prompt of that one."""
    if it.kind == "fish":
        it.run("set -gx count $count")  # its prompts are numbered
    it.child.sendline(line)
    return it.wait() + it.run()


def test_a_key_above_the_hook_in_a_start_up_file_is_set_aside_each_time_it_is_read(
    shell: Start, runtime: Runtime
) -> None:
    kind = kind_of(shell)
    rc = {"bash": ".bashrc", "zsh": ".zshrc", "fish": ".config/fish/config.fish"}[kind]
    runtime.write("tok-1")
    with shell(before=assign(kind, "OPENAI_API_KEY", "sk-user")) as it:
        shown = it.run(f"source {it.home}/{rc}") + it.run()
        assert it.seen("OPENAI_API_KEY") == "tok-1"
        shown += become(it, again(it))
        assert it.seen("OPENAI_API_KEY") == "tok-1"
        assert not notices(shown)
        it.run("vx-token-off")
        assert ours(it.environment()) == {"OPENAI_API_KEY": "sk-user"}


def test_a_key_set_by_the_user_stays_in_a_nested_shell(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with shell() as it:
        it.run(assign(it.kind, "OPENAI_API_KEY", "sk-mine"))
        it.run()
        become(it, again(it))
        assert ours(it.environment()) == {"OPENAI_API_KEY": "sk-mine"}


def test_values_from_vx_token_env_are_treated_as_ours(shell: Start, runtime: Runtime) -> None:
    """The offered token, and one that was replaced before this shell read it."""
    runtime.write("tok-1")
    aside = runtime.file(kind_of(shell), "aside")
    with shell() as it:
        for offered, life in (("tok-2", 3600), ("tok-4", 3000)):
            runtime.write("tok-2", folder="aside", life=life)
            runtime.write(offered)
            assert not notices(it.run(f"source {aside}") + it.run())
            assert it.seen("OPENAI_API_KEY") == offered
        runtime.write("tok-5", folder="aside", life=2000, url="https://other.example/v1")
        assert "was set in this shell and wins" in it.run(f"source {aside}") + it.run()
        assert it.seen("OPENAI_API_KEY") == "tok-5", "asked for another project"
        it.run("vx-token-on")
        assert it.seen("OPENAI_API_KEY") == "tok-4"
        it.run("vx-token-off")
        assert not ours(it.environment())


@pytest.mark.parametrize("url", [URL, "https://other.example/v1"])
def test_values_from_vx_token_exec_are_treated_as_ours(shell: Start, runtime: Runtime, url: str) -> None:
    given = dict.fromkeys(COMPANIONS, url) | {"OPENAI_API_KEY": "tok-0", "VX_TOKEN_EXPIRES_AT": "1700000000"}
    runtime.write("tok-1")
    with shell(environ=given) as it:
        if url != URL:
            assert it.seen("OPENAI_API_KEY") == "tok-0"
            it.run("vx-token-on")
        assert it.seen("OPENAI_API_KEY") == "tok-1"
        it.run("vx-token-off")
        assert not ours(it.environment())


def test_a_pause_gives_one_notice(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with shell() as it:
        it.run()
        shown = it.run(assign(kind_of(shell), "OPENAI_BASE_URL", "https://elsewhere.example/v1")) + it.run()
        assert notices(shown) == ["OPENAI_BASE_URL was set in this shell and wins; run vx-token-on to resume"]
        assert ours(it.environment()) == {"OPENAI_BASE_URL": "https://elsewhere.example/v1"}, (
            "our key must not meet a foreign URL"
        )
        it.run("vx-token-on")
        assert it.seen("OPENAI_BASE_URL") == URL
        it.run("vx-token-off")
        assert ours(it.environment()) == {"OPENAI_BASE_URL": "https://elsewhere.example/v1"}


def test_another_variable_set_by_the_user_stays_and_does_not_pause_the_hook(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-1", extra={"OPENAI_MODEL": "google/gemini-2.5-flash"})
    with shell() as it:
        it.run(assign(kind_of(shell), "OPENAI_MODEL", "google/other"))
        runtime.write("tok-2", extra={"OPENAI_MODEL": "google/gemini-2.5-flash"})
        assert not notices(it.run())
        found = it.environment()
        assert (found["OPENAI_MODEL"], found["OPENAI_API_KEY"]) == ("google/other", "tok-2")


def test_an_earlier_token_that_is_restored_is_replaced(shell: Start, runtime: Runtime) -> None:
    """As direnv does when a folder is left."""
    runtime.write("tok-1")
    with shell() as it:
        runtime.write("tok-2")
        it.run()
        shown = it.run(assign(kind_of(shell), "OPENAI_API_KEY", "tok-1")) + it.run()
        assert not notices(shown)
        assert it.seen("OPENAI_API_KEY") == "tok-2"


def test_a_prefix_assignment_has_priority(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with shell() as it:
        assert it.out("OPENAI_API_KEY=mine printenv OPENAI_API_KEY") == "mine\n"
        assert it.seen("OPENAI_API_KEY") == "tok-1"


def test_a_variable_no_longer_in_the_file_is_unset(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-1", extra={"OPENAI_MODEL": "google/gemini-2.5-flash"})
    with shell() as it:
        assert it.seen("OPENAI_MODEL")
        runtime.write("tok-1")
        it.run()
        assert it.seen("OPENAI_MODEL") is None


def test_use_switches_this_shell_to_another_profile_and_back(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    runtime.write("tok-other", folder="other", profile="other", url="https://other.example/v1")
    with shell() as it:
        it.run("vx-token-use other")
        found = it.environment()
        assert found["OPENAI_API_KEY"] == "tok-other"
        assert found["OPENAI_API_BASE"] == "https://other.example/v1"
        assert found["VX_TOKEN_PROFILE"] == "other"
        assert found["VX_TOKEN_STATUS"].startswith("other ")
        assert "profile missing does not exist" in it.run("vx-token-use missing")
        assert "does not exist" in it.run("vx-token-use ../other")
        assert it.seen("OPENAI_API_KEY") == "tok-other"
        it.run("vx-token-use")
        found = it.environment()
        assert found["OPENAI_API_KEY"] == "tok-1"
        assert "VX_TOKEN_PROFILE" not in found
        it.run("vx-token-use other")
        it.run("vx-token-off")
        assert "VX_TOKEN_PROFILE" not in it.environment()


def test_use_of_a_profile_without_a_token_unsets_the_first_one_s(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    runtime.folder("other")
    with shell() as it:
        it.run("vx-token-use other")
        assert not ours(it.environment())


@pytest.mark.parametrize("child", list(HOOKS))
def test_a_nested_shell_treats_inherited_values_as_ours(
    shell: Start, runtime: Runtime, child: str, tmp_path: Path
) -> None:
    runtime.write("tok-1")
    with interactive(child, tmp_path / "child", runtime):
        pass  # writes the rc file
    start = {
        "bash": f"bash --noprofile --rcfile {tmp_path}/child/.bashrc -i",
        "zsh": f"env ZDOTDIR={tmp_path}/child zsh --no-globalrcs -i",
        "fish": f"env HOME={tmp_path}/child fish -i",
    }[child]
    need(child)
    with shell() as it:
        runtime.write("tok-2")
        outer, it.kind = it.kind, child
        it.child.sendline(start)
        it.prompts = 0
        it.wait()
        assert it.seen("OPENAI_API_KEY") == "tok-2"
        it.run("vx-token-off")
        assert not ours(it.environment()), "what was inherited is ours, not the user's"
        assert outer


def test_a_value_set_for_a_nested_shell_has_priority_there(shell: Start, runtime: Runtime, tmp_path: Path) -> None:
    runtime.write("tok-1")
    hook = HOOKS["bash"]
    with shell() as it:
        line = f"OPENAI_API_KEY=mine bash --norc -c 'source {hook}; printenv OPENAI_API_KEY'"
        assert it.out(line) == "mine\n"


def test_gateway_mode_excludes_the_loopback_from_the_proxy(shell: Start, runtime: Runtime) -> None:
    kind = kind_of(shell)
    before = "\n".join([assign(kind, "HTTPS_PROXY", "http://proxy:3128"), assign(kind, "NO_PROXY", "corp.example")])
    runtime.write("vx-local-1", mode="gateway", url="http://127.0.0.1:8490/v1", life=-5)
    with shell(before=before) as it:
        found = it.environment()
        assert found["OPENAI_API_KEY"] == "vx-local-1", "a local key does not end"
        assert found["NO_PROXY"] == "corp.example,127.0.0.1,localhost"
        assert found["no_proxy"] == "127.0.0.1,localhost"
        assert found["VX_TOKEN_STATUS"] == "gemini gateway"
        it.run()
        assert it.seen("NO_PROXY") == "corp.example,127.0.0.1,localhost"
        it.run("vx-token-off")
        found = it.environment()
        assert found["NO_PROXY"] == "corp.example"
        assert "no_proxy" not in found


def test_without_a_proxy_no_proxy_is_not_set(shell: Start, runtime: Runtime) -> None:
    runtime.write("vx-local-1", mode="gateway", url="http://127.0.0.1:8490/v1")
    with shell() as it:
        assert not {"NO_PROXY", "no_proxy"} & it.environment().keys()


# --- when nothing has changed --------------------------------------------------------------------------------------

# Called only when something differs from what the last look noted.
WATCH = {
    "bash": "__vx_token_update_offer() { builtin echo LOOKED; }",
    "zsh": "__vx_token_update_offer() { builtin echo LOOKED; }",
    "fish": "function __vx_token_update_offer; builtin echo LOOKED; end",
}


def settled(it: Shell) -> None:
    """Bring a shell to where prompts run no update, and make it print a word when one does."""
    for _ in range(3):
        it.run()
    it.run(WATCH[it.kind])
    it.run()


def rewrite(runtime: Runtime) -> None:
    """Another token of the same length in the same files, with the time of change of the first one."""
    for kind in HOOKS:
        path = runtime.file(kind)
        before = path.stat()
        text = path.read_text().replace("tok-1", "tok-2")
        with path.open("r+") as file:
            file.write(text)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def lengthen(runtime: Runtime) -> None:
    for kind in HOOKS:
        with runtime.file(kind).open("a") as file:
            file.write("\n")


CHANGES: dict[str, Callable[[Runtime, Shell], object]] = {
    "a file in its place": lambda runtime, it: runtime.write("tok-2"),
    "a file rewritten within a tick of the clock": lambda runtime, it: rewrite(runtime),
    "no file": lambda runtime, it: runtime.remove(),
    "a longer file": lambda runtime, it: lengthen(runtime),
    "a key of the user's": lambda runtime, it: it.run(assign(it.kind, "OPENAI_API_KEY", "mine")),
    "no key": lambda runtime, it: it.run(unassign(it.kind, "OPENAI_API_KEY")),
    "another URL": lambda runtime, it: it.run(assign(it.kind, "OPENAI_API_BASE", "http://mine")),
    "no status": lambda runtime, it: it.run(unassign(it.kind, "VX_TOKEN_STATUS")),
    "another profile": lambda runtime, it: it.run(assign(it.kind, "VX_TOKEN_PROFILE", "other")),
    "another folder": lambda runtime, it: it.run(assign(it.kind, "VX_TOKEN_RUNTIME_DIR", "/nowhere")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_prompt_runs_no_update_until_something_changes(shell: Start, runtime: Runtime, change: str) -> None:
    need_updates_before_commands(shell)
    runtime.write("tok-1", life=3600 + 40)
    with shell() as it:
        settled(it)
        assert "LOOKED" not in it.run()
        shown = CHANGES[change](runtime, it)
        assert "LOOKED" in f"{shown}{it.run()}"


def test_unusual_characters_are_compared_and_not_executed(shell: Start, runtime: Runtime, tmp_path: Path) -> None:
    need_updates_before_commands(shell)
    odd = f'a]b[c"d $(touch {tmp_path}/run) `touch {tmp_path}/run` $HOME ${{x}} (e) * ? \\\\ ü'
    runtime.write("tok-1", life=3640, extra={"ODD_KEY": odd})
    with shell() as it:
        settled(it)
        assert "LOOKED" not in it.run()
        found = it.seen("ODD_KEY")
        assert "LOOKED" in it.run(assign(it.kind, "ODD_KEY", "plain"))
    assert found == (odd.replace("\\\\", "\\") if it.kind == "fish" else odd)
    assert not (tmp_path / "run").exists()


def test_in_gateway_mode_a_prompt_runs_no_update_until_a_proxy_is_set(shell: Start, runtime: Runtime) -> None:
    runtime.write("vx-local-1", mode="gateway", url="http://127.0.0.1:8490/v1")
    with shell() as it:
        for _ in range(3):
            it.run()
        it.run(assign(it.kind, "HTTPS_PROXY", "http://proxy:3128"))
        assert it.seen("NO_PROXY") == "127.0.0.1,localhost"
        it.run(assign(it.kind, "NO_PROXY", "mine"))
        assert it.seen("NO_PROXY") == "mine,127.0.0.1,localhost"


def test_a_folder_with_precedence_is_used_as_soon_as_it_exists(shell: Start, tmp_path: Path) -> None:
    low, high = (Runtime(tmp_path / name / "vx-token") for name in (f"runtime-{os.geteuid()}", "xdg"))
    place = {"TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "xdg"), "VX_TOKEN_RUNTIME_DIR": ""}
    low.write("tok-low")
    with shell(environ=place) as it:
        for _ in range(3):
            it.run()
        high.write("tok-high")
        it.run()
        assert it.seen("OPENAI_API_KEY") == "tok-high"


def test_the_status_shows_the_minutes_until_the_token_expires(shell: Start, runtime: Runtime) -> None:
    """Also at the change from one minute to the next, which a prompt that is answered at once must not miss."""
    folders = {seconds: Runtime(runtime.root / str(seconds)) for seconds in (3, 63, 3603)}
    for each in folders.values():
        each.write("tok-1")
    with ExitStack() as stack:
        environs = ({"VX_TOKEN_RUNTIME_DIR": str(each.root)} for each in folders.values())
        shells = [stack.enter_context(shell(environ=environ)) for environ in environs]
        for seconds, each in folders.items():
            each.write("tok-2", life=seconds)
        for it in shells * 3:
            it.run()
        for it, (seconds, each) in zip(shells, folders.items(), strict=True):
            wait_until_past(each.expires() - seconds // 60 * 60 + 1)
            it.run()
            after = (each.expires() - int(time.time())) // 60
            assert it.seen("VX_TOKEN_STATUS") == ("gemini expired" if after < 0 else f"gemini {after}m")


# --- the rest of the shell -----------------------------------------------------------------------------------------


def test_the_status_of_a_command_survives_prompt_and_rotation(shell: Start, runtime: Runtime) -> None:
    variable = "$status" if kind_of(shell) == "fish" else "$?"
    runtime.write("tok-1")
    with shell() as it:
        for number in (3, 4):
            it.run(f"sh -c 'exit {number}'")
            runtime.write(f"tok-{number}")
            assert it.out(f"echo {variable}") == f"{number}\n"


def test_a_prompt_starts_no_process(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with shell() as it:
        it.run()
        quick = 0
        for number in range(50):
            runtime.write(f"tok-{number}")
            before, began = faults_of_children(it), time.monotonic()
            it.run()
            assert faults_of_children(it) == before
            it.run("true")
            # A prompt that has waited for a second and more may have bash look by a subshell, see docs/shell.md.
            if time.monotonic() - began < 1:
                assert faults_of_children(it) == before
                quick += 1
            if quick == 5:
                break
        assert quick == 5
        it.run("/bin/true")
        assert faults_of_children(it) > before, "a process would have been seen"


def faults_of_children(shell: Shell) -> int:
    """Page faults of all children that a shell has waited for: none can live without one. See proc(5), cminflt."""
    stat = Path(f"/proc/{shell.child.pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[8])


def test_the_token_is_in_one_variable_only(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-secret-1")
    with shell() as it:
        runtime.write("tok-secret-2")
        it.run()
        found = it.environment()
    assert [name for name, value in found.items() if "tok-secret" in value] == ["OPENAI_API_KEY"]


def test_the_history_contains_only_the_typed_lines(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    after = {"zsh": "HISTSIZE=100\n"}.get(kind_of(shell), "")
    show = {"bash": "history", "zsh": "fc -l 1", "fish": "history"}[kind_of(shell)]
    with shell(after=after) as it:
        it.run("true one")
        runtime.write("tok-2")
        it.run("true two")
        shown = it.out(show)
    assert [line for line in shown.splitlines() if "true" not in line and show not in line] == []
    assert "vx_token" not in shown
    assert "tok-" not in shown


def test_the_token_is_updated_without_path_and_in_a_removed_folder(
    shell: Start, runtime: Runtime, tmp_path: Path
) -> None:
    kind = kind_of(shell)
    runtime.write("tok-1")
    gone = tmp_path / "gone"
    gone.mkdir()
    with shell() as it:
        it.run(f"cd {gone}")
        gone.rmdir()
        it.run(assign(kind, "TMPDIR", "/nowhere"))
        it.run("set -gx PATH" if kind == "fish" else "PATH=")
        runtime.write("tok-2")
        shown = it.run()
        assert not notices(shown)
        assert it.seen("OPENAI_API_KEY") == "tok-2"


def test_an_interrupted_line_or_command_has_no_effect(shell: Start, runtime: Runtime) -> None:
    runtime.write("tok-1")
    with shell() as it:
        it.child.send("echo half")
        it.child.expect_exact("half")
        it.interrupt()
        # fish clears the line and draws no new prompt.
        it.run() if it.kind == "fish" else it.wait()
        it.child.sendline("sh -c 'echo begun; exec sleep 100'")
        it.child.expect_exact("begun\r\n")
        it.interrupt()
        it.wait()
        runtime.write("tok-2")
        it.run()
        assert it.seen("OPENAI_API_KEY") == "tok-2"
