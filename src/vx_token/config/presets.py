"""Presets of extra variables for tools that do not read OPENAI_*, and the names of variables that may be exported."""

import re
from collections.abc import Mapping

PRESETS: Mapping[str, tuple[str, ...]] = {
    "chatblade": ("OPENAI_API_MODEL={model}",),
    "copilot": (
        "COPILOT_PROVIDER_BASE_URL={base_url}",
        "COPILOT_PROVIDER_API_KEY={token}",
        "COPILOT_MODEL={model}",
    ),
    "goose": (
        "OPENAI_HOST={host}",
        "OPENAI_BASE_PATH={path}/chat/completions",
        "GOOSE_PROVIDER=openai",
        "GOOSE_MODEL={model}",
    ),
    "grok": ("GROK_API_KEY={token}", "GROK_BASE_URL={base_url}", "GROK_MODEL={model}"),
    "gptme": ("GPTME_OPENAI_RESPONSES_API=0",),
    "avante": ("AVANTE_OPENAI_API_KEY={token}",),
    "open-webui": ("OPENAI_API_BASE_URLS={base_urls}", "OPENAI_API_KEYS={tokens}"),
    "opencommit": ("OCO_API_KEY={token}", "OCO_API_URL={base_url}", "OCO_AI_PROVIDER=openai", "OCO_MODEL={model}"),
    "shell-gpt": ("DEFAULT_MODEL={model}",),
    "tgpt": ("OPENAI_URL={base_url}/chat/completions",),
}

FORBIDDEN: Mapping[str, str] = {
    "API_BASE_URL": "shell-gpt stores it in its settings permanently",
    "OPENAI_CUSTOM_HEADERS": "an Authorization line there overrides the key",
    "OPENAI_ORG_ID": "Vertex has no OpenAI organisations",
    "OPENAI_PROJECT_ID": "Vertex has no OpenAI projects",
}

FIELDS = ("token", "base_url", "host", "path", "model", "profile", "tokens", "base_urls")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT = re.compile(rf"({_NAME.pattern})=([^']+)")
_FIELD = re.compile(r"\{(\w*)\}")
# Exported without presets; each has its own setting.
_OWN = frozenset({"OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_BASE_URL", "VX_TOKEN_EXPIRES_AT"})
_NAMES = frozenset({"VX_TOKEN_EXPIRES_AT", "GPTME_OPENAI_RESPONSES_API", "no_proxy"})
# Prefixes of variables that change what a loader, a shell, an interpreter or a package manager does.
PREFIXES = (
    "_", "LD_", "DYLD_", "GLIBC_", "MALLOC_", "BASH", "ZSH", "zsh", "FISH", "fish", "COMP_", "HIST", "PYTHON", "PERL",
    "RUBY", "NODE_", "NPM_", "PIP_", "UV_", "JAVA", "GIT_", "SSH_", "VX_TOKEN_",
)  # fmt: skip
_SUFFIXES = (
    "_KEY", "_TOKEN", "_URL", "_URI", "_BASE", "_HOST", "_ENDPOINT", "_MODEL", "_PROVIDER", "_PROJECT", "_LOCATION",
    "_REGION", "_TIMEOUT", "_PROXY",
)  # fmt: skip

ALLOWED = f"OPENAI_*, names that end in {', '.join(_SUFFIXES)}, {' and '.join(sorted(_NAMES - _OWN))}"
"""The form of the names that may be exported."""


def exportable(name: str) -> bool:
    """Whether an env file may set the variable `name`.

    Names are allowed by their form, because a list of the names that shells, loaders and interpreters read is never
    complete. The hooks apply the same rule, and refuse a whole env file because of one other name.
    """
    if name in _NAMES:
        return True
    if name in FORBIDDEN or name.startswith(PREFIXES) or not _NAME.fullmatch(name):
        return False
    return name.startswith("OPENAI_") or name.endswith(_SUFFIXES)


def problem(item: str) -> str:
    """Return why an item of `export` is invalid, as the end of a sentence; "" for a valid item."""
    if item in PRESETS:
        return ""
    assignment = _ASSIGNMENT.fullmatch(item)
    if not assignment or not item.isprintable():
        return "is neither a preset nor NAME=value (no quotes or control characters)"
    name, value = assignment.groups()
    if name in FORBIDDEN:
        return f"is never exported: {FORBIDDEN[name]}"
    if name in _OWN:
        return "would replace a variable that has its own setting"
    if not exportable(name):
        return "has a name that is not allowed"
    unknown = [field for field in _FIELD.findall(value) if field not in FIELDS]
    return f"has unknown fields; known: {', '.join(FIELDS)}" if unknown else ""


def expand(items: tuple[str, ...], fields: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `export`'s items, without those whose value would have an empty field."""
    variables: dict[str, str] = {}
    for item in items:
        for assignment in PRESETS.get(item, (item,)):
            name, _, pattern = assignment.partition("=")
            if all(fields.get(field) for field in _FIELD.findall(pattern)):
                variables[name] = _FIELD.sub(lambda match: fields[match[1]], pattern)
    return variables
