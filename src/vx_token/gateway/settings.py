"""What the gateway is told at its start: frozen values, and the one question it asks of the outside."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vx_token.credentials.token import Token
from vx_token.errors import ConfigError

DEFAULT_PORT = 8490
LOOPBACK = ("127.0.0.1", "::1")


class TokenProvider(Protocol):
    """Where the gateway gets Google tokens from; it knows neither daemon nor store."""

    def current(self, profile: str) -> Token | None:
        """The profile's last good token, at once: asked at every request."""

    async def fresh(self, profile: str, rejected: str | None) -> Token:
        """A live token; newly made by force when `rejected` is the value that upstream has just refused.

        Raises:
            LoginNeededError, TemporaryError, ConfigError: no token is to be had, and why.
        """


@dataclass(frozen=True, slots=True)
class Route:
    """Where one profile's requests go, and what is changed on the way.

    Attributes:
        profile: its name.
        base_url: what stands before `/chat/completions`.
        extra_headers: set on each request, over the client's own.
        aliases: model ids that clients say, and what upstream calls them.
        models: further ids for the model list.
        model: put into a chat, completions or responses body that names none.
        publisher: put before a model id without one; empty leaves ids alone.
        proxy: URL of the HTTP proxy on the way to upstream.
    """

    profile: str
    base_url: str
    extra_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    aliases: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    model: str = ""
    publisher: str = ""
    proxy: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may cost; sizes in bytes, times in seconds.

    Attributes:
        line: the request line.
        field: one header.
        body: a request's body; more is refused with 413.
        kept: as much of a body is held for a second try and for its model id; the rest is passed on as it comes.
        buffer_total: the same over all requests at once.
        buffer_always: the beginning of each body that is held even then: nearly all requests are smaller.
        head: until the head of a connection's first request is complete.
        idle: until the head of a further one is: how long an idle connection is kept.
        pause: without a byte inside a request's body.
        connect: until upstream takes the connection.
        silence: without a byte from upstream; models think for minutes.
        unread: until a client that reads nothing of its answer is cut off.
        quiet: without a request, until a client has surely forgotten a connection; those of OpenAI for Python and Node
            use one again for 5 and 4 seconds.
        drain: for the requests under way when the gateway stops, and again for those that it took meanwhile.
        first: then, until a connection just taken brings its first request.
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
class GatewaySettings:
    """All that the gateway is told.

    Attributes:
        routes: by profile name.
        default: the profile of `/v1/…` and `/…`.
        accepts: whether a text is a local key now; asked at every request, so that a rotation needs no restart.
        host: 127.0.0.1 or ::1.
        port: 0 takes a free one.
        unix_socket: also served there, mode 0600.
        origins: browser origins that may call, such as `https://chat.example`.
        metrics_open: whether /metrics on the TCP port needs no key.
        access_log: one line a request: method, route, status, bytes, milliseconds.
        wait: seconds that a request waits for a token.
        ca_file: a private certificate authority for upstream, beside the system's.
        limits: what one client may cost.
    """

    routes: Mapping[str, Route]
    default: str
    accepts: Callable[[str], bool] = field(repr=False)
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    unix_socket: Path | None = None
    origins: tuple[str, ...] = ()
    metrics_open: bool = False
    access_log: bool = False
    wait: float = 10.0
    ca_file: Path | None = None
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK:
            raise ConfigError(
                f"the gateway serves this machine alone, not {self.host!r}", f"set its host to {' or '.join(LOOPBACK)}"
            )
        if self.default not in self.routes:
            raise ConfigError(f"the gateway's default profile {self.default!r} is not among its profiles")
