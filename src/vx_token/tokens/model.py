"""The values that flow: a token, where it came from, and what is known of its profile."""

from dataclasses import dataclass, field

from vx_token.credentials.token import Token


@dataclass(frozen=True, slots=True)
class Origin:
    """What a token was made from, so that a reader sees when that has changed.

    Attributes:
        settings: the profile's settings that shape a token.
        path: the credential file; for a metadata server the one whose coming would replace it.
        stamp: that file's identity (inode, time, size), empty when it was not there.
        checksum: of that file's content, so that a file that was only touched is no other login; not compared.
    """

    settings: str
    path: str = ""
    stamp: str = ""
    checksum: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the last try failed, as data; it holds no secret.

    Attributes:
        kind: `temporary`, `login` or `config`.
        message: one sentence.
        hint: what to do.
        retry_at: the instant the server asked to wait for, epoch seconds, or None.
    """

    kind: str
    message: str
    hint: str = ""
    retry_at: float | None = None


@dataclass(frozen=True, slots=True)
class State:
    """All that is known of a profile; it survives restarts.

    Attributes:
        token: the last good token, which may have ended.
        origin: what the last try was made from.
        attempts: tries ever made, so that a waiter sees that somebody tried meanwhile.
        failures: failed tries since the last good one.
        unmoved: good answers in a row that brought the same token again.
        tried_at: when the last try ended, epoch seconds.
        failure: why it failed, or None.
        made_from: what the token was made from; `origin` is the last try's, good or bad.
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
        """The token if it is still good at `now`."""
        return self.token if self.token is not None and self.token.alive(now) else None


def condition(state: State, now: float) -> str:
    """One word for how things stand: fresh, retrying, login or expired."""
    if state.failure is not None and state.failure.kind != "temporary":
        return "login"
    if state.live(now) is None:
        return "expired"
    return "retrying" if state.failures else "fresh"
