"""Idle connections, open streams and broken uploads at once against the daemon's gateway; refreshes must be on time."""

import argparse
import asyncio
import contextlib
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import blocks
from soak_gateway import Daemon, Stage, played

from vx_token.emulator import Emulator, running
from vx_token.gateway.sockets import max_connections

LIFETIME = 10.0  # seconds that a token lives
PATIENCE = 60.0  # seconds until a request of the flood counts as failed


@dataclass
class Seen:
    """What happened meanwhile.

    Attributes:
        waits: seconds of each request of the key's holder.
        whole: streams that came to their end.
        failed: other ends of streams and of the holder's requests.
        uploads: uploads that broke off.
        dead: looks at the token file that found an expired token.
    """

    waits: list[float] = field(default_factory=list)
    whole: int = 0
    failed: list[str] = field(default_factory=list)
    uploads: int = 0
    dead: int = 0


@dataclass(frozen=True)
class Flood:
    """The gateway's address and key, and how much of what comes for how long."""

    port: int
    key: str
    idle: int
    streams: int
    uploads: int
    seconds: float
    seen: Seen = field(default_factory=Seen)

    async def run(self, google: Emulator, token: Path) -> None:
        """All at once; ends when the streams have ended."""
        head = {"Authorization": f"Bearer {self.key}"}
        limit = aiohttp.TCPConnector(limit=0)
        patient = aiohttp.ClientTimeout(total=self.seconds + PATIENCE)
        async with aiohttp.ClientSession(headers=head, connector=limit, timeout=patient) as client:
            chores = [asyncio.create_task(each) for each in (self._hold(client), self._look(google, token))]
            chores += [asyncio.create_task(self._upload()) for _ in range(self.uploads)]
            chores += [asyncio.create_task(self._wait_idle()) for _ in range(self.idle)]
            await asyncio.gather(*(self._stream(client) for _ in range(self.streams)))
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)

    async def _stream(self, client: aiohttp.ClientSession) -> None:
        wish = f"emulator: chunks={round(self.seconds)} delay=1"
        body = {"model": "google/gemini-2.5-flash", "stream": True, "messages": [{"role": "user", "content": wish}]}
        try:
            async with client.post(f"http://127.0.0.1:{self.port}/v1/chat/completions", json=body) as response:
                ended = (await response.read()).rstrip().endswith(b"data: [DONE]")
            if response.status == 200 and ended:
                self.seen.whole += 1
            else:
                self.seen.failed.append(f"stream: {response.status}, {'whole' if ended else 'cut'}")
        except (aiohttp.ClientError, TimeoutError) as error:
            self.seen.failed.append(f"stream: {error!r}"[:200])

    async def _hold(self, client: aiohttp.ClientSession) -> None:
        """The key's holder asks once in half a second."""
        while True:
            started = time.monotonic()
            try:
                async with client.get(f"http://127.0.0.1:{self.port}/v1/models") as response:
                    await response.read()
                if response.status != 200:
                    self.seen.failed.append(f"holder: {response.status}")
                self.seen.waits.append(time.monotonic() - started)
            except aiohttp.ClientError as error:
                self.seen.failed.append(f"holder: {error!r}"[:200])
            await asyncio.sleep(0.5)

    async def _look(self, google: Emulator, token: Path) -> None:
        while True:
            ends = {issued.value: issued.expires_at for issued in google.issued}
            with contextlib.suppress(FileNotFoundError):  # withdrawn
                value = await asyncio.to_thread(token.read_text)
                self.seen.dead += time.time() > ends.get(value, 0.0) + 0.2
            await asyncio.sleep(0.1)

    async def _wait_idle(self) -> None:
        """A connection without the key that sends nothing; when the gateway closes it, another one."""
        while True:
            with contextlib.suppress(OSError):
                async with self._connected() as (reader, _):
                    await reader.read(1)
            await asyncio.sleep(1)

    async def _upload(self) -> None:
        """Announce a megabyte, send a part of it, and leave; again and again."""
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.key}\r\n"
        begin = f"{head}Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n".encode()
        while True:
            with contextlib.suppress(OSError):
                async with self._connected() as (_, writer):
                    writer.write(begin + b" " * 100_000)
                    await writer.drain()
                    await asyncio.sleep(2)
                self.seen.uploads += 1

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


def gaps(google: Emulator, since: float) -> list[float]:
    """Seconds between two refreshes during the flood."""
    times = [issued.issued_at for issued in google.issued if issued.issued_at > since - LIFETIME]
    return [after - before for before, after in itertools.pairwise(times)]


def report(flood: Flood, daemon: Daemon, pauses: list[float], *, write: bool) -> bool:
    """Print what was seen; whether all of it is as promised."""
    seen = flood.seen
    good = not seen.dead and not seen.failed and max(pauses) < LIFETIME
    waits = f"{statistics.median(seen.waits) * 1000:.0f} ms in the median, {max(seen.waits):.1f} s at most"
    rows = (
        ("connections that send nothing", f"{flood.idle:,} at any time"),
        ("uploads that broke off", f"{seen.uploads:,}, {flood.uploads} at any time"),
        (f"streams of {flood.seconds:.0f} seconds", f"{flood.streams:,}, of which {seen.whole:,} came whole"),
        ("the key's holder waited for the model list", f"{waits}, of {len(seen.waits)} times"),
        ("other answers to the streams and the holder", len(seen.failed)),
        ("reads of the token file that found an expired token", seen.dead),
        (f"longest pause between two refreshes of tokens of {LIFETIME:.0f} seconds", f"{max(pauses):.1f} s"),
        ("the daemon's resident set", f"{daemon.resident():.0f} MiB"),
    )
    text = f"{blocks.table(('what', 'seen'), *rows)}\n\n{blocks.made('scripts/flood-gateway')}."
    sys.stdout.write("\n".join([text, *seen.failed[:10], ""]))
    if write:
        blocks.write("benchmarks-gateway.md", "flood", text)
    return good


def main() -> int:
    """Run it; 0 when no token was late and every stream came whole."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle", type=int, default=5000)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--uploads", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=30.0, help="that each stream takes")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks-gateway.md")
    asked = parser.parse_args()
    max_connections()
    with tempfile.TemporaryDirectory(prefix="vx-token-flood-") as folder, running(lifetime=LIFETIME) as google:
        stage = Stage(Path(folder), google)
        with played(stage, upstream=False) as daemon:
            google.heal()
            port = int(stage.environ["OPENAI_BASE_URL"].split(":")[2].split("/")[0])
            key = stage.environ["OPENAI_API_KEY"]
            flood = Flood(port, key, asked.idle, asked.streams, asked.uploads, asked.seconds)
            since = time.time()
            asyncio.run(flood.run(google, stage.root / "run/default/token"))
            return int(not report(flood, daemon, gaps(google, since), write=asked.write))


if __name__ == "__main__":
    sys.exit(main())
