"""The recorded state of a profile: its token, the token's origin, and the outcome of the last refresh attempt."""

from dataclasses import dataclass, field, replace

from vx_token.credentials import gcloud
from vx_token.credentials.token import Token
from vx_token.errors import Failure, VxTokenError, failure_of


@dataclass(frozen=True, slots=True)
class Origin:
    """The inputs that a token was made from (see `ownership`).

    Attributes:
        settings: the profile's settings that shape a token, joined by spaces.
        path: the credential file; with a metadata server, the file that would replace it.
        stamp: the identity of `files` (inode, time, size of each), empty for a file that does not exist.
        checksum: the login's checksum, so that rewriting the same content does not count as a change; not compared.
        account: the account in gcloud's database, which is then the credential file.
        configuration: the file of gcloud's configuration that names the account; "" if the profile or the environment
            chooses it.
    """

    settings: str
    path: str = ""
    stamp: str = ""
    checksum: str = field(default="", compare=False)
    account: str = ""
    configuration: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The files whose change may mean another login."""
        in_database = self.account or self.configuration
        return gcloud.login_files(self.path, self.configuration) if in_database else (self.path,)


@dataclass(frozen=True, slots=True)
class CallerAttempt:
    """The last refresh attempt that a caller (not the daemon) started.

    Attributes:
        started_at: epoch seconds.
        unanswered: number of attempts since the last response, this one included.
        origin: fingerprint of the attempt's Origin.
    """

    started_at: float
    unanswered: int
    origin: str


@dataclass(frozen=True, slots=True)
class State:
    """The recorded state of a profile; survives restarts.

    Attributes:
        token: the last token, which may have expired.
        origin: the last attempt's inputs, whether it succeeded or failed.
        attempts: number of attempts ever; a higher number shows a waiting process that another one made an attempt.
        failures: number of failed attempts since the last success.
        unmoved: number of successive successful attempts that returned the same token.
        tried_at: end of the last attempt, epoch seconds.
        failure: the last attempt's error, or None.
        made_from: the token's inputs.
    """

    token: Token | None = None
    origin: Origin | None = None
    attempts: int = 0
    failures: int = 0
    unmoved: int = 0
    tried_at: float = 0.0
    failure: Failure | None = None
    made_from: Origin | None = None

    def live(self, now: float) -> Token | None:
        """Return the token unless it has expired at `now`."""
        return self.token if self.token is not None and self.token.alive(now) else None

    def after_success(self, token: Token, origin: Origin, now: float) -> "State":
        """Return the state after an attempt that returned `token`."""
        unmoved = 0
        if self.token is not None and self.token.value == token.value:
            # Keep the first issue time, or the token's lifetime would shrink with each attempt.
            token = replace(token, issued_at=min(self.token.issued_at, token.issued_at))
            unmoved = self.unmoved + 1
        return State(token, origin, attempts=self.attempts + 1, unmoved=unmoved, tried_at=now, made_from=origin)

    def after_failure(self, error: VxTokenError, origin: Origin, now: float) -> "State":
        """Return the state after a failed attempt; the last token stays until it expires."""
        return replace(
            self,
            origin=origin,
            attempts=self.attempts + 1,
            failures=self.failures + 1,
            tried_at=now,
            failure=failure_of(error, now),
        )

    def shifted(self, seconds: float) -> "State":
        """Return the state with all instants moved by `seconds`, because the wall clock was set by as much."""
        token, failure = self.token, self.failure
        if token is not None:
            token = replace(token, issued_at=token.issued_at + seconds, expires_at=token.expires_at + seconds)
        if failure is not None and failure.retry_at is not None:
            failure = replace(failure, retry_at=failure.retry_at + seconds)
        return replace(self, token=token, failure=failure, tried_at=self.tried_at + seconds)


def condition(state: State, now: float) -> str:
    """Return the profile's condition: `fresh`, `retrying`, `login` or `expired`."""
    if state.failure is not None and state.failure.kind != "temporary":
        return "login"
    if state.live(now) is None:
        return "expired"
    return "retrying" if state.failures else "fresh"
