"""Prints one simulated day of refreshes with faults as JSON, for scripts/plots; the same day each time."""

import functools
import json
import math
import random
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from reliability.context import room
from reliability.days import HOUR, Google, Watched
from vx_token.config.model import Config, Profile
from vx_token.credentials.token import Token
from vx_token.daemon.keeper import keep_fresh
from vx_token.errors import LoginNeededError, TemporaryError, VxTokenError
from vx_token.outputs.publisher import Publisher
from vx_token.system.clock import Wake
from vx_token.tokens.refresh import Refresher
from vx_token.tokens.store import Store

SEED = 5
FAULTS: dict[str, VxTokenError] = {
    "Google out of reach": TemporaryError("Google cannot be reached"),
    "login needed": LoginNeededError("log in again"),
}


@dataclass
class Day:
    """What happened, in hours since the start.

    Attributes:
        faults: begin, end and name of each fault.
        suspends: begin and end of each suspend.
        requests: when Google was asked.
        left: corners of the line that shows how many minutes the token in the file had left; 0 without one.
    """

    faults: list[tuple[float, float, str]] = field(default_factory=list)
    suspends: list[tuple[float, float]] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)
    left: list[tuple[float, float]] = field(default_factory=list)


def simulate() -> Day:
    """Run a keeper for a day with tokens of an hour."""
    clock, wake, day, chance = Watched(), Wake(), Day(), random.Random(SEED)  # noqa: S311 - no secret
    google = Google(clock)
    with tempfile.TemporaryDirectory(dir=room()) as folder:
        store = Store(Path(folder) / "run")
        key = Path(folder) / "key.json"
        key.write_text("{}")
        profile = Profile("gemini", "demo", credentials=str(key))
        config = Config(Path(folder) / "config.toml", {"gemini": profile}, "gemini")
        path, shown = store.folder("gemini") / "token", [""]

        def left(token: str) -> tuple[float, float]:
            return clock.elapsed / HOUR, max(0.0, google.ends[token] - clock.elapsed) / 60 if token else 0.0

        def look(_: float) -> None:
            token = path.read_text() if path.exists() else ""
            if token != shown[-1]:
                day.left += [left(shown[-1]), left(token)]
                shown.append(token)

        def fail(name: str, seconds: float) -> None:
            google.error = FAULTS[name]
            day.faults.append((clock.elapsed / HOUR, (clock.elapsed + seconds) / HOUR, name))
            clock.at(clock.elapsed + seconds, heal)

        def heal() -> None:
            login = isinstance(google.error, LoginNeededError)
            google.error = None
            if login:  # the user logs in, which writes the file
                key.write_text('{"again": true}')
                wake.nudge()

        def suspend(seconds: float) -> None:
            day.suspends.append((clock.elapsed / HOUR, (clock.elapsed + seconds) / HOUR))
            day.left.append(left(shown[-1]))
            clock.pass_by(seconds)
            day.left.append((clock.elapsed / HOUR, math.nan))

        def fetch(
            profile: Profile, environ: Mapping[str, str], deadline: float, cancelled: Callable[[], bool]
        ) -> Token:
            day.requests.append(clock.elapsed / HOUR)
            return google(profile, environ, deadline, cancelled)

        clock.look = look
        for hour, minutes in ((1.2, 4), (4.3, 20), (8.4, 100), (14.2, 45), (17.1, 9), (20.3, 70)):
            name = "login needed" if hour == 14.2 else "Google out of reach"
            clock.at((hour + chance.random() / 2) * HOUR, functools.partial(fail, name, minutes * 60.0))
        clock.at(11.5 * HOUR, functools.partial(suspend, 1.7 * HOUR))
        clock.at(24 * HOUR, lambda: day.left.append(left(shown[-1])))
        clock.at(24 * HOUR, wake.stop)
        publisher = Publisher(store, clock, config)
        refresher = Refresher(store, clock, fetch, {}, config, publisher.publish)
        keep_fresh(profile, refresher, publisher, wake, lambda _: None, chance.random)
    return day


if __name__ == "__main__":
    json.dump(asdict(simulate()), sys.stdout)
