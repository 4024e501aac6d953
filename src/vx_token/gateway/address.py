"""Where a profile in gateway mode sends its tools: the local key and the loopback URL."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from vx_token.config.model import Config, Profile
from vx_token.errors import ConfigError
from vx_token.system import paths

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
LOOPBACK_NAMES = ("127.0.0.1", "localhost")


def is_wanted(config: Config) -> bool:
    """Whether the configuration asks for a gateway."""
    return config.gateway.enabled or any(profile.mode == "gateway" for profile in config.profiles.values())


def lookup(config: Config, environ: Mapping[str, str]) -> Callable[[Profile], tuple[str, str]]:
    """Tells the key and URL that stand for Google's with a profile in gateway mode; two empty texts in direct mode."""

    def find(profile: Profile) -> tuple[str, str]:
        if profile.mode != "gateway":
            return "", ""
        return local_key(environ), base_url(config, profile.name)

    return find


def local_key(environ: Mapping[str, str]) -> str:
    """The local key, made at the first call.

    Raises:
        ConfigError: others may read it, or it cannot be kept.
    """
    from vx_token.gateway.key import load_or_create_key

    with _key_folder(environ) as folder:
        return load_or_create_key(folder)


def rotate_key(environ: Mapping[str, str], grace: float) -> None:
    """Make a new local key; the old ones count for at most `grace` more seconds.

    Raises:
        ConfigError: it cannot be kept.
    """
    from vx_token.gateway.key import rotate_key

    with _key_folder(environ) as folder:
        rotate_key(folder, grace)


@contextlib.contextmanager
def _key_folder(environ: Mapping[str, str]) -> Iterator[Path]:
    folder = paths.state_dir(environ)
    try:
        yield folder
    except OSError as error:
        hint = "make it a folder that you may write; VX_TOKEN_CONFIG and XDG_STATE_HOME say where it is"
        raise ConfigError(f"cannot keep the gateway's key in {folder}: {error.strerror}", hint) from None


def base_url(config: Config, profile: str, address: str = "") -> str:
    """The base URL of a profile on the gateway; `address` is `http://host:port` when it is not the configured one.

    The host is the address that is bound, because a client that looks up `localhost` may try ::1 first.
    """
    ip = config.gateway.ip
    host = f"[{ip}]" if ":" in ip else ip
    base = address or f"http://{host}:{config.gateway.port}"
    return f"{base}/v1" if profile == config.default_profile else f"{base}/{profile}/v1"


def no_proxy_variables(environ: Mapping[str, str], host: str) -> dict[str, str]:
    """NO_PROXY and no_proxy with loopback added, when a proxy would take what is meant for the gateway on `host`.

    Each keeps its own names; one that is not set begins with the other's, as programs read either.
    """
    if not any(environ.get(name) for name in PROXIES):
        return {}
    changed: dict[str, str] = {}
    for name, other in (("NO_PROXY", "no_proxy"), ("no_proxy", "NO_PROXY")):
        listed = environ.get(name, environ.get(other, ""))
        spared = _with_loopback(listed, host)
        if spared != environ.get(name):
            changed[name] = spared
    return changed


def _with_loopback(listed: str, host: str) -> str:
    """As the shell hooks do it: a list that has 127.0.0.1 stays as it is, and a lone "*" that turns every proxy off."""
    names = [name for name in (item.strip() for item in listed.split(",")) if name]
    added = ["::1", *LOOPBACK_NAMES] if host == "::1" else LOOPBACK_NAMES
    return listed if names == ["*"] or added[0] in names else ",".join([*names, *added])
