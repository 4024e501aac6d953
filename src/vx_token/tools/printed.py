"""Tools for which `vx-token connect` prints the text to paste, because they have no file that it could edit safely.

The texts are those of string.Template; `Tool.pasted` has their fields.
"""

from vx_token.tools.model import Tool

_FROM_DOCS = "from its documentation, not run"
_CONTAINER = "in a container, 127.0.0.1 is the container itself: see: vx-token help containers"

TOOLS = (
    Tool(
        "aichat",
        "aichat",
        f"{_FROM_DOCS}: source 82976d3, 2026-02",
        ("aichat",),
        text="""\
# ~/.config/aichat/config.yaml
model: vx-token:$model
clients:
  - type: openai-compatible
    name: vx-token
    api_base: $url
    api_key: KEY
    models:
      - name: $model""",
    ),
    Tool(
        "avante",
        "avante.nvim",
        f"{_FROM_DOCS}: source a933431, 2026-08",
        needs_static_key=False,
        text="""\
-- in the setup of avante.nvim
provider = "vertex",
providers = {
  vertex = {
    __inherited_from = "openai",
    endpoint = "$url",
    model = "$model",
    api_key_name = "cmd:$command",
  },
},""",
        remarks=("the key is cached until Neovim ends: in direct mode for at most an hour",),
    ),
    Tool(
        "codecompanion",
        "codecompanion.nvim",
        f"{_FROM_DOCS}: source f1afd02, 2026-08",
        needs_static_key=False,
        text="""\
-- in the setup of codecompanion.nvim
adapters = { http = { vertex = function()
  return require("codecompanion.adapters").extend("openai_compatible", {
    env = { url = "$scheme://$host", api_key = "cmd:$command",
            chat_url = "/$path/chat/completions" },
    schema = { model = { default = "$model" } },
  })
end } },
strategies = { chat = { adapter = "vertex" } },""",
    ),
    Tool(
        "copilot",
        "GitHub Copilot CLI",
        "run: @github/copilot 1.0.102, 2026-11-29",
        ("copilot",),
        needs_static_key=False,
        text="""\
# in the environment
export COPILOT_PROVIDER_BASE_URL='$url'
export COPILOT_PROVIDER_API_KEY_COMMAND='$command'
export COPILOT_MODEL='$model'""",
        remarks=("it runs the command before each request",),
    ),
    Tool(
        "crush",
        "crush",
        f"{_FROM_DOCS}: source 37f36e9, 2026-08",
        ("crush",),
        needs_static_key=False,
        text="""\
// ~/.config/crush/crush.json
{
  "providers": {
    "vx-token": {
      "type": "openai-compat",
      "base_url": "$url",
      "api_key": "$$($command)",
      "models": [
        {
          "id": "$model",
          "name": "$model",
          "context_window": 1000000,
          "default_max_tokens": 8192
        }
      ]
    }
  }
}""",
    ),
    Tool(
        "dify",
        "Dify",
        _FROM_DOCS,
        text="""\
Settings > Model Provider > OpenAI-API-compatible > Add model:
  Model Name        $model
  API Key           KEY
  API endpoint URL  $url""",
        remarks=(_CONTAINER,),
    ),
    Tool(
        "fabric",
        "fabric",
        f"{_FROM_DOCS}: source 272f04d, 2025-07",
        ("fabric",),
        text="""\
# ~/.config/fabric/.env
OPENAI_API_BASE_URL=$url
OPENAI_API_KEY=KEY
DEFAULT_VENDOR=OpenAI
DEFAULT_MODEL=$model""",
    ),
    Tool(
        "goose",
        "goose",
        f"{_FROM_DOCS}: source 011dd8c",
        ("goose",),
        text="""\
# ~/.config/goose/config.yaml
GOOSE_PROVIDER: openai
GOOSE_MODEL: $model
OPENAI_HOST: $scheme://$host
OPENAI_BASE_PATH: $path/chat/completions

# in the environment, or at `goose configure`
OPENAI_API_KEY=KEY""",
    ),
    Tool(
        "gptel",
        "gptel",
        f"{_FROM_DOCS}: source cd2cd73, 2026-08",
        needs_static_key=False,
        text="""\
;; in your Emacs configuration
(setq gptel-model '$model
      gptel-backend (gptel-make-openai "vx-token"
        :protocol "$scheme" :host "$host" :endpoint "/$path/chat/completions" :stream t
        :key (lambda () (string-trim (shell-command-to-string "$command")))
        :models '($model)))""",
    ),
    Tool(
        "jetbrains",
        "JetBrains AI Assistant",
        _FROM_DOCS,
        text="""\
Settings > Tools > AI Assistant > Models > Third-party AI providers > OpenAI-compatible:
  URL      $url
  API key  KEY
  Model    $model""",
    ),
    Tool(
        "jupyter-ai",
        "Jupyter AI",
        f"{_FROM_DOCS}: magics 2.31",
        text="""\
Jupyter AI's settings: model provider OpenAI (general interface):
  Model ID       $model
  Base API URL   $url
  OPENAI_API_KEY KEY""",
    ),
    Tool(
        "librechat",
        "LibreChat",
        _FROM_DOCS,
        text="""\
# librechat.yaml
endpoints:
  custom:
    - name: vx-token
      apiKey: "$${VX_TOKEN_GATEWAY_KEY}"
      baseURL: $url
      models:
        default: ["$model"]
        fetch: false

# .env
VX_TOKEN_GATEWAY_KEY=KEY""",
        remarks=(_CONTAINER,),
    ),
    Tool(
        "litellm",
        "LiteLLM proxy",
        "run: litellm 1.106, 2026-11-22",
        ("litellm",),
        text="""\
# config.yaml of the proxy
model_list:
  - model_name: $model
    litellm_params:
      model: openai/$model
      api_base: $url
      api_key: os.environ/VX_TOKEN_GATEWAY_KEY

# in its environment
VX_TOKEN_GATEWAY_KEY=KEY""",
    ),
    Tool(
        "marimo",
        "marimo",
        _FROM_DOCS,
        ("marimo",),
        text="""\
# marimo.toml (marimo config show prints its place)
[ai.models]
chat_model = "vx-token/$model"

[ai.custom_providers.vx-token]
base_url = "$url"
api_key = "KEY\"""",
    ),
    Tool(
        "mods",
        "mods",
        f"{_FROM_DOCS}: source 0425d0d, 2026-03",
        ("mods",),
        needs_static_key=False,
        text="""\
# mods.yml (mods --settings)
default-model: $model
apis:
  vx-token:
    base-url: $url
    api-key-cmd: $command
    models:
      $model:
        max-input-chars: 1000000""",
    ),
    Tool(
        "n8n",
        "n8n",
        f"{_FROM_DOCS}: n8n 2.41",
        ("n8n",),
        text="""\
Credentials > OpenAI account:
  API Key   KEY
  Base URL  $url
in the node OpenAI Chat Model:
  Model     $model (by ID); Use Responses API: off""",
        remarks=(_CONTAINER,),
    ),
    Tool(
        "open-webui",
        "Open WebUI",
        f"{_FROM_DOCS}: 0.12.4",
        ("open-webui",),
        text="""\
Admin Settings > Connections > OpenAI API > Add connection:
  URL        $url
  API key    KEY
  Model IDs  $model, or none for all that the gateway lists

or at the first start only, in the environment:
  OPENAI_API_BASE_URL=$url
  OPENAI_API_KEY=KEY""",
        remarks=(
            "it shows the models that the gateway lists: set model, models or list_publishers in the profile",
            _CONTAINER,
        ),
    ),
    Tool(
        "promptfoo",
        "promptfoo",
        "run: promptfoo 0.121, 2026-11-22",
        ("promptfoo",),
        text="""\
# promptfooconfig.yaml
providers:
  - id: openai:chat:$model
    config:
      apiBaseUrl: $url
      apiKeyEnvar: VX_TOKEN_GATEWAY_KEY

# in the environment
VX_TOKEN_GATEWAY_KEY=KEY""",
    ),
    Tool(
        "vscode",
        "VS Code Copilot Chat, own models",
        _FROM_DOCS,
        ("code",),
        text="""\
// settings.json of VS Code
{
  "github.copilot.chat.customOAIModels": {
    "$model": {
      "name": "$model",
      "url": "$url/chat/completions",
      "toolCalling": true,
      "vision": true,
      "maxInputTokens": 1000000,
      "maxOutputTokens": 8192,
      "requiresAPIKey": true
    }
  }
}

// asked for by: Chat: Manage Language Models
KEY""",
    ),
    Tool(
        "zed",
        "Zed",
        f"{_FROM_DOCS}: source 000442d",
        ("zed",),
        text="""\
// settings.json of Zed
{
  "language_models": {
    "openai_compatible": {
      "vx-token": {
        "api_url": "$url",
        "available_models": [
          {
            "name": "$model",
            "display_name": "$model",
            "max_tokens": 1000000
          }
        ]
      }
    }
  }
}

// in the agent's settings, below vx-token: API key
KEY""",
    ),
    Tool(
        "claude-code",
        "Claude Code",
        "seen in a run",
        ("claude",),
        refusal="Claude Code speaks Anthropic's protocol, not OpenAI's; for Claude on Vertex AI it has its own login "
        "(CLAUDE_CODE_USE_VERTEX=1). Never set apiKeyHelper to `vx-token print`: without a base URL, that sends the "
        "Google token to api.anthropic.com",
    ),
    Tool(
        "cursor",
        "Cursor",
        "its documentation",
        ("cursor",),
        refusal="Cursor sends requests from its own servers, which cannot reach a gateway on this machine, and a "
        "Google token in its settings would go to those servers and expire within an hour. Never give it a token, and "
        "never open the gateway to the internet for it",
    ),
)
