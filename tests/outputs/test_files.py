"""The files that tools read: their shape to the letter, their repair, and that a broken one harms no other."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fakes import NOON
from vx_token.config.model import Profile
from vx_token.credentials.token import Token
from vx_token.errors import Failure
from vx_token.outputs import exports, files, print_cache
from vx_token.outputs.files import SINKS, Snapshot
from vx_token.system import stamps
from vx_token.tokens import model
from vx_token.tokens.model import Origin, State

PROFILE = Profile("gemini", "demo", model="google/gemini-2.5-flash", export=("goose", "MY_TOKEN={token}"))
TOKEN = Token("ya29.abc-._~+/=", NOON + 3600.9, NOON, "service_account", account="bot@p")
FRESH = State(TOKEN, Origin("s", "/key.json", "1:2:3"), attempts=1, tried_at=NOON)
OFFLINE = replace(FRESH, failures=2, failure=Failure("temporary", "Google cannot be reached", "wait"))
LOGIN = replace(FRESH, failures=1, failure=Failure("login", "Google wants you to log in again", "run: gcloud login"))
CONFIG = ("/etc/vx/config.toml", "1:2:3")
URL = "https://aiplatform.googleapis.com/v1/projects/demo/locations/global/endpoints/openapi"


def inputs(
    state: State = FRESH, now: float = NOON, profile: Profile = PROFILE, key: str = "", url: str = ""
) -> Snapshot:
    return Snapshot(profile, state, now, CONFIG, key, url)


def content(name: str, of: Snapshot) -> str | None:
    return SINKS[name](of)


def text_of(name: str, of: Snapshot) -> str:
    """The content of a file that must be there."""
    text = content(name, of)
    assert text
    return text


def test_env_sh_has_exactly_the_shape_that_the_hooks_read() -> None:
    assert (
        content("env.sh", inputs())
        == f"""\
# vx-token env.sh 1
# profile: gemini
# status: fresh
# expires: 1800003600
# mode: direct
export OPENAI_API_KEY='ya29.abc-._~+/='
export OPENAI_BASE_URL='{URL}'
export OPENAI_API_BASE='{URL}'
export OPENAI_API_BASE_URL='{URL}'
export OPENAI_AGENTS_DISABLE_TRACING='1'
export OPENAI_MODEL='google/gemini-2.5-flash'
export OPENAI_HOST='https://aiplatform.googleapis.com'
export OPENAI_BASE_PATH='v1/projects/demo/locations/global/endpoints/openapi/chat/completions'
export GOOSE_PROVIDER='openai'
export GOOSE_MODEL='google/gemini-2.5-flash'
export MY_TOKEN='ya29.abc-._~+/='
export VX_TOKEN_EXPIRES_AT='1800003600'
# end
"""
    )


def test_env_fish_says_the_same_in_its_own_words() -> None:
    sh, fish = content("env.sh", inputs()), content("env.fish", inputs())
    assert sh is not None
    meant = re.sub(r"export (\w+)=", r"set -gx \1 ", sh).replace("# vx-token env.sh 1", "# vx-token env.fish 1")
    assert fish == meant


def test_without_a_model_and_exports_nothing_empty_is_said() -> None:
    text = text_of("env.sh", inputs(profile=Profile("p", "demo")))
    assert "OPENAI_MODEL" not in text
    assert "=''" not in text
    assert "export OPENAI_API_KEY='ya29" in text


def test_gateway_mode_hands_out_the_local_key_and_address_alone() -> None:
    text = text_of("env.sh", inputs(key="local-key", url="http://127.0.0.1:8490/p/v1"))
    assert "# mode: gateway\n" in text
    assert "export OPENAI_API_KEY='local-key'\n" in text
    assert "export OPENAI_HOST='http://127.0.0.1:8490'\n" in text
    assert TOKEN.value not in text
    assert "googleapis" not in text


@pytest.mark.parametrize(
    ("state", "now", "word", "live"),
    [
        (FRESH, NOON, "fresh", True),
        (OFFLINE, NOON, "retrying", True),
        (LOGIN, NOON, "login", True),
        (replace(LOGIN, failure=Failure("config", "no such file", "")), NOON, "login", True),
        (FRESH, NOON + 4000, "expired", False),
        (OFFLINE, NOON + 4000, "expired", False),
        (LOGIN, NOON + 4000, "login", False),
        (replace(LOGIN, token=None), NOON, "login", False),
        (State(), NOON, "expired", False),
    ],
)
@pytest.mark.parametrize("name", ["env.sh", "env.fish"])
def test_each_condition_is_a_word_and_only_a_live_token_is_exported(
    name: str, state: State, now: float, word: str, live: bool
) -> None:
    text = text_of(name, inputs(state, now))
    assert model.condition(state, now) == word
    assert f"# status: {word}\n" in text
    assert ("OPENAI_API_KEY" in text) == live
    assert ("# expires: 0\n" in text) != live
    assert ("# notice: " in text) == (word == "login")
    assert text.endswith("# end\n")
    if not live:
        assert all(line.startswith("# ") for line in text.splitlines())


def test_the_notice_is_what_is_wrong_and_what_to_do() -> None:
    text = text_of("env.sh", inputs(LOGIN))
    assert "# notice: Google wants you to log in again; run: gcloud login\n" in text
    bare = replace(LOGIN, failure=Failure("config", "no such file", ""))
    assert "# notice: no such file\n" in text_of("env.sh", inputs(bare))


@pytest.mark.parametrize(
    "evil", ["a\nexport PATH='/evil", "a\r\nset -gx PATH /evil", "a\u2028b", "a\x1b[31m", "a\x00b"]
)
def test_a_notice_is_one_line_whatever_a_path_holds(evil: str) -> None:
    state = replace(LOGIN, failure=Failure("config", f"the file {evil} does not exist", evil))
    for name in ("env.sh", "env.fish"):
        text = text_of(name, inputs(state, NOON + 4000))
        assert all(line.startswith("# ") and line.isprintable() for line in text.split("\n")[:-1])
        assert text.count("\n# notice: the file a") == 1


def test_the_token_file_has_the_bare_token_and_no_newline() -> None:
    assert content("token", inputs()) == TOKEN.value
    assert content("token", inputs(now=NOON + 3601)) is None


def test_the_header_file_names_the_quota_project_where_the_token_has_one() -> None:
    assert content("header", inputs()) == f"Authorization: Bearer {TOKEN.value}\n"
    mine = replace(FRESH, token=replace(TOKEN, kind="authorized_user", quota_project="billing"))
    assert content("header", inputs(mine)) == f"Authorization: Bearer {TOKEN.value}\nx-goog-user-project: billing\n"
    assert content("header", inputs(State())) is None
    evil = replace(FRESH, token=replace(TOKEN, quota_project="a\r\nX-Evil: b"))
    assert (
        content("header", inputs(evil)) == f"Authorization: Bearer {TOKEN.value}\nx-goog-user-project: a??X-Evil: b\n"
    )


def test_the_peek_file_is_what_peek_reads_and_is_not_there_when_it_must_not_answer() -> None:
    assert content("peek", inputs()) == print_cache.render(
        CONFIG, (("/key.json",), "1:2:3"), "found", (NOON - 60, NOON + 3300.9), TOKEN.value
    )
    assert content("peek", inputs(State())) is None
    assert content("peek", replace(inputs(), config=("", ""))) is None


@pytest.mark.parametrize("path", ["/a\udcffb", "/a\nb"])
def test_a_path_that_no_file_can_hold_only_costs_the_quick_way(tmp_path: Path, path: str) -> None:
    state = replace(FRESH, origin=Origin("s", path, "1:2:3"))
    assert files.publish(tmp_path, inputs(state)) == {}
    assert sorted(f.name for f in tmp_path.iterdir()) == ["env.fish", "env.sh", "header", "token"]


def test_print_has_three_forms() -> None:
    assert exports.printed(PROFILE, TOKEN, "token", NOON) == TOKEN.value
    assert exports.printed(PROFILE, TOKEN, "header", NOON) == f"Authorization: Bearer {TOKEN.value}"
    assert json.loads(exports.printed(PROFILE, TOKEN, "json", NOON + 600.5)) == {
        "token": TOKEN.value,
        "expires_at": "2027-01-15T09:00:00Z",
        "expires_in": 3000,
        "profile": "gemini",
        "base_url": URL,
    }


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "fish"])
def test_a_real_shell_reads_its_file_silently(tmp_path: Path, require: Callable[[str], str], shell: str) -> None:
    files.publish(tmp_path, inputs())
    name = "env.fish" if shell == "fish" else "env.sh"
    script = f'. "{tmp_path / name}"; printf %s "$MY_TOKEN"'
    flags = ["--no-config"] if shell == "fish" else ["-eu"]
    done = subprocess.run([require(shell), *flags, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, TOKEN.value, "")


def test_all_files_are_private_and_whole(tmp_path: Path) -> None:
    assert files.publish(tmp_path, inputs()) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["env.fish", "env.sh", "header", "peek", "token"]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert files.problems(tmp_path, inputs()) == {}


def test_a_file_that_is_right_is_left_alone(tmp_path: Path) -> None:
    files.publish(tmp_path, inputs())
    before = {path.name: stamps.stamp(path) for path in tmp_path.iterdir()}
    assert len(before) == 5
    files.publish(tmp_path, inputs())
    assert {path.name: stamps.stamp(path) for path in tmp_path.iterdir()} == before


def test_the_end_of_the_token_takes_its_files_away(tmp_path: Path) -> None:
    files.publish(tmp_path, inputs())
    files.publish(tmp_path, inputs(now=NOON + 4000))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["env.fish", "env.sh"]
    assert not any(TOKEN.value in path.read_text() for path in tmp_path.iterdir())


def linked(path: Path) -> None:
    path.rename(path.parent.parent / "moved")
    path.symlink_to(path.parent.parent / "moved")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "vanished": Path.unlink,
    "truncated": lambda path: os.truncate(path, 5),
    "emptied": lambda path: os.truncate(path, 0),
    "changed": lambda path: path.write_text("something else"),
    "no text": lambda path: path.write_bytes(b"\xff\xfe"),
    "open to others": lambda path: path.chmod(0o644),
    "unreadable": lambda path: path.chmod(0o000),
    "a link": linked,
}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.mark.parametrize("name", SINKS)
@pytest.mark.parametrize("damage", [*DAMAGE, pytest.param("foreign", marks=as_root)])
def test_a_damaged_file_is_seen_and_repaired(tmp_path: Path, name: str, damage: str) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    files.publish(folder, inputs())
    if damage == "foreign":
        os.chown(folder / name, 12345, -1)
    else:
        DAMAGE[damage](folder / name)
    assert set(files.problems(folder, inputs())) == ({name} if name != "peek" else set())
    assert files.publish(folder, inputs()) == {}
    found = (folder / name).lstat()
    assert (folder / name).read_text() == content(name, inputs())
    assert (found.st_mode, found.st_uid) == (0o100600, os.geteuid())


@pytest.mark.parametrize("broken", SINKS)
@pytest.mark.parametrize("full", [True, False])
def test_one_broken_sink_stops_no_other(tmp_path: Path, broken: str, full: bool) -> None:
    (tmp_path / broken).mkdir()
    if full:
        (tmp_path / broken / "file").write_text("x")
    found = files.publish(tmp_path, inputs())
    assert set(found) == {broken}
    assert str(tmp_path / broken) in found[broken]
    for name in set(SINKS) - {broken}:
        assert (tmp_path / name).read_text() == content(name, inputs())
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_sink_that_cannot_be_removed_stops_no_other(tmp_path: Path) -> None:
    files.publish(tmp_path, inputs())
    (tmp_path / "token").unlink()
    (tmp_path / "token").mkdir()
    assert set(files.publish(tmp_path, inputs(now=NOON + 4000))) == {"token"}
    assert not (tmp_path / "header").exists()


def test_no_problem_and_no_failure_quotes_the_token(tmp_path: Path) -> None:
    for name in SINKS:
        (tmp_path / name).mkdir()
    for found in (files.publish(tmp_path, inputs()), files.problems(tmp_path, inputs())):
        assert found
        assert TOKEN.value not in str(found)
