"""Provides tokens to requests: waiting requests share one refresh, and repeated 401s from upstream cause a back-off."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from vx_token.credentials.token import Token
from vx_token.errors import TemporaryError, VxTokenError
from vx_token.gateway.settings import TokenProvider

_log = logging.getLogger(__name__)
_RETRY_DELAYS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between attempts while requests wait
_MAX_BACKOFF = 60.0  # maximum seconds between forced refreshes while upstream rejects every token
_RETRY_PAUSE = 2.0  # seconds between them while they fail, unless the server sets a Retry-After


@dataclass(slots=True)
class _Backoff:
    """The back-off of forced refreshes of one profile.

    Attributes:
        until: earliest time of the next forced refresh (loop time).
        rejections: number of consecutive new tokens that upstream rejected.
        error: error of the last forced refresh, returned to requests until then; None if it succeeded.
    """

    until: float = 0.0
    rejections: int = 0
    error: VxTokenError | None = None


class TokenSource:
    """Provides the token of each request.

    Args:
        provider: reads and refreshes tokens.
        wait: timeout (seconds) of a waiting request.
        on_result: called with (profile, result) after each attempt; result is `ok` or an error's class name.
        now: returns epoch seconds.
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
        """Return the live token without waiting; None if there is none."""
        token = self._provider.current(profile)
        return token if token is not None and token.alive(self._now()) else None

    async def token(self, profile: str) -> Token:
        """Return a live token; wait for a refresh if there is none.

        Raises:
            VxTokenError: the refresh failed; TemporaryError after `wait` seconds.
        """
        return self.current(profile) or await self._join_refresh(profile, None)

    async def replacement(self, profile: str, rejected: str) -> Token | None:
        """Return a token other than the one that upstream rejected; None if there is no other.

        Raises:
            VxTokenError: the refresh failed, now or within the back-off.
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
        """Forget running refreshes, which may return tokens of an old configuration; thread-safe."""
        self._tasks, self._backoffs = {}, {}

    def token_accepted(self, profile: str) -> None:
        """Reset the back-off, because upstream accepted a token."""
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
            raise TemporaryError("the token refresh is taking long", "run: vx-token status", retry_after=2.0) from None

    def _finished(self, key: tuple[str, str | None], task: "asyncio.Task[Token]") -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it if all waiters have left

    async def _force_refresh(self, profile: str, rejected: str) -> Token:
        """Force a refresh, then start a back-off, which `token_accepted` ends."""
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
                raise TemporaryError("the new token has already expired", "check this machine's clock")
        except VxTokenError as error:
            self._on_result(profile, type(error).__name__)
            _log.warning("gateway: profile %s: %s", profile, error.message)
            raise
        self._on_result(profile, "ok")
        return token


def _copy_error(error: VxTokenError, delay: float) -> VxTokenError:
    """Copy an error for another request; raising one object twice would accumulate tracebacks."""
    if isinstance(error, TemporaryError):
        return TemporaryError(error.message, error.hint, delay)
    return type(error)(error.message, error.hint)
