"""A Google access token whose `repr` hides its value, and its validation."""

import re
from dataclasses import dataclass, field

from vx_token.errors import TemporaryError

LONGEST_LIFE = 12 * 3600.0 + 300
"""Maximum lifetime (seconds) of a Google access token: 12 hours, and a tolerance for clocks that differ."""

_BEARER = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


@dataclass(frozen=True, slots=True)
class Token:
    """A Google access token; its `repr` does not contain the value.

    Attributes:
        value: the bearer token.
        expires_at: epoch seconds.
        issued_at: when it was received, epoch seconds.
        kind: the credential's type, such as `service_account`.
        quota_project: the project for `x-goog-user-project`; set only for user credentials.
        account: its account, or "" if the credential file names none.
        note: a remark for the user, such as a lifetime that Google rejected.
    """

    value: str = field(repr=False)
    expires_at: float
    issued_at: float
    kind: str = ""
    quota_project: str = ""
    account: str = ""
    note: str = ""

    @property
    def lifetime(self) -> float:
        """Lifetime (seconds) when it was received."""
        return self.expires_at - self.issued_at

    def remaining(self, now: float) -> float:
        """Return the remaining lifetime (seconds) at `now`; a clock that was set back never adds to it."""
        return min(self.expires_at - now, self.lifetime)

    def alive(self, now: float) -> bool:
        """Whether the token is still valid at `now`."""
        return now < self.expires_at


def validated(token: Token, now: float) -> Token:
    """Return `token` if it is plausible: google-auth accepts empty and multi-line tokens, and any expiry.

    Raises:
        TemporaryError: it is not plausible.
    """
    value: object = token.value
    hint = "a proxy may have answered; vx-token retries automatically"
    if not isinstance(value, str) or len(value) > 16384 or not _BEARER.fullmatch(value):
        raise TemporaryError("Google's answer holds no usable token", hint)
    if not now < token.expires_at <= now + LONGEST_LIFE:
        raise TemporaryError("Google's answer holds a token without a plausible end", hint)
    return token
