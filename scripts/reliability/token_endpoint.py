"""Faults of the token endpoint, for every type of credential that can be redirected to the emulator."""

import contextlib
import json
import signal
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import trustme

import certificates
from credential_kinds import IAM, KINDS
from reliability import network
from reliability.context import Context, boxed, isolated, repeated
from reliability.page import Section
from sandbox import Box, until
from vx_token.emulator import Emulator, running
from vx_token.tokens.model import State
from vx_token.tokens.schedule import LONGEST_PAUSE, next_refresh
from vx_token.tokens.store import Store

LIFETIME, QUICK_LIFETIME, HUNG_LIFETIME = 28.0, 22.0, 36.0
"""Seconds that a token lives; an attempt that hangs must be given up before that."""

PRINT_LIMIT = 5.0
"""Seconds within which `print` answers while a live token exists, where a command starts in half a second."""

WITHDRAWN = 2.0
"""Seconds after its expiry within which a token has left the files, beside the time that a command takes to start."""

WHOLE = 1.2
"""Seconds before its expiry from which a token may be missing: a metadata server repeats it, in whole seconds."""

ATTEMPT = 10.0
"""Seconds that an attempt may take beyond its pause, and `AT_ONCE` starts: all types refresh at the same time."""

AT_ONCE = 10

GROWTH = 8.0
"""MiB by which the daemon may grow."""

HUNG = 30.0
"""Seconds after which an attempt is given up; an attempt in progress ends before the next pause begins."""

PRINTERS = 3
"""How many commands run `print` side by side."""

QUICK_KINDS = ("key", "impersonated-file", "certificate", "metadata")


def body(token: object = "ya29.x", **more: object) -> str:  # noqa: S107 - no token
    """An answer with that token, in the forms of the token endpoint, STS and IAM."""
    fields = {"access_token": token, "accessToken": token, "token_type": "Bearer"}
    return json.dumps(fields | {"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"} | more)


def expiring(seconds: object, instant: str | None) -> dict[str, Any]:
    """An answer whose token expires so."""
    ends = {"expires_in": seconds, "expireTime": instant}
    return {"status": 200, "body": body(**{key: value for key, value in ends.items() if value is not None})}


@dataclass(frozen=True)
class Fault:
    """What goes wrong.

    Attributes:
        name: as in the table.
        answer: what the emulator does, the fields of `emulator.faults.Fault`; or
        front: what the front before it does; or
        dns: what the name server does.
        pause: seconds for which Google asks by Retry-After.
        hangs: whether an attempt in progress can last until its deadline.
        quick: whether it belongs to the quick half.
    """

    name: str
    answer: Mapping[str, Any] = field(default_factory=dict)
    front: str = ""
    dns: str = ""
    pause: float = 0.0
    hangs: bool = False
    quick: bool = False


FAULTS = (
    Fault("status 500", {"status": 500}),
    Fault("status 502 with an HTML page", {"status": 502, "body": "<html>Bad Gateway</html>"}),
    Fault("status 503", {"status": 503}, quick=True),
    Fault("status 429 with Retry-After: 20", {"status": 429, "headers": {"Retry-After": "20"}}, pause=20.0),
    Fault("captive portal: 200 with an HTML page", {"kind": "html"}, quick=True),
    Fault("captive portal: redirect to a page", {"status": 302, "headers": {"Location": "/"}, "body": "<html></html>"}),
    Fault("redirect 307 to another host", {"status": 307, "headers": {"Location": "http://127.0.0.2/"}, "body": "{}"}),
    Fault("empty body", {"kind": "empty"}),
    Fault("JSON cut short, with the right length", {"status": 200, "body": body()[:30]}),
    Fault("closed in the middle of the body", {"kind": "truncated"}),
    Fault("a JSON list", {"kind": "list"}),
    Fault("token null", {"status": 200, "body": body(None, expires_in=3599, expireTime="2999-01-01T00:00:00Z")}),
    Fault("empty token", {"kind": "empty_token"}),
    Fault("token with a newline", {"kind": "newline_token"}),
    Fault("no expiry", {"kind": "no_expiry"}),
    Fault("expires_in 0", expiring(0, "1970-01-01T00:00:00Z")),
    Fault("expires_in negative", {"kind": "negative_expiry"}),
    Fault('expires_in "abc"', expiring("abc", "abc")),
    Fault("expires_in 1e12", expiring(10**12, "9999-12-31T23:59:59Z")),
    Fault("no answer (hangs)", {"kind": "hang"}, hangs=True),
    Fault("one byte a second", {"kind": "drip"}, hangs=True),
    Fault("a body of 200 MB", {"kind": "junk"}),
    Fault("connection refused", front="refuse", quick=True),
    Fault("connection reset", {"kind": "reset"}),
    Fault("certificate of an unknown authority", front="wrong certificate"),
    Fault("name server: SERVFAIL", dns="servfail"),
    Fault("name server: NXDOMAIN", dns="nxdomain"),
    Fault("name server hangs", dns="hang", hangs=True),
    Fault("IPv6 address that swallows packets", dns="ipv6", hangs=True),
)

ROUTES = ("token", "sts", "metadata")
"""Where most types ask last; those that impersonate ask at `iam`, of another emulator."""

IMPERSONATING = ("impersonated-file", "impersonating")

CERTIFICATE = "certificate"
"""The type of a workload that shows a certificate to a third emulator, which demands one."""


@dataclass
class Place:
    """One emulator, and the front through which it is reached.

    Attributes:
        tls: what the front shows to clients when nothing is wrong.
    """

    google: Emulator
    front: network.Front
    routes: tuple[str, ...]
    tls: ssl.SSLContext | None

    def strike(self, fault: Fault) -> None:
        """Let it go wrong from now on."""
        if fault.answer:
            for route in self.routes:
                self.google.fail(route, None, **fault.answer)
        if fault.front == "refuse":
            self.front.refuse()
        if fault.front == "wrong certificate":
            self.front.tls = server_context(trustme.CA())

    def heal(self, fault: Fault) -> None:
        """Let it go right again."""
        self.google.heal()
        self.front.tls = self.tls
        if fault.front == "refuse":
            self.front.listen()


def server_context(authority: trustme.CA) -> ssl.SSLContext:
    """Return the TLS of a server whose certificate that authority issued."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@dataclass
class Seen:
    """What one type's files and commands showed.

    Attributes:
        dead: worst seconds for which a file held a token after its expiry.
        lost: times that a file held no token before the recorded expiry.
        prints: number of prints while a token lived.
        slowest: seconds of the slowest of them.
        wrong: whatever must not be.
    """

    dead: float = 0.0
    lost: int = 0
    prints: int = 0
    slowest: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Scene:
    """A user with a profile for each type of credential, a daemon, and Google behind two fronts."""

    def __init__(
        self, fault: Fault, box: Box, stack: contextlib.ExitStack, kinds: tuple[str, ...], lifetime: float
    ) -> None:
        self.fault, self.box, self.lifetime = fault, box, lifetime
        self.host = f"{fault.dns}.google.test" if fault.dns else "127.0.0.1"
        self.tls = fault.front == "wrong certificate"
        authority, self.certificate = trustme.CA(), certificates.issued(box.root, self.host)
        self.places = [
            self._place(stack, ROUTES, server_context(authority) if self.tls else None),
            self._place(stack, ("iam",), server_context(authority) if self.tls else None),
            self._place(stack, ("sts",), None, self.certificate.server),
        ]
        with self.certificate.trusted.open("ab") as trusted:
            trusted.write(authority.cert_pem.bytes())
        self.kinds = tuple(kind for kind in kinds if kind != "metadata" or not self.tls)  # it is plain HTTP by design
        self.seen = {kind: Seen() for kind in self.kinds}
        self.tokens: dict[str, str] = {}
        self.last: dict[str, float] = {}
        self.start = 0.0  # seconds that a command takes on this machine while all types are refreshed
        box.config.write_text(f'default_profile = "{self.kinds[0]}"\n')
        self.identities = {kind: self._profile(kind) for kind in self.kinds}
        box.environ |= {
            IAM: self.places[1].google.url,
            "GCE_METADATA_HOST": self.places[0].google.metadata_host,
            "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES": "1",
            "REQUESTS_CA_BUNDLE": str(self.certificate.trusted),
        }

    def _place(
        self,
        stack: contextlib.ExitStack,
        routes: tuple[str, ...],
        tls: ssl.SSLContext | None,
        own_tls: ssl.SSLContext | None = None,
    ) -> Place:
        """Start an emulator behind a front; `tls` ends at the front, `own_tls` at the emulator."""
        google = stack.enter_context(running(lifetime=self.lifetime, tls=own_tls))
        front = network.Front(google.port, tls)
        stack.callback(front.refuse)
        # All its URLs lead through the front.
        google.port, google.host, google.tls = front.port, self.host, tls or own_tls
        return Place(google, front, routes, tls)

    def _profile(self, kind: str) -> str:
        """Add the type's profile; return the identity that its tokens must have."""
        google, settings, path = self.google(kind), {}, self.box.root / f"{kind}.json"
        if kind == "metadata":
            name, path_setting = google.metadata_account, None
        elif kind == "gcloud":
            name, path_setting = google.gcloud_login(self.box.home / ".config/gcloud"), None
            settings = {"account": name}
        elif kind == CERTIFICATE:
            name, path_setting = google.external_account_by_certificate(path, self.certificate.config), str(path)
        else:
            write, extra = KINDS[kind]
            name, path_setting, settings = write(google, path), str(path), dict(extra)
        url = google.base_url().replace(self.host, "127.0.0.1")  # plain HTTP is allowed for loopback alone
        self.box.profile(kind, url=url, credentials=path_setting, **settings)
        return name

    def google(self, kind: str) -> Emulator:
        """Return the type's emulator."""
        return self.places[2 if kind == CERTIFICATE else kind in IMPERSONATING].google

    def strike(self, names: network.NameServer | None, stack: contextlib.ExitStack) -> None:
        """Let it go wrong everywhere; the stack ends what must be ended."""
        for place in self.places:
            place.strike(self.fault)
            if self.fault.dns == "ipv6":
                stack.enter_context(network.black_hole(place.front.port))
        if self.fault.dns and names is not None:
            names.modes[self.host] = self.fault.dns

    def heal(self, names: network.NameServer | None) -> None:
        """Let all go right again."""
        for place in self.places:
            place.heal(self.fault)
        if names is not None:
            names.modes.pop(self.host, None)

    def requests(self) -> int:
        """How often Google was asked, as far as the emulators saw it."""
        return sum(seen.route in place.routes for place in self.places for seen in place.google.requests)

    def ends(self, kind: str, token: str) -> float:
        """When a token expires; 0 for one that was never issued to this type's identity."""
        google = self.google(kind)
        issued = next((each for each in google.issued if each.value == token), None)
        return issued.expires_at if issued and issued.identity == self.identities[kind] else 0.0

    def look(self) -> None:
        """Read every type's token file, as a tool does."""
        for kind, seen in self.seen.items():
            token, now = self.box.read("token", kind), time.time()
            if token and not self.ends(kind, token):
                seen.wrong.append(f"{kind}: a token that Google never issued")
            if token == self.tokens[kind]:
                seen.dead = max(seen.dead, now - self.last[kind])
            elif not token and now < self.last[kind] - WHOLE:
                seen.lost += 1

    def print_each(self, kinds: tuple[str, ...]) -> None:
        """Run `vx-token print` for each type whose token lives for a while."""
        for kind in kinds:
            if time.time() > self.last[kind] - 6:
                continue
            started = time.time()
            done = self.box.vx("print", "--profile", kind)
            took, token, seen = time.time() - started, done.stdout.rstrip("\n"), self.seen[kind]
            seen.prints, seen.slowest = seen.prints + 1, max(seen.slowest, took)
            expired = started + took > self.last[kind]  # meanwhile, on a machine that is very busy
            if (token and self.ends(kind, token) <= started) or (not expired and (done.returncode or done.stderr)):
                seen.wrong.append(f"{kind}: print ended with {done.returncode}: {done.stderr.strip()}")
            if took > (limit := max(PRINT_LIMIT, 2 + 6 * self.start)) and not expired:
                seen.wrong.append(f"{kind}: print took {took:.1f} s of {limit:.0f} s")

    def run(self, names: network.NameServer | None, turn: contextlib.AbstractContextManager[object]) -> "Outcome":
        """Strike, let every token expire, heal, and wait for the next tokens.

        All types refresh at once in the beginning, which would delay another case's `print`; that has its turn later.
        """
        store = Store(self.box.runtime)
        with contextlib.ExitStack() as stack:
            with turn:
                daemon = stack.enter_context(self.box.daemon())
                until(lambda: all(self.box.read("token", kind) for kind in self.kinds), 240, "a token of each type")
                self._refresh_all(daemon)
                states = {kind: store.read(kind) for kind in self.kinds}
                attempts = {kind: state.attempts for kind, state in states.items()}
                self.tokens = {kind: state.token.value for kind, state in states.items() if state.token}
                self.last = {kind: state.token.expires_at for kind, state in states.items() if state.token}
                process = psutil.Process(daemon.pid)
                memory = [process.memory_info().rss / 2**20]
                asked = self.requests()
                self.strike(names, stack)
                daemon.send_signal(signal.SIGHUP)
                stack.enter_context(repeated(self.look, 0.1))
                stack.enter_context(repeated(lambda: memory.append(process.memory_info().rss / 2**20), 0.5))
                with contextlib.ExitStack() as printing:
                    for start in range(PRINTERS):
                        kinds = self.kinds[start::PRINTERS]
                        printing.enter_context(repeated(lambda kinds=kinds: self.print_each(kinds), 2.0))
                    time.sleep(max(0.0, max(self.last.values()) - 6 - time.time()))
            time.sleep(max(0.0, max(self.last.values()) + WITHDRAWN - time.time()))
            states = {kind: store.read(kind) for kind in self.kinds}
            asked = self.requests() - asked
            now = time.time()
            bounds = {kind: longest_wait(now, states[kind]) for kind in self.kinds}
            self.heal(names)
            recovered = self._recovery(time.time())
        tries = max(states[kind].attempts - attempts[kind] for kind in self.kinds)
        messages = [state.failure.message for state in states.values() if state.failure]
        return Outcome(self, messages, tries, asked, max(memory) - memory[0], recovered, bounds)

    def _refresh_all(self, daemon: Any) -> None:
        """Give all types a new token at about the same time, and measure how quick this machine is meanwhile."""

        def fresh(kind: str) -> bool:
            return self.ends(kind, self.box.read("token", kind)) - time.time() > 0.6 * self.lifetime

        others = [kind for kind in self.kinds if kind != "metadata"]  # a metadata server repeats its token
        daemon.send_signal(signal.SIGHUP)
        started = time.monotonic()
        self.box.vx("status")
        self.start = time.monotonic() - started
        until(lambda: all(fresh(kind) for kind in others), 240, "fresh tokens of each type")

    def _recovery(self, healed: float) -> dict[str, float]:
        """Seconds until each type has a live token again; what took longer than two minutes is missing."""
        took: dict[str, float] = {}
        while len(took) < len(self.kinds) and time.time() < healed + 120:
            for kind in self.kinds:
                token = self.box.read("token", kind)
                if kind not in took and token and self.ends(kind, token) > time.time():
                    took[kind] = time.time() - healed
            time.sleep(0.1)
        return took


def longest_wait(now: float, state: State) -> float:
    """Return the seconds until the last attempt that may begin with the fault over."""
    shortest, longest = (next_refresh(now, state, jitter) - now for jitter in (1.0, 0.0))
    # An attempt that may have begun may also have met the fault: the next one is a whole pause later.
    return longest if shortest > 0 else LONGEST_PAUSE


@dataclass
class Outcome:
    """What a fault cost: see the head of the table."""

    scene: Scene
    messages: list[str]
    tries: int
    asked: int
    growth: float
    recovered: dict[str, float]
    bounds: dict[str, float]

    @property
    def short(self) -> list[str]:
        """What fell short of the promise."""
        fault, short = self.scene.fault, []
        for kind, seen in self.scene.seen.items():
            short += [f"{each} ({len(seen.wrong)} in all)" for each in seen.wrong[:1]]
            if seen.dead > WITHDRAWN + self.scene.start:
                short.append(f"{kind}: a file held a token {seen.dead:.1f} s after its expiry")
            if seen.lost:
                short.append(f"{kind}: no token in the files while one lived")
            limit = self.bounds[kind] + ATTEMPT + AT_ONCE * self.scene.start + HUNG * fault.hangs
            if self.recovered.get(kind, 1000.0) > limit:
                took = self.recovered.get(kind)
                short.append(f"{kind}: recovered after {took and round(took)} s instead of {limit:.0f} s")
        if self.growth > GROWTH:
            short.append(f"the daemon grew by {self.growth:.0f} MiB")
        if not any(seen.prints for seen in self.scene.seen.values()):
            short.append("print never ran")
        if not self.messages:
            short.append("the fault did not strike")
        return [f"{fault.name}: {each}" for each in short]

    @property
    def row(self) -> tuple[str, ...]:
        """The cells of the table."""
        seen = self.scene.seen.values()
        common = max(set(self.messages), key=self.messages.count) if self.messages else ""
        others = len(set(self.messages)) - 1
        return (
            self.scene.fault.name,
            common + (f" ({others} more)" if others > 0 else ""),
            f"{max(each.slowest for each in seen):.1f} s of {sum(each.prints for each in seen)}",
            f"{sum(each.lost for each in seen)}",
            f"{max(each.dead for each in seen):.1f} s",
            f"{self.tries}; {self.asked}",
            f"{self.growth:.1f} MiB",
            f"{max(self.recovered.values(), default=0.0):.0f} s",
        )


def token_endpoint(context: Context) -> Section:
    """Run every fault against every type of credential."""
    head = (
        "fault",
        "what `status` shows",
        "slowest `print` with a live token",
        "live tokens lost",
        "in a file after its expiry",
        "attempts of one profile; requests in all",
        "daemon's growth",
        "live token again, all types",
    )
    section = Section("token-endpoint", head)
    redirected = (*(kind for kind in KINDS if kind != "half-day"), CERTIFICATE, "gcloud", "metadata")
    kinds = QUICK_KINDS if context.quick else redirected
    faults = [
        fault for fault in FAULTS if context.chosen(fault.name) and (fault.quick or context.only or not context.quick)
    ]
    if not isolated():
        section.skipped += [f"{fault.name} (needs root)" for fault in faults if fault.dns]
        faults = [fault for fault in faults if not fault.dns]
    usual = QUICK_LIFETIME if context.quick else LIFETIME
    turn = contextlib.nullcontext() if context.quick else threading.Lock()
    with named() as names:

        def run(fault: Fault) -> Outcome:
            with boxed() as box, contextlib.ExitStack() as stack:
                lifetime = HUNG_LIFETIME if fault.hangs else usual
                outcome = Scene(fault, box, stack, kinds, lifetime).run(names, turn)
            context.say(" | ".join(outcome.row))
            for each in outcome.short:
                context.say(f"  FELL SHORT: {each}")
            return outcome

        outcomes = context.side_by_side(run, faults)
    section.rows = [outcome.row for outcome in outcomes]
    section.short = [each for outcome in outcomes for each in outcome.short]
    cases = sum(len(outcome.scene.kinds) for outcome in outcomes)
    prints = sum(seen.prints for outcome in outcomes for seen in outcome.scene.seen.values())
    section.cases = f"{len(faults)} faults x {len(kinds)} types of credential, {cases} cases, {prints:,} prints"
    return section


@contextlib.contextmanager
def named() -> Iterator[network.NameServer | None]:
    """A name server of this run's own, where it may have one."""
    if not isolated():
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        server = network.NameServer()
        try:
            with network.resolved_by(server.address, Path(folder)):
                yield server
        finally:
            server.close()
