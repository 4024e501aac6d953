"""Finds the login that a profile's tokens come from: a credential file, or a metadata server; asks no network."""

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vx_token.config.model import Profile
from vx_token.credentials import adc, google_errors
from vx_token.credentials.google_errors import Login
from vx_token.errors import ConfigError, LoginNeededError, printable
from vx_token.system import paths

EXECUTABLES = "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"
"""The variable by which a user lets a credential file name a program to run; google-auth insists on it."""


def credential_file(profile: Profile, environ: Mapping[str, str]) -> Path | None:
    """The credential file a refresh would read now, there or not; None when only a metadata server is left.

    The order of Application Default Credentials: the profile's own, GOOGLE_APPLICATION_CREDENTIALS, gcloud's.
    """
    explicit = profile.credentials or environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if explicit:
        return Path(explicit).absolute()
    found = paths.gcloud_credentials(environ)
    return found if os.path.exists(found) else None  # noqa: PTH110 - Path.exists raises where we may not look


def credential_files(profile: Profile, environ: Mapping[str, str]) -> list[Path]:
    """The files whose change means another login, whether they exist yet or not."""
    explicit = profile.credentials or environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    return [Path(explicit).absolute() if explicit else paths.gcloud_credentials(environ)]


def metadata_likely(environ: Mapping[str, str]) -> bool:
    """Whether a metadata server is to be expected, without the 12 seconds it takes to find none."""
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
    """The login of `profile`, and what its file holds: secrets, so never to be shown.

    Raises:
        ConfigError: the file cannot be what it should be.
        LoginNeededError: there is none.
    """
    path = credential_file(profile, environ)
    if path is None:
        if not metadata_likely(environ):
            raise LoginNeededError("no Google login was found", f"run: {google_errors.LOGIN}")
        return Login("metadata", target=profile.impersonate), {}
    info = _read(path)
    kind = str(info.get("type"))
    if kind not in adc.KINDS:
        hint = f"known types: {', '.join(adc.KINDS)}"
        raise ConfigError(f"the credential file {path} has an unknown type: {kind[:40]!r}", hint)
    if _runs_program(info) and environ.get(EXECUTABLES) != "1":
        hint = f"when you trust it, set {EXECUTABLES}=1"
        raise ConfigError(f"the credential file {path} names a program to run, which is not allowed", hint)
    found = re.search(r"/([^/]+):generateAccessToken$", str(info.get("service_account_impersonation_url", "")))
    if not re.match(r"https?://.", str(info.get("token_uri") or "https://-")):
        raise google_errors.malformed(Login(kind, str(path)))
    target = profile.impersonate or (found[1] if found else "")
    account = printable(str(info.get("client_email") or info.get("account") or ""))
    return Login(kind, str(path), account, printable(target)), info


def identity(profile: Profile, found: Login) -> tuple[str, str]:
    """The type and the account of a token that `profile` would get by the login `found`; the account may be unknown."""
    return "impersonated" if profile.impersonate else found.kind, found.target or found.account


def _runs_program(info: Mapping[str, Any]) -> bool:
    source = info.get("credential_source")
    return isinstance(source, dict) and "executable" in source


def _read(path: Path) -> dict[str, Any]:
    hint = f"set credentials or GOOGLE_APPLICATION_CREDENTIALS to a credential file, or run: {google_errors.LOGIN}"
    try:
        if not path.is_file() and path.exists():
            raise ConfigError(f"the credential file {path} is no regular file", hint)
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"the credential file {path} does not exist", hint) from None
    except OSError as error:
        raise ConfigError(f"cannot read the credential file {path}: {error.strerror}", hint) from None
    except (ValueError, RecursionError):
        raise ConfigError(f"the credential file {path} is not JSON", hint) from None
    if not isinstance(content, dict):
        raise ConfigError(f"the credential file {path} holds no JSON object", hint)
    return content
