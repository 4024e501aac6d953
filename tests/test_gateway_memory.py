"""Memory goes back to the system while there is a crowd, and thoroughly once it has gone."""

import asyncio
import contextlib

from vx_token.gateway.memory import give_back, trim


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
                await give_back(most, 0.0, lambda over: trimmed.append((seen[-1], over)))

    asyncio.run(story())
    assert len(seen) > len(looks)
    assert trimmed == [(500, False), (900, False), (2, True), (4, False), (0, True)]


def test_trimming_works_on_this_machine() -> None:
    trim(False)
    trim(True)
