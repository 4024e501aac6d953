"""Finds and reads the credential file of a profile, without any network request."""

import contextlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vx_token.config.model import Profile
from vx_token.credentials import google_errors
from vx_token.credentials.google_errors import Login
from vx_token.errors import ConfigError, LoginNeededError, printable
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
        kind: its type, one of KINDS.
        account: its account, or "" if the file names none.
        project: a user's quota project or a service account's own project, or "".
        token_uri: the address of its token endpoint, or "" for the default one.
        mode: permission bits.
        modified_at: epoch seconds.
    """

    path: Path
    problem: str = ""
    kind: str = ""
    account: str = ""
    project: str = ""
    token_uri: str = ""
    mode: int = 0
    modified_at: float = 0.0


def credential_file(profile: Profile, environ: Mapping[str, str]) -> Path | None:
    """Return the credential file that a refresh would read now; None if only a metadata server is left.

    The order is that of Application Default Credentials: the profile's own file, which need not exist, that of
    GOOGLE_APPLICATION_CREDENTIALS, then gcloud's.
    """
    explicit = profile.credentials or environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if explicit:
        return Path(explicit).absolute()
    default = paths.gcloud_credentials(environ)
    return default if os.path.exists(default) else None  # noqa: PTH110 - Path.exists raises without permission


def credential_files(profile: Profile, environ: Mapping[str, str]) -> list[Path]:
    """Return the files to watch for a change of login, whether they exist or not."""
    explicit = profile.credentials or environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    return [Path(explicit).absolute() if explicit else paths.gcloud_credentials(environ)]


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
    """
    path = credential_file(profile, environ)
    if path is None:
        if not metadata_likely(environ):
            raise LoginNeededError("no Google login was found", f"run: {google_errors.LOGIN}")
        return Login("metadata", target=profile.impersonate), {}
    file, content = _read(path)
    if file.problem:
        hint = f"set credentials or GOOGLE_APPLICATION_CREDENTIALS to a credential file, or run: {google_errors.LOGIN}"
        if content:
            hint = f"known types: {', '.join(KINDS)}"
        raise ConfigError(f"the credential file {path} {file.problem}", hint)
    if _runs_program(content) and environ.get(EXECUTABLES) != "1":
        hint = f"if you trust it, set {EXECUTABLES}=1"
        raise ConfigError(f"the credential file {path} names a program to run, which is not allowed", hint)
    if not re.match(r"https?://.", str(content.get("token_uri") or "https://-")):
        raise google_errors.malformed(Login(file.kind, str(path)))
    url = str(content.get("service_account_impersonation_url", ""))
    impersonated = re.search(r"/([^/]+):generateAccessToken$", url)
    target = profile.impersonate or (impersonated[1] if impersonated else "")
    account = printable(str(content.get("client_email") or content.get("account") or ""))
    return Login(file.kind, str(path), account, printable(target)), content


def identity(profile: Profile, login: Login) -> tuple[str, str]:
    """Return the type and the account of the token that `login` gives `profile`; an unknown account is ""."""
    return "impersonated" if profile.impersonate else login.kind, login.target or login.account


def quota_project(profile: Profile, login: Login, content: Mapping[str, Any]) -> str:
    """Return the project for `x-goog-user-project`; "" unless the token is a user's own."""
    if profile.impersonate or not login.kind.endswith("authorized_user"):
        return ""
    return profile.quota_project or str(content.get("quota_project_id") or "")


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
        kind,
        _string(content, "client_email") or _string(content, "account"),
        _string(content, "quota_project_id") or _string(content, "project_id"),
        _token_uri(content),
        stat.S_IMODE(status.st_mode),
        status.st_mtime,
    )
    return file, content


def _token_uri(content: dict[str, Any]) -> str:
    source = content.get("source_credentials")
    source = source if isinstance(source, dict) else {}
    return _string(content, "token_uri") or _string(content, "token_url") or _string(source, "token_uri")


def _string(content: dict[str, Any], key: str) -> str:
    value = content.get(key)
    return value if isinstance(value, str) and value.isprintable() else ""


def _runs_program(content: Mapping[str, Any]) -> bool:
    source = content.get("credential_source")
    return isinstance(source, dict) and "executable" in source
