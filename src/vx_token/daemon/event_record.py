"""Which news of a profile its user's commands have had, so that neither a restart nor another process repeats any."""

import contextlib
import json
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vx_token.credentials.token import Token
from vx_token.system import atomic
from vx_token.system.private_file import private_text
from vx_token.tokens.model import State

NAME = "told"
"""In the profile's folder: a run of the daemon leaves it to the next."""


@dataclass(frozen=True, slots=True)
class Told:
    """What was told last.

    Attributes:
        token: the mark of the token that `on_refresh` heard of, "" for none.
        login: after which try, the last good one, `on_login_needed` ran; None when it has not since a success.
    """

    token: str = ""
    login: int | None = None

    def after(self, state: State) -> "Told":
        """What is told once everybody has heard of `state`."""
        if state.failure is None:
            return Told(_mark(state.token))
        # A later one than we know of tells of a success that happened while no daemon ran.
        good = state.attempts - state.failures
        if state.failure.kind == "temporary" or (self.login is not None and good <= self.login):
            return self
        return replace(self, login=good)

    def write(self, folder: Path) -> None:
        """Keep it; where nothing can be written it is only known until the end of this process."""
        with contextlib.suppress(OSError):
            atomic.write(folder / NAME, json.dumps(asdict(self)).encode())


def read(folder: Path) -> Told:
    """What is on record; a missing, foreign or torn file counts as nothing told."""
    try:
        found = Told(**json.loads(private_text(folder / NAME)))
    except (OSError, ValueError, TypeError):
        return Told()
    return found if isinstance(found.token, str) and isinstance(found.login, int | None) else Told()


def _mark(token: Token | None) -> str:
    """Tells one token from another and is none; not hashlib's, which loads OpenSSL into the daemon for ever."""
    return "" if token is None else f"{zlib.crc32(token.value.encode()):08x}-{len(token.value)}"
