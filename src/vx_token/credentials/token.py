"""A Google access token that cannot be printed by accident."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Token:
    """A Google access token that cannot be printed by accident.

    Attributes:
        value: the bearer token.
        expires_at: its end, epoch seconds.
        issued_at: when we got it, epoch seconds.
        kind: the credential's type, such as `service_account`.
        quota_project: the project for `x-goog-user-project`; set only for user credentials.
        account: who it speaks for, as far as the credential file says.
        note: what the user should know of it, such as a lifetime that was refused.
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
        """Seconds of life it had when we got it."""
        return self.expires_at - self.issued_at

    def remaining(self, now: float) -> float:
        """Seconds of life left at `now`; a clock that went back never adds life."""
        return min(self.expires_at - now, self.lifetime)

    def alive(self, now: float) -> bool:
        """Whether Google would still take it at `now`."""
        return now < self.expires_at
