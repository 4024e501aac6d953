"""Decides which login a recorded token belongs to, and whether that is the login configured now.

A token must never be handed out for another login than the one configured. Comparing is not trivial, because
processes that share a runtime folder see different environments, and because most credential files do not name their
account. So each attempt records its Origin: the profile's settings, the credential file and its stamp. If the Origin
computed now is equal, the token is current. If the file has changed, the token's checksum, type and account decide
whether the login is still the same; where they cannot (a user's file names no account), the token stays usable while
a refresh is attempted. Three users need exceptions. A cron job sees no GOOGLE_APPLICATION_CREDENTIALS, so
it uses the recorded file unless it finds a login. A shell whose environment differs from the running service's uses the
service's file. But a shell whose variable names a second account gets that account's token, kept apart from the
service's files.
"""

import contextlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from vx_token.config.model import Config, Profile
from vx_token.credentials import credential_file, gcloud, gcloud_accounts
from vx_token.errors import LoginNeededError, VxTokenError
from vx_token.system import paths, stamps
from vx_token.tokens.model import Origin, State

GDCH = "gdch_service_account"
"""The credential type of Google Distributed Cloud, whose tokens are bound to the base URL's host."""


@dataclass(frozen=True)
class Ownership:
    """Compares recorded tokens with the login that this process's environment and configuration lead to.

    Attributes:
        environ: the environment in which credentials are searched.
        config: the configuration in force.
        attended: whether a daemon in another process keeps the runtime folder's files.
    """

    environ: Mapping[str, str]
    config: Config
    attended: Callable[[], bool]

    def origin(self, profile: Profile, recorded: Origin | None = None) -> Origin:
        """Return what a token of `profile` would be made from now.

        Without an explicit credential file, the `recorded` file is used where this process finds no login, or
        where a daemon keeps the files.
        """
        if profile.account:
            return self._account_origin(profile, recorded)
        found = credential_file.credential_file(profile, self.environ)
        # With a metadata server only, gcloud's file that does not exist yet: its creation means another login.
        path = str(found or paths.gcloud_credentials(self.environ))
        if recorded is not None and recorded.path not in ("", path) and not self._explicit(profile):
            has_login = found is not None or credential_file.metadata_likely(self.environ)
            path = path if has_login and not self.attended() else recorded.path
        return Origin(self._settings(profile), path, stamps.stamp(path))

    def _account_origin(self, profile: Profile, recorded: Origin | None) -> Origin:
        """Return what a token of an account in gcloud's database would be made from now; see `origin`."""
        path = str(gcloud_accounts.database(self.environ))
        account, configuration = credential_file.active_account(profile, self.environ), ""
        if profile.account == gcloud.ACTIVE and not self._account_named():
            configuration = str(gcloud.configuration_file(self.environ))
        foreign = recorded is not None and bool(recorded.account) and not self._explicit(profile)
        if recorded is not None and foreign and (self.attended() or not stamps.stamp(path)):
            path, account, configuration = recorded.path, recorded.account, recorded.configuration
        origin = Origin(self._settings(profile), path, account=account, configuration=configuration)
        return replace(origin, stamp=stamps.joined(origin.files))

    def _account_named(self) -> bool:
        """Whether the environment chooses gcloud's active account."""
        return any(self.environ.get(name) for name in gcloud.ACTIVE_VARIABLES)

    def attempt_origin(self, profile: Profile) -> Origin:
        """Return the Origin of an attempt that starts now, with the credential file's checksum."""
        origin = self.origin(profile)
        return replace(origin, checksum=_checksum(origin))

    def is_current(self, state: State, profile: Profile) -> bool:
        """Whether the last attempt was made from the same inputs as an attempt now."""
        return state.origin is not None and state.origin == self.origin(profile, state.origin)

    def outdated(self, state: State, profile: Profile) -> bool:
        """Whether settings or credential file have changed since the last attempt."""
        return state.origin is not None and not self.is_current(state, profile)

    def same_login(self, state: State, profile: Profile, origin: Origin | None = None) -> bool | None:
        """Whether the recorded token belongs to the login of `origin` (default: the current one); None if unknown."""
        origin = origin or self.origin(profile, state.origin)
        was, token = state.made_from or state.origin, state.token
        if was is None or token is None or was == origin:
            return True
        if (was.settings, was.account) != (origin.settings, origin.account):
            return False
        if was.checksum and was.checksum == _checksum(origin):
            return True
        if self._explicit(profile) and was.path != origin.path:
            return False
        try:
            login = credential_file.find(profile, self.environ)[0]
        except VxTokenError:  # an unreadable file names no other login
            return None
        kind, account = credential_file.identity(profile, login)
        if kind != token.kind:
            return False
        return account == token.account if account and token.account else None

    def rejects(self, state: State, error: VxTokenError, profile: Profile, origin: Origin) -> bool:
        """Whether an attempt that failed with `error` shows that the recorded token belongs to another login."""
        was = state.made_from
        if was is None or state.token is None or was == origin:
            return False
        if isinstance(error, LoginNeededError) and was.stamp != stamps.joined(was.files):
            return True
        return self.same_login(state, profile, origin) is False

    def conflicts(self, profile: Profile, recorded: Callable[[], Origin | None]) -> bool:
        """Whether this process's environment names another login than the running daemon's `recorded` one."""
        named = self.config.overridden or (not profile.credentials and self._explicit(profile))
        theirs = recorded() if named else None
        if theirs is None:
            return False
        ours = self.origin(profile)
        differ = (ours.settings, ours.path, ours.account) != (theirs.settings, theirs.path, theirs.account)
        return differ and self.attended()

    def _explicit(self, profile: Profile) -> bool:
        """Whether the profile or the environment names the login."""
        if profile.account:
            return profile.account == gcloud.ACTIVE and self._account_named()
        return bool(profile.credentials or self.environ.get("GOOGLE_APPLICATION_CREDENTIALS"))

    def _settings(self, profile: Profile) -> str:
        asked = (
            profile.credentials or profile.account,
            profile.impersonate,
            f"{profile.lifetime:.0f}",
            profile.quota_project,
        )
        return " ".join((*asked, *profile.scopes, *self._audience(profile)))

    def _audience(self, profile: Profile) -> list[str]:
        """Return the base URL's host where tokens are bound to it: for Google Distributed Cloud only."""
        host = urlsplit(profile.url).netloc
        with contextlib.suppress(VxTokenError):
            if not host.endswith(".googleapis.com"):
                return [host] if credential_file.find(profile, self.environ)[0].kind == GDCH else []
        return []


def fingerprint(origin: Origin) -> str:
    """Return eight characters that identify `origin`."""
    content = f"{origin.settings}\0{origin.path}\0{origin.stamp}\0{origin.account}"
    return f"{zlib.crc32(content.encode(errors='surrogateescape')):08x}"


def _checksum(origin: Origin) -> str:
    """Return the login's checksum, or "" if it cannot be read."""
    if origin.account:
        return gcloud_accounts.checksum(Path(origin.path), origin.account)
    try:
        return f"{zlib.crc32(paths.content(Path(origin.path))):08x}"
    except OSError:
        return ""
