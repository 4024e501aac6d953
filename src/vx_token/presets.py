"""Extra variables for tools that read names of their own, as each was seen to read them, and names never to export."""

import re
from collections.abc import Mapping

PRESETS: Mapping[str, tuple[str, ...]] = {
    "chatblade": ("OPENAI_API_MODEL={model}",),
    "goose": ("OPENAI_HOST={host}", "OPENAI_BASE_PATH={path}/chat/completions"),
    "gptme": ("GPTME_OPENAI_RESPONSES_API=0",),
    "avante": ("AVANTE_OPENAI_API_KEY={token}",),
    "opencommit": ("OCO_API_KEY={token}", "OCO_API_URL={base_url}", "OCO_AI_PROVIDER=openai", "OCO_MODEL={model}"),
    "tgpt": ("OPENAI_URL={base_url}/chat/completions",),
}

FORBIDDEN: Mapping[str, str] = {
    "API_BASE_URL": "shell-gpt writes it into its settings for ever",
    "OPENAI_CUSTOM_HEADERS": "an Authorization line there beats the key",
    "OPENAI_ORG_ID": "Vertex has no OpenAI organisations",
    "OPENAI_PROJECT_ID": "Vertex has no OpenAI projects",
}

_FIELDS = ("token", "base_url", "host", "path", "model", "profile")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=([^']+)")
_FIELD = re.compile(r"\{(\w*)\}")
# The hooks refuse these too, and with one of them the whole file: names that a shell or a loader acts on by itself.
_RESERVED = re.compile(
    r"OPENAI_API_KEY|OPENAI_BASE_URL|OPENAI_API_BASE(_URL)?|VX_TOKEN_\w*|_vx_\w*|__vx_token\w*|_"
    r"|PATH|IFS|ENV|HOME|SHELL|USER|E?[UG]ID|(OLD)?PWD|CDPATH|TMPDIR|ZDOTDIR|FPATH|POSIXLY_CORRECT|SHLVL|HOSTNAME|TERM"
    r"|PS[0-4]|R?PROMPT\w*|RPS[12]|SHELLOPTS|GLOBIGNORE|OPT(IND|ARG|ERR)|REPLY|INPUTRC|COLUMNS|LINES|SECONDS|S?RANDOM"
    r"|HIST\w*|BASH\w*|LC_\w+|LANG|LANGUAGE|LD_\w+|DYLD_\w+|[Ff][Ii][Ss][Hh]\w*|\w+_functions"
    r"|USERNAME|PPID|GROUPS|LINENO|FUNC(NAME|NEST)|DIRSTACK|PIPESTATUS|COMP_\w+|COPROC|EPOCH(REALTIME|SECONDS)"
    # Special in zsh, some of them once a module is loaded.
    r"|(MAN|MODULE_|MAIL)PATH|FIGNORE|KEYBOARD_HACK|WORDCHARS|(READ)?NULLCMD|PSVAR|SAVEHIST|SPROMPT|ARGC|TTYIDLE|WATCH"
    r"|TRY_BLOCK_\w+|ZSH_\w+|zsh_\w+|(cd|f|man|mail|module_)?path|f?ignore|(dis_)?\w*(aliases|builtins|reswords|patchars)"
    r"|(dis_)?functions(_source)?|func\w+|\w*dirs|history(words)?|histchars|job(states|texts)|dirstack|commands|epochtime"
    r"|errnos|mapfile|modules|options|parameters|prompt|psvar|sysparams|term(info|cap)|usergroups|watch"
    r"|argv|pipestatus|status\w*|version|umask|hostname"
)


def problem(item: str) -> str:
    """What is wrong with an item of `export`, or ""."""
    if item in PRESETS:
        return ""
    found = _ASSIGNMENT.fullmatch(item)
    if not found or not item.isprintable():
        return "is neither a preset nor NAME=value (no quotes or control characters)"
    name = found[1]
    if name in FORBIDDEN:
        return f"is never exported: {FORBIDDEN[name]}"
    if _RESERVED.fullmatch(name):
        return "would replace a variable that has its own setting"
    unknown = [field for field in _FIELD.findall(found[2]) if field not in _FIELDS]
    return f"has unknown fields; known: {', '.join(_FIELDS)}" if unknown else ""


def expand(items: tuple[str, ...], fields: Mapping[str, str]) -> dict[str, str]:
    """The variables that `items` stand for; one whose value would be empty is left out."""
    found: dict[str, str] = {}
    for item in items:
        for assignment in PRESETS.get(item, (item,)):
            name, _, pattern = assignment.partition("=")
            wanted = _FIELD.findall(pattern)
            if all(fields.get(field) for field in wanted):
                found[name] = _FIELD.sub(lambda match: fields[match[1]], pattern)
    return found
