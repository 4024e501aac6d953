"""What streams cost in memory: a thousand at once, again and again, and some without a pause for minutes."""

import asyncio
import os
import signal
import statistics
import time
from collections.abc import Iterable
from pathlib import Path

import aiohttp
import psutil
from bench_servers import KEY

STREAMS = 1000
BURSTS = 5
REST = 90  # seconds; the gateway gives memory back at most 80 after a burst
STEADY = 50  # streams at any time, of one second each


def session() -> aiohttp.ClientSession:
    """A client with the local key and no limit."""
    headers = {"Authorization": f"Bearer {KEY}"}
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers)


async def stream(session: aiohttp.ClientSession, url: str, chunks: int, pause: float) -> list[float]:
    """Milliseconds from upstream's write to our read, of each chunk."""
    async with session.post(f"{url}?chunks={chunks}&pause={pause}", data=b"{}", ssl=False) as answer:
        answer.raise_for_status()
        lines = [(time.monotonic_ns(), line) async for line in answer.content if line.startswith(b"data: ")]
    if len(lines) != chunks:
        raise SystemExit(f"{url}: {len(lines)} of {chunks} chunks")
    return [(read - int(line[6:])) / 1e6 for read, line in lines]


def in_use(server: psutil.Process, folder: Path) -> int:
    """Bytes of a gateway's heap that are in use."""
    place = folder / "heap"
    place.unlink(missing_ok=True)
    server.send_signal(signal.SIGUSR1)
    end = time.monotonic() + 60
    while not place.exists():
        if time.monotonic() > end:
            raise SystemExit("the gateway does not tell its heap")
        time.sleep(0.05)
    return int(place.read_text())


def resident(server: psutil.Process) -> float:
    """MiB of a process and its children."""
    return float(sum(each.memory_info().rss for each in [server, *server.children(recursive=True)])) / 2**20


class Bursts:
    """A thousand streams at once through one server, some times.

    Attributes:
        sizes: MiB before the first, and some time after each.
        in_use: bytes of the heap in use at the same moments, when the server tells them.
        each: KiB more for each stream while the first thousand are open.
    """

    def __init__(self, url: str, server: psutil.Process, folder: Path | None = None) -> None:
        self.url, self.server, self.folder = url, server, folder
        self.sizes: list[float] = []
        self.in_use: list[int] = []
        self.each = 0.0

    def look(self) -> None:
        """Note the memory now."""
        self.sizes.append(resident(self.server))
        if self.folder is not None:
            self.in_use.append(in_use(self.server, self.folder))

    async def play(self) -> None:
        """Have them; each must bring all its chunks."""
        before = peak = resident(self.server)
        async with session() as client:
            tasks = [asyncio.create_task(stream(client, self.url, 12, 0.5)) for _ in range(STREAMS)]
            while not all(task.done() for task in tasks):
                peak = max(peak, resident(self.server))
                await asyncio.sleep(0.2)
            for task in tasks:
                task.result()
        self.each = self.each or (peak - before) * 1024 / STREAMS


def play(bursts: Iterable[Bursts]) -> None:
    """All of them in turn, with a rest after each round."""
    for burst in bursts:
        burst.look()
    for _ in range(BURSTS):
        for burst in bursts:
            asyncio.run(burst.play())
        time.sleep(REST)
        for burst in bursts:
            burst.look()


def last(url: str, server: psutil.Process, seconds: float) -> str:
    """Streams without a pause; how memory went, in one sentence."""
    found = asyncio.run(_steady(url, server, time.monotonic() + seconds))
    half = found[len(found) // 2 :]
    slope = statistics.linear_regression([at / 60 for at, _ in half], [size for _, size in half]).slope
    sizes = [size for _, size in found]
    quarters = [sizes[len(sizes) * quarter // 4 : len(sizes) * (quarter + 1) // 4] for quarter in range(4)]
    return (
        f"{STEADY} streams at any time for {seconds / 60:.0f} minutes, {len(found)} looks: {sizes[0]:.2f} MiB at the "
        f"first, {sizes[-1]:.2f} at the last; least to most in each quarter "
        f"{', '.join(f'{min(each):.2f} to {max(each):.2f}' for each in quarters)}; "
        f"in the second half {slope * 1024:+.1f} KiB a minute. Load average {os.getloadavg()[0]:.2f}."
    )


async def _steady(url: str, server: psutil.Process, end: float) -> list[tuple[float, float]]:
    looks = []
    async with session() as client:

        async def lane() -> None:
            while time.monotonic() < end:
                await stream(client, url, 20, 0.05)

        async with asyncio.TaskGroup() as group:
            for _ in range(STEADY):
                group.create_task(lane())
            while time.monotonic() + 10 < end:
                await asyncio.sleep(10)
                looks.append((time.monotonic(), resident(server)))
    return looks
