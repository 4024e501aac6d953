"""Finds and reads the credential file of a profile, without any network request."""

import contextlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vx_token.config.model import METADATA, Profile
from vx_token.config.vertex import UNIVERSE
from vx_token.credentials import gcloud, gcloud_accounts, google_errors
from vx_token.credentials.google_errors import Login
from vx_token.errors import ConfigError, LoginNeededError, VxTokenError, printable
from vx_token.system import paths

EXECUTABLES = "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"
"""The variable that allows a credential file to run a program; google-auth requires it."""

KINDS = (
    "authorized_user",
    "service_account",
    "impersonated_service_account",
    "external_account",
    "external_account_authorized_user",
    "gdch_service_account",
)
"""The types of credential file."""


@dataclass(frozen=True, slots=True)
class CredentialFile:
    """The description of a credential file, without its secrets.

    Attributes:
        path: the file.
        problem: why it cannot give a token, or "".
        hint: what to do about the problem, where that is known.
        kind: its type, one of KINDS.
        account: its account, or "" if the file names none.
        project: a user's quota project or a service account's own project, or "".
        token_uri: the address of its token endpoint, or "" for the default one.
        mode: permission bits.
        modified_at: epoch seconds.
        universe: the domain of the Google Cloud that it belongs to.
    """

    path: Path
    problem: str = ""
    hint: str = ""
    kind: str = ""
    account: str = ""
    project: str = ""
    token_uri: str = ""
    mode: int = 0
    modified_at: float = 0.0
    universe: str = UNIVERSE


def credential_file(profile: Profile, environ: Mapping[str, str]) -> Path | None:
    """Return the credential file that a refresh would read now; None for the metadata server.

    The order is that of Application Default Credentials: the profile's own file, which need not exist, that of
    GOOGLE_APPLICATION_CREDENTIALS, then gcloud's. For a profile with an account it is gcloud's database, or None.
    """
    if profile.account:
        database = gcloud_accounts.database(environ)
        return database if os.path.exists(database) else None  # noqa: PTH110 - Path.exists raises without permission
    if profile.credentials == METADATA:
        return None
    explicit = profile.credentials or environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if explicit:
        return Path(explicit).absolute()
    default = paths.gcloud_credentials(environ)
    return default if os.path.exists(default) else None  # noqa: PTH110 - Path.exists raises without permission


def credential_files(profile: Profile, environ: Mapping[str, str]) -> list[Path]:
    """Return the files to watch for a change of login, whether they exist or not."""
    if profile.account:
        configuration = gcloud.configuration_file(environ) if profile.account == gcloud.ACTIVE else ""
        return [Path(each) for each in gcloud.login_files(gcloud_accounts.database(environ), configuration)]
    if profile.credentials == METADATA:
        return []
    explicit = profile.credentials or environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    return [Path(explicit).absolute() if explicit else paths.gcloud_credentials(environ)]


def reauthentication_files(profile: Profile, environ: Mapping[str, str]) -> list[Path]:
    """Return the files whose change may end a refused login: every command of gcloud may reauthenticate its user."""
    return [gcloud_accounts.access_tokens(gcloud_accounts.database(environ))] if profile.account else []


def metadata_likely(environ: Mapping[str, str]) -> bool:
    """Whether this machine probably has a metadata server, without a search of 12 seconds."""
    if environ.get("NO_GCE_CHECK") == "true":  # google-auth's own switch
        return False
    if any(environ.get(name) for name in ("GCE_METADATA_HOST", "GCE_METADATA_ROOT", "K_SERVICE", "CLOUD_RUN_JOB")):
        return True
    if environ.get("KUBERNETES_SERVICE_HOST") or environ.get("GAE_ENV"):
        return True
    with contextlib.suppress(OSError):
        return Path("/sys/class/dmi/id/product_name").read_text(encoding="ascii", errors="ignore").startswith("Google")
    return False


def find(profile: Profile, environ: Mapping[str, str]) -> tuple[Login, dict[str, Any]]:
    """Return the login of `profile` and its file's content, which includes secrets.

    Raises:
        ConfigError: the credential file is missing or invalid.
        LoginNeededError: there is no login.
        TemporaryError: gcloud's database cannot be read now.
    """
    login, content = _account_login(profile, environ) if profile.account else _file_login(profile, environ)
    if _runs_program(content) and environ.get(EXECUTABLES) != "1":
        hint = f"if you trust it, set {EXECUTABLES}=1"
        raise ConfigError(f"{login.name} names a program to run, which is not allowed", hint)
    if not re.match(r"https?://.", str(content.get("token_uri") or "https://-")):
        raise google_errors.malformed(login)
    url = str(content.get("service_account_impersonation_url", ""))
    impersonated = re.search(r"/([^/]+):generateAccessToken$", url)
    target = profile.impersonate or (impersonated[1] if impersonated else "")
    return replace(login, target=printable(target)), content


def _account_login(profile: Profile, environ: Mapping[str, str]) -> tuple[Login, dict[str, Any]]:
    """Return the login of the profile's account in gcloud's database."""
    path, account = gcloud_accounts.database(environ), active_account(profile, environ)
    if not account:
        hint = f"run: {gcloud_accounts.LOGIN}, or name one: gcloud config set account ACCOUNT"
        raise LoginNeededError("gcloud has no active account", hint)
    target = gcloud.active(environ).impersonate if profile.account == gcloud.ACTIVE else ""
    if target and not profile.impersonate:  # the token would be another identity's than that of gcloud
        hint = (
            f"set impersonate = {json.dumps(target)} in the profile, or account = {json.dumps(account)} to be that user"
        )
        raise ConfigError(f"gcloud's active configuration impersonates {printable(target)}", printable(hint))
    content = gcloud_accounts.login(path, account)
    login = Login(_string(content, "type"), str(path), printable(account.partition("#")[0]), gcloud=True)
    if login.kind == "service_account_p12":
        hint = f"create a JSON key, then run: gcloud auth activate-service-account {login.account} --key-file=KEY.json"
        raise ConfigError(f"{login.name} is a P12 key, which google-auth cannot use", hint)
    if login.kind not in KINDS:
        hint = "use Application Default Credentials: remove `account` from the profile"
        raise ConfigError(f"{login.name} has a type that vx-token does not know: {login.kind[:40]!r}", hint)
    return login, content


def active_account(profile: Profile, environ: Mapping[str, str]) -> str:
    """Return the account in gcloud's database that `profile` means; "" for none."""
    return gcloud.active(environ).account if profile.account == gcloud.ACTIVE else profile.account


def _file_login(profile: Profile, environ: Mapping[str, str]) -> tuple[Login, dict[str, Any]]:
    """Return the login of Application Default Credentials."""
    path = credential_file(profile, environ)
    if path is None:
        if profile.credentials != METADATA and not metadata_likely(environ):
            hint = f"run: {google_errors.LOGIN}"
            if gcloud_accounts.database(environ).exists():
                hint += "; or use the login of gcloud auth login: vx-token setup --account active"
            raise LoginNeededError("no Google login was found", hint)
        return Login("metadata"), {}
    file, content = _read(path)
    if file.problem:
        hint = f"set credentials or GOOGLE_APPLICATION_CREDENTIALS to a credential file, or run: {google_errors.LOGIN}"
        if content:
            hint = f"known types: {', '.join(KINDS)}"
        raise ConfigError(f"the credential file {path} {file.problem}", hint)
    account = printable(str(content.get("client_email") or content.get("account") or ""))
    return Login(file.kind, str(path), account), content


def identity(profile: Profile, login: Login) -> tuple[str, str]:
    """Return the type and the account of the token that `login` gives `profile`; an unknown account is ""."""
    return "impersonated" if profile.impersonate else login.kind, login.target or login.account


def quota_project(profile: Profile, login: Login, content: Mapping[str, Any]) -> str:
    """Return the project for `x-goog-user-project`; "" unless the token is a user's own."""
    if profile.impersonate or not login.kind.endswith("authorized_user"):
        return ""
    return profile.quota_project or str(content.get("quota_project_id") or "")


def describe_login(profile: Profile, environ: Mapping[str, str]) -> CredentialFile | None:
    """Describe the login that a refresh would use now; None if only a metadata server is left."""
    if not profile.account:
        path = credential_file(profile, environ)
        return describe(path) if path else None
    path = gcloud_accounts.database(environ)
    try:
        login, content = find(profile, environ)
        status = path.stat()
    except VxTokenError as error:
        return CredentialFile(path, error.message, error.hint)
    except OSError as error:
        return CredentialFile(path, f"{path} cannot be read: {error.strerror}")
    return CredentialFile(
        path,
        kind=login.kind,
        account=login.account,
        project=_string(content, "project_id"),
        token_uri=_token_uri(content),
        mode=stat.S_IMODE(status.st_mode),
        modified_at=status.st_mtime,
        universe=_universe(content),
    )


def describe(path: Path) -> CredentialFile:
    """Describe the credential file; errors are in its `problem`, never raised."""
    return _read(path)[0]


def _read(path: Path) -> tuple[CredentialFile, dict[str, Any]]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return CredentialFile(path, "is no regular file"), {}
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        return CredentialFile(path, "does not exist"), {}
    except OSError as error:
        return CredentialFile(path, f"cannot be read: {error.strerror}"), {}
    except (ValueError, RecursionError):
        return CredentialFile(path, "is not JSON"), {}
    if not isinstance(content, dict):
        return CredentialFile(path, "holds no JSON object"), {}
    kind = _string(content, "type")
    file = CredentialFile(
        path,
        "" if kind in KINDS else f"has an unknown type: {kind[:40]!r}",
        "",
        kind,
        _string(content, "client_email") or _string(content, "account"),
        _string(content, "quota_project_id") or _string(content, "project_id"),
        _token_uri(content),
        stat.S_IMODE(status.st_mode),
        status.st_mtime,
        _universe(content),
    )
    return file, content


def _token_uri(content: dict[str, Any]) -> str:
    source = content.get("source_credentials")
    source = source if isinstance(source, dict) else {}
    return _string(content, "token_uri") or _string(content, "token_url") or _string(source, "token_uri")


def _universe(content: Mapping[str, Any]) -> str:
    return _string(content, "universe_domain") or UNIVERSE


def _string(content: Mapping[str, Any], key: str) -> str:
    value = content.get(key)
    return value if isinstance(value, str) and value.isprintable() else ""


def _runs_program(content: Mapping[str, Any]) -> bool:
    source = content.get("credential_source")
    return isinstance(source, dict) and "executable" in source
