"""The gateway's local key and URL, which tools get in gateway mode."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vx_token.config.model import Config, Profile
from vx_token.errors import ConfigError
from vx_token.system import paths

if TYPE_CHECKING:
    from vx_token.gateway.settings import LocalKey

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
LOOPBACK_NAMES = ("127.0.0.1", "localhost")


def is_wanted(config: Config) -> bool:
    """Return whether the configuration enables the gateway."""
    return config.gateway.enabled or any(profile.mode == "gateway" for profile in config.profiles.values())


def lookup(config: Config, environ: Mapping[str, str]) -> Callable[[Profile], tuple[str, str]]:
    """Return a function that maps a profile to the local key and URL, or to two empty strings in direct mode."""

    def key_and_url(profile: Profile) -> tuple[str, str]:
        if profile.mode != "gateway":
            return "", ""
        return local_key(environ), base_url(config, profile.name)

    return key_and_url


def local_key(environ: Mapping[str, str]) -> str:
    """Return the local key; create it if it does not exist.

    Raises:
        ConfigError: other users can read the key, or it cannot be stored.
    """
    from vx_token.gateway.key import load_or_create_key

    with _key_folder(environ) as folder:
        return load_or_create_key(folder)


def named_key(environ: Mapping[str, str], name: str, profiles: frozenset[str] | None) -> str:
    """Return the local key `name`; create it if it does not exist, limited to `profiles` if given.

    Raises:
        ConfigError: the name is invalid, the key has other profiles, or it cannot be stored.
    """
    from vx_token.gateway.named_keys import load_or_create_named_key

    with _key_folder(environ) as folder:
        return load_or_create_named_key(folder, name, profiles)


def revoke_key(environ: Mapping[str, str], name: str) -> None:
    """Delete the local key `name`.

    Raises:
        ConfigError: there is no such key, or it cannot be deleted.
    """
    from vx_token.gateway.named_keys import revoke_key

    with _key_folder(environ) as folder:
        revoke_key(folder, name)


def key_owners(environ: Mapping[str, str]) -> "list[LocalKey]":
    """Return the local keys that have a name, without their values."""
    from vx_token.gateway.named_keys import named_keys

    return [key.owner for key in named_keys(paths.state_dir(environ))]


def rotate_key(environ: Mapping[str, str], grace: float) -> None:
    """Create a new local key; the old ones stay valid for at most `grace` seconds.

    Raises:
        ConfigError: the key cannot be stored.
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
        hint = "make that folder writable, or set XDG_STATE_HOME to another one"
        raise ConfigError(f"cannot store the gateway's key in {folder}: {error.strerror}", hint) from None


def base_url(config: Config, profile: str, address: str = "") -> str:
    """Return the base URL of a profile on the gateway.

    The host is the numeric address, because a client that resolves `localhost` may try ::1 first.

    Args:
        config: the configuration.
        profile: the name of the profile.
        address: `http://host:port` of the gateway; by default the configured one.
    """
    ip = config.gateway.ip
    host = f"[{ip}]" if ":" in ip else ip
    base = address or f"http://{host}:{config.gateway.port}"
    return f"{base}/v1" if profile == config.default_profile else f"{base}/{profile}/v1"


def no_proxy_variables(environ: Mapping[str, str], host: str) -> dict[str, str]:
    """Return NO_PROXY and no_proxy with the loopback addresses added; empty if no proxy is set.

    Without them, a program sends its requests for the gateway on `host` to the proxy. Each variable keeps its names.
    An unset one starts with the names of the other, because programs read either.
    """
    if not any(environ.get(name) for name in PROXIES):
        return {}
    changed: dict[str, str] = {}
    for name, other in (("NO_PROXY", "no_proxy"), ("no_proxy", "NO_PROXY")):
        listed = environ.get(name, environ.get(other, ""))
        extended = _with_loopback(listed, host)
        if extended != environ.get(name):
            changed[name] = extended
    return changed


def _with_loopback(listed: str, host: str) -> str:
    """Add the loopback names unless the first is listed or "*" disables every proxy, as the hooks do."""
    names = [name for name in (item.strip() for item in listed.split(",")) if name]
    added = ["::1", *LOOPBACK_NAMES] if host == "::1" else LOOPBACK_NAMES
    return listed if names == ["*"] or added[0] in names else ",".join([*names, *added])
