"""A live token for every request: one refresh for all who wait, and no storm when upstream refuses every token."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from vx_token.credentials.token import Token
from vx_token.errors import TemporaryError, VxTokenError
from vx_token.gateway.settings import TokenProvider

_log = logging.getLogger(__name__)
_RETRY_DELAYS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between tries while requests wait
_MAX_BACKOFF = 60.0  # seconds between forced refreshes when each new token is refused as well
_RETRY_PAUSE = 2.0  # seconds between them while they fail, when the server asks for no other delay


@dataclass(slots=True)
class _Backoff:
    """When a refresh may be forced again (loop time), and what requests are told until then.

    Attributes:
        until: the end of the backoff.
        rejections: how many new tokens in a row upstream refused as well.
        error: why the last forced refresh failed; None when it brought a token.
    """

    until: float = 0.0
    rejections: int = 0
    error: VxTokenError | None = None


class TokenSource:
    """Answers requests' wish for a token.

    Args:
        tokens: where they come from.
        wait: seconds that a request waits.
        on_result: told (profile, result) of each try; result is `ok` or an error's class name.
        now: epoch seconds.
    """

    def __init__(
        self,
        provider: TokenProvider,
        wait: float,
        on_result: Callable[[str, str], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._provider = provider
        self._wait = wait
        self._on_result = on_result
        self._now = now
        self._tasks: dict[tuple[str, str | None], asyncio.Task[Token]] = {}
        self._backoffs: dict[str, _Backoff] = {}

    def current(self, profile: str) -> Token | None:
        """The live token, without any waiting."""
        token = self._provider.current(profile)
        return token if token is not None and token.alive(self._now()) else None

    async def token(self, profile: str) -> Token:
        """A token with life left; waits for a refresh when there is none.

        Raises:
            VxTokenError: there is none, and why; TemporaryError after `wait` seconds.
        """
        return self.current(profile) or await self._join_refresh(profile, None)

    async def replacement(self, profile: str, rejected: str) -> Token | None:
        """Another token than the one that upstream refused; None when there is no better one to be had.

        Raises:
            VxTokenError: the refresh failed, now or a moment ago, and why.
        """
        current = self.current(profile)
        if current is not None and current.value != rejected:
            return current
        backoff, now = self._backoffs.get(profile, _Backoff()), asyncio.get_running_loop().time()
        if (profile, rejected) not in self._tasks and now < backoff.until:
            if backoff.error is not None:
                raise _copy_error(backoff.error, backoff.until - now)
            return None
        token = await self._join_refresh(profile, rejected)
        return token if token.value != rejected else None

    def reset(self) -> None:
        """Let go of what is under way: it may bring the token of a configuration that is no more. From any thread."""
        self._tasks, self._backoffs = {}, {}

    def token_accepted(self, profile: str) -> None:
        """Upstream took a token: the next refusal is a new story."""
        self._backoffs.pop(profile, None)

    async def _join_refresh(self, profile: str, rejected: str | None) -> Token:
        key = (profile, rejected)
        task = self._tasks.get(key)
        if task is None:
            fetch = self._fetch(profile, None) if rejected is None else self._force_refresh(profile, rejected)
            task = self._tasks[key] = asyncio.create_task(fetch)
            task.add_done_callback(lambda done: self._finished(key, done))
        try:
            async with asyncio.timeout(self._wait):
                return await asyncio.shield(task)
        except TimeoutError:
            raise TemporaryError("the refresh takes long", "see: vx-token status", retry_after=2.0) from None

    def _finished(self, key: tuple[str, str | None], task: "asyncio.Task[Token]") -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled():
            task.exception()  # taken, so that a failure whose waiters have all left is not reported as forgotten

    async def _force_refresh(self, profile: str, rejected: str) -> Token:
        """What a refresh brings, and a backoff after it; `accepted` ends the backoff."""
        backoff, clock = self._backoffs.setdefault(profile, _Backoff()), asyncio.get_running_loop().time
        try:
            token = await self._fetch(profile, rejected)
        except VxTokenError as error:
            delay = error.retry_after or _RETRY_PAUSE if isinstance(error, TemporaryError) else _MAX_BACKOFF
            backoff.until, backoff.error = clock() + delay, error
            raise
        backoff.until, backoff.error = clock() + min(_MAX_BACKOFF, 2.0**backoff.rejections), None
        backoff.rejections += 1
        return token

    async def _fetch(self, profile: str, rejected: str | None) -> Token:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._wait
        delays = iter(_RETRY_DELAYS)
        while True:
            try:
                return await self._fetch_once(profile, rejected)
            except TemporaryError as error:
                delay = max(next(delays, self._wait), error.retry_after or 0.0)
                if loop.time() + delay >= deadline:
                    raise
            await asyncio.sleep(delay)

    async def _fetch_once(self, profile: str, rejected: str | None) -> Token:
        try:
            token = await self._provider.fresh(profile, rejected)
            if not token.alive(self._now()):
                raise TemporaryError("the new token had already ended", "check this machine's clock")
        except VxTokenError as error:
            self._on_result(profile, type(error).__name__)
            _log.warning("gateway: profile %s: %s", profile, error.message)
            raise
        self._on_result(profile, "ok")
        return token


def _copy_error(error: VxTokenError, delay: float) -> VxTokenError:
    """The same error for another request; one object raised twice would gather tracebacks."""
    if isinstance(error, TemporaryError):
        return TemporaryError(error.message, error.hint, delay)
    return type(error)(error.message, error.hint)
