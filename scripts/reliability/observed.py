"""A user with one profile and a daemon, watched by a reader and by `vx-token print` while something goes wrong."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from reliability.context import boxed, repeated
from sandbox import Box, until
from vx_token.emulator import Emulator, running

PRINT_LIMIT = 5.0
"""Seconds within which `print` answers, where a command starts in half a second."""


@dataclass
class Observed:
    """What the profile's files and commands showed.

    Attributes:
        kept: whether the token in the file must be printed while it lives.
        start: seconds that a command takes on this machine now.
        dead: worst seconds for which the token file held a token after its expiry.
        prints: number of prints.
        slowest: seconds of the slowest print.
        errors: messages of the prints that had no token.
        wrong: whatever must not be.
    """

    box: Box
    google: Emulator
    kept: bool = True
    start: float = 0.0
    dead: float = 0.0
    prints: int = 0
    slowest: float = 0.0
    errors: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def end(self, token: str) -> float:
        """When a token expires; 0 for one that was never issued."""
        return next((each.expires_at for each in self.google.issued if each.value == token), 0.0)

    @property
    def live(self) -> bool:
        """Whether the token file holds a live token."""
        return self.end(self.box.read("token")) > time.time()

    def look(self) -> None:
        """Read the token file, as a tool does."""
        try:
            token, now = self.box.read("token"), time.time()
        except OSError:
            return
        if token and not self.end(token):
            self.wrong.append("a token that Google never issued")
        elif token:
            self.dead = max(self.dead, now - self.end(token))

    def print(self) -> None:
        """Run `vx-token print` once."""
        started, lives = time.time(), self.box.read("token") if self.kept else ""
        done = self.box.vx("print", timeout=120)
        took, token = time.time() - started, done.stdout.rstrip("\n")
        self.prints, self.slowest = self.prints + 1, max(self.slowest, took)
        if done.returncode and self.end(lives) > started + took + 1:  # in its last second it may be refreshed first
            self.wrong.append("print had no token while one lived")
        if done.returncode:
            self.errors.append(done.stderr.partition("\n")[0].removeprefix("vx-token: "))
        if (token and self.end(token) <= started) or bool(token) == bool(done.returncode):
            self.wrong.append(f"print ended with {done.returncode}: {done.stderr.strip()}")
        if "Traceback" in done.stderr:
            self.wrong.append("print ended with a traceback")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A reader and a print, on and on."""
        started = time.monotonic()
        self.box.vx("status")
        self.start = time.monotonic() - started
        with repeated(self.look, 0.05), repeated(self.print, 0.5):
            yield

    def recovery(self, seconds: float = 120.0) -> float:
        """Wait until the token file holds a live token; how long that took."""
        started = time.monotonic()
        until(lambda: self.live, seconds, "a live token")
        return time.monotonic() - started

    def short(self, *, tokens: bool = True, withdrawn: bool = True) -> list[str]:
        """What fell short: `tokens`: every print must have had one; `withdrawn`: from the file when it expires."""
        short = sorted(set(self.wrong))
        if withdrawn and self.dead > 2.0 + self.start:
            short.append(f"the token file held a token {self.dead:.1f} s after its expiry")
        limit = max(PRINT_LIMIT, 2 + 6 * self.start)
        if self.slowest > limit:
            short.append(f"a print took {self.slowest:.1f} s of {limit:.0f} s")
        if tokens and self.errors:
            short.append(f"{len(self.errors)} of {self.prints} prints had no token: {self.errors[0]}")
        return short


@contextmanager
def observed(lifetime: float = 3600.0) -> Iterator[Observed]:
    """A user who has logged in by a service account's key; tokens live so many seconds."""
    with boxed() as box, running(lifetime=lifetime) as google:
        google.service_account(box.key)
        box.profile(url=google.base_url())
        yield Observed(box, google)
