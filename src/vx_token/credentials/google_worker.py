"""Fetches one token with google-auth; runs as a short-lived child of `fetch.fetch_token`.

Only this module imports google-auth. It reads the profile's settings as one JSON object from stdin. It writes its
response as the last line of stdout; an earlier line gives the error in case the deadline passes first. Errors depend on
the last HTTP response, never on the message of an exception, because that may quote tokens.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC
from typing import Any
from urllib.parse import urlsplit

from vx_token.config.model import CLOUD_PLATFORM, Profile
from vx_token.credentials import credential_file, google_errors, worker_limits
from vx_token.credentials.fetch import profile_of
from vx_token.credentials.google_errors import Login
from vx_token.credentials.token import Token, validated
from vx_token.errors import ConfigError, TemporaryError, VxTokenError, failure_of

HOUR = 3600.0

IAM_OVERRIDE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS"
"""The variable by which gcloud replaces the host iamcredentials.googleapis.com."""

_OPTIONS = "service_account_impersonation"
"""The key of an external account's file that may contain a lifetime."""

_NO_MEMORY = (
    "not enough memory for a refresh",
    f"raise the memory limit to {worker_limits.MEMORY >> 10} KiB: ulimit -v",
)
_PROGRAM_LATE = (
    "the program that gives the subject token did not end in time",
    "run it by hand to see why; vx-token retries automatically",
)
_DEFAULT_TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address, not a password


@dataclass
class _Session:
    """The HTTP transport of a refresh, and its last response."""

    request: Any
    answer: google_errors.Answer | None = None


def fetch(profile: Profile, environ: Mapping[str, str], now: Callable[[], float] = time.time) -> Token:
    """Fetch a new token for `profile` from Google.

    Raises:
        ConfigError, LoginNeededError, TemporaryError: the fetch failed; no error quotes Google or google-auth.
        ImportError: google-auth is not installed, or incomplete.
    """
    found, info = credential_file.find(profile, environ)
    session = _open_session(now)
    try:
        started = now()
        credentials, note = _refreshed(found, info, session, profile, environ)
    except (VxTokenError, ImportError):  # older google-auth needs another library for certificates
        raise
    except Exception as error:  # noqa: BLE001 - invalid responses make google-auth raise TypeError, AttributeError and more
        raise _translate(error, session.answer, found) from None
    finally:
        session.request.session.close()
    kind, account = credential_file.identity(profile, found)
    token = Token(
        value=credentials.token,
        expires_at=credentials.expiry.replace(tzinfo=UTC).timestamp() if credentials.expiry else 0.0,
        issued_at=started,
        kind=kind,
        quota_project=credential_file.quota_project(profile, found, info),
        account=account,
        note=note,
    )
    return validated(token, now())


def _open_session(now: Callable[[], float]) -> _Session:
    import google.auth.transport.requests
    import requests

    http = requests.Session()
    http.max_redirects = 0  # Google never redirects these requests, which contain a login
    session = _Session(google.auth.transport.requests.Request(http))

    def record(response: Any, *_: object, **__: object) -> None:
        parts = urlsplit(response.url)
        session.answer = None  # an incomplete body is no response
        body = response.content
        session.answer = google_errors.read(
            parts.hostname or "", parts.path, response.status_code, response.headers, body, now()
        )

    http.hooks["response"].append(record)
    return session


def _refreshed(
    found: Login, info: dict[str, Any], session: _Session, profile: Profile, environ: Mapping[str, str]
) -> tuple[Any, str]:
    """Return credentials with a token, and a note if the organisation allows only a lifetime of one hour."""
    credentials = _credentials(found, info, profile, environ)
    try:
        credentials.refresh(session.request)
    except Exception:
        answer = session.answer
        if answer is None or not answer.iam or answer.status != 400 or _asked(info, profile) <= HOUR:
            raise
    else:
        return credentials, ""
    credentials = _credentials(found, info | {_OPTIONS: {}}, replace(profile, lifetime=HOUR), environ)
    credentials.refresh(session.request)
    return credentials, (
        "Google allows this account one hour only; for more, list it in the policy "
        "constraints/iam.allowServiceAccountCredentialLifetimeExtension"
    )


def _credentials(found: Login, info: dict[str, Any], profile: Profile, environ: Mapping[str, str]) -> Any:
    if not profile.impersonate:
        return _BUILD[found.kind](info, profile)
    # The lifetime applies to the impersonated account's token, not to the source's.
    return _impersonate(_BUILD[found.kind](info, replace(profile, lifetime=HOUR)), profile, environ)


def _asked(info: Mapping[str, Any], profile: Profile) -> float:
    """Return the lifetime (seconds) to request: the profile's, or the file's if the profile has the default hour."""
    options = info.get(_OPTIONS)
    own = options.get("token_lifetime_seconds") if isinstance(options, dict) else None
    return float(own) if profile.lifetime == HOUR and isinstance(own, int) else profile.lifetime


def _translate(error: Exception, answer: google_errors.Answer | None, found: Login) -> VxTokenError:
    if isinstance(error, MemoryError) and worker_limits.cramped():
        return TemporaryError(*_NO_MEMORY)
    if isinstance(error, MemoryError):
        return TemporaryError(
            "Google's answer is too large", "a proxy may have answered; vx-token retries automatically"
        )
    if isinstance(error, subprocess.TimeoutExpired):
        return TemporaryError(*_PROGRAM_LATE)
    import google.auth.exceptions as known

    if isinstance(error, known.TransportError) and (answer is None or answer.status < 300):
        return google_errors.judge(None, found)
    if answer is None and found.kind != "metadata":
        if found.kind == "external_account" and isinstance(error, known.RefreshError | OSError):
            # The source of the subject token (a file, program or environment) is not ready.
            hint = google_errors.remedy(found)
            return TemporaryError(f"the subject token that {found.name} names is not available", hint)
        return google_errors.malformed(found)
    return google_errors.judge(answer, found)


def _service_account(info: dict[str, Any], profile: Profile) -> Any:
    from google.oauth2 import service_account

    return service_account.Credentials.from_service_account_info(info, scopes=_scopes(profile))


def _authorized_user(info: dict[str, Any], profile: Profile) -> Any:
    from google.oauth2 import credentials

    # Not from_authorized_user_info: it overrides the file's token_uri, which other universes need.
    return credentials.Credentials(
        token=None,
        refresh_token=info["refresh_token"],
        token_uri=info.get("token_uri") or _DEFAULT_TOKEN_URI,
        client_id=info["client_id"],
        client_secret=info["client_secret"],
        scopes=_scopes(profile),
        rapt_token=info.get("rapt_token"),
    )


def _impersonated_file(info: dict[str, Any], profile: Profile) -> Any:
    from google.auth import impersonated_credentials

    inner = info["source_credentials"]
    source = _BUILD[inner["type"]](inner, replace(profile, impersonate="", scopes=(CLOUD_PLATFORM,), lifetime=HOUR))
    url = info["service_account_impersonation_url"]
    return impersonated_credentials.Credentials(
        source_credentials=source,
        target_principal=url.rpartition("/")[2].removesuffix(":generateAccessToken"),
        target_scopes=_scopes(profile),
        delegates=info.get("delegates"),
        lifetime=int(profile.lifetime),
        iam_endpoint_override=url,
    )


def _impersonate(source: Any, profile: Profile, environ: Mapping[str, str]) -> Any:
    from google.auth import impersonated_credentials

    override = environ.get(IAM_OVERRIDE, "").rstrip("/")
    path = f"/v1/projects/-/serviceAccounts/{profile.impersonate}:generateAccessToken"
    return impersonated_credentials.Credentials(
        source_credentials=source,
        target_principal=profile.impersonate,
        target_scopes=list(profile.scopes),
        lifetime=int(profile.lifetime),
        iam_endpoint_override=override + path if override else None,
    )


def _external_account(info: dict[str, Any], profile: Profile) -> Any:
    # google.auth's own loader would request a project number from the network.
    if str(info.get("subject_token_type", "")).startswith("urn:ietf:params:aws:"):
        from google.auth.aws import Credentials
    elif "executable" in info.get("credential_source", {}):
        Credentials = _program()  # type: ignore[misc]  # noqa: N806 - a class
    else:
        from google.auth.identity_pool import Credentials  # type: ignore[assignment]
    if profile.lifetime != HOUR:
        info = info | {_OPTIONS: {"token_lifetime_seconds": int(profile.lifetime)}}
    return Credentials.from_info(info, scopes=_scopes(profile))


def _program() -> Any:
    """Return the class for a program source; the parent learns from its output whether the program caused a timeout."""
    from google.auth import pluggable

    class Credentials(pluggable.Credentials):
        def retrieve_subject_token(self, request: Any) -> Any:
            _write({"late": asdict(failure_of(TemporaryError(*_PROGRAM_LATE), 0.0))})
            try:
                return super().retrieve_subject_token(request)
            finally:
                _write({})

    return Credentials


def _external_account_authorized_user(info: dict[str, Any], profile: Profile) -> Any:
    from google.auth import external_account_authorized_user

    return external_account_authorized_user.Credentials.from_info({**info, "scopes": _scopes(profile)})


def _gdch(info: dict[str, Any], profile: Profile) -> Any:
    from google.oauth2 import gdch_credentials

    parts = urlsplit(profile.url)
    made = gdch_credentials.ServiceAccountCredentials.from_service_account_info(info)
    return made.with_gdch_audience(f"{parts.scheme}://{parts.netloc}/")


def _metadata(_: dict[str, Any], profile: Profile) -> Any:
    from google.auth import compute_engine

    return compute_engine.Credentials(scopes=_scopes(profile))


def _scopes(profile: Profile) -> list[str]:
    # IAM requires the scope cloud-platform of the source; the profile's scopes apply to the impersonated account.
    return [CLOUD_PLATFORM] if profile.impersonate else list(profile.scopes)


_BUILD: Mapping[str, Callable[[dict[str, Any], Profile], Any]] = {
    "service_account": _service_account,
    "authorized_user": _authorized_user,
    "impersonated_service_account": _impersonated_file,
    "external_account": _external_account,
    "external_account_authorized_user": _external_account_authorized_user,
    "gdch_service_account": _gdch,
    "metadata": _metadata,
}


def main() -> None:
    """Read a request from stdin, write the response to stdout."""
    settings = json.load(sys.stdin)
    worker_limits.confine(settings.pop("deadline"))
    try:
        response = {"token": asdict(fetch(profile_of(settings), os.environ))}
    except VxTokenError as error:
        response = {"error": asdict(failure_of(error, 0.0))}
    except ImportError as error:
        response = {"error": asdict(failure_of(_import_failed(error), 0.0))}
    _write(response)


def _import_failed(error: ImportError) -> VxTokenError:
    if worker_limits.cramped() and not isinstance(error, ModuleNotFoundError):  # a library that could not be mapped
        return TemporaryError(*_NO_MEMORY)
    message = "google-auth, or a library that it needs for this login, cannot be imported"
    return ConfigError(message, "install vx-token again, with the newest google-auth")


def _write(answer: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
