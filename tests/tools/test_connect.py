"""`vx-token connect` edits a tool's settings, proves them by the tool itself, and takes them back byte by byte."""

import json
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
import pytest
from click.testing import CliRunner

import gateways
from sandbox import Box
from vx_token.cli.main import cli
from vx_token.emulator import Emulator
from vx_token.errors import ConfigError
from vx_token.tools.catalog import TOOLS

if TYPE_CHECKING:
    import subprocess

SGPT = """\
#!{python}
import json, os, pathlib, sys, urllib.request
lines = (pathlib.Path.home() / ".config/shell_gpt/.sgptrc").read_text().splitlines()
rc = dict(line.split("=", 1) for line in lines if "=" in line)
assert not [name for name in os.environ if name.startswith("OPENAI_")]
body = {{"model": rc["DEFAULT_MODEL"], "messages": [{{"role": "user", "content": sys.argv[-1]}}]}}
headers = {{"Authorization": "Bearer " + rc["OPENAI_API_KEY"], "Content-Type": "application/json"}}
request = urllib.request.Request(rc["API_BASE_URL"] + "/chat/completions", json.dumps(body).encode(), headers)
print(json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"])
"""
"""A tool that reads its settings as shell-gpt does."""


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file and folder below, with content and mode."""
    paths = list(folder.rglob("*"))
    contents = [path.read_bytes() if path.is_file() else b"" for path in paths]
    modes = [stat.S_IMODE(path.lstat().st_mode) for path in paths]
    return dict(zip(map(str, paths), zip(contents, modes, strict=True), strict=True))


def connect(box: Box, *words: str) -> "subprocess.CompletedProcess[str]":
    return box.vx("connect", *words)


def connected(box: Box, *words: str) -> str:
    done = connect(box, *words)
    assert done.returncode == 0, done.stderr
    assert "vx-local-" not in done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def ready(signed_in: Box, google: Emulator) -> Box:
    """A profile in gateway mode; nothing listens."""
    gateways.configure(signed_in, google, gateways.free_port(), model="google/gemini-2.5-flash")
    return signed_in


EDITED = [name for name, tool in TOOLS.items() if tool.files]


@pytest.mark.parametrize("name", EDITED)
def test_undo_leaves_the_home_folder_byte_by_byte_as_it_was(ready: Box, name: str) -> None:
    before = files(ready.home)
    connected(ready, name, "--yes", "--offline")
    assert files(ready.home) != before
    assert name in ready.vx("gateway", "keys").stdout
    assert "prove" not in connected(ready, "--undo", name, "--yes")
    assert files(ready.home) == before
    assert name not in ready.vx("gateway", "keys").stdout
    assert not (ready.root / "connections").exists()
    assert not (ready.root / "gateway.keys").exists()


SEEDS = {
    "llm": (".config/io.datasette.llm/keys.json", b'{\n    "openai": "sk-theirs-and-secret"\n}'),
    "aider": (".aider.conf.yml", b"# mine\nmodel: gpt-4o # for now\nset-env:\n  - A=1\n"),
    "opencode": (".config/opencode/opencode.jsonc", b'{\n  // mine\n  "theme": "x", // dark\n}\n'),
    "qwen-code": (".qwen/settings.json", b'{"security": {"auth": {"selectedType": "qwen-oauth"}}}'),
    "pi": (".pi/agent/models.json", b'{"providers": {"x": {"apiKey": "sk-theirs-and-secret"}}}\n'),
    "continue": (".continue/config.yaml", b"name: mine\nversion: 2.0.0\nschema: v1\nmodels:\n  - name: a # b\n"),
    "gptme": (".config/gptme/config.toml", b'[env]\nA = "1" # one\n\n[[providers]]\nname = "x"\n\n[prompt]\na = 1\n'),
    "gpt-cli": (".gptrc", b"# mine\nmarkdown: false\nassistants:\n  dev:\n    model: gpt-4o\n"),
    "cline": (".cline/data/settings/providers.json", b'{"version": 1, "providers": {"x": {"settings": {}}}}'),
    "codex": (".codex/config.toml", b'model = "gpt-5"  # mine\n\n[model_providers.x]\nname = "x"\n'),
    "shell-gpt": (".config/shell_gpt/.sgptrc", b"DEFAULT_MODEL=gpt-4o\nREQUEST_TIMEOUT=60\n"),
}


def test_each_tool_has_a_file_of_a_user() -> None:
    assert SEEDS.keys() == set(EDITED)


@pytest.mark.parametrize("name", SEEDS)
def test_a_file_that_was_there_keeps_its_text_and_comes_back_with_its_mode(ready: Box, name: str) -> None:
    place, content = SEEDS[name]
    real, link = ready.home / "dotfiles", ready.home / place
    link.parent.mkdir(parents=True, exist_ok=True)
    real.write_bytes(content)
    real.chmod(0o644)
    link.symlink_to(real)
    before = files(ready.home)
    shown = connected(ready, name, "--yes", "--offline")
    assert "sk-theirs-and-secret" not in shown
    assert link.is_symlink()
    after = link.read_bytes()
    assert after != content
    if b"vx-local-" in after:
        assert "mode 0644 becomes 0600" in shown
        assert stat.S_IMODE(real.stat().st_mode) == 0o600
    connected(ready, name, "--yes", "--offline")  # again: the same settings, and the first backup
    assert link.read_bytes() == after
    connected(ready, "--undo", name, "--yes")
    assert files(ready.home) == before


def test_a_file_that_was_changed_since_keeps_that_change(ready: Box) -> None:
    path = ready.home / ".qwen" / "settings.json"
    path.parent.mkdir()
    path.write_text('{\n  "theme": "dark"\n}\n')
    path.chmod(0o644)
    connected(ready, "qwen-code", "--yes", "--offline")
    path.write_text(path.read_text().replace('"dark"', '"light"').replace('"google/gemini-2.5-flash"', '"mine"'))
    shown = connected(ready, "--undo", "qwen-code", "--yes")
    assert "model.name was changed since and stays" in shown
    assert json.loads(path.read_text()) == {"theme": "light", "model": {"name": "mine"}}
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_undo_leaves_a_file_that_the_tool_still_accepts(ready: Box) -> None:
    cline, other = ready.home / ".cline/data/settings/providers.json", ready.home / ".continue/config.yaml"
    connected(ready, "cline", "--yes", "--offline")
    connected(ready, "continue", "--yes", "--offline")
    values = json.loads(cline.read_text())
    values["providers"]["openai-compatible"]["updatedAt"] = "2027-01-01T00:00:00.000Z"
    cline.write_text(json.dumps({**values, "modes": {"plan": 1}}))
    other.write_text(other.read_text().replace("models:", "models:\n- name: mine"))
    connected(ready, "--undo", "--all", "--yes")
    assert json.loads(cline.read_text()) == {"version": 1, "modes": {"plan": 1}}
    assert other.read_text() == "name: Local settings\nversion: 1.0.0\nschema: v1\nmodels:\n- name: mine\n"


def test_what_could_not_be_finished_is_taken_back(ready: Box) -> None:
    keys = ready.home / ".config" / "io.datasette.llm" / "keys.json"
    keys.parent.mkdir(parents=True)
    keys.symlink_to("/proc/vx-token/keys.json")  # where not even root creates a folder
    before = files(ready.home)
    done = connect(ready, "llm", "--yes", "--offline")
    assert done.returncode == 3
    assert files(ready.home) == before
    assert "llm" not in ready.vx("gateway", "keys").stdout


def test_a_file_in_a_git_repository_is_named(ready: Box) -> None:
    (ready.home / "dotfiles" / ".git").mkdir(parents=True)
    (ready.home / ".qwen").symlink_to(ready.home / "dotfiles")
    done = connect(ready, "qwen-code", "--yes", "--offline")
    assert f"is in the git repository {ready.home / 'dotfiles'}: do not commit the key" in done.stderr
    assert (ready.home / "dotfiles" / "settings.json").exists()
    (ready.home / ".codex").symlink_to(ready.home / "dotfiles")
    assert not connect(ready, "codex", "--yes", "--offline").stderr  # it gets a key command


def test_a_dry_run_shows_the_change_and_makes_none(ready: Box) -> None:
    before = files(ready.root)
    shown = connected(ready, "llm", "--dry-run", "--model", "google/other")
    assert "model_name: google/other" in shown
    assert files(ready.root) == before


def test_another_profile_gets_another_key_and_undo_goes_back_to_the_start(ready: Box, google: Emulator) -> None:
    ready.profile("second", url=google.base_url(), mode="gateway", model="google/second")
    ready.config.write_text('default_profile = "gemini"\n' + ready.config.read_text())
    before = files(ready.home)
    connected(ready, "aider", "--yes", "--offline")
    first = (ready.home / ".aider.conf.yml").read_text()
    connected(ready, "aider", "--yes", "--offline", "--profile", "second")
    second = (ready.home / ".aider.conf.yml").read_text()
    assert "/second/v1" in second
    assert "openai/google/second" in second
    assert not set(first.splitlines()[1:2]) & set(second.splitlines())  # the keys
    connected(ready, "--undo", "aider", "--yes")
    assert files(ready.home) == before


def test_a_key_that_the_user_made_is_not_revoked(ready: Box) -> None:
    key = ready.vx("gateway", "key", "--name", "aider").stdout
    connected(ready, "aider", "--yes", "--offline")
    connected(ready, "--undo", "aider", "--yes")
    assert ready.vx("gateway", "key", "--name", "aider").stdout == key


def test_the_tool_itself_proves_the_connection(ready: Box, google: Emulator) -> None:
    program = ready.root / "bin" / "sgpt"
    program.parent.mkdir()
    program.write_text(SGPT.format(python=sys.executable))
    program.chmod(0o755)
    ready.environ["PATH"] = f"{program.parent}{os.pathsep}{ready.environ['PATH']}"
    refused = connect(ready, "shell-gpt", "--yes")
    assert refused.returncode == 1
    assert "vx-token: the gateway is not running" in refused.stderr
    port = int(ready.config.read_text().split("port = ")[1].split()[0])
    with gateways.alone(ready, port):
        assert "through the gateway with its key shell-gpt: answered" in connected(ready, "--all", "--yes")
        assert gateways.last_chat(google).status == 200
        program.write_text(f"#!{sys.executable}\nprint('from a cache')\n")
        cached = connect(ready, "shell-gpt", "--yes")
        assert cached.returncode == 1
        assert "it sent no request through the gateway" in cached.stderr
    assert "since" in connected(ready, "--list")
    connected(ready, "--undo", "--all", "--yes")
    assert "since" not in connected(ready, "--list")


def test_in_direct_mode_no_token_is_written(signed_in: Box) -> None:
    signed_in.refresh()
    token = signed_in.read("token")
    for name in EDITED:
        done = connect(signed_in, name, "--yes", "--offline")
        if TOOLS[name].needs_static_key:
            assert done.returncode == 3
            assert "a Google token expires within an hour" in done.stderr
        else:
            assert done.returncode == 0, done.stderr
    written = b"".join(content for content, _ in files(signed_in.home).values())
    assert token.encode() not in written
    assert b"/gemini/token}" in written or b"/default/token}" in written
    assert b" print --profile gemini" in written


def test_a_file_that_cannot_be_edited_stays_and_the_text_is_printed(ready: Box) -> None:
    path = ready.home / ".config" / "opencode" / "opencode.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"a": 1, "a": 2}')
    done = connect(ready, "opencode", "--yes")
    assert done.returncode == 3
    assert '"baseURL": "http://127.0.0.1' in done.stdout
    assert '"apiKey": "KEY"' in done.stdout
    assert "vx-token: cannot edit" in done.stderr
    assert path.read_text() == '{"a": 1, "a": 2}'
    assert "opencode" not in ready.vx("gateway", "keys").stdout


@pytest.mark.parametrize("name", [name for name, tool in TOOLS.items() if tool.text])
def test_the_text_for_other_tools_has_the_url_and_no_key(ready: Box, name: str) -> None:
    before = files(ready.root)
    shown = connected(ready, name)
    assert "127.0.0.1:" in shown
    assert "google/gemini-2.5-flash" in shown
    assert f"gateway key --name {name}" in shown
    assert files(ready.root) == before


def test_cursor_and_claude_code_say_what_must_never_be_done(ready: Box) -> None:
    for name, reason in (("cursor", "its own servers"), ("claude-code", "api.anthropic.com")):
        done = connect(ready, name, "--yes")
        assert done.returncode == 3
        assert reason in done.stderr


def test_the_undo_of_setup_names_connected_tools(ready: Box) -> None:
    connected(ready, "llm", "--yes", "--offline")
    shown = ready.vx("setup", "--undo", "--yes").stdout
    assert "llm stay connected; to take them back: vx-token connect --undo --all" in shown
    connected(ready, "--undo", "--all", "--yes")


def test_a_missing_library_is_named_with_the_command_that_adds_it(ready: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ready.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "ruamel", None)
    result = CliRunner().invoke(cli, ["connect", "llm", "--yes"], prog_name="vx-token")
    assert isinstance(result.exception, ConfigError)
    assert result.exception.message == "connect needs ruamel.yaml"
    assert result.exception.hint.startswith("run: ")
    assert not (ready.home / ".config").exists()


def test_wrong_words(ready: Box) -> None:
    for words, message in (
        ((), "name one tool, or use --all"),
        (("llm", "--all"), "name one tool, or use --all"),
        (("lmm", "--yes"), "does not know the tool 'lmm'"),
        (("llm",), "stdin is not a terminal"),
    ):
        done = connect(ready, *words)
        assert done.returncode == 2
        assert message in done.stderr
    assert "llm is not connected" in connect(ready, "--undo", "llm", "--yes").stderr


def doctor(box: Box) -> list[tuple[str, str, str]]:
    found = json.loads(box.vx("doctor", "--json").stdout)["checks"]
    return [(check["ok"], check["detail"], check["hint"]) for check in found if check["name"] == "connect"]


def test_doctor_names_a_tool_whose_key_was_revoked_or_whose_settings_were_changed(ready: Box) -> None:
    assert doctor(ready) == []
    connected(ready, "qwen-code", "--yes", "--offline")
    assert doctor(ready) == [("ok", "qwen-code has its settings", "")]
    path = ready.home / ".qwen" / "settings.json"
    content = path.read_text()
    path.write_text(content.replace("{", '{"theme": "dark",', 1))
    assert doctor(ready) == [("ok", "qwen-code has its settings", "")]
    path.write_text(content.replace("google/gemini-2.5-flash", "another"))
    remedy = "run: vx-token connect qwen-code\nor take it back: vx-token connect --undo qwen-code"
    changed = f"qwen-code: {path}: vx-token's setting model.name was changed or removed"
    assert doctor(ready) == [("warn", changed, remedy)]
    path.unlink()
    assert doctor(ready) == [("warn", f"qwen-code: {path} is gone", remedy)]
    path.write_text(content)
    assert ready.vx("gateway", "revoke", "qwen-code").returncode == 0
    assert doctor(ready) == [("warn", "qwen-code: its local key qwen-code was revoked", remedy)]
    connected(ready, "qwen-code", "--yes", "--offline")
    assert doctor(ready) == [("ok", "qwen-code has its settings", "")]


@pytest.mark.parametrize("answer", ["n", "y"])
def test_a_change_at_a_terminal_waits_for_the_answer(ready: Box, answer: str) -> None:
    before, command = files(ready.home), ready.command("connect", "qwen-code", "--offline")
    with pexpect.spawn(command[0], command[1:], env=ready.environ, encoding="utf-8", timeout=60) as terminal:
        terminal.expect(r"Do this\? \[Y/n\]")
        assert "qwen" in str(terminal.before)
        assert files(ready.home) == before
        terminal.sendline(answer)
        terminal.expect(pexpect.EOF)
        shown = str(terminal.before)
    assert "vx-local-" not in shown
    if answer == "n":
        assert "nothing changed" in shown
        assert files(ready.home) == before
    else:
        assert "connected; no request was made" in shown
        assert files(ready.home) != before
