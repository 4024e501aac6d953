"""Runs one example in its namespaces: requests over many token lives, then each failure; prints the facts as JSON."""

import argparse
import asyncio
import contextlib
import functools
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import aiohttp
import trustme
from fleet_world import BODY, ENVOY, EXAMPLES, NAMES, PROFILES, RELOADED, Engine, World, as_user, ask, until, world
from fleet_world import ENVIRON as ENV
from pace import lifetime

from vx_token.emulator import Emulator, running

LANES = 16
STREAM = BODY[:-1] + b', "stream": true}'


@dataclass
class Facts:
    """What was seen of one engine.

    Attributes:
        name: the engine's.
        statuses: the number of requests by their HTTP status.
        lost: connections that were closed before the response began; the request was sent again, as clients do.
        lives: the number of tokens.
        token_failures: requests for a token that failed meanwhile.
        seconds: from the replacement of the token file to the first request with the new token.
        failures: the HTTP status that a client gets, by what has failed.
        problems: what must not be, and is.
    """

    name: str
    statuses: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    lives: int = 0
    token_failures: int = 0
    seconds: float = 0.0
    failures: dict[str, int | str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def failed(self, what: str, status: int | str, *allowed: int | str) -> None:
        """Record the status after a failure, which must be one of those allowed."""
        self.failures[what] = status
        self.demand(status in allowed, f"{what}: {status}")

    def demand(self, holds: bool, what: str) -> None:
        """Record a problem unless it holds."""
        if not holds:
            self.problems.append(what)


async def send(client: aiohttp.ClientSession, engine: Engine, number: int, facts: Facts) -> None:
    """Send one request, and twice more if the connection is lost, as SDKs do; read the response to its end."""

    def count(status: str) -> None:
        facts.statuses[status] = facts.statuses.get(status, 0) + 1

    url = engine.url if number % 5 else engine.tuned_url
    stream = number % 10 == 1
    for last in (False, False, True):
        try:
            async with client.post(url, data=STREAM if stream else BODY) as response:
                text = await response.text()
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            facts.lost += 1
            if last:
                count(type(error).__name__)
            await asyncio.sleep(0.5)
            continue
        except aiohttp.ClientPayloadError:
            count("incomplete")
            return
        whole = "[DONE]" in text if stream else '"finish_reason"' in text
        count("incomplete" if response.status == 200 and not whole else str(response.status))
        return


async def soak(
    engines: tuple[Engine, ...], google: Emulator, found: dict[str, Facts], asked: argparse.Namespace
) -> None:
    """Send requests to all engines, until there were enough of them and of token lives.

    The rate is never above the one that was asked for, not even after a pause, because the engines limit it.

    Raises:
        TimeoutError: it took six times the time that was asked for.
    """
    enough = asked.lives * len(PROFILES)
    pause = asked.seconds / asked.requests

    async def lane(client: aiohttp.ClientSession, engine: Engine, first: int) -> None:
        await asyncio.sleep(first * pause)
        number = first
        while number < asked.requests or len(google.issued) <= enough:
            next_one = time.monotonic() + LANES * pause
            await send(client, engine, number, found[engine.name])
            await asyncio.sleep(max(0.0, next_one - time.monotonic()))
            number += LANES

    async def trouble() -> None:
        seen = 0
        while True:  # after each fourth token the next request for one fails
            if len(google.issued) >= seen + 4:
                seen = len(google.issued)
                google.fail("token", status=503)
            await asyncio.sleep(0.1)

    async with asyncio.timeout(6 * asked.seconds), connected(engines) as clients, asyncio.TaskGroup() as tasks:
        failing = tasks.create_task(trouble())
        lanes = [tasks.create_task(lane(clients[engine.name], engine, n)) for engine in engines for n in range(LANES)]
        await asyncio.wait(lanes)
        failing.cancel()
    google.heal()


@contextlib.asynccontextmanager
async def connected(engines: tuple[Engine, ...], limit: int = 0) -> AsyncIterator[dict[str, aiohttp.ClientSession]]:
    """A client with the key of each engine, by the engine's name."""
    async with contextlib.AsyncExitStack() as stack:
        found = {}
        for engine in engines:
            headers = {"Authorization": f"Bearer {engine.key}", "Content-Type": "application/json"}
            session = aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=limit))
            found[engine.name] = await stack.enter_async_context(session)
        yield found


async def burst(engine: Engine) -> int:
    """Send 400 requests as fast as 50 connections allow, up to five times; return how many were refused with 429."""
    refused = 0
    async with connected((engine,), limit=50) as clients:
        client = clients[engine.name]

        async def one() -> int:
            async with client.post(engine.url, data=BODY) as response:
                await response.read()
                return response.status

        for _ in range(5):  # a slow machine stays below the limit at first
            if not refused:
                refused = (await asyncio.gather(*(one() for _ in range(400)))).count(429)
    return refused


def hammer(engine: Engine) -> int:
    """Send up to 2,000 requests for a path that the engine answers itself; return how many were refused with 429."""
    request = f"GET /none HTTP/1.1\r\nHost: clients\r\nAuthorization: Bearer {engine.key}\r\n\r\n".encode()
    refused = 0
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", engine.port)
        connections = [stack.enter_context(socket.create_connection(address, 30)) for _ in range(50)]
        for _ in range(40):
            for connection in connections:
                connection.sendall(request)
            refused += sum(connection.recv(65536).startswith(b"HTTP/1.1 429") for connection in connections)
            if refused:
                break
    return refused


def token_file() -> Path:
    """Of the default profile."""
    return Path("/run/vx-token/default/token")


def vx(*arguments: str) -> None:
    """Run a command of vx-token."""
    subprocess.run(as_user("vx-token", *arguments), env=ENV, cwd="/", check=True, stdout=subprocess.DEVNULL)


def start_without_token(box: World, engine: Engine, google: Emulator, facts: Facts) -> None:
    """Start the engine before vx-token, so that neither the token file nor what vx-token creates is there."""
    box.start_engine(engine)
    facts.failed("the engine is started without a token", ask(engine.url, engine.key), 503 if engine.reads else 401)
    facts.demand(google.count("chat") == 0, "a request without a token reached Google")


def revoke(engine: Engine, google: Emulator, facts: Facts) -> None:
    """Revoke the token; then see what clients get, and when the next token is used."""
    google.revoke(token_file().read_text())
    before = google.count("chat", 401)
    facts.failed("the token was revoked", ask(engine.url, engine.key), 200 if engine.heals else 401)
    facts.demand(google.count("chat", 401) > before, "Google did not see the revoked token")
    if not engine.heals:
        vx("refresh", "--profile", "default")

    def direct() -> bool:
        rejected = google.count("chat", 401)
        return ask(engine.url, engine.key) == 200 and google.count("chat", 401) == rejected

    until(direct, f"{engine.name} uses the new token")
    facts.seconds = max(0.0, time.time() - token_file().stat().st_mtime)


def serves(engine: Engine) -> bool:
    """Whether requests to both profiles are answered with 200 for half a second.

    For 100 ms after a reload, workers of nginx with the previous configuration may still accept connections.
    """
    end = time.monotonic() + 0.5
    while {ask(url, engine.key) for url in (engine.url, engine.tuned_url)} == {200}:
        if time.monotonic() > end:
            return True
        time.sleep(0.05)  # the engines limit the rate
    return False


def fail(box: World, engine: Engine, google: Emulator, facts: Facts) -> None:
    """Everything that goes wrong while vx-token runs."""
    served = google.count("chat")
    facts.failed("an unknown key", ask(engine.url, "x" * 64), 401, 403)
    facts.demand(google.count("chat") == served, "a request with an unknown key reached Google")
    google.fail("chat", status=503)
    facts.failed("Google answers 503 once", ask(engine.url, engine.key), 503 if engine.heals else 200)
    google.heal()
    revoke(engine, google, facts)
    limited = engine.limits and (hammer(engine) if engine is ENVOY else asyncio.run(burst(engine))) > 0
    facts.failed("too many requests", 429 if limited else "no limit", 429 if engine.limits else "no limit")
    for wrong in ("another name", "an unknown authority"):
        box.stop(engine.name)
        if wrong == "another name":
            box.present("other.example")
        else:
            box.present(*NAMES)
            box.trust(trustme.CA())
        box.start_engine(engine)
        served = google.count("chat")
        facts.failed(f"a certificate of {wrong}", ask(engine.url, engine.key), 502, 503)
        facts.demand(google.count("chat") == served, f"a request went to a server with a certificate of {wrong}")
    box.trust(box.authority)
    box.stop(engine.name)
    box.start_engine(engine)
    facts.demand(serves(engine), "the right certificate is not accepted again")


def lose_token(box: World, engines: tuple[Engine, ...], google: Emulator, found: dict[str, Facts]) -> None:
    """Remove the token files, as after their expiry, while vx-token does not run."""
    box.stop("vx-token")
    for path in (*Path("/run/vx-token").glob("*/token"), *Path("/run/nginx-vertex").glob("*.conf")):
        path.unlink()
    if RELOADED in engines:
        box.stop(RELOADED.name)  # an expired token stays in nginx's memory until it is reloaded
        box.start_engine(RELOADED)
    for engine in engines:
        facts, served = found[engine.name], google.count("chat")
        facts.failed("the token file is gone", ask(engine.url, engine.key), 503 if engine.reads else 200)
        facts.demand(google.count("chat") == served + (not engine.reads), "a request without a token reached Google")


def secrets(box: World, engines: tuple[Engine, ...], google: Emulator) -> list[str]:
    """What should not be in a log, and is."""
    kept = {token.value: "a token" for token in google.issued} | {engine.key: "a client's key" for engine in engines}
    key = Path("/etc/vx-token/gateway.key")
    kept |= {key.read_text(): "the gateway's key"} if key.exists() else {}
    logs = {engine.name: box.log(engine.name).read_text(errors="replace") for engine in engines}
    return [
        f"{what} is in the log of {name}"
        for name, text in logs.items()
        for value, what in kept.items()
        if value in text
    ]


def run(example: str, asked: argparse.Namespace) -> list[Facts]:
    """Everything about one example."""
    _, engines = EXAMPLES[example]
    found = {engine.name: Facts(engine.name) for engine in engines}
    with world() as box, running(lifetime=lifetime(asked.lifetime), port=443, tls=box.tls) as google:
        box.install(example, google)
        for engine in engines:
            start_without_token(box, engine, google, found[engine.name])
        box.start_daemon()
        for engine in engines:
            until(functools.partial(serves, engine), f"{engine.name} uses the first token")
        google.fail("token", status=503)
        asyncio.run(soak(engines, google, found, asked))
        for facts in found.values():
            facts.lives, facts.token_failures = len(google.issued) // len(PROFILES), google.count("token", 503)
            facts.demand(set(facts.statuses) == {"200"}, f"not only 200: {facts.statuses}")
            facts.demand(facts.token_failures > 0, "the token endpoint never failed")
        google.lifetime = 3600
        vx("refresh", "--profile", "default")
        vx("refresh", "--profile", "tuned")
        for engine in engines:
            fail(box, engine, google, found[engine.name])
        lose_token(box, engines, google, found)
        for facts in found.values():
            facts.problems += secrets(box, engines, google)
        if any(facts.problems for facts in found.values()):
            for name in (*found, "vx-token"):
                sys.stderr.write(f"--- {name}\n{box.said(name)}\n")
    return list(found.values())


def main() -> None:
    """Run the example that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("example", choices=EXAMPLES)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--lives", type=int, required=True)
    parser.add_argument("--lifetime", type=float, required=True)
    asked = parser.parse_args()
    sys.stdout.write(json.dumps([asdict(facts) for facts in run(asked.example, asked)]))


if __name__ == "__main__":
    main()
