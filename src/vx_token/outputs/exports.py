"""The variables and header lines that tools read, made from a token."""

import json
from datetime import UTC, datetime
from urllib.parse import urlsplit

from vx_token.config import presets
from vx_token.config.model import Profile
from vx_token.credentials.token import Token
from vx_token.errors import printable


def variables(profile: Profile, token: Token | None, key: str = "", url: str = "") -> dict[str, str]:
    """Return the variables to export; none is empty.

    The gateway's `key` and `url` do not expire, so they are exported without a token as well.
    """
    secret, base = (key, url) if key and url else (token.value if token else "", profile.url)
    if not secret:
        return {}
    parts = urlsplit(base)
    fields = {
        "token": secret,
        "base_url": base,
        "host": f"{parts.scheme}://{parts.netloc}",
        "path": parts.path.strip("/"),
        "model": profile.model,
        "profile": profile.name,
    }
    return {
        "OPENAI_API_KEY": secret,
        "OPENAI_BASE_URL": base,
        "OPENAI_API_BASE": base,
        "OPENAI_API_BASE_URL": base,
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        **({"OPENAI_MODEL": profile.model} if profile.model else {}),
        **presets.expand(profile.export, fields),
        "VX_TOKEN_EXPIRES_AT": str(int(token.expires_at) if token else 0),
    }


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
        "expires_at": datetime.fromtimestamp(int(token.expires_at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "expires_in": max(0, int(token.remaining(now))),
        "profile": profile.name,
        "base_url": profile.url,
    }
    return json.dumps(content)
