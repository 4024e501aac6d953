"""Freed memory is returned to the system during and after many concurrent streams."""

import asyncio
import contextlib
import gc
import sys

import aiohttp
import psutil
from aiohttp import web

from sandbox import until
from upstreams import KEY, Front, Purse, front, upstream
from vx_token.gateway.memory import trim, trim_periodically
from vx_token.gateway.settings import Route


def test_memory_is_trimmed_only_with_many_requests() -> None:
    # peaks of concurrent requests; the last repeats
    peaks = [0, 1, 0, 500, 900, 2, 3, 0, 1, 4, 0]
    trimmed: list[tuple[int, bool]] = []
    seen: list[int] = []

    def most() -> int:
        seen.append(peaks[min(len(seen), len(peaks) - 1)])
        return seen[-1]

    async def run() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await trim_periodically(most, 0.0, lambda over: trimmed.append((seen[-1], over)))

    asyncio.run(run())
    assert len(seen) > len(peaks)
    assert trimmed == [(500, False), (900, False), (2, True), (4, False), (0, True)]


def test_trimming_works_on_this_machine() -> None:
    trim(False)
    trim(True)


STREAMS = 100


async def stream(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    response.force_close()
    await response.prepare(request)
    for number in range(5):
        await response.write(b'data: {"chunk": %d}\n\n' % number)
        await asyncio.sleep(0.05)
    return response


async def burst(proxy: Front) -> None:
    """Run STREAMS concurrent streams to their end."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:

        async def one() -> None:
            async with client.post(f"{proxy.url}/chat/completions", headers=headers) as answer:
                assert (await answer.read()).count(b"data: ") == 5

        async with asyncio.TaskGroup() as group:
            for _ in range(STREAMS):
                group.create_task(one())


def test_a_finished_stream_leaves_no_memory_behind() -> None:
    in_use: list[int] = []  # blocks of CPython's allocator, each at most 512 bytes
    with upstream(stream) as server, front(Purse(), Route("p", server.url)) as proxy:
        files = psutil.Process().num_fds()
        for _ in range(8):
            asyncio.run(burst(proxy))
            until(lambda: psutil.Process().num_fds() <= files)
            server.seen.clear()
            gc.collect()
            in_use.append(sys.getallocatedblocks())
    # A leak of one block per stream would be 400 blocks between the two halves; some blocks are temporary.
    assert min(in_use[4:]) - min(in_use[:4]) < 2 * STREAMS, in_use
