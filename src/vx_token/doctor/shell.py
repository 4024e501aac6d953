"""Doctor's checks of the shell and of the settings by which tools pass by the fresh token."""

import json
import re
from collections.abc import Iterator

from vx_token import endpoint, startup
from vx_token.doctor.scene import Check, Surroundings, on_loopback

ALIASES = ("OPENAI_API_BASE", "OPENAI_API_BASE_URL")


def hook(around: Surroundings) -> Iterator[Check]:
    """Whether this shell has the hook, and which file loads it."""
    where = {path: startup.scan(text) for path, text in around.texts.items() if path in _startup_files(around)}
    loads = [f"{path} line {found.loads}" for path, found in where.items() if found.loads]
    here = bool(around.environ.get("VX_TOKEN_STATUS") or around.environ.get("VX_TOKEN_HOOK"))
    if here and around.environ.get("VX_TOKEN_STATUS", "").endswith(" paused"):
        detail = "it is paused in this shell: a variable was set here by hand, or is read-only"
        yield Check("hook", "warn", detail, "to have ours back: vx-token-on")
    elif here:
        yield Check("hook", "ok", f"loaded in this shell, by {', '.join(loads) or 'no start-up file: only here'}")
    elif loads:
        yield Check("hook", "warn", f"{', '.join(loads)} loads it, but this shell does not have it", "open a new shell")
    else:
        hint = "run: vx-token setup (or use: vx-token exec -- COMMAND)"
        yield Check("hook", "warn", "no start-up file loads it", hint)
    for path, number, name in dict.fromkeys(startup.later(around.environ, where)):
        detail = f"{path} line {number} sets {name} after the hook is loaded"
        yield Check("start-up file", "fail", detail, "remove that line, or move it above the hook")


def _startup_files(around: Surroundings) -> set[object]:
    return set(startup.files(around.environ))


def variables(around: Surroundings) -> Iterator[Check]:
    """What this shell exports to tools."""
    found = [*_key(around), *_base_url(around), *_others(around)]
    what = "consistent" if around.environ.get("OPENAI_API_KEY") else "OPENAI_API_KEY is not set"
    yield from found or [Check("variables", "ok", what)]


def _key(around: Surroundings) -> Iterator[Check]:
    key, end = around.environ.get("OPENAI_API_KEY"), around.environ.get("VX_TOKEN_EXPIRES_AT", "")
    if key is None:
        return
    if re.search(r"\s", key):
        hint = "set it without: a newline at its end shows as `Connection error.`"
        yield Check("variables", "fail", "OPENAI_API_KEY holds white space", hint)
    if not end.isdigit():
        hint = "unset it, or run: vx-token doctor in a shell with the hook"
        yield Check("variables", "warn", "OPENAI_API_KEY was set by something else", hint)
    elif _direct(around) and int(end) <= around.now:
        hint = 'load the hook (vx-token setup), or now: eval "$(vx-token env)"'
        yield Check("variables", "fail", "the token that this shell exports has ended", hint)


def _direct(around: Surroundings) -> bool:
    return around.patient is None or around.patient.profile.mode == "direct"


def _base_url(around: Surroundings) -> Iterator[Check]:
    environ = around.environ
    base = environ.get("OPENAI_BASE_URL")
    for name in ("OPENAI_BASE_URL", *ALIASES):
        if environ.get(name) == "":
            detail = f"{name} is set but empty; some tools then ask api.openai.com, with your token"
            yield Check("variables", "fail", detail, f"unset {name}")
    for name in ALIASES:
        value = environ.get(name)
        if value and value != base:
            yield Check("variables", "fail", f"{name} differs from OPENAI_BASE_URL; tools read either", f"unset {name}")
    if "OPENAI_API_KEY" in environ and base is None and "VX_TOKEN_EXPIRES_AT" in environ:
        detail = "OPENAI_API_KEY is a Google token, but OPENAI_BASE_URL is not set: tools send it to api.openai.com"
        yield Check("variables", "fail", detail, 'eval "$(vx-token env)"')


def _others(around: Surroundings) -> Iterator[Check]:
    if re.search(r"(?im)^\s*authorization\s*:", around.environ.get("OPENAI_CUSTOM_HEADERS", "")):
        detail = "OPENAI_CUSTOM_HEADERS holds an Authorization line, which beats OPENAI_API_KEY"
        yield Check("variables", "fail", detail, "unset OPENAI_CUSTOM_HEADERS")
    if around.environ.get("AZURE_OPENAI_KEY"):
        detail = "AZURE_OPENAI_KEY is set; openai-java refuses to work with both keys"
        yield Check("variables", "warn", detail, "unset AZURE_OPENAI_KEY")


def dotenv(around: Surroundings) -> Iterator[Check]:
    """Keys in files that a tool prefers to the environment."""
    for path, text in around.texts.items():
        if path.name == ".env" and (found := re.search(r"(?m)^\s*(?:export\s+)?OPENAI_API_KEY\s*=", text)):
            yield Check("key files", "warn", f"{_place(path, text, found)} sets OPENAI_API_KEY; {AIDER}", REMOVE)
        if path.name == ".aider.conf.yml" and (found := re.search(r"(?m)^\s*openai-api-key\s*:", text)):
            yield Check("key files", "warn", f"{_place(path, text, found)} sets openai-api-key; {AIDER}", REMOVE)
        if path.name == "keys.json" and _has_openai(text):
            detail = f"{path} holds a key `openai`, which llm prefers to the environment's"
            yield Check("key files", "warn", detail, "remove it, or have it written anew at each refresh (on_refresh)")


AIDER = "aider prefers it to the environment's"
REMOVE = "remove that line"


def _place(path: object, text: str, found: re.Match[str]) -> str:
    return f"{path} line {text.count(chr(10), 0, found.end()) + 1}"


def _has_openai(text: str) -> bool:
    try:
        content = json.loads(text)
    except ValueError:
        return False
    return isinstance(content, dict) and "openai" in content


def proxies(around: Surroundings) -> Iterator[Check]:
    """A proxy, which cannot reach what lives on this machine."""
    names = [name for name in endpoint.PROXIES if around.environ.get(name)]
    if not names:
        return
    local = [each for each in around.patients if each.profile.mode == "gateway" or on_loopback(each.profile.url)]
    spared = {item.strip() for name in ("NO_PROXY", "no_proxy") for item in around.environ.get(name, "").split(",")}
    if local and "*" not in spared and not spared.issuperset(endpoint.LOOPBACK_NAMES):
        detail = f"{', '.join(names)} set without NO_PROXY: requests to this machine go to the proxy"
        hint = "export NO_PROXY=127.0.0.1,localhost no_proxy=127.0.0.1,localhost"
        yield Check("proxies", "fail", detail, hint)
    else:
        yield Check("proxies", "ok", f"{', '.join(names)} set")


def gateway(around: Surroundings) -> Iterator[Check]:
    """Whether the gateway takes connections."""
    if around.gateway_problem is not None:
        failed = bool(around.gateway_problem)
        detail = f"it cannot be reached: {around.gateway_problem}" if failed else "takes connections"
        hint = "see: vx-token service logs" if around.daemon else "run: vx-token service install"
        yield Check("gateway", "fail" if failed else "ok", detail, hint if failed else "")
