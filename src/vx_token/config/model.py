"""What vx-token was told, as values: profiles, the gateway, and the configuration that holds them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from vx_token.config import vertex
from vx_token.errors import ConfigError

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


@dataclass(frozen=True, slots=True)
class Profile:
    """One way to Vertex: where to, as whom, and how it is handed out. Durations in seconds."""

    name: str
    project: str = ""
    location: str = "global"
    endpoint: str = "openapi"
    base_url: str = ""
    api_version: str = "v1"
    credentials: str = ""
    impersonate: str = ""
    lifetime: float = 3600.0
    scopes: tuple[str, ...] = (CLOUD_PLATFORM,)
    quota_project: str = ""
    model: str = ""
    mode: str = "direct"
    refresh_margin: float | None = None
    export: tuple[str, ...] = ()
    on_refresh: tuple[tuple[str, ...], ...] = ()
    on_login_needed: tuple[tuple[str, ...], ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    publisher: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The base URL before `/chat/completions`."""
        made = vertex.base_url(self.project, self.location, self.endpoint, self.api_version)
        return self.base_url.rstrip("/") or made

    @property
    def prefix(self) -> str:
        """The publisher for a model id without one; ids at a model's own endpoint are its container's."""
        if self.publisher is None:
            return "" if vertex.is_own_endpoint(self.url) else "google"
        return self.publisher


@dataclass(frozen=True, slots=True)
class Gateway:
    """The loopback gateway's settings; sizes in bytes, durations in seconds."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: int = 8490
    unix_socket: str = ""
    access_log: bool = False
    allowed_origins: tuple[str, ...] = ()
    metrics_open: bool = False
    ca_file: str = ""

    @property
    def ip(self) -> str:
        """The host as a number."""
        return "127.0.0.1" if self.host == "localhost" else self.host


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, and the file they came from.

    `overridden` tells that the environment or the command line asks for other tokens than the file does.
    """

    path: Path
    profiles: Mapping[str, Profile]
    default_profile: str
    gateway: Gateway = Gateway()
    stamp: str = ""
    overridden: bool = False

    @property
    def stable(self) -> str:
        """The profile whose files lie in the folder `default`: the one of that name, else the default one."""
        return "default" if "default" in self.profiles else self.default_profile

    def profile(self, name: str | None = None) -> Profile:
        """The profile of that name, else the default one.

        Raises:
            ConfigError: there is none of that name.
        """
        wanted = name or self.default_profile
        if wanted == "default" and wanted not in self.profiles:
            wanted = self.default_profile
        if wanted in self.profiles:
            return self.profiles[wanted]
        known = ", ".join(sorted(self.profiles))
        raise ConfigError(f"there is no profile {wanted!r} in {self.path}", f"profiles there: {known}")

    def with_gateway(self, **changes: Any) -> Self:
        """The same with other settings of the gateway."""
        return replace(self, gateway=replace(self.gateway, **changes))
