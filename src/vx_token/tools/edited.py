"""Tools whose settings files `vx-token connect` edits: each was run with what is written here."""

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
        "apiKey": f"!{shlex.join(access.command)}",  # run at each request
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


TOOLS = (LLM, AIDER, OPENCODE, PI, QWEN_CODE, SHELL_GPT)
