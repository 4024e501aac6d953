"""Simulates the schedule of many machines that start at once; prints a table of token requests as JSON."""

import json
import random
import sys
from collections import Counter
from collections.abc import Iterator

from test_fleet import table

from vx_token.credentials.token import Token
from vx_token.errors import Failure
from vx_token.tokens.model import State
from vx_token.tokens.schedule import next_refresh

HOUR, DAY = 3600.0, 86400.0
MACHINES = (1, 100, 1000, 10_000)
START = 1_800_000_000.0
OUTAGE = (12 * HOUR, 12.5 * HOUR)  # the token endpoint answers 503


def attempts(chance: random.Random, outage: tuple[float, float] | None) -> Iterator[float]:
    """Yield the seconds after the start at which one machine requests a token, for a day."""
    state, now = State(), START
    while now < START + DAY:
        yield now - START
        tried = now + chance.uniform(0.1, 0.5)  # until the response
        if outage and outage[0] <= now - START < outage[1]:
            failure = Failure("temporary", "503")
            state = State(
                state.token, attempts=state.attempts + 1, failures=state.failures + 1, tried_at=tried, failure=failure
            )
        else:
            state = State(
                Token("t", tried + HOUR, tried, "service_account"), attempts=state.attempts + 1, tried_at=tried
            )
        now = max(tried, next_refresh(tried, state, chance.random()))


def seconds(machines: int, outage: tuple[float, float] | None = None) -> Counter[int]:
    """Return the number of requests in each second of a day."""
    chance = random.Random(machines)  # noqa: S311 - a simulation
    return Counter(int(at) for _ in range(machines) for at in attempts(chance, outage))


def peak(counts: Counter[int], begin: float, end: float) -> int:
    """The most requests in one second of that time."""
    return max((count for second, count in counts.items() if begin <= second < end), default=0)


def main() -> None:
    """Print the table."""
    rows = []
    for machines in MACHINES:
        day, broken = seconds(machines), seconds(machines, OUTAGE)
        an_hour = sum(count for second, count in day.items() if second >= HOUR) / 23
        rows.append(
            (
                f"{machines:,}",
                f"{an_hour:,.0f}",
                f"{an_hour / HOUR:.1f}" if machines >= 1000 else "below 0.1",
                f"{peak(day, 0, 1):,}",
                peak(day, 60, HOUR),
                peak(day, 6 * HOUR, DAY),
                peak(broken, *OUTAGE),
                peak(broken, OUTAGE[1], DAY),
            )
        )
    head = (
        "machines",
        "an hour",
        "a second, mean",
        "most in a second: at the start",
        "in the rest of the first hour",
        "after six hours",
        "while Google fails for half an hour",
        "after that",
    )
    sys.stdout.write(json.dumps(table(head, *rows)))


if __name__ == "__main__":
    main()
