"""The configuration as values: profiles, the gateway's settings, and the Config that contains them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from vx_token.config import vertex
from vx_token.errors import ConfigError, did_you_mean

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"

SIGNATURE_MODELS = ("google/gemini-[3-9]*", "google/gemini-[1-9][0-9]*")
"""Patterns of the model ids that refuse a tool call without its thought signature: Gemini 3 and later."""

METADATA = "metadata"
"""The value of `credentials` for the machine's metadata server, whatever credential files exist."""


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file of the user's choice that contains the key.

    Attributes:
        path: its absolute path.
        format: the name of a format, or a template; see `config.templates`.
        mode: its permissions.
        adopt: whether a file that vx-token did not write is replaced.
    """

    path: str
    format: str = "token"
    mode: int = 0o600
    adopt: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile: the endpoint, the identity, and how the token is delivered. Durations in seconds."""

    name: str
    project: str = ""
    location: str = "global"
    endpoint: str = "openapi"
    base_url: str = ""
    api_version: str = "v1"
    credentials: str = ""
    account: str = ""
    impersonate: str = ""
    lifetime: float = 3600.0
    scopes: tuple[str, ...] = (CLOUD_PLATFORM,)
    quota_project: str = ""
    model: str = ""
    mode: str = "direct"
    refresh_margin: float | None = None
    export: tuple[str, ...] = ()
    files: tuple[OutputFile, ...] = ()
    on_refresh: tuple[tuple[str, ...], ...] = ()
    on_login_needed: tuple[tuple[str, ...], ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    list_publishers: tuple[str, ...] = ()
    publisher: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The base URL before `/chat/completions`."""
        default = vertex.base_url(self.project, self.location, self.endpoint, self.api_version)
        return self.base_url.rstrip("/") or default

    @property
    def prefix(self) -> str:
        """The publisher to put before a model id that lacks one; none at a deployed endpoint, which has its own ids."""
        if self.publisher is None:
            return "" if vertex.is_own_endpoint(self.url) else "google"
        return self.publisher


@dataclass(frozen=True, slots=True)
class Gateway:
    """The loopback gateway's settings.

    Attributes:
        listen: further TCP addresses, each an IP address and a port; other machines may reach them.
        allowed_hosts: names in Host headers that are accepted besides those of loopback.
    """

    enabled: bool = False
    host: str = "127.0.0.1"
    port: int = 8490
    unix_socket: str = ""
    listen: tuple[tuple[str, int], ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    access_log: bool = False
    allowed_origins: tuple[str, ...] = ()
    metrics_open: bool = False
    ca_file: str = ""
    thought_signatures: bool = True
    thought_signature_stand_in: bool = True
    thought_signature_models: tuple[str, ...] = SIGNATURE_MODELS

    @property
    def ip(self) -> str:
        """The host as an IP address."""
        return "127.0.0.1" if self.host == "localhost" else self.host


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, and the file they came from.

    Attributes:
        path: the configuration file, whether it exists or not.
        profiles: the profiles by name.
        default_profile: the name of the one that is used when none is named.
        gateway: the gateway's settings.
        stamp: the file's stamp when it was read, "" when it did not exist.
        overridden: whether the environment or the command line changes which token is fetched.
    """

    path: Path
    profiles: Mapping[str, Profile]
    default_profile: str
    gateway: Gateway = Gateway()
    stamp: str = ""
    overridden: bool = False

    @property
    def stable(self) -> str:
        """The name of the profile whose files are in the folder `default`: `default`, else the default profile."""
        return "default" if "default" in self.profiles else self.default_profile

    def profile(self, name: str | None = None) -> Profile:
        """Return the profile of that name, or the default one for None.

        Raises:
            ConfigError: there is no such profile.
        """
        wanted = name or self.default_profile
        if wanted == "default" and wanted not in self.profiles:
            wanted = self.default_profile
        if wanted in self.profiles:
            return self.profiles[wanted]
        known = ", ".join(sorted(self.profiles))
        raise ConfigError(
            f"there is no profile {wanted!r} in {self.path}",
            f"{did_you_mean(wanted, self.profiles)}profiles there: {known}",
        )

    def with_gateway(self, **changes: Any) -> Self:
        """Return a copy with changed settings of the gateway."""
        return replace(self, gateway=replace(self.gateway, **changes))
