"""The gateway's settings and limits, and the protocol of its token provider."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vx_token.config.listen import is_loopback, unsuitable
from vx_token.config.model import SIGNATURE_MODELS
from vx_token.credentials.token import Token
from vx_token.errors import ConfigError

if TYPE_CHECKING:
    from vx_token.gateway.known_models import KnownModels  # it loads an HTTP client, and commands load this module

DEFAULT_PORT = 8490
LOOPBACK = ("127.0.0.1", "::1")


class TokenProvider(Protocol):
    """Provides Google tokens to the gateway."""

    def current(self, profile: str) -> Token | None:
        """Return the profile's last good token without waiting; called for every request."""

    async def fresh(self, profile: str, rejected: str | None) -> Token:
        """Return a live token; force a refresh if `rejected` is its value, since upstream answered 401 to it.

        Raises:
            LoginNeededError, TemporaryError, ConfigError: no token is available.
        """


DEFAULT_KEY = "default"
"""The name of the local key that all tools without a key of their own use."""


@dataclass(frozen=True, slots=True)
class LocalKey:
    """A valid local key, without its value.

    Attributes:
        name: its name.
        profiles: the profiles that it may use; None for all of them.
    """

    name: str
    profiles: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """The upstream of one profile, and the changes to its requests.

    Attributes:
        profile: name of the profile.
        base_url: URL before `/chat/completions`.
        extra_headers: set on each request; replace headers of the client.
        aliases: model ids of clients, each with its upstream id.
        models: further ids for the model list.
        model: default model of chat, completions and responses requests.
        publisher: prefix for model ids without one; "" adds none.
        proxy: URL of the HTTP proxy, "" for a direct connection.
        known: what is known of the profile's models, None for only what is configured.
    """

    profile: str
    base_url: str
    extra_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    aliases: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    model: str = ""
    publisher: str = ""
    proxy: str = field(default="", repr=False)
    known: "KnownModels | None" = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits per client and per connection; sizes in bytes, times in seconds.

    Attributes:
        line: size of the request line.
        field: size of one header.
        body: size of a request body; a larger one gets 413.
        buffer: size up to which a body is buffered, for a second attempt and for its model id; the rest is streamed.
        buffer_total: the same for all requests together.
        buffer_always: size up to which a body is buffered even beyond `buffer_total`.
        head: timeout for the headers of a connection's first request.
        idle: time after which an idle connection is closed.
        pause: timeout between two chunks of a request body.
        connect: timeout for a connection to upstream.
        silence: timeout between two chunks from upstream; a model may compute for minutes.
        unread: time after which a client that reads nothing is disconnected.
        quiet: time without a request after which clients do not reuse a connection. OpenAI's clients for Python and
            Node reuse one for 5 and 4 seconds.
        drain: time for running requests at a stop, and again for requests that arrive during that time.
        first: after that, timeout for the first request of a new connection.
    """

    line: int = 8190
    field: int = 16 << 10
    body: int = 512 << 20
    buffer: int = 32 << 20
    buffer_total: int = 128 << 20
    buffer_always: int = 1 << 20
    head: float = 20.0
    idle: float = 75.0
    pause: float = 30.0
    connect: float = 15.0
    silence: float = 900.0
    unread: float = 600.0
    quiet: float = 6.0
    drain: float = 20.0
    first: float = 1.0


@dataclass(frozen=True, slots=True)
class SignatureSettings:
    """How thought signatures are kept.

    Attributes:
        enabled: whether they are kept and put back.
        stand_in: whether Google's stand-in replaces a lost one.
        models: patterns of the model ids that refuse a tool call without one.
    """

    enabled: bool = True
    stand_in: bool = True
    models: tuple[str, ...] = SIGNATURE_MODELS

    def stands_in_for(self, model: str) -> bool:
        """Return whether lost signatures of this model get the stand-in."""
        return self.stand_in and any(fnmatchcase(model, pattern) for pattern in self.models)


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """The settings of a gateway.

    Attributes:
        routes: routes by profile name.
        default: the profile of `/v1/…` and `/…`.
        find_key: returns the local key with this value, None if there is none; called for every request.
        host: 127.0.0.1 or ::1.
        port: TCP port; 0 selects a free one.
        listen: further TCP addresses, each an IP address and a port.
        hosts: names in Host headers that are accepted besides those of loopback, in lower case.
        unix_socket: path of an additional Unix socket (mode 0600).
        origins: browser origins that may use the gateway, such as `https://chat.example`.
        metrics_open: whether /metrics on the TCP port needs no key.
        access_log: log one line per request: method, route, status, bytes, milliseconds.
        wait: timeout (seconds) of a request that waits for a token.
        ca_file: additional certificate authorities for upstream (PEM).
        limits: limits per client and per connection.
        signatures: how thought signatures are kept.
    """

    routes: Mapping[str, Route]
    default: str
    find_key: Callable[[str], LocalKey | None] = field(repr=False)
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    listen: tuple[tuple[str, int], ...] = ()
    hosts: tuple[str, ...] = ()
    unix_socket: Path | None = None
    origins: tuple[str, ...] = ()
    metrics_open: bool = False
    access_log: bool = False
    wait: float = 10.0
    ca_file: Path | None = None
    limits: Limits = Limits()
    signatures: SignatureSettings = SignatureSettings()

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK:
            raise ConfigError(
                f"the gateway serves only loopback, not {self.host!r}",
                f"set the host to {' or '.join(LOOPBACK)}",
            )
        for host, _ in self.listen:
            if unsuitable(host) or not (is_loopback(host) or self.hosts):
                raise ConfigError(f"the gateway may not listen on {host}", "see: vx-token help configuration")
        if self.default not in self.routes:
            raise ConfigError(f"the gateway's default profile {self.default!r} is not among its profiles")
