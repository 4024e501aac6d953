"""The HTTP proxy for an upstream, from the environment variables."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from vx_token.errors import ConfigError


def proxy_for(base_url: str, environ: Mapping[str, str]) -> str:
    """Return the proxy URL for `base_url`, or "" for a direct connection.

    Reads HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY; lower case has priority. Called once per route, because a
    look-up per request would cost more than the rest of the gateway.

    Raises:
        ConfigError: the proxy is not an HTTP proxy.
    """
    parts = urlsplit(base_url)
    proxy = _named(environ, f"{parts.scheme}_proxy") or _named(environ, "all_proxy")
    if not proxy or not parts.hostname or parts.hostname in {"localhost", "127.0.0.1", "::1"}:
        return ""
    if _is_exempt(parts.hostname, _named(environ, "no_proxy")):
        return ""
    kind, separator, _ = proxy.partition("://")
    if separator and kind.lower() not in {"http", "https"}:
        hint = f"set HTTPS_PROXY to an HTTP proxy, or add {parts.hostname} to NO_PROXY"
        raise ConfigError(f"the gateway cannot use a {kind} proxy", hint)
    return proxy if separator else f"http://{proxy}"


def _named(environ: Mapping[str, str], name: str) -> str:
    # HTTP_PROXY in upper case is safe here: only in CGI programs can a client set it (CVE-2016-5385).
    return environ.get(name) or environ.get(name.upper()) or ""


def _is_exempt(host: str, no_proxy: str) -> bool:
    names = [name.strip().lower().lstrip("*.") for name in no_proxy.split(",") if name.strip()]
    return any(not name or host == name or host.endswith(f".{name}") for name in names)
