"""A live token for every request: one refresh for all who wait, and no storm when upstream refuses every token."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from vx_token.credentials.token import Token
from vx_token.errors import TemporaryError, VxTokenError
from vx_token.gateway.settings import Tokens

_log = logging.getLogger(__name__)
_PAUSES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between tries while requests wait
_LONGEST_REST = 60.0  # seconds between forced refreshes when each new token is refused as well
_REST = 2.0  # seconds between them while they fail, when the server asks for no other pause


@dataclass(slots=True)
class _Rest:
    """When a refresh may be forced again (loop time), and what requests are told until then.

    Attributes:
        until: the end of the rest.
        strikes: how many new tokens in a row upstream refused as well.
        error: why the last forced refresh failed; None when it brought a token.
    """

    until: float = 0.0
    strikes: int = 0
    error: VxTokenError | None = None


class Freshness:
    """Answers requests' wish for a token.

    Args:
        tokens: where they come from.
        wait: seconds that a request waits.
        count: told (profile, result) of each try; result is `ok` or an error's class name.
        now: epoch seconds.
    """

    def __init__(
        self, tokens: Tokens, wait: float, count: Callable[[str, str], None], now: Callable[[], float] = time.time
    ) -> None:
        self._tokens = tokens
        self._wait = wait
        self._count = count
        self._now = now
        self._under_way: dict[tuple[str, str | None], asyncio.Task[Token]] = {}
        self._rests: dict[str, _Rest] = {}

    def current(self, profile: str) -> Token | None:
        """The live token, without any waiting."""
        token = self._tokens.current(profile)
        return token if token is not None and token.alive(self._now()) else None

    async def token(self, profile: str) -> Token:
        """A token with life left; waits for a refresh when there is none.

        Raises:
            VxTokenError: there is none, and why; TemporaryError after `wait` seconds.
        """
        return self.current(profile) or await self._shared(profile, None)

    async def replacement(self, profile: str, rejected: str) -> Token | None:
        """Another token than the one that upstream refused; None when there is no better one to be had.

        Raises:
            VxTokenError: the refresh failed, now or a moment ago, and why.
        """
        current = self.current(profile)
        if current is not None and current.value != rejected:
            return current
        rest, now = self._rests.get(profile, _Rest()), asyncio.get_running_loop().time()
        if (profile, rejected) not in self._under_way and now < rest.until:
            if rest.error is not None:
                raise _again(rest.error, rest.until - now)
            return None
        token = await self._shared(profile, rejected)
        return token if token.value != rejected else None

    def forget(self) -> None:
        """Let go of what is under way: it may bring the token of a configuration that is no more. From any thread."""
        self._under_way, self._rests = {}, {}

    def accepted(self, profile: str) -> None:
        """Upstream took a token: the next refusal is a new story."""
        self._rests.pop(profile, None)

    async def _shared(self, profile: str, rejected: str | None) -> Token:
        key = (profile, rejected)
        task = self._under_way.get(key)
        if task is None:
            fetch = self._fetch(profile, None) if rejected is None else self._forced(profile, rejected)
            task = self._under_way[key] = asyncio.create_task(fetch)
            task.add_done_callback(lambda done: self._finished(key, done))
        try:
            async with asyncio.timeout(self._wait):
                return await asyncio.shield(task)
        except TimeoutError:
            raise TemporaryError("the refresh takes long", "see: vx-token status", retry_after=2.0) from None

    def _finished(self, key: tuple[str, str | None], task: "asyncio.Task[Token]") -> None:
        if self._under_way.get(key) is task:
            del self._under_way[key]
        if not task.cancelled():
            task.exception()  # taken, so that a failure whose waiters have all left is not reported as forgotten

    async def _forced(self, profile: str, rejected: str) -> Token:
        """What a refresh brings, and a rest after it; `accepted` ends the rest."""
        rest, clock = self._rests.setdefault(profile, _Rest()), asyncio.get_running_loop().time
        try:
            token = await self._fetch(profile, rejected)
        except VxTokenError as error:
            pause = error.retry_after or _REST if isinstance(error, TemporaryError) else _LONGEST_REST
            rest.until, rest.error = clock() + pause, error
            raise
        rest.until, rest.error = clock() + min(_LONGEST_REST, 2.0**rest.strikes), None
        rest.strikes += 1
        return token

    async def _fetch(self, profile: str, rejected: str | None) -> Token:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._wait
        pauses = iter(_PAUSES)
        while True:
            try:
                return await self._tried(profile, rejected)
            except TemporaryError as error:
                pause = max(next(pauses, self._wait), error.retry_after or 0.0)
                if loop.time() + pause >= deadline:
                    raise
            await asyncio.sleep(pause)

    async def _tried(self, profile: str, rejected: str | None) -> Token:
        try:
            token = await self._tokens.fresh(profile, rejected)
            if not token.alive(self._now()):
                raise TemporaryError("the new token had already ended", "check this machine's clock")
        except VxTokenError as error:
            self._count(profile, type(error).__name__)
            _log.warning("gateway: profile %s: %s", profile, error.message)
            raise
        self._count(profile, "ok")
        return token


def _again(error: VxTokenError, pause: float) -> VxTokenError:
    """The same error for another request; one object raised twice would gather tracebacks."""
    if isinstance(error, TemporaryError):
        return TemporaryError(error.message, error.hint, pause)
    return type(error)(error.message, error.hint)
