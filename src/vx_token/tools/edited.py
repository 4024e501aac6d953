"""Tools whose settings files `vx-token connect` edits: each was run with these settings."""

import shlex
from pathlib import Path

from vx_token.system import paths
from vx_token.tools.model import Access, Environ, SettingsFile, Tool
from vx_token.tools.settings import Setting

PROVIDER = "vx-token"
"""The name of our provider in tools that have a list of providers."""

TITLE = "Vertex AI (vx-token)"
QUESTION = "Say hello."


def _config_home(environ: Environ) -> Path:
    return Path(environ.get("XDG_CONFIG_HOME") or paths.home_dir(environ) / ".config")


def _llm_files(access: Access, environ: Environ) -> tuple[SettingsFile, ...]:
    folder = Path(environ.get("LLM_USER_PATH") or _config_home(environ) / "io.datasette.llm")
    model = {
        "model_id": f"{PROVIDER}/{access.model}",
        "model_name": access.model,
        "api_base": access.url,
        "api_key_name": PROVIDER,
        "supports_tools": True,
        "supports_schema": True,
    }
    return (
        SettingsFile(folder / "extra-openai-models.yaml", "yaml", (Setting((), model, is_item=True),)),
        SettingsFile(folder / "keys.json", "json", (Setting((PROVIDER,), access.key),), only_secrets=True),
    )


LLM = Tool(
    "llm",
    "llm",
    "run: llm 0.36, 2026-11-29",
    ("llm",),
    _llm_files,
    request=lambda access: ("-m", f"{PROVIDER}/{access.model}", "--no-log", QUESTION),
    example=lambda access: f"llm -m {PROVIDER}/{access.model} 'hello'",
    remarks=(f"make it the default: llm models default {PROVIDER}/MODEL",),
)


def _aider_files(access: Access, environ: Environ) -> tuple[SettingsFile, ...]:
    settings = (
        Setting(("model",), f"openai/{access.model}"),
        Setting(("openai-api-key",), access.key),
        Setting(("openai-api-base",), access.url),
        # litellm prefers OPENAI_BASE_URL, so an exported one would win over openai-api-base.
        Setting(("set-env",), f"OPENAI_BASE_URL={access.url}", is_item=True),
    )
    return (SettingsFile(paths.home_dir(environ) / ".aider.conf.yml", "yaml", settings),)


_AIDER_ONCE = ("--no-git", "--yes-always", "--no-check-update", "--no-show-model-warnings", "--no-analytics")

AIDER = Tool(
    "aider",
    "aider",
    "run: aider 0.86.2, 2026-11-29",
    ("aider",),
    _aider_files,
    request=lambda _: (*_AIDER_ONCE, "--no-pretty", "--message", QUESTION),
    example=lambda _: "aider",
    remarks=("a .aider.conf.yml in a repository or in the working folder wins over the one in the home folder",),
)


def _opencode_files(access: Access, environ: Environ) -> tuple[SettingsFile, ...]:
    folder = _config_home(environ) / "opencode"
    with_comments = folder / "opencode.jsonc"
    path = with_comments if with_comments.exists() else folder / "opencode.json"
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": TITLE,
        "options": {"baseURL": access.url, "apiKey": access.key or f"{{file:{access.key_file}}}"},
        "models": {access.model: {}},  # without it, the provider has no model
    }
    return (SettingsFile(path, "json", (Setting(("provider", PROVIDER), provider),)),)


OPENCODE = Tool(
    "opencode",
    "opencode",
    "run: opencode-ai 1.18.33, 2026-11-29",
    ("opencode",),
    _opencode_files,
    needs_static_key=False,
    request=lambda access: ("run", "-m", f"{PROVIDER}/{access.model}", QUESTION),
    example=lambda access: f"opencode -m {PROVIDER}/{access.model}",
)


def _pi_files(access: Access, environ: Environ) -> tuple[SettingsFile, ...]:
    folder = Path(environ.get("PI_CODING_AGENT_DIR") or paths.home_dir(environ) / ".pi" / "agent")
    provider = {
        "baseUrl": access.url,
        "api": "openai-completions",
        "apiKey": access.key or f"!{shlex.join(access.command)}",  # a command is run at each request
        "models": [{"id": access.model}],
    }
    return (SettingsFile(folder / "models.json", "json", (Setting(("providers", PROVIDER), provider),)),)


PI = Tool(
    "pi",
    "pi",
    "run: @earendil-works/pi-coding-agent 1.6.0, 2026-11-29",
    ("pi",),
    _pi_files,
    needs_static_key=False,
    request=lambda access: ("-p", "--no-session", "--provider", PROVIDER, "--model", access.model, QUESTION),
    example=lambda access: f"pi --provider {PROVIDER} --model {access.model}",
)


def _qwen_files(access: Access, environ: Environ) -> tuple[SettingsFile, ...]:
    auth = ("security", "auth")
    settings = (
        Setting((*auth, "selectedType"), "openai"),
        Setting((*auth, "apiKey"), access.key),
        Setting((*auth, "baseUrl"), access.url),
        Setting(("model", "name"), access.model),
    )
    return (SettingsFile(paths.home_dir(environ) / ".qwen" / "settings.json", "json", settings),)


QWEN_CODE = Tool(
    "qwen-code",
    "Qwen Code",
    "run: @qwen-code/qwen-code 0.24.4, 2026-11-29",
    ("qwen",),
    _qwen_files,
    request=lambda _: ("-p", QUESTION),
    example=lambda _: "qwen",
)


def _sgpt_files(access: Access, environ: Environ) -> tuple[SettingsFile, ...]:
    settings = (
        Setting(("OPENAI_API_KEY",), access.key),
        Setting(("API_BASE_URL",), access.url),
        Setting(("DEFAULT_MODEL",), access.model),
    )
    return (SettingsFile(paths.home_dir(environ) / ".config" / "shell_gpt" / ".sgptrc", "dotenv", settings),)


SHELL_GPT = Tool(
    "shell-gpt",
    "shell-gpt",
    "run: shell-gpt 1.5.1, 2026-11-29",
    ("sgpt",),
    _sgpt_files,
    request=lambda _: ("--no-cache", "--no-md", QUESTION),
    example=lambda _: "sgpt 'hello'",
    remarks=("an exported OPENAI_API_KEY wins over its file: in gateway mode both work",),
)


def _continue_files(access: Access, environ: Environ) -> tuple[SettingsFile, ...]:
    folder = Path(environ.get("CONTINUE_GLOBAL_DIR") or paths.home_dir(environ) / ".continue")
    model = {
        "name": TITLE,
        "provider": "openai",
        "model": access.model,
        "apiBase": access.url,
        "apiKey": access.key,
        "roles": ["chat", "edit", "apply"],
    }
    settings = (
        Setting(("name",), "Local settings", is_required=True),
        Setting(("version",), "1.0.0", is_required=True),
        Setting(("schema",), "v1", is_required=True),
        Setting(("models",), model, is_item=True),
    )
    return (SettingsFile(folder / "config.yaml", "yaml", settings),)


CONTINUE = Tool(
    "continue",
    "Continue",
    "run: @continuedev/cli 1.5.47, 2026-11-29",
    ("cn",),
    _continue_files,
    request=lambda _: ("-p", QUESTION),
    example=lambda _: "cn",
    remarks=("in an editor, restart the extension, and choose the model in its list",),
)


def _gptme_files(access: Access, environ: Environ) -> tuple[SettingsFile, ...]:
    provider = {
        "name": PROVIDER,
        "base_url": access.url,
        "api_key": access.key,
        "default_model": access.model,
    }
    path = _config_home(environ) / "gptme" / "config.toml"
    return (SettingsFile(path, "toml", (Setting(("providers",), provider, is_item=True),)),)


GPTME = Tool(
    "gptme",
    "gptme",
    "run: gptme 0.35.1, 2026-11-29",
    ("gptme",),
    _gptme_files,
    request=lambda access: ("-n", "-m", f"{PROVIDER}/{access.model}", "-t", "none", QUESTION),
    example=lambda access: f"gptme -m {PROVIDER}/{access.model}",
)


def _gpt_cli_files(access: Access, environ: Environ) -> tuple[SettingsFile, ...]:
    home = paths.home_dir(environ)
    first, second = home / ".config" / "gpt-cli" / "gpt.yml", home / ".gptrc"  # the first that exists is read
    settings = (
        Setting(("openai_api_key",), access.key),
        Setting(("openai_base_url",), access.url),
        Setting(("assistants", PROVIDER), {"model": f"oai-compat:{access.model}", "messages": []}),
        Setting(("default_assistant",), PROVIDER, is_default=True),
    )
    return (SettingsFile(second if second.exists() and not first.exists() else first, "yaml", settings),)


GPT_CLI = Tool(
    "gpt-cli",
    "gpt-cli",
    "run: gpt-command-line 0.4.3, 2026-11-29",
    ("gpt",),
    _gpt_cli_files,
    request=lambda _: (PROVIDER, "--prompt", QUESTION),
    example=lambda _: f"gpt {PROVIDER}",
)


def _cline_files(access: Access, environ: Environ) -> tuple[SettingsFile, ...]:
    provider = "openai-compatible"
    ours = {
        "settings": {"provider": provider, "apiKey": access.key, "model": access.model, "baseUrl": access.url},
        "updatedAt": "2026-01-01T00:00:00.000Z",
        "tokenSource": "manual",
    }
    settings = (
        Setting(("version",), 1, is_required=True),
        Setting(("lastUsedProvider",), provider),
        Setting(("modes",), {}, is_required=True),
        Setting(("providers", provider), ours, volatile=("updatedAt",)),
    )
    path = paths.home_dir(environ) / ".cline" / "data" / "settings" / "providers.json"
    return (SettingsFile(path, "json", settings),)


CLINE = Tool(
    "cline",
    "Cline CLI",
    "run: cline 3.0.65, 2026-11-29",
    ("cline",),
    _cline_files,
    example=lambda _: "cline 'hello'",
    remarks=("the extension for VS Code keeps its key in the editor's secret storage: enter it there",),
)


def _codex_files(access: Access, environ: Environ) -> tuple[SettingsFile, ...]:
    folder = Path(environ.get("CODEX_HOME") or paths.home_dir(environ) / ".codex")
    provider = {
        "name": TITLE,
        "base_url": access.url,
        "wire_api": "responses",
        "auth": {"command": access.command[0], "args": list(access.command[1:])},  # run again after each 401
    }
    return (SettingsFile(folder / "config.toml", "toml", (Setting(("model_providers", PROVIDER), provider),)),)


def _codex_options(access: Access) -> tuple[str, ...]:
    return ("-c", f"model_provider={PROVIDER}", "-m", access.model)


CODEX = Tool(
    "codex",
    "Codex CLI",
    "run: @openai/codex 0.171.0, 2026-11-29",
    ("codex",),
    _codex_files,
    needs_static_key=False,
    request=lambda access: ("exec", "--skip-git-repo-check", *_codex_options(access), QUESTION),
    example=lambda access: f"codex {shlex.join(_codex_options(access))}",
    remarks=("Codex sends Responses requests only, and Vertex AI serves that route for some models only",),
)


TOOLS = (CLINE, CODEX, CONTINUE, GPT_CLI, GPTME, LLM, AIDER, OPENCODE, PI, QWEN_CODE, SHELL_GPT)
