"""Extra variables: presets and assignments of the user's own."""

import json
from pathlib import Path

import pytest

from sandbox import Box
from vx_token.config import fields, presets
from vx_token.config.model import Config, Profile
from vx_token.config.presets import PRESETS
from vx_token.credentials.token import Token
from vx_token.outputs import exports
from vx_token.outputs.publisher import Publisher
from vx_token.system.clock import SystemClock
from vx_token.tokens.model import State
from vx_token.tokens.store import Store

FIELDS = {
    "token": "ya29.t",
    "base_url": "https://host/v1/x",
    "host": "https://host",
    "path": "v1/x",
    "model": "google/gemini",
    "profile": "gemini",
    "tokens": "k;k",
    "base_urls": "http://a/v1;http://a/b/v1",
}


def test_these_are_the_presets() -> None:
    assert sorted(PRESETS) == [
        "avante", "chatblade", "copilot", "goose", "gptme", "grok", "open-webui", "opencommit", "shell-gpt", "tgpt",
    ]  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_made_of_assignments_that_a_user_may_write(name: str) -> None:
    assert presets.problem(name) == ""
    assert [presets.problem(assignment) for assignment in PRESETS[name]] == [""] * len(PRESETS[name])


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_gives_whole_values(name: str) -> None:
    found = presets.expand((name,), FIELDS)
    assert len(found) == len(PRESETS[name])
    assert all(value and "{" not in value for value in found.values())


@pytest.mark.parametrize("name", PRESETS)
def test_a_value_that_would_be_empty_is_left_out(name: str) -> None:
    found = presets.expand((name,), FIELDS | {"model": ""})
    assert not any("MODEL" in variable for variable in found)
    assert all(found.values())


def test_goose_gets_a_host_and_a_path_that_make_the_base_url() -> None:
    found = presets.expand(("goose",), FIELDS)
    assert f"{found['OPENAI_HOST']}/{found['OPENAI_BASE_PATH']}" == FIELDS["base_url"] + "/chat/completions"


def test_a_tool_that_takes_lists_gets_all_profiles_in_gateway_mode_its_own_first(box: Box) -> None:
    for name, mode in (("one", "gateway"), ("two", "gateway"), ("three", "direct"), ("four", "gateway")):
        box.profile(name, mode=mode, export=["open-webui"])
    box.config.write_text(f'default_profile = "one"\n{box.config.read_text()}')
    found = json.loads(box.vx("env", "--shell", "json", "--profile", "two").stdout)
    port = "http://127.0.0.1:8490"
    assert found["OPENAI_API_BASE_URLS"] == f"{port}/two/v1;{port}/v1;{port}/four/v1"
    assert found["OPENAI_API_KEYS"] == ";".join([found["OPENAI_API_KEY"]] * 3)


def test_in_direct_mode_there_is_no_list_because_its_tokens_would_expire_apart() -> None:
    profile = Profile("p", "demo", export=("open-webui",))
    assert "OPENAI_API_KEYS" not in exports.variables(profile, Token("ya29.t", 2e9, 1e9, "service_account"))


def test_the_env_file_has_the_list_too(tmp_path: Path) -> None:
    profiles = {name: Profile(name, "demo", mode="gateway", export=("open-webui",)) for name in ("a", "b")}
    config = Config(tmp_path, profiles, "a")
    publisher = Publisher(
        Store(tmp_path / "run"), SystemClock(), config, lambda each: ("vx-local", f"http://host/{each.name}/v1")
    )
    publisher.store.prepare("b")
    publisher.publish(profiles["b"], State())
    text = (tmp_path / "run/b/env.sh").read_text()
    assert "export OPENAI_API_BASE_URLS='http://host/b/v1;http://host/a/v1'\n" in text
    assert "export OPENAI_API_KEYS='vx-local;vx-local'\n" in text


def test_a_users_own_assignment_is_filled_in_and_kept_to_the_letter() -> None:
    found = presets.expand(("A_KEY={token}", 'B_URL=a "b" $c {profile}={model}', "C_KEY=d=e"), FIELDS)
    assert found == {"A_KEY": "ya29.t", "B_URL": 'a "b" $c gemini=google/gemini', "C_KEY": "d=e"}


def test_a_field_inside_a_value_is_not_filled_in_again() -> None:
    assert presets.expand(("A_KEY={model}",), FIELDS | {"model": "{token}"}) == {"A_KEY": "{token}"}


# The variables that the tools of docs/troubleshooting.md and their like read, except those that are never exported.
READ_BY_TOOLS = (
    "OPENAI_API_KEY", "OPENAI_API_KEYS", "OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_BASE_URL",
    "OPENAI_API_BASE_URLS", "OPENAI_API_HOST", "OPENAI_API_MODEL", "OPENAI_MODEL", "OPENAI_HOST", "OPENAI_BASE_PATH",
    "OPENAI_URL", "OPENAI_TIMEOUT", "OPENAI_AGENTS_DISABLE_TRACING", "GPTME_OPENAI_RESPONSES_API", "AZURE_OPENAI_KEY",
    "AVANTE_OPENAI_API_KEY", "OCO_API_KEY", "OCO_API_URL", "OCO_MODEL", "OCO_AI_PROVIDER", "AI_API_KEY",
    "CEREBRAS_API_KEY", "DEFAULT_MODEL", "COPILOT_PROVIDER_BASE_URL", "COPILOT_PROVIDER_API_KEY", "COPILOT_MODEL",
    "GOOSE_PROVIDER", "GOOSE_MODEL", "GROK_API_KEY", "GROK_BASE_URL", "GROK_MODEL",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "no_proxy", "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_CLOUD_LOCATION", "VX_TOKEN_EXPIRES_AT",
)  # fmt: skip

ACTED_ON = (
    "", "_", "1A_KEY", "A-B_KEY", "A B_KEY", "\xe9_KEY", "A_KEY\n", "_KEY", "_x_KEY", "MAIL", "MAILPATH", "TMOUT",
    "FUNCNEST", "GLIBC_TUNABLES", "GLIBC_KEY", "LD_PRELOAD", "LD_X_URL", "DYLD_X_KEY", "MALLOC_X_KEY", "PATH", "IFS",
    "ENV", "HOME", "PS1", "PS4", "PROMPT_COMMAND", "BASH_ENV", "BASH_X_KEY", "BASHOPTS_KEY", "COMP_KEY", "HISTFILE",
    "HISTX_KEY", "ZDOTDIR", "ZSH_X_URL", "zsh_X_URL", "fish_X_KEY", "FISH_X_KEY", "LANG", "LC_ALL", "PYTHONPATH",
    "PYTHONX_BASE", "PYTHON_X_HOST", "PERL5OPT", "PERL_X_URL", "RUBYOPT", "RUBY_X_URL", "NODE_OPTIONS", "NODE_X_URL",
    "NPM_CONFIG_PROXY", "PIP_INDEX_URL", "UV_INDEX_URL", "JAVA_TOOL_OPTIONS", "JAVA_X_URL", "GIT_SSH_COMMAND",
    "GIT_X_URL", "SSH_X_KEY", "EDITOR", "LESSOPEN", "STTY", "VX_TOKEN_CONFIG", "VX_TOKEN_X_KEY", "VX_TOKEN_HOOK",
    "A_key", "OPENAI", "API_BASE_URL", "OPENAI_CUSTOM_HEADERS", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID",
)  # fmt: skip


@pytest.mark.parametrize("name", READ_BY_TOOLS)
def test_each_variable_that_a_tool_reads_may_be_exported(name: str) -> None:
    assert presets.exportable(name)


@pytest.mark.parametrize("name", ACTED_ON)
def test_a_name_of_another_form_is_not_exportable(name: str) -> None:
    assert not presets.exportable(name)


def test_a_refused_name_is_a_configuration_error_that_says_which_names_are_allowed(box: Box) -> None:
    box.profile(export=["MAILPATH=/f?$(id)"])
    done = box.vx("print")
    assert (done.returncode, done.stdout) == (3, "")
    wrong, hint = done.stderr.splitlines()
    assert f"{box.config}: profiles.gemini.export" in wrong
    assert "'MAILPATH=…' has a name that is not allowed" in wrong
    assert "OPENAI_*, names that end in _KEY, _TOKEN" in hint


@pytest.mark.parametrize(
    "item",
    [
        "nonsense", "", "=x", "A_KEY=", "A_KEY='x'", "A_KEY=x\ny", "A_KEY=x\x00", "A_KEY=x\x7f", "A_KEY=\x85x",
        "A_KEY=\udcff", "A_KEY={tokn}", "A_KEY={}", "OPENAI_API_KEY=x", "OPENAI_BASE_URL=x", "OPENAI_API_BASE=x",
        "OPENAI_API_BASE_URL=x", "VX_TOKEN_EXPIRES_AT=x", *(f"{name}=x" for name in ACTED_ON),
    ],
)  # fmt: skip
def test_what_could_do_harm_is_refused_with_a_reason(item: str) -> None:
    assert presets.problem(item)
    with pytest.raises(fields.InvalidError, match="invalid item"):
        fields.exports([item])


def test_a_refused_item_is_named_without_its_value() -> None:
    with pytest.raises(fields.InvalidError, match="FOO_PASSWORD=…") as caught:
        fields.exports(["FOO_PASSWORD=hunter2"])
    assert "hunter2" not in str(caught.value)
