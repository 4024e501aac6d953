"""The emulated Google's state, and the functions that inspect it, change it and inject faults."""

import ipaddress
import itertools
import random
import ssl
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from vx_token.emulator import vertex
from vx_token.emulator.catalog import PROJECT_NUMBER, Catalog, Deployment
from vx_token.emulator.credential_files import Logins
from vx_token.emulator.faults import Fault, Faults, Rule
from vx_token.emulator.identity import HOUR, Directory, Issued, Mint

Json = dict[str, Any]

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
MANAGEMENT = ("endpoints", "endpoint", "model", "publishers")
IDENTITY = ("token", "sts", "iam", "metadata", "metadata-info", "tokeninfo", "subject", "aws")
ROUTES = (*IDENTITY, *MANAGEMENT, *vertex.ROUTES)


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came in.

    Attributes:
        route: the route it took, such as `token` or `chat`.
        method: the HTTP method.
        path: the path, without the query.
        status: the answer's HTTP status; 0 while there is none, or when there never was one.
        identity: the identity of the request, if it could be determined.
        at: when it came, epoch seconds.
        quota_project: its `x-goog-user-project` header.
    """

    route: str
    method: str
    path: str
    at: float
    status: int = 0
    identity: str = ""
    quota_project: str = ""


# Which line of the ledger is being answered; aiohttp answers every request in a task, so in a context, of its own.
_LINE: ContextVar[int | None] = ContextVar("line", default=None)


class Ledger:
    """The requests that came in, in order; one that hangs is there from its arrival."""

    def __init__(self) -> None:
        self._seen: list[Seen] = []

    def arrive(self, request: web.Request, route: str, now: float) -> None:
        """Write down a request as it comes."""
        _LINE.set(len(self._seen))
        quota_project = request.headers.get("x-goog-user-project", "")
        self._seen.append(Seen(route, request.method, request.path, now, quota_project=quota_project))

    def amend(self, **facts: Any) -> None:
        """Add what has been found out about the request that is being answered, if it was written down."""
        line = _LINE.get()
        if line is not None:
            self._seen[line] = replace(self._seen[line], **facts)

    def all(self) -> list[Seen]:
        """Every request."""
        return list(self._seen)


class EmulatedGoogle(Logins):
    """What the emulator's routes share.

    Attributes:
        lifetime: how many seconds Google's hour lasts here; every token's life scales with it. May be changed live.
        metadata_window: the metadata server hands out one token until its last so many seconds (at most a tenth of it).
        metadata_account: the account of the metadata server.
        tls: how it serves https, or None for http.
        extended_lifetimes: whether IAM grants more than an hour, as an organization policy can allow.
        catalog: deployed endpoints and listed models.
        projects: the projects, by id and number, that the management routes know.
        signatures: which models sign their tool calls and demand the signatures back, one of `signatures.MODES`.

    Raises:
        ValueError: the host is not loopback.
    """

    def __init__(
        self,
        lifetime: float = HOUR,
        port: int = 0,
        host: str = "127.0.0.1",
        now: Callable[[], float] = time.time,
        tls: ssl.SSLContext | None = None,
        signatures: str = "gemini-3",
    ) -> None:
        if not ipaddress.ip_address(host).is_loopback:
            message = f"the emulator listens on loopback only, not on {host}"
            raise ValueError(message)
        self.lifetime = lifetime
        self.metadata_window = 240.0
        self.metadata_account = "machine@demo.iam.gserviceaccount.com"
        self.extended_lifetimes = False
        self.signatures = signatures
        self.now = now
        self.port = port
        self.host = host
        self.tls = tls
        self.ledger = Ledger()
        self.mint = Mint(now)
        self.directory = Directory()
        self.faults = Faults()
        self.catalog = Catalog()
        self.projects = {"demo", PROJECT_NUMBER}
        self.answers = itertools.count(1)

    @property
    def url(self) -> str:
        """Its root."""
        return f"{'https' if self.tls else 'http'}://{self.metadata_host}"

    @property
    def metadata_host(self) -> str:
        """The value for GCE_METADATA_HOST and GCE_METADATA_IP."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def dedicated_host(self) -> str:
        """The host of dedicated endpoints: another name of the same address, because only loopback is served."""
        return f"localhost:{self.port}"

    def deploy(self, id: str = "", **fields: Any) -> Deployment:  # noqa: A002 - as Google calls it
        """Create an endpoint; `fields` are those of `Deployment`."""
        return self.catalog.deploy(id, **fields)

    def base_url(self, project: str = "demo", location: str = "global", endpoint: str = "openapi") -> str:
        """The base URL for an OpenAI client."""
        return f"{self.url}/v1" + vertex.ENDPOINT.format(project=project, location=location, endpoint=endpoint)

    # What was seen and handed out

    @property
    def requests(self) -> list[Seen]:
        """Every request, in the order of arrival."""
        return self.ledger.all()

    def count(self, route: str, status: int | None = None) -> int:
        """How many requests took that route, all or those answered with that status."""
        return sum(seen.route == route and status in {None, seen.status} for seen in self.ledger.all())

    @property
    def issued(self) -> list[Issued]:
        """Every token, oldest first."""
        return self.mint.all()

    def identity_of(self, token: str) -> str:
        """Return the identity of a token, expired or not.

        Raises:
            KeyError: it was never handed out; the error does not quote it.
        """
        issued = self.mint.find(token)
        if issued is None:
            message = "no such token"
            raise KeyError(message)
        return issued.identity

    def revoke(self, token: str) -> None:
        """End a token before its time."""
        self.mint.revoke(token)

    def revoke_identity(self, identity: str, *, reauth: bool = False) -> None:
        """Refuse an identity new tokens; those it has live on.

        With `reauth` a user is refused as companies do daily: `invalid_rapt`, only a new login helps.
        """
        self.directory.refuse(identity, reauth=reauth)

    def restore_identity(self, identity: str) -> None:
        """Take back `revoke_identity`."""
        self.directory.accept(identity)

    # Faults

    def fail(self, route: str, times: int | None = 1, *, probability: float = 1.0, seed: int = 0, **fault: Any) -> None:
        """Fail the next `times` requests of a route (None: until healed), each with a probability.

        `fault` are the fields of `Fault`; faults of one route strike in the order they were added.

        Raises:
            ValueError: there is no such route or kind.
            TypeError: there is no such field.
        """
        if route not in ROUTES:
            message = f"unknown route {route!r}; there are {', '.join(ROUTES)}"
            raise ValueError(message)
        chance = random.Random(seed)  # noqa: S311 - chance for tests, no secret
        self.faults.add(Rule(route, Fault(**fault), times, probability, chance))

    def heal(self, route: str | None = None) -> None:
        """End the faults of a route, or all."""
        self.faults.heal(route)

    # What the routes ask

    def bearer(self, request: web.Request) -> Issued | str:
        """The live token a request carries, or Google's reason to refuse it."""
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not value:
            return "CREDENTIALS_MISSING"
        issued = self.mint.find(value)
        if issued is None:
            return "ACCESS_TOKEN_TYPE_UNSUPPORTED"
        return issued if self.mint.alive(issued) else "ACCESS_TOKEN_EXPIRED"
