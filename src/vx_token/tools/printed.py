"""Tools for which `vx-token connect` prints the text to paste, because no run here has shown an edit to work."""

import json

from vx_token.tools.model import Access, Tool

KEY = "KEY"
"""Replaces the key in a text, because a printed key remains in the terminal."""


def _command(access: Access) -> str:
    return " ".join(access.command)


def _form(*lines: str) -> str:
    return "\n".join(lines)


def _crush(access: Access) -> str:
    provider = {
        "type": "openai-compat",
        "base_url": access.url,
        "api_key": f"$({_command(access)})",
        "models": [{"id": access.model, "name": access.model, "context_window": 1000000, "default_max_tokens": 8192}],
    }
    return "// ~/.config/crush/crush.json\n" + json.dumps({"providers": {"vx-token": provider}}, indent=2)


def _goose(access: Access) -> str:
    host, _, path = access.url.partition("://")[2].partition("/")
    return _form(
        "# ~/.config/goose/config.yaml",
        "GOOSE_PROVIDER: openai",
        f"GOOSE_MODEL: {access.model}",
        f"OPENAI_HOST: {access.url.partition('://')[0]}://{host}",
        f"OPENAI_BASE_PATH: {path}/chat/completions",
        "",
        "# in the environment, or at `goose configure`",
        f"OPENAI_API_KEY={KEY}",
    )


def _zed(access: Access) -> str:
    model = {"name": access.model, "display_name": access.model, "max_tokens": 1000000}
    provider = {"api_url": access.url, "available_models": [model]}
    text = json.dumps({"language_models": {"openai_compatible": {"vx-token": provider}}}, indent=2)
    return _form("// settings.json of Zed", text, "", "// in the agent's settings, below vx-token: API key", KEY)


def _copilot(access: Access) -> str:
    model = {
        "name": access.model,
        "url": f"{access.url}/chat/completions",
        "toolCalling": True,
        "vision": True,
        "maxInputTokens": 1000000,
        "maxOutputTokens": 8192,
        "requiresAPIKey": True,
    }
    text = json.dumps({"github.copilot.chat.customOAIModels": {access.model: model}}, indent=2)
    return _form("// settings.json of VS Code", text, "", "// asked for by: Chat: Manage Language Models", KEY)


def _open_webui(access: Access) -> str:
    return _form(
        "Admin Settings > Connections > OpenAI API > Add connection:",
        f"  URL      {access.url}",
        f"  API key  {KEY}",
        f"  Model    {access.model}",
        "",
        "or at the first start only, in the environment:",
        f"  OPENAI_API_BASE_URL={access.url}",
        f"  OPENAI_API_KEY={KEY}",
    )


def _librechat(access: Access) -> str:
    return _form(
        "# librechat.yaml",
        "endpoints:",
        "  custom:",
        "    - name: vx-token",
        '      apiKey: "${VX_TOKEN_GATEWAY_KEY}"',
        f"      baseURL: {access.url}",
        "      models:",
        f'        default: ["{access.model}"]',
        "        fetch: false",
        "",
        "# .env",
        f"VX_TOKEN_GATEWAY_KEY={KEY}",
    )


def _litellm(access: Access) -> str:
    return _form(
        "# config.yaml of the proxy",
        "model_list:",
        f"  - model_name: {access.model}",
        "    litellm_params:",
        f"      model: openai/{access.model}",
        f"      api_base: {access.url}",
        "      api_key: os.environ/VX_TOKEN_GATEWAY_KEY",
        "",
        "# in its environment",
        f"VX_TOKEN_GATEWAY_KEY={KEY}",
    )


def _promptfoo(access: Access) -> str:
    return _form(
        "# promptfooconfig.yaml",
        "providers:",
        f"  - id: openai:chat:{access.model}",
        "    config:",
        f"      apiBaseUrl: {access.url}",
        "      apiKeyEnvar: VX_TOKEN_GATEWAY_KEY",
        "",
        "# in the environment",
        f"VX_TOKEN_GATEWAY_KEY={KEY}",
    )


def _fabric(access: Access) -> str:
    return _form(
        "# ~/.config/fabric/.env",
        f"OPENAI_API_BASE_URL={access.url}",
        f"OPENAI_API_KEY={KEY}",
        "DEFAULT_VENDOR=OpenAI",
        f"DEFAULT_MODEL={access.model}",
    )


def _mods(access: Access) -> str:
    return _form(
        "# mods.yml (mods --settings)",
        f"default-model: {access.model}",
        "apis:",
        "  vx-token:",
        f"    base-url: {access.url}",
        f"    api-key-cmd: {_command(access)}",
        "    models:",
        f"      {access.model}:",
        "        max-input-chars: 1000000",
    )


def _aichat(access: Access) -> str:
    return _form(
        "# ~/.config/aichat/config.yaml",
        f"model: vx-token:{access.model}",
        "clients:",
        "  - type: openai-compatible",
        "    name: vx-token",
        f"    api_base: {access.url}",
        f"    api_key: {KEY}",
        "    models:",
        f"      - name: {access.model}",
    )


def _jetbrains(access: Access) -> str:
    return _form(
        "Settings > Tools > AI Assistant > Models > Third-party AI providers > OpenAI-compatible:",
        f"  URL      {access.url}",
        f"  API key  {KEY}",
        f"  Model    {access.model}",
    )


def _avante(access: Access) -> str:
    return _form(
        "-- in the setup of avante.nvim",
        'provider = "vertex",',
        "providers = {",
        "  vertex = {",
        '    __inherited_from = "openai",',
        f'    endpoint = "{access.url}",',
        f'    model = "{access.model}",',
        f'    api_key_name = "cmd:{_command(access)}",',
        "  },",
        "},",
    )


def _codecompanion(access: Access) -> str:
    return _form(
        "-- in the setup of codecompanion.nvim",
        "adapters = { http = { vertex = function()",
        '  return require("codecompanion.adapters").extend("openai_compatible", {',
        f'    env = {{ url = "{access.url.removesuffix("/v1")}", api_key = "cmd:{_command(access)}",',
        f'            chat_url = "{"/v1" if access.url.endswith("/v1") else ""}/chat/completions" }},',
        f'    schema = {{ model = {{ default = "{access.model}" }} }},',
        "  })",
        "end } },",
        'strategies = { chat = { adapter = "vertex" } },',
    )


def _gptel(access: Access) -> str:
    scheme, _, rest = access.url.partition("://")
    host, _, path = rest.partition("/")
    return _form(
        ";; in your Emacs configuration",
        f"(setq gptel-model '{access.model}",
        '      gptel-backend (gptel-make-openai "vx-token"',
        f'        :protocol "{scheme}" :host "{host}" :endpoint "/{path}/chat/completions" :stream t',
        f'        :key (lambda () (string-trim (shell-command-to-string "{_command(access)}")))',
        f"        :models '({access.model})))",
    )


def _jupyter(access: Access) -> str:
    return _form(
        "Jupyter AI's settings: model provider OpenAI (general interface):",
        f"  Model ID       {access.model}",
        f"  Base API URL   {access.url}",
        f"  OPENAI_API_KEY {KEY}",
    )


def _marimo(access: Access) -> str:
    return _form(
        "# marimo.toml (marimo config show prints its place)",
        "[ai.models]",
        f'chat_model = "vx-token/{access.model}"',
        "",
        "[ai.custom_providers.vx-token]",
        f'base_url = "{access.url}"',
        f'api_key = "{KEY}"',
    )


def _n8n(access: Access) -> str:
    return _form(
        "Credentials > OpenAI account:",
        f"  API Key   {KEY}",
        f"  Base URL  {access.url}",
        "in the node OpenAI Chat Model:",
        f"  Model     {access.model} (by ID); Use Responses API: off",
    )


def _dify(access: Access) -> str:
    return _form(
        "Settings > Model Provider > OpenAI-API-compatible > Add model:",
        f"  Model Name        {access.model}",
        f"  API Key           {KEY}",
        f"  API endpoint URL  {access.url}",
    )


_FROM_DOCS = "from its documentation, not run"
_ANTHROPIC = (
    "Claude Code speaks Anthropic's protocol, not OpenAI's; for Claude on Vertex AI it has its own login "
    "(CLAUDE_CODE_USE_VERTEX=1). Never set apiKeyHelper to `vx-token print`: without a base URL, that sends the Google "
    "token to api.anthropic.com"
)
_CURSOR = (
    "Cursor sends requests from its own servers, which cannot reach a gateway on this machine, and a Google token in "
    "its settings would go to those servers and expire within an hour. Never give it a token, and never open the "
    "gateway to the internet for it"
)
_CONTAINER = "in a container, 127.0.0.1 is the container itself: see: vx-token help containers"

TOOLS = (
    Tool("aichat", "aichat", f"{_FROM_DOCS}: source 82976d3, 2026-02", ("aichat",), text=_aichat),
    Tool("avante", "avante.nvim", f"{_FROM_DOCS}: source a933431, 2026-08", needs_static_key=False, text=_avante,
         remarks=("the key is cached until Neovim ends: in direct mode for at most an hour",)),
    Tool("codecompanion", "codecompanion.nvim", f"{_FROM_DOCS}: source f1afd02, 2026-08", needs_static_key=False,
         text=_codecompanion),
    Tool("crush", "crush", f"{_FROM_DOCS}: source 37f36e9, 2026-08", ("crush",), needs_static_key=False, text=_crush),
    Tool("dify", "Dify", _FROM_DOCS, text=_dify, remarks=(_CONTAINER,)),
    Tool("fabric", "fabric", f"{_FROM_DOCS}: source 272f04d, 2025-07", ("fabric",), text=_fabric),
    Tool("goose", "goose", f"{_FROM_DOCS}: source 011dd8c", ("goose",), text=_goose),
    Tool("gptel", "gptel", f"{_FROM_DOCS}: source cd2cd73, 2026-08", needs_static_key=False, text=_gptel),
    Tool("jetbrains", "JetBrains AI Assistant", _FROM_DOCS, text=_jetbrains),
    Tool("jupyter-ai", "Jupyter AI", f"{_FROM_DOCS}: magics 2.31", text=_jupyter),
    Tool("librechat", "LibreChat", _FROM_DOCS, text=_librechat, remarks=(_CONTAINER,)),
    Tool("litellm", "LiteLLM proxy", "run: litellm 1.106, 2026-11-22", ("litellm",), text=_litellm),
    Tool("marimo", "marimo", _FROM_DOCS, ("marimo",), text=_marimo),
    Tool("mods", "mods", f"{_FROM_DOCS}: source 0425d0d, 2026-03", ("mods",), needs_static_key=False, text=_mods),
    Tool("n8n", "n8n", f"{_FROM_DOCS}: n8n 2.41", ("n8n",), text=_n8n, remarks=(_CONTAINER,)),
    Tool("open-webui", "Open WebUI", f"{_FROM_DOCS}: 0.12.4", ("open-webui",), text=_open_webui,
         remarks=(_CONTAINER,)),
    Tool("promptfoo", "promptfoo", "run: promptfoo 0.121, 2026-11-22", ("promptfoo",), text=_promptfoo),
    Tool("vscode", "VS Code Copilot Chat, own models", _FROM_DOCS, ("code",), text=_copilot),
    Tool("zed", "Zed", f"{_FROM_DOCS}: source 000442d", ("zed",), text=_zed),
    Tool("claude-code", "Claude Code", "seen in a run", ("claude",), refusal=_ANTHROPIC),
    Tool("cursor", "Cursor", "its documentation", ("cursor",), refusal=_CURSOR),
)  # fmt: skip
