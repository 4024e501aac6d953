"""Fetches one token with google-auth: the only file that imports it, run as a short-lived child by `mint`.

Reads the profile's settings as one JSON object from stdin and writes one JSON answer to stdout, its last line; a line
before it says what to tell should the deadline come first. Whatever google-auth raises is judged by the last HTTP
answer seen, never by the exception's text, which may quote tokens.
"""

import contextlib
import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC
from typing import Any
from urllib.parse import urlsplit

from vx_token.config.model import CLOUD_PLATFORM, Profile
from vx_token.credentials import credential_file, google_errors
from vx_token.credentials.google_errors import Login
from vx_token.credentials.token import Token
from vx_token.errors import TemporaryError, VxTokenError
from vx_token.system import hardening

MEMORY = 384 * 2**20
"""Bytes of address space the child may use; google-auth with its transport takes 55 MiB."""

HOUR = 3600.0
LONGEST_LIFE = 12 * HOUR + 300
"""Seconds: no Google access token lives longer than 12 hours; the rest is for clocks that differ."""

IAM_OVERRIDE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS"
"""The variable by which gcloud itself lets another host stand for iamcredentials.googleapis.com."""

_OPTIONS = "service_account_impersonation"
"""Where an external account's file may name a lifetime."""

_NO_MEMORY = {
    "message": "not enough memory for a refresh",
    "hint": f"raise the memory limit to {MEMORY >> 10} KiB: ulimit -v",
}
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_PROGRAM_LATE = (
    "the program that gives the subject token did not end in time",
    "run it by hand to see why; the next try follows by itself",
)
_DEFAULT_TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address, not a password


@dataclass
class _Session:
    """What a refresh has seen of the network."""

    request: Any
    answer: google_errors.Answer | None = None


def fetch(profile: Profile, environ: Mapping[str, str], now: Callable[[], float] = time.time) -> Token:
    """Fetch a new token for `profile` from Google.

    Raises:
        ConfigError, LoginNeededError, TemporaryError: by what helps; none quotes what Google or google-auth said.
        ImportError: google-auth is not installed, or not whole.
    """
    found, info = credential_file.find(profile, environ)
    session = _open_session(now)
    try:
        started = now()
        credentials, note = _refreshed(found, info, session, profile, environ)
    except (VxTokenError, ImportError):  # older google-auth reads certificates by a library that it does not bring
        raise
    except Exception as error:  # noqa: BLE001 - junk answers make google-auth raise TypeError, AttributeError and more
        raise _translate(error, session.answer, found) from None
    kind, account = credential_file.identity(profile, found)
    token = Token(
        value=credentials.token,
        expires_at=credentials.expiry.replace(tzinfo=UTC).timestamp() if credentials.expiry else 0.0,
        issued_at=started,
        kind=kind,
        quota_project=_quota_project(profile, found, info),
        account=account,
        note=note,
    )
    return validated(token, now())


def validated(token: Token, now: float) -> Token:
    """The token if it can be one: google-auth accepts empty, multi-line and immortal ones.

    Raises:
        TemporaryError: it cannot.
    """
    value: object = token.value
    hint = "a proxy may have answered; the next try follows by itself"
    if not isinstance(value, str) or len(value) > 16384 or not _TOKEN.fullmatch(value):
        raise TemporaryError("Google's answer holds no usable token", hint)
    if not now < token.expires_at <= now + LONGEST_LIFE:
        raise TemporaryError("Google's answer holds a token without a plausible end", hint)
    return token


def _open_session(now: Callable[[], float]) -> _Session:
    import google.auth.transport.requests
    import requests

    http = requests.Session()
    http.max_redirects = 0  # Google's own requests are never sent elsewhere, and these carry a login
    session = _Session(google.auth.transport.requests.Request(http))

    def record(response: Any, *_: object, **__: object) -> None:
        parts = urlsplit(response.url)
        session.answer = None  # should the body not come whole, nothing has answered
        body = response.content
        session.answer = google_errors.read(
            parts.hostname or "", parts.path, response.status_code, response.headers, body, now()
        )

    http.hooks["response"].append(record)
    return session


def _refreshed(
    found: Login, info: dict[str, Any], session: _Session, profile: Profile, environ: Mapping[str, str]
) -> tuple[Any, str]:
    """Credentials with a token; a lifetime that the organisation does not allow is asked for as one hour, and noted."""
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
    # The lifetime is for the result, not for what impersonates it.
    return _impersonate(_BUILD[found.kind](info, replace(profile, lifetime=HOUR)), profile, environ)


def _asked(info: Mapping[str, Any], profile: Profile) -> float:
    """Seconds of life to ask for: the profile's, and where that is the default hour the file's own, if it has any."""
    options = info.get(_OPTIONS)
    own = options.get("token_lifetime_seconds") if isinstance(options, dict) else None
    return float(own) if profile.lifetime == HOUR and isinstance(own, int) else profile.lifetime


def _translate(error: Exception, answer: google_errors.Answer | None, found: Login) -> VxTokenError:
    if isinstance(error, MemoryError) and _cramped():
        return TemporaryError(_NO_MEMORY["message"], _NO_MEMORY["hint"])
    if isinstance(error, MemoryError):
        return TemporaryError(
            "Google's answer is too large", "a proxy may have answered; the next try follows by itself"
        )
    if isinstance(error, subprocess.TimeoutExpired):
        return TemporaryError(*_PROGRAM_LATE)
    import google.auth.exceptions as known

    if isinstance(error, known.TransportError) and (answer is None or answer.status < 300):
        return google_errors.judge(None, found)
    if answer is None and found.kind != "metadata":
        if found.kind == "external_account" and isinstance(error, known.RefreshError | OSError):
            # The subject token's file, program or environment is not ready.
            hint = google_errors.remedy(found)
            return TemporaryError(f"the subject token that {found.path} names cannot be had", hint)
        return google_errors.malformed(found)
    return google_errors.judge(answer, found)


def _quota_project(profile: Profile, found: Login, info: Mapping[str, Any]) -> str:
    if profile.impersonate or not found.kind.endswith("authorized_user"):
        return ""
    return profile.quota_project or str(info.get("quota_project_id") or "")


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
    # Each class by hand: google.auth's own loader asks the network for a project number.
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
    """The class for a source with a program: at the deadline our parent can tell whether that was still running."""
    from google.auth import pluggable

    class Credentials(pluggable.Credentials):
        def retrieve_subject_token(self, request: Any) -> Any:
            message, hint = _PROGRAM_LATE
            _say({"late": {"message": message, "hint": hint}})
            try:
                return super().retrieve_subject_token(request)
            finally:
                _say({})

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
    # What impersonates another needs the whole of IAM's scope; the profile's own are for the result.
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
    """The child's life: one question on stdin, one answer on stdout."""
    settings = json.load(sys.stdin)
    _confine(settings.pop("deadline"))
    try:
        answer: dict[str, Any] = {"token": asdict(fetch(profile_of(settings), os.environ))}
    except VxTokenError as error:
        kind = {3: "config", 4: "login"}.get(error.exit_code, "temporary")
        answer = {"error": {"kind": kind, "message": error.message, "hint": error.hint}}
        answer["error"]["retry_after"] = getattr(error, "retry_after", None)
    except ImportError as error:
        text = {"message": "google-auth, or a library that it needs for this login, cannot be imported"}
        text["hint"] = "install vx-token again, with the newest google-auth"
        answer = {"error": {"kind": "config", **text}}
        if _cramped() and not isinstance(error, ModuleNotFoundError):  # a library that found no room
            answer = {"error": {"kind": "temporary", **_NO_MEMORY}}
    _say(answer)


def _say(answer: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def profile_of(settings: Mapping[str, Any]) -> Profile:
    """The profile of which `settings` is what JSON leaves: lists where it has tuples."""
    return Profile(**{key: _frozen(value) for key, value in settings.items()})


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _confine(deadline: float) -> None:
    # Should the parent die, nobody else ends us; while it lives its own deadline comes first.
    signal.alarm(math.ceil(deadline) + 1)
    hardening.forbid_core_dumps()
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _cramped() -> bool:
    """Whether there is a lower limit of memory than our own."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return limit != resource.RLIM_INFINITY and limit < MEMORY


if __name__ == "__main__":
    main()
