"""Memory goes back to the system once after work, and not while there is some."""

import asyncio
import contextlib

from vx_token.gateway.memory import give_back, trim
from vx_token.gateway.metrics import Snapshot


def test_each_time_of_work_is_followed_by_one_trim() -> None:
    # (requests so far, in flight) at each look; the last is seen for ever
    looks = [(0, 0), (5, 2), (5, 2), (5, 0), (5, 0), (5, 0), (7, 0), (9, 0), (9, 0), (9, 0)]
    trimmed: list[int] = []
    seen: list[tuple[int, int]] = []

    def snapshot() -> Snapshot:
        seen.append(looks[min(len(seen), len(looks) - 1)])
        return Snapshot(seen[-1][0], 0, seen[-1][1], 0, 0.0)

    async def story() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await give_back(snapshot, 0.0, lambda: trimmed.append(len(seen)))

    asyncio.run(story())
    assert len(seen) > len(looks)
    assert trimmed == [4, 9]


def test_trimming_works_on_this_machine() -> None:
    trim()
