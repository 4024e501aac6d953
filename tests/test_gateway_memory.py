"""Memory goes back to the system once after a crowd, and not while there is one."""

import asyncio
import contextlib

from vx_token.gateway.memory import give_back, trim


def test_each_crowd_is_followed_by_one_trim() -> None:
    # requests at once between two looks; the last is seen for ever
    looks = [0, 1, 0, 500, 900, 400, 225, 1, 1, 0, 1, 4, 2, 1, 0]
    trimmed: list[int] = []
    seen: list[int] = []

    def most() -> int:
        seen.append(looks[min(len(seen), len(looks) - 1)])
        return seen[-1]

    async def story() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await give_back(most, 0.0, lambda: trimmed.append(len(seen)))

    asyncio.run(story())
    assert len(seen) > len(looks)
    assert [looks[number - 1] for number in trimmed] == [225, 1, 1]
    assert trimmed == [7, 8, 14]


def test_trimming_works_on_this_machine() -> None:
    trim()
