"""A plain HTTP client, for more requests than an SDK can make. Arguments: requests, seconds, lanes."""

import asyncio
import collections
import json
import os
import sys
import time

import aiohttp

TOTAL, SECONDS, LANES = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
URL = f"{os.environ['OPENAI_BASE_URL']}/chat/completions"
HEADERS = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}", "Content-Type": "application/json"}
BODY = json.dumps({"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": "Say hello."}]}).encode()
answers: collections.Counter[int] = collections.Counter()
broken: collections.Counter[str] = collections.Counter()


async def ask(client: aiohttp.ClientSession) -> None:
    """One request, read to its end and checked."""
    try:
        async with client.post(URL, headers=HEADERS, data=BODY) as response:
            text = await response.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        broken[repr(error)[:300]] += 1
        return
    answers[response.status] += 1
    if response.status == 200 and not json.loads(text)["choices"][0]["message"]["content"].startswith("Hello"):
        broken["not whole"] += 1


async def work(client: aiohttp.ClientSession, first: int, started: float) -> None:
    """Every so-manyeth request, each at its time."""
    for number in range(first, TOTAL, LANES):
        await asyncio.sleep(max(0.0, started + number * SECONDS / TOTAL - time.monotonic()))
        await ask(client)


async def main() -> None:
    """All lanes at once, each with a connection of its own."""
    # Like OpenAI's clients it uses no connection that was idle for longer than 4 s: the gateway closes it at a stop.
    connector = aiohttp.TCPConnector(limit=LANES, keepalive_timeout=4)
    async with aiohttp.ClientSession(connector=connector) as client, asyncio.TaskGroup() as lanes:
        for first in range(LANES):
            lanes.create_task(work(client, first, time.monotonic()))


asyncio.run(main())
sys.stdout.write(json.dumps({"client": "plain", "answers": answers, "broken": broken}))
