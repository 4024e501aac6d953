"""Memory goes back to the system while there is a crowd, and thoroughly once it has gone."""

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


def test_a_crowd_is_trimmed_after_and_a_few_never() -> None:
    # requests at once between two looks; the last is seen for ever
    looks = [0, 1, 0, 500, 900, 2, 3, 0, 1, 4, 0]
    trimmed: list[tuple[int, bool]] = []
    seen: list[int] = []

    def most() -> int:
        seen.append(looks[min(len(seen), len(looks) - 1)])
        return seen[-1]

    async def story() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await trim_periodically(most, 0.0, lambda over: trimmed.append((seen[-1], over)))

    asyncio.run(story())
    assert len(seen) > len(looks)
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
    """That many streams at once, to their ends."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:

        async def one() -> None:
            async with client.post(f"{proxy.url}/chat/completions", headers=headers) as answer:
                assert (await answer.read()).count(b"data: ") == 5

        async with asyncio.TaskGroup() as group:
            for _ in range(STREAMS):
                group.create_task(one())


def test_nothing_of_a_stream_is_kept_after_its_end() -> None:
    in_use: list[int] = []  # of the interpreter's blocks of memory, each up to 512 bytes
    with upstream(stream) as server, front(Purse(), Route("p", server.url)) as proxy:
        files = psutil.Process().num_fds()
        for _ in range(8):
            asyncio.run(burst(proxy))
            until(lambda: psutil.Process().num_fds() <= files)
            server.seen.clear()
            gc.collect()
            in_use.append(sys.getallocatedblocks())
    # One block for each stream would be four hundred between the two halves; at each look some are in passing use.
    assert min(in_use[4:]) - min(in_use[:4]) < 2 * STREAMS, in_use
