"""The variables and header lines that tools read, made from a token."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from vx_token.config import presets
from vx_token.config.model import Config, Profile
from vx_token.credentials.token import Token
from vx_token.errors import printable


def variables(
    profile: Profile, token: Token | None, key: str = "", url: str = "", urls: Sequence[str] = ()
) -> dict[str, str]:
    """Return the variables to export; none is empty.

    The gateway's `key` and `url` do not expire, so they are exported without a token as well; `urls` as for `fields`.
    """
    values = fields(profile, token, key, url, urls)
    if not values:
        return {}
    base = values["base_url"]
    return {
        "OPENAI_API_KEY": values["token"],
        "OPENAI_BASE_URL": base,
        "OPENAI_API_BASE": base,
        "OPENAI_API_BASE_URL": base,
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        **({"OPENAI_MODEL": profile.model} if profile.model else {}),
        **presets.expand(profile.export, values),
        "VX_TOKEN_EXPIRES_AT": str(int(token.expires_at) if token else 0),
    }


def gateway_urls(config: Config, profile: Profile, url_of: Callable[[Profile], str]) -> tuple[str, ...]:
    """Return the gateway's URLs of `profile` and of all others in gateway mode, for tools that take a list."""
    others = (each for each in config.profiles.values() if each.mode == "gateway" and each.name != profile.name)
    return tuple(url_of(each) for each in (profile, *others))


def fields(
    profile: Profile, token: Token | None, key: str = "", url: str = "", urls: Sequence[str] = ()
) -> dict[str, str]:
    """Return what replaces the fields of `export` and of templates; empty without a key and without a live token.

    Args:
        profile: the profile.
        token: its live token, if it has one.
        key: the gateway's key, empty in direct mode. It does not expire, so `expires_at` is empty then.
        url: the gateway's URL of the profile, empty in direct mode.
        urls: the gateway's URLs of several profiles, to which the same key gives access.
    """
    secret, base = (key, url) if key and url else (token.value if token else "", profile.url)
    if not secret:
        return {}
    parts = urlsplit(base)
    return {
        "token": secret,
        "base_url": base,
        "host": f"{parts.scheme}://{parts.netloc}",
        "path": parts.path.strip("/"),
        "model": profile.model,
        "profile": profile.name,
        "tokens": ";".join([secret] * len(urls)),
        "base_urls": ";".join(urls),
        "expires_at": _rfc3339(token.expires_at) if token and secret == token.value else "",
    }


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def header_lines(token: Token) -> str:
    """Request headers for `curl -H @file`; the quota project is there for user credentials only (see `Token`)."""
    project = printable(token.quota_project)
    quota = f"x-goog-user-project: {project}\n" if project else ""
    return f"Authorization: Bearer {token.value}\n{quota}"


def printed(profile: Profile, token: Token, form: str, now: float) -> str:
    """Return the output of `print` without the newline: the token, its header line, or a JSON object."""
    if form == "header":
        return f"Authorization: Bearer {token.value}"
    if form == "token":
        return token.value
    content = {
        "token": token.value,
        "expires_at": _rfc3339(token.expires_at),
        "expires_in": max(0, int(token.remaining(now))),
        "profile": profile.name,
        "base_url": profile.url,
    }
    return json.dumps(content)
