"""Doctor's checks of the shell's hook and variables, of tools' own key files, of proxies and of the gateway."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from vx_token.config.load import VARIABLES
from vx_token.config.model import Config
from vx_token.errors import did_you_mean
from vx_token.gateway import address
from vx_token.gateway.key_file import LOCAL_KEY_PREFIX
from vx_token.install import shell_startup
from vx_token.report.doctor_facts import LLM_KEYS, LLM_MODELS, Check, DoctorFacts, on_loopback

API_KEY = "AIza"
"""How Google's API keys begin; https://docs.cloud.google.com/docs/authentication/api-keys."""

_WRONG_KIND = "a Google API key (AIza…), and Vertex AI takes only access tokens"

ALIASES = ("OPENAI_API_BASE", "OPENAI_API_BASE_URL")


def hook(facts: DoctorFacts) -> Iterator[Check]:
    """Check that this shell has the hook, and that no start-up file replaces its variables."""
    where = {path: shell_startup.scan(text) for path, text in facts.texts.items() if path in _startup_files(facts)}
    loads = [f"{path} line {scan.loads}" for path, scan in where.items() if scan.loads]
    here = bool(facts.environ.get("VX_TOKEN_STATUS") or facts.environ.get("VX_TOKEN_HOOK"))
    if here and facts.environ.get("VX_TOKEN_STATUS", "").endswith(" paused"):
        detail = "paused in this shell, because a variable was set by hand or is read-only"
        yield Check("hook", "warn", detail, "run vx-token-on to resume")
    elif here:
        yield Check("hook", "ok", f"loaded in this shell, by {', '.join(loads) or 'hand, not by a start-up file'}")
    elif loads:
        yield Check("hook", "warn", f"not loaded in this shell, though {', '.join(loads)} loads it", "open a new shell")
    else:
        hint = "run: vx-token setup (or use: vx-token exec -- COMMAND)"
        yield Check("hook", "warn", "no start-up file loads it", hint)
    late = dict.fromkeys(shell_startup.settings_after_hook(facts.environ, where))
    for path, number, name in sorted(late, key=lambda line: line[2].endswith("_KEY")):  # URLs first, see `key_files`
        detail = f"{path} line {number} sets {name} after the hook is loaded"
        yield Check("start-up file", "fail", detail, "remove that line, or move it above the hook")


def _startup_files(facts: DoctorFacts) -> set[object]:
    return set(shell_startup.files(facts.environ))


def variables(facts: DoctorFacts) -> Iterator[Check]:
    """Check the variables that this shell exports to tools."""
    problems = [*_key(facts), *_base_url(facts), *_others(facts)]
    detail = "consistent" if facts.environ.get("OPENAI_API_KEY") else "OPENAI_API_KEY is not set"
    yield from problems or [Check("variables", "ok", detail)]


def _key(facts: DoctorFacts) -> Iterator[Check]:
    key, end = facts.environ.get("OPENAI_API_KEY"), facts.environ.get("VX_TOKEN_EXPIRES_AT", "")
    if key is None:
        return
    if key.startswith(API_KEY) and not _leads_to_gemini_api(facts):
        hint = f"remove it where you set it, and open a new shell with the hook; or now: {RESET}"
        yield Check("variables", "fail", f"OPENAI_API_KEY is {_WRONG_KIND}", hint)
        return
    if re.search(r"\s", key):
        hint = "remove it: with a newline at the end, tools fail with `Connection error.`"
        yield Check("variables", "fail", "OPENAI_API_KEY contains white space", hint)
    if _is_local(key):
        return  # it does not expire, and `vx-token gateway key` prints it for exactly this
    if not end.isdigit():
        hint = f"open a shell with the hook, or run: {RESET} (it replaces the URLs as well as the key)"
        yield Check("variables", "warn", "OPENAI_API_KEY was not set by vx-token", hint)
    elif _direct(facts) and int(end) <= facts.now:
        hint = f"load the hook (vx-token setup), or now: {RESET}"
        yield Check("variables", "fail", "the token that this shell exports has expired", hint)


def _leads_to_gemini_api(facts: DoctorFacts) -> bool:
    """Whether this shell's tools are set up for the Gemini API, whose keys these are."""
    return _host(facts.environ.get("OPENAI_BASE_URL", "")) == "generativelanguage.googleapis.com"


def _direct(facts: DoctorFacts) -> bool:
    return facts.profile_in_use is None or facts.profile_in_use.profile.mode == "direct"


def _base_url(facts: DoctorFacts) -> Iterator[Check]:
    """Check the URLs; each hint replaces all of them, because without a URL a tool sends the token to its default."""
    environ = facts.environ
    base = environ.get("OPENAI_BASE_URL")
    ours = "OPENAI_API_KEY" in environ and "VX_TOKEN_EXPIRES_AT" in environ
    for name in ("OPENAI_BASE_URL", *ALIASES):
        value = environ.get(name)
        if value == "":
            detail = f"{name} is set but empty; some tools then send the token to api.openai.com"
            yield Check("variables", "fail", detail, RESET)
        elif ours and value and not on_loopback(value) and _host(value) not in _hosts(facts):
            detail = f"{name} leads to {_host(value)}, and OPENAI_API_KEY is a Google token: tools send it there"
            yield Check("variables", "fail", detail, RESET)
        elif value and value != base:
            yield Check("variables", "fail", f"{name} differs from OPENAI_BASE_URL; tools read either of them", RESET)
    if ours and base is None:
        detail = "OPENAI_API_KEY is a Google token, but OPENAI_BASE_URL is not set: tools send it to api.openai.com"
        yield Check("variables", "fail", detail, RESET)
    missing = [name for name in ("OPENAI_BASE_URL", *ALIASES) if name not in environ]
    if missing and _is_local(environ.get("OPENAI_API_KEY", "")):
        detail = f"{', '.join(missing)} not set: tools that read it send the gateway's key to api.openai.com"
        hint = " ".join(["export", *(f"{name}={_gateway_url(facts)}" for name in missing)])
        yield Check("variables", "warn", detail, hint)


def _is_local(key: str) -> bool:
    """Whether the key is one of the gateway's."""
    return key.startswith(LOCAL_KEY_PREFIX)


def _gateway_url(facts: DoctorFacts) -> str:
    """Return the URL that goes with a local key: the one that another variable has, else the default profile's."""
    if base := facts.environ.get("OPENAI_BASE_URL"):
        return base
    config = facts.config
    return address.base_url(config, config.default_profile) if isinstance(config, Config) else "URL"


RESET = 'eval "$(vx-token env)"'


def _hosts(facts: DoctorFacts) -> set[str]:
    """Return the hosts that may get a key from vx-token: each profile's host at Google, and the gateway."""
    profiles = [each.profile for each in facts.profiles]
    urls = [profile.url for profile in profiles]
    if isinstance(facts.config, Config):
        urls += [address.base_url(facts.config, profile.name) for profile in profiles]
    return {_host(url) for url in urls}


def _host(url: str) -> str:
    """Return host and port of a URL, without user and password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        return url
    host = "127.0.0.1" if host == "localhost" else host
    return host if port == 443 else f"{host}:{port}"


def _others(facts: DoctorFacts) -> Iterator[Check]:
    if re.search(r"(?im)^\s*authorization\s*:", facts.environ.get("OPENAI_CUSTOM_HEADERS", "")):
        detail = "OPENAI_CUSTOM_HEADERS contains an Authorization line, which overrides OPENAI_API_KEY"
        yield Check("variables", "fail", detail, "unset OPENAI_CUSTOM_HEADERS")
    if facts.environ.get("AZURE_OPENAI_KEY"):
        detail = "AZURE_OPENAI_KEY is set; openai-java refuses to work with both keys"
        yield Check("variables", "warn", detail, "unset AZURE_OPENAI_KEY")
    for name in sorted(set(facts.environ) - VARIABLES):
        prefix, _, setting = name.partition("VX_TOKEN_")
        similar = did_you_mean(setting, {each.removeprefix("VX_TOKEN_") for each in VARIABLES})
        if not prefix and similar:
            detail = f"{name} has no effect, because vx-token has no such variable"
            yield Check("variables", "warn", detail, similar.strip().replace("'", "'VX_TOKEN_", 1))


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a tool's own file that sets a key or a URL.

    Attributes:
        place: file and line.
        name: what it sets.
        tool: the tool that reads the file.
        stranger: the URL's host if it may not get the key.
        api_key: whether the key is a Google API key.
    """

    place: str
    name: str
    tool: str
    stranger: str = ""
    api_key: bool = False


def key_files(facts: DoctorFacts) -> Iterator[Check]:
    """Check for keys and URLs in files that a tool prefers to the environment.

    A URL of another provider is a failure and comes first: without the key beside it, the tool sends the Google token
    from the environment to that provider.
    """
    lines = [line for path, text in facts.texts.items() for line in _lines(facts, path, text)]
    urls = [line for line in lines if line.stranger]
    keys = [line for line in lines if line.name in _KEYS]
    for line in urls:
        detail = f"{line.place} sets {line.name} to {line.stranger}; {line.tool} sends OPENAI_API_KEY there"
        before = [key.place for key in keys if key.tool == line.tool]
        hint = f"first remove that line, only then the key ({', '.join(before)})" if before else "remove that line"
        yield Check("key files", "fail", detail, hint)
    for line in keys:
        kind = f" to {_WRONG_KIND}" if line.api_key else ""
        detail = f"{line.place} sets {line.name}{kind}; {line.tool} prefers it to the environment's"
        before = [url.place for url in urls if url.tool == line.tool]
        hint = f"first remove the URLs ({', '.join(before)}), only then that key" if before else _REMOVE[line.tool]
        yield Check("key files", "warn", detail, hint)


_REMOVE = {"aider": "remove that line", "llm": "remove it, or write it again at each refresh (on_refresh)"}
_LLM_NAME = "the key `openai`"
_KEYS = ("OPENAI_API_KEY", "AIDER_OPENAI_API_KEY", "openai-api-key", _LLM_NAME)
_DOTENV = re.compile(
    r"(?m)^[ \t]*(?:export[ \t]+)?((?:AIDER_)?OPENAI_(?:API_KEY|API_BASE|BASE_URL|API_BASE_URL))[ \t]*=(.*)"
)
_AIDER = re.compile(r"(?m)^[ \t]*(openai-api-(?:key|base))[ \t]*:(.*)")
_LLM_MODEL = re.compile(r"(?m)^[ \t]*-[ \t](?:.*\n?)(?:(?![ \t]*-[ \t]).*\n?)*")
_LLM_BASE = re.compile(r"(?m)^[ \t-]*(api_base)[ \t]*:(.*)")
_LLM_KEY = re.compile(r"""(?m)^[ \t-]*api_key_name[ \t]*:[ \t]*["']?openai\b""")


def _lines(facts: DoctorFacts, path: Path, text: str) -> Iterator[Line]:
    if path.name in (".env", ".aider.conf.yml"):
        for match in (_DOTENV if path.name == ".env" else _AIDER).finditer(text):
            yield _line(facts, path, text, match, "aider")
    elif path.name == LLM_MODELS:
        for model in _LLM_MODEL.finditer(text):
            base = _LLM_BASE.search(text, model.start(), model.end())
            if base and _LLM_KEY.search(text, model.start(), model.end()):
                yield _line(facts, path, text, base, "llm")
    elif path.name == LLM_KEYS and _has_openai(text):
        yield Line(str(path), _LLM_NAME, "llm", api_key=f'"{API_KEY}' in text)


def _line(facts: DoctorFacts, path: Path, text: str, match: re.Match[str], tool: str) -> Line:
    place = f"{path} line {text.count(chr(10), 0, match.start(1)) + 1}"
    value = match[2].strip()
    if match[1] in _KEYS:
        return Line(place, match[1], tool, api_key=value.lstrip("'\"").startswith(API_KEY))
    value = value[1:].partition(value[0])[0] if value[:1] in ("'", '"') else value.partition(" #")[0].strip()
    value = re.sub(r"\$\{(\w+)\}", lambda name: facts.environ.get(name[1], ""), value)
    host = _host(value or "https://api.openai.com")  # the default of tools for an empty URL
    return Line(place, match[1], tool, "" if host in _hosts(facts) else host)


def _has_openai(text: str) -> bool:
    try:
        content = json.loads(text)
    except ValueError:
        return False
    return isinstance(content, dict) and "openai" in content


def cursor(facts: DoctorFacts) -> Iterator[Check]:
    """Check for Cursor, whose models cannot be served from this machine."""
    inside = bool(facts.environ.get("CURSOR_TRACE_ID"))  # set in its terminals
    if not (inside or facts.cursor):
        return
    detail = "its own chat sends requests from Cursor's servers: they reach no gateway here, and a pasted token expires"
    hint = "use a tool in its terminal, or an extension that sends requests from this machine (Cline, Continue)"
    yield Check("Cursor", "warn" if inside else "ok", detail, hint)


def proxies(facts: DoctorFacts) -> Iterator[Check]:
    """Check that proxies are not used for addresses on this machine, which they cannot reach."""
    names = [name for name in address.PROXIES if facts.environ.get(name)]
    if not names:
        return
    local = [each for each in facts.profiles if each.profile.mode == "gateway" or on_loopback(each.profile.url)]
    direct = {item.strip() for name in ("NO_PROXY", "no_proxy") for item in facts.environ.get(name, "").split(",")}
    if local and "*" not in direct and not direct.issuperset(address.LOOPBACK_NAMES):
        detail = f"{', '.join(names)} set without NO_PROXY: requests to this machine go to the proxy"
        hint = "export NO_PROXY=127.0.0.1,localhost no_proxy=127.0.0.1,localhost"
        yield Check("proxies", "fail", detail, hint)
    else:
        yield Check("proxies", "ok", f"{', '.join(names)} set")


def gateway(facts: DoctorFacts) -> Iterator[Check]:
    """Check that the user's own gateway, and no other program, answers at its address."""
    if facts.gateway_problem is not None:
        detail, hint = facts.gateway_problem
        if not detail and any(each.profile.mode == "gateway" for each in facts.profiles):
            hint = "; ".join(filter(None, [hint, "tools with a key command take: vx-token gateway key"]))
        yield Check("gateway", "fail" if detail else "ok", detail or "accepts connections", hint)
    for place, exists in facts.gateway_addresses.items():
        if exists:
            detail = f"also listens at http://{place}: unencrypted, for every program that reaches this address"
            yield Check("gateway", "ok", detail, "each request needs the local key")
        else:
            hint = "start what creates it, such as Docker, or change `gateway.listen`: ip address shows yours"
            yield Check("gateway", "warn", f"no interface has the address of {place} in gateway.listen", hint)
