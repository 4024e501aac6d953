"""A Google that lives on loopback: token endpoint, metadata server, IAM, STS, Vertex routes, faults on demand.

Run it alone with `python -m vx_token.emulator`; in a program, `async with Emulator() as google:` or, beside code that
is not asynchronous, `with running() as google:`. Every method is safe to call from any thread.
"""

import argparse
import asyncio
import base64
import contextlib
import email.utils
import functools
import ipaddress
import itertools
import json
import math
import os
import random
import re
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from vx_token import emulator_vertex as vertex

Json = dict[str, Any]

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
AUDIENCE = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/provider"

_GOOGLE_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address; google-auth signs it as `aud` whatever the token_uri
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a type (RFC 8693)
_HOUR = 3600.0
_GRACE = 0.05  # seconds a token is taken past its end, so that a new one of 5 s may say 5 and not 4
_MARK = "vx-token emulator"
_MACHINE = "/computeMetadata/v1/instance/service-accounts"

ROUTES = ("token", "sts", "iam", "metadata", "metadata-info", "tokeninfo", *vertex.ROUTES)


@dataclass(frozen=True, slots=True)
class Issued:
    """A token that was handed out.

    Attributes:
        value: the bearer token.
        identity: whom it speaks for.
        issued_at: epoch seconds.
        expires_at: its end, epoch seconds.
        route: `token`, `sts`, `iam` or `metadata`.
    """

    value: str = field(repr=False)
    identity: str
    issued_at: float
    expires_at: float
    route: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came in.

    Attributes:
        route: the route it took, such as `token` or `chat`.
        method: the HTTP method.
        path: the path, without the query.
        status: the answer's HTTP status; 0 while there is none, or when there never was one.
        identity: whom it spoke for, as far as that was found out.
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


_BREAKS = ("error", "html", "empty", "list", "truncated", "junk", "drip", "reset", "hang", "invalid_rapt")
_TWISTS = ("no_expiry", "negative_expiry", "newline_token", "empty_token", "huge_token", "same_token")
KINDS = frozenset({*_BREAKS, *_TWISTS, "slow", "cut"})


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one answer.

    Attributes:
        kind: one of `KINDS`: `error` (by status), a 200 that is `html`, `empty`, `truncated`, a JSON `list`, `junk`
            (`size` bytes) or a `drip` (a byte a second); `reset` and `hang` send nothing, `slow` answers rightly after
            `delay`, `cut` breaks a stream after `after` events; the others spoil the token that is handed out.
        status: the HTTP status.
        body: the body of an `error`; by default what Google says with that status.
        headers: more headers of an `error`, such as Retry-After.
        delay: seconds to wait before anything else.
        after: events of a stream before a `cut`.
        size: bytes of `junk`.
    """

    kind: str = "error"
    status: int = 503
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    after: int = 1
    size: int = 200_000_000

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            message = f"unknown fault {self.kind!r}; there are {', '.join(sorted(KINDS))}"
            raise ValueError(message)


@dataclass(slots=True)
class Rule:
    """When a fault strikes: on a route, so many times (None: for ever), with a probability from a seeded chance."""

    route: str
    fault: Fault
    times: int | None
    probability: float
    chance: random.Random

    def strikes(self, route: str) -> bool:
        """Whether it strikes this request; it then has one time less."""
        if route != self.route or self.times == 0 or self.chance.random() >= self.probability:
            return False
        self.times = None if self.times is None else self.times - 1
        return True


class Faults:
    """The faults that wait for their requests."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def add(self, rule: Rule) -> None:
        """Add one behind those of the same route."""
        self._rules = [*self._rules, rule]

    def heal(self, route: str | None) -> None:
        """Drop those of a route, or all."""
        self._rules = [rule for rule in self._rules if route not in {None, rule.route}]

    def strike(self, route: str) -> Fault | None:
        """What goes wrong with this request, if anything."""
        return next((rule.fault for rule in self._rules if rule.strikes(route)), None)


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


class Mint:
    """The tokens that were handed out, and which of them still count."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._issued: dict[str, Issued] = {}
        self._revoked: set[str] = set()

    def issue(self, identity: str, route: str, lifetime: float, length: int = 180) -> Issued:
        """A new token of `length` characters that lives `lifetime` seconds."""
        value = ("ya29." + secrets.token_urlsafe(length))[:length]
        now = self._now()
        self._issued[value] = Issued(value, identity, now, now + lifetime, route)
        return self._issued[value]

    def last(self, identity: str, route: str) -> Issued | None:
        """The newest token of an identity from a route, dead or alive."""
        found = (issued for issued in reversed(self.all()) if (issued.identity, issued.route) == (identity, route))
        return next(found, None)

    def all(self) -> list[Issued]:
        """Every token, oldest first."""
        return list(self._issued.values())

    def find(self, value: str) -> Issued | None:
        """The token of that value, dead or alive."""
        return self._issued.get(value)

    def revoke(self, value: str) -> None:
        """End a token before its time."""
        self._revoked.add(value)

    def alive(self, issued: Issued) -> bool:
        """Whether Google would take it now."""
        return self._now() < issued.expires_at + _GRACE and issued.value not in self._revoked


class DeniedError(Exception):
    """A request that Google's identity side refuses, with the body it sends."""

    def __init__(self, body: Json, status: int = 400) -> None:
        super().__init__(status)
        self.body = body
        self.status = status


def oauth_error(code: str, description: str, status: int = 400, **more: str) -> DeniedError:
    """The token endpoint's way to say no (RFC 6749 section 5.2)."""
    return DeniedError({"error": code, "error_description": description} | more, status)


class Directory:
    """Who exists, how they prove it, and who has lost the right to."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._accounts: dict[str, rsa.RSAPublicKey] = {}
        self._users: dict[str, str] = {}
        self._workloads: dict[str, str] = {}
        self._refused: dict[str, bool] = {}
        self.targets: set[str] = set()

    def add_account(self, token_uri: str) -> Json:
        """A new service account's key file."""
        address = f"account-{next(self._numbers)}@demo.iam.gserviceaccount.com"
        key = _key()
        self._accounts[address] = key.public_key()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": "demo",
            "private_key_id": "emulated",
            "private_key": pem.decode(),
            "client_email": address,
            "client_id": "1",
            "token_uri": token_uri,
            "universe_domain": "googleapis.com",
        }

    def add_user(self, token_uri: str) -> Json:
        """A new user's login."""
        token = "1//" + secrets.token_urlsafe(24)
        self._users[token] = f"user-{next(self._numbers)}@example.com"
        return {
            "type": "authorized_user",
            "client_id": "emulated.apps.googleusercontent.com",
            "client_secret": "emulated",
            "refresh_token": token,
            "token_uri": token_uri,
            "universe_domain": "googleapis.com",
        }

    def owner(self, document: Json) -> str:
        """Whom such a file speaks for."""
        return str(document.get("client_email") or self._users[document["refresh_token"]])

    def add_workload(self) -> str:
        """A new workload's proof for the token exchange."""
        token = f"{_MARK} {secrets.token_urlsafe(24)}"
        self._workloads[token] = f"workload-{next(self._numbers)}"
        return token

    def refuse(self, identity: str, *, reauth: bool) -> None:
        """Take an identity's right to new tokens; with `reauth` until its user logs in again."""
        self._refused[identity] = reauth

    def accept(self, identity: str) -> None:
        """Give it back."""
        self._refused.pop(identity, None)

    def user(self, refresh_token: str) -> str:
        """Whose refresh token that is."""
        identity = self._users.get(refresh_token, "")
        if self._refused.get(identity):
            raise _reauth_needed()
        if not identity or identity in self._refused:
            raise oauth_error("invalid_grant", "Token has been expired or revoked.")
        return identity

    def workload(self, subject_token: str) -> str:
        """Whose subject token that is."""
        identity = self._workloads.get(subject_token, "")
        if not identity or identity in self._refused:
            raise oauth_error("invalid_grant", "The given credential is rejected by the attribute condition.")
        return identity

    def account(self, assertion: str, audiences: frozenset[str], now: float) -> str:
        """Which service account signed this assertion, for one of these audiences (RFC 7523)."""
        claims, signed, signature = _parse_assertion(assertion)
        address = str(claims.get("iss", ""))
        if address not in self._accounts:
            raise oauth_error("invalid_grant", "Invalid grant: account not found")
        if address in self._refused or not _verified(self._accounts[address], signed, signature):
            raise oauth_error("invalid_grant", "Invalid JWT Signature.")
        _check_claims(claims, audiences, now)
        return address


@functools.cache
def _key() -> rsa.RSAPrivateKey:
    # One key for all accounts of a process: making one takes a tenth of a second and proves nothing.
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _reauth_needed() -> DeniedError:
    return oauth_error("invalid_grant", "reauth related error (invalid_rapt)", error_subtype="invalid_rapt")


def _parse_assertion(assertion: str) -> tuple[Json, bytes, bytes]:
    try:
        header, body, signature = (_unbase64(part) for part in assertion.split("."))
        head, claims = json.loads(header), json.loads(body)
        if head["alg"] == "RS256" and isinstance(claims, dict):
            return claims, assertion.rpartition(".")[0].encode(), signature
    except (ValueError, KeyError, TypeError):
        pass
    raise oauth_error("invalid_grant", "Invalid JWT Signature.")


def _unbase64(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _verified(key: rsa.RSAPublicKey, signed: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def _check_claims(claims: Json, audiences: frozenset[str], now: float) -> None:
    skew = 300  # seconds that Google's clock and the caller's may differ
    issued, ends = float(claims.get("iat", 0)), float(claims.get("exp", 0))
    if not (issued - skew <= now < ends <= issued + _HOUR):
        raise oauth_error(
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
            "Check your iat and exp values in the JWT claim.",
        )
    if claims.get("aud") not in audiences:
        raise oauth_error("invalid_grant", f"Failed audience check. The right audience is {_GOOGLE_TOKEN_URL}")
    if not claims.get("scope"):
        raise oauth_error("invalid_scope", "Invalid OAuth scope or ID token audience provided.")


@dataclass(frozen=True, slots=True)
class Visit:
    """One request on its way through the emulator.

    Attributes:
        request: the HTTP request.
        route: the route it takes.
        fault: what goes wrong with its answer, or None.
    """

    request: web.Request
    route: str
    fault: Fault | None

    @property
    def kind(self) -> str:
        """What goes wrong, or an empty string."""
        return self.fault.kind if self.fault else ""


Handler = Callable[[Visit], Awaitable[web.StreamResponse]]


async def _go_wrong(visit: Visit) -> web.StreamResponse | None:
    """Answer wrongly; None when nothing is wrong, or when the fault spoils a right answer instead."""
    fault = visit.fault
    if fault is None:
        return None
    await asyncio.sleep(fault.delay)
    match fault.kind:
        case "error":
            return _failure(visit.route, fault)
        case "invalid_rapt":
            raise _reauth_needed()
        case "html" | "empty" | "list":
            text, kind = _BODIES[fault.kind]
            return web.Response(text=text, content_type=kind)
        case "truncated" | "junk" | "drip":
            return await _send(visit.request, *_flow(fault))
        case "reset":
            vertex.reset(visit.request)
            raise ConnectionResetError
        case "hang":
            await asyncio.Event().wait()
    return None


_BODIES = {
    "html": ("<!DOCTYPE html><title>Log in to this network</title>", "text/html"),
    "empty": ("", "application/json"),
    "list": ("[]", "application/json"),
}


def _flow(fault: Fault) -> tuple[int, Iterable[bytes], float]:
    """The bytes promised, the pieces sent, and the seconds between them."""
    return {
        "truncated": (1000, [b'{"access_token": "ya29.'], 0.0),
        "junk": (fault.size, itertools.repeat(b"x" * 65536, 1 + fault.size // 65536), 0.0),
        "drip": (3600, itertools.repeat(b" ", 3600), 1.0),
    }[fault.kind]


def _failure(route: str, fault: Fault) -> web.Response:
    body = _default_body(route, fault.status) if fault.body is None else fault.body
    kind = "application/json" if body.startswith(("{", "[")) else "text/html"
    return web.Response(status=fault.status, text=body, content_type=kind, headers=fault.headers)


async def _send(request: web.Request, length: int, pieces: Iterable[bytes], pause: float) -> web.StreamResponse:
    """Promise `length` bytes, send no more than that in pieces, then hang up."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = length
    await response.prepare(request)
    for piece in pieces:
        await response.write(piece[:length])
        length -= len(piece)
        await asyncio.sleep(pause)
    vertex.hang_up(request)
    return response


def _default_body(route: str, status: int) -> str:
    """What Google says with that status on that route."""
    if route in vertex.ROUTES:
        return json.dumps([vertex.error(status, "The emulator was told to fail.")])
    if route == "iam":
        return json.dumps(vertex.error(status, "The emulator was told to fail."))
    if route in {"token", "sts"}:
        code = "internal_failure" if status >= 500 else "invalid_request"
        return json.dumps({"error": code, "error_description": "The emulator was told to fail."})
    return _page(status)


def _html(status: int) -> web.Response:
    return web.Response(status=status, text=_page(status), content_type="text/html")


def _page(status: int) -> str:
    return f"<!DOCTYPE html>\n<html lang=en>\n<title>Error {status}!!1</title>\n<p><b>{status}.</b> That's an error.\n"


class Emulator:
    """A Google on loopback, alive inside `async with`.

    Attributes:
        lifetime: how many seconds Google's hour lasts here; every token's life scales with it. May be changed live.
        metadata_window: the metadata server hands out one token until its last so many seconds (at most a tenth of it).
        metadata_account: whom the metadata server speaks for.
        extended_lifetimes: whether IAM grants more than an hour, as the organization policy would let it.

    Raises:
        ValueError: the host is not loopback.
        OSError: the port is taken.
    """

    def __init__(
        self,
        lifetime: float = _HOUR,
        port: int = 0,
        host: str = "127.0.0.1",
        now: Callable[[], float] = time.time,
    ) -> None:
        if not ipaddress.ip_address(host).is_loopback:
            message = f"the emulator listens on loopback only, not on {host}"
            raise ValueError(message)
        self.lifetime = lifetime
        self.metadata_window = 240.0
        self.metadata_account = "machine@demo.iam.gserviceaccount.com"
        self.extended_lifetimes = False
        self.now = now
        self.port = port
        self.host = host
        self.ledger = Ledger()
        self.mint = Mint(now)
        self.directory = Directory()
        self._faults = Faults()
        self._answers = itertools.count(1)
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(
            self._app(),
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=0.1,  # a hanging answer must not outlive us
            max_line_size=65536,
            max_field_size=65536,  # a federated token has 12 KiB
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except BaseException:
            await self._runner.cleanup()
            raise
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Its root."""
        return f"http://{self.metadata_host}"

    @property
    def metadata_host(self) -> str:
        """The value for GCE_METADATA_HOST and GCE_METADATA_IP."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def token_uri(self) -> str:
        """The token endpoint."""
        return f"{self.url}/token"

    def iam_url(self, target: str) -> str:
        """Where to impersonate `target`; fits `iam_endpoint_override`."""
        return f"{self.url}/v1/projects/-/serviceAccounts/{target}:generateAccessToken"

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
        """Whom a token speaks for, dead or alive.

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

    # Credential files, each for a new identity, whose name is returned

    def service_account(self, path: Path) -> str:
        """Write a service account's key file."""
        document = self.directory.add_account(self.token_uri)
        _write(path, document)
        return self.directory.owner(document)

    def authorized_user(self, path: Path, quota_project_id: str = "") -> str:
        """Write a user's login, as `gcloud auth application-default login` does."""
        document = self.directory.add_user(self.token_uri)
        _write(path, document | ({"quota_project_id": quota_project_id} if quota_project_id else {}))
        return self.directory.owner(document)

    def impersonated(self, path: Path, target: str = "", source: str = "service_account") -> str:
        """Write a file by which a new identity impersonates `target` (default: a new account), and let it.

        `source` is the new identity's kind, `service_account` or `authorized_user`; its name is returned.
        """
        add = {"service_account": self.directory.add_account, "authorized_user": self.directory.add_user}[source]
        inner = add(self.token_uri)
        target = target or self.directory.add_account(self.token_uri)["client_email"]
        self.allow(target)
        _write(
            path,
            {
                "type": "impersonated_service_account",
                "service_account_impersonation_url": self.iam_url(target),
                "delegates": [],
                "source_credentials": inner,
            },
        )
        return self.directory.owner(inner)

    def external_account(self, path: Path, subject: Path, target: str = "") -> str:
        """Write a workload's file and the file with its subject token; with `target` it impersonates that account."""
        proof = self.directory.add_workload()
        _write_text(subject, proof)
        document: Json = {
            "type": "external_account",
            "audience": AUDIENCE,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{self.url}/v1/token",
            "credential_source": {"file": str(subject)},
        }
        if target:
            self.allow(target)
            document["service_account_impersonation_url"] = self.iam_url(target)
        _write(path, document)
        return self.directory.workload(proof)

    def credentials(self, type: str, path: str | Path, **more: Any) -> str:  # noqa: A002 - as credential files call it
        """Write a file of that type, but never over one that no emulator made; for the outside world.

        Raises:
            ValueError: there is no such type.
            FileExistsError: the path holds something of value.
        """
        writers: dict[str, Callable[..., str]] = {
            "service_account": self.service_account,
            "authorized_user": self.authorized_user,
            "impersonated_service_account": self.impersonated,
            "external_account": self.external_account,
        }
        if type not in writers:
            message = f"unknown credential type {type!r}; there are {', '.join(writers)}"
            raise ValueError(message)
        paths = {"path": Path(path)} | ({"subject": Path(more.pop("subject"))} if "subject" in more else {})
        for place in paths.values():
            _spare(place)
        return writers[type](**paths, **more)

    def allow(self, target: str) -> None:
        """Let every identity impersonate `target`."""
        self.directory.targets.add(target)

    # Faults

    def fail(self, route: str, times: int | None = 1, *, probability: float = 1.0, seed: int = 0, **fault: Any) -> None:
        """Let the next `times` requests of a route go wrong (None: until healed), each with a probability.

        `fault` are the fields of `Fault`; faults of one route strike in the order they were added.

        Raises:
            ValueError: there is no such route or kind.
            TypeError: there is no such field.
        """
        if route not in ROUTES:
            message = f"unknown route {route!r}; there are {', '.join(ROUTES)}"
            raise ValueError(message)
        chance = random.Random(seed)  # noqa: S311 - chance for tests, no secret
        self._faults.add(Rule(route, Fault(**fault), times, probability, chance))

    def heal(self, route: str | None = None) -> None:
        """End the faults of a route, or all."""
        self._faults.heal(route)

    # The server

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 30)
        app.on_response_prepare.append(self._depart)
        for method, path, route, handler in IdentitySide(self).routes():
            app.router.add_route(method, path, self._door(route, handler))
        for route, (path, answer) in vertex.ROUTES.items():
            for version in vertex.VERSIONS:
                serve = functools.partial(self._vertex, answer)
                app.router.add_post(f"/{version}{vertex.ENDPOINT}{path}", self._door(route, serve))
        app.add_routes(Control(self).routes())
        app.router.add_route("*", "/{path:.*}", self._door("unknown", self._unknown))
        return app

    async def _depart(self, request: web.Request, response: web.StreamResponse) -> None:
        """An answer is about to be sent: its head is known before its client can know it."""
        response.headers["Date"] = email.utils.formatdate(self.now(), usegmt=True)
        if request.transport is not None and not request.transport.is_closing():
            self.ledger.amend(status=response.status)

    def _door(self, route: str, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def enter(request: web.Request) -> web.StreamResponse:
            self.ledger.arrive(request, route, self.now())
            try:
                return await self._attend(Visit(request, route, self._faults.strike(route)), handler)
            except ConnectionError:
                return web.Response()  # nobody is there to read it

        return enter

    async def _attend(self, visit: Visit, handler: Handler) -> web.StreamResponse:
        try:
            wrong = await _go_wrong(visit)
            return await handler(visit) if wrong is None else wrong
        except DeniedError as denied:
            return web.json_response(denied.body, status=denied.status)

    async def _unknown(self, visit: Visit) -> web.StreamResponse:
        del visit
        return _html(404)

    async def _vertex(self, handler: vertex.Handler, visit: Visit) -> web.StreamResponse:
        bearer = self.bearer(visit.request)
        if isinstance(bearer, str):
            return vertex.unauthenticated(bearer)
        self.ledger.amend(identity=bearer.identity)
        cut = visit.fault.after if visit.fault is not None and visit.kind == "cut" else None
        return await vertex.serve(handler, visit.request, bearer.identity, next(self._answers), cut)

    def bearer(self, request: web.Request) -> Issued | str:
        """The live token a request carries, or Google's reason to refuse it."""
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not value:
            return "CREDENTIALS_MISSING"
        issued = self.mint.find(value)
        if issued is None:
            return "ACCESS_TOKEN_TYPE_UNSUPPORTED"
        return issued if self.mint.alive(issued) else "ACCESS_TOKEN_EXPIRED"


class IdentitySide:
    """The routes by which an identity becomes a token."""

    def __init__(self, google: "Emulator") -> None:
        self._google = google

    def routes(self) -> list[tuple[str, str, str, Handler]]:
        """Method, path, route and handler of each."""
        token, info = (functools.partial(self._metadata, it) for it in (self._metadata_token, self._metadata_info))
        return [
            ("POST", "/token", "token", self._token),
            ("POST", "/v1/token", "sts", self._sts),
            ("POST", "/v1/projects/-/serviceAccounts/{target}:generateAccessToken", "iam", self._iam),
            ("POST", "/tokeninfo", "tokeninfo", self._tokeninfo),
            ("GET", _MACHINE + "/{account}/token", "metadata", token),
            ("GET", _MACHINE + "/{account}/{what:(email|scopes)?}", "metadata-info", info),
            ("GET", "/computeMetadata/v1/project/project-id", "metadata-info", info),
            ("GET", "/", "metadata-info", info),
        ]

    async def _token(self, visit: Visit) -> web.StreamResponse:
        form = await visit.request.post()
        match form.get("grant_type"):
            case "urn:ietf:params:oauth:grant-type:jwt-bearer":
                audiences = frozenset({_GOOGLE_TOKEN_URL, self._google.token_uri})
                identity = self._google.directory.account(_said(form, "assertion"), audiences, self._google.now())
            case "refresh_token":
                identity = self._google.directory.user(_said(form, "refresh_token"))
            case _:
                raise oauth_error("unsupported_grant_type", "Invalid grant_type: " + _said(form, "grant_type"))
        return self._oauth(visit, self._issue(visit, identity), scope=SCOPE)

    async def _sts(self, visit: Visit) -> web.StreamResponse:
        form = await visit.request.post()
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange":
            raise oauth_error("unsupported_grant_type", "Only token exchange is supported.")
        if form.get("audience") != AUDIENCE:
            raise oauth_error("invalid_target", 'The target service indicated by the "audience" parameters is invalid.')
        identity = self._google.directory.workload(_said(form, "subject_token"))
        return self._oauth(visit, self._issue(visit, identity), issued_token_type=_ACCESS_TOKEN)

    async def _iam(self, visit: Visit) -> web.StreamResponse:
        caller = self._google.bearer(visit.request)
        if isinstance(caller, str):
            raise DeniedError(vertex.error(401, "Request had invalid authentication credentials."), 401)
        self._google.ledger.amend(identity=caller.identity)
        target = visit.request.match_info["target"]
        hours = self._hours(vertex.parse(await visit.request.read()) or {})
        if target not in self._google.directory.targets:
            permission = "iam.serviceAccounts.getAccessToken"
            info = vertex.error_info("IAM_PERMISSION_DENIED", "iam.googleapis.com", permission=permission)
            raise DeniedError(
                vertex.error(403, f"Permission '{permission}' denied on resource (or it may not exist).", info), 403
            )
        # expireTime has no fractions: the token lives up to the second that is named.
        end = math.ceil(self._google.now() + hours * self._google.lifetime)
        value, left = self._shown(visit, self._issue(visit, target, end - self._google.now()))
        ends = (
            {}
            if left is None
            else {"expireTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._google.now() + left))}
        )
        return web.json_response({"accessToken": value} | ends)

    def _hours(self, body: Json) -> float:
        seconds = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(body.get("lifetime") or "3600s"))
        most = 43200 if self._google.extended_lifetimes else 3600
        if not seconds or not 0 < float(seconds[1]) <= most or not body.get("scope"):
            raise DeniedError(vertex.error(400, "Request contains an invalid argument."), 400)
        return float(seconds[1]) / _HOUR

    async def _tokeninfo(self, visit: Visit) -> web.StreamResponse:
        form = await visit.request.post()
        issued = self._google.mint.find(_said(form, "access_token"))
        if issued is None or not self._google.mint.alive(issued):
            raise oauth_error("invalid_token", "Invalid Value")
        self._google.ledger.amend(identity=issued.identity)
        left = str(int(issued.expires_at - self._google.now()))
        return web.json_response({"scope": SCOPE, "expires_in": left, "email": issued.identity})

    async def _metadata(self, answer: Handler, visit: Visit) -> web.StreamResponse:
        """Answer only who says to know what this is, and say it too; both keep stray requests away."""
        allowed = visit.request.headers.get("Metadata-Flavor") == "Google"
        response = await answer(visit) if allowed else _html(403)
        response.headers["Metadata-Flavor"] = "Google"
        return response

    async def _metadata_token(self, visit: Visit) -> web.StreamResponse:
        last = self._google.mint.last(self._google.metadata_account, visit.route)
        window = min(self._google.metadata_window, self._google.lifetime * 0.1)
        if last is None or not self._google.mint.alive(last) or last.expires_at - self._google.now() <= window:
            last = self._issue(visit, self._google.metadata_account)
        self._google.ledger.amend(identity=last.identity)
        return self._oauth(visit, last)

    async def _metadata_info(self, visit: Visit) -> web.StreamResponse:
        texts = {
            "/": "computeMetadata/\n",
            "/computeMetadata/v1/project/project-id": "demo",
            f"{_MACHINE}/default/email": self._google.metadata_account,
            f"{_MACHINE}/default/scopes": f"{SCOPE}\n",
        }
        if visit.request.path in texts:
            return web.Response(text=texts[visit.request.path])
        return web.json_response({"aliases": ["default"], "email": self._google.metadata_account, "scopes": [SCOPE]})

    def _issue(self, visit: Visit, identity: str, lifetime: float | None = None) -> Issued:
        """A token for this visit, spoiled as its fault asks."""
        self._google.ledger.amend(identity=identity)
        last = self._google.mint.last(identity, visit.route)
        if visit.kind == "same_token" and last is not None:
            return last
        length = 12288 if visit.kind == "huge_token" else 180
        return self._google.mint.issue(
            identity, visit.route, self._google.lifetime if lifetime is None else lifetime, length
        )

    def _shown(self, visit: Visit, issued: Issued) -> tuple[str, float | None]:
        """The token and the seconds it is said to have left, None for a silence about them."""
        value = {"newline_token": issued.value + "\n", "empty_token": ""}.get(visit.kind, issued.value)
        left = {"no_expiry": None, "negative_expiry": -60.0}.get(visit.kind, issued.expires_at - self._google.now())
        return value, left

    def _oauth(self, visit: Visit, issued: Issued, **more: str) -> web.Response:
        value, left = self._shown(visit, issued)
        expiry = {} if left is None else {"expires_in": math.floor(left + _GRACE)}
        body = {"access_token": value, "token_type": "Bearer"} | expiry | more
        return web.json_response(body)


class Control:
    """The emulator's own routes, by which another process steers it; no answer holds a token."""

    def __init__(self, google: Emulator) -> None:
        self._google = google

    def routes(self) -> list[web.RouteDef]:
        """Its routes, all below `/_emulator`."""
        return [
            web.get("/_emulator/state", self._guard(self._state)),
            web.post("/_emulator/faults", self._guard(self._fail)),
            web.delete("/_emulator/faults", self._guard(self._heal)),
            web.post("/_emulator/lifetime", self._guard(self._lifetime)),
            web.post("/_emulator/credentials", self._guard(self._credentials)),
            web.post("/_emulator/revoke", self._guard(self._revoke)),
        ]

    def _guard(self, act: Callable[[Json], Json]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def enter(request: web.Request) -> web.Response:
            # A page in the user's browser can reach loopback, but neither forge this type nor this host.
            if request.method == "POST" and request.content_type != "application/json":
                return web.json_response({"error": "send application/json"}, status=415)
            if (request.url.host or "") not in {"localhost", self._google.host}:
                return web.json_response({"error": "ask by the loopback address"}, status=403)
            try:
                return web.json_response(act(await request.json() if request.body_exists else dict(request.query)))
            except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
                return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)

        return enter

    def _state(self, ask: Json) -> Json:
        del ask
        counts: dict[str, Counter[str]] = {}
        for seen in self._google.requests:
            counts.setdefault(seen.route, Counter())[str(seen.status)] += 1
        issued = [{k: v for k, v in asdict(token).items() if k != "value"} for token in self._google.issued]
        return {"url": self._google.url, "lifetime": self._google.lifetime, "counts": counts, "issued": issued}

    def _fail(self, ask: Json) -> Json:
        self._google.fail(**ask)
        return {}

    def _heal(self, ask: Json) -> Json:
        self._google.heal(ask.get("route"))
        return {}

    def _lifetime(self, ask: Json) -> Json:
        self._google.lifetime = float(ask["lifetime"])
        return {"lifetime": self._google.lifetime}

    def _revoke(self, ask: Json) -> Json:
        """End a token by value (`token`), or an identity's right to new ones (`identity`, `reauth`)."""
        if "token" in ask:
            self._google.revoke(ask["token"])
        else:
            self._google.revoke_identity(ask["identity"], reauth=bool(ask.get("reauth")))
        return {}

    def _credentials(self, ask: Json) -> Json:
        return {"identity": self._google.credentials(**ask)}


@contextlib.contextmanager
def running(**options: Any) -> Iterator[Emulator]:
    """An emulator in a thread of its own; `options` are those of `Emulator`.

    Raises:
        OSError: the port is taken.
    """
    google = Emulator(**options)
    started: Future[Callable[[], object]] = Future()

    async def live() -> None:
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with google:
            started.set_result(lambda: loop.call_soon_threadsafe(done.set))
            await done.wait()

    def run() -> None:
        try:
            asyncio.run(live())
        except OSError as error:
            started.set_exception(error)

    thread = threading.Thread(target=run, name="emulator", daemon=True)
    thread.start()
    stop = started.result()
    try:
        yield google
    finally:
        stop()
        thread.join()


def _write(path: Path, document: Json) -> None:
    _write_text(path, json.dumps(document | {"made_by": _MARK}, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    """Replace a file at once, so that nobody reads half a login; private, as gcloud writes them."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


def _said(form: Mapping[str, object], name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""


def _spare(path: Path) -> None:
    if path.exists() and _MARK not in path.read_text(errors="replace"):
        message = f"{path} was not made by an emulator and stays as it is"
        raise FileExistsError(message)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m vx_token.emulator", description="A Google that lives on loopback.")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--lifetime", type=float, default=_HOUR, help="seconds a token lives")
    parser.add_argument("--service-account", type=Path, metavar="PATH", help="write a key file there")
    parser.add_argument("--authorized-user", type=Path, metavar="PATH", help="write a user's login there")
    return parser.parse_args(argv)


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Emulator(options.lifetime, options.port, options.host) as google:
        ready = {"url": google.url, "base_url": google.base_url(), "metadata_host": google.metadata_host}
        for kind in ("service_account", "authorized_user"):
            path = getattr(options, kind)
            if path is not None:
                ready[kind] = google.credentials(kind, path)
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        await stop.wait()


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; one JSON line on stdout says where."""
    try:
        asyncio.run(_serve(_arguments(argv)))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"emulator: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
