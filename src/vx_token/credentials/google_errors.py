"""Classifies a failed refresh as temporary or as a needed login, by the last HTTP response; pure.

Sources: RFC 6749 section 5.2 for the codes; google-auth's `retryable` is False for lost connections and 503s alike, so
it is not used.
"""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vx_token.errors import ConfigError, LoginNeededError, TemporaryError, VxTokenError

LOGIN = "gcloud auth application-default login"

DAY = 24 * 3600.0
"""Maximum Retry-After (seconds)."""

PERMANENT: Mapping[str, str] = {
    "invalid_grant": "Google no longer accepts this login",
    "invalid_client": "Google does not know this login's client",
    "deleted_client": "this login's client was deleted at Google",
    "disabled_client": "this login's client was disabled at Google",
    "unauthorized_client": "Google does not allow this client to do that",
    "invalid_scope": "Google refuses the scopes asked for",
    "access_denied": "Google refuses access to this account",
    "account_disabled": "this account is disabled at Google",
    "admin_policy_enforced": "your organisation's policy forbids this login",
    "org_internal": "your organisation's policy forbids this login",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """The last HTTP response of a refresh; `code`, `subtype` and `text` are never shown to the user.

    `iam` is true for an error of IAM's generateAccessToken in Google's JSON form, which no proxy's page has.
    """

    host: str
    status: int
    retry_after: float | None
    code: str
    subtype: str
    text: str
    iam: bool


@dataclass(frozen=True, slots=True)
class Login:
    """The login of a refresh, as described by the credential file or by gcloud's database; used for the hint.

    Attributes:
        kind: the type of credential.
        path: the file.
        account: its account, or "".
        target: the service account that it impersonates, or "".
        gcloud: whether it is a login of `gcloud auth login`, in gcloud's database.
    """

    kind: str
    path: str = ""
    account: str = ""
    target: str = ""
    gcloud: bool = False

    @property
    def name(self) -> str:
        """What contains the login, for sentences."""
        return f"gcloud's login of {self.account}" if self.gcloud else f"the credential file {self.path}"


def read(host: str, path: str, status: int, headers: Mapping[str, str], body: bytes, now: float) -> Answer:
    """Return the Answer of an HTTP response; without a JSON object as its body, the codes are empty."""
    pause = retry_after(headers.get("Retry-After", ""), now)
    try:
        content: Any = json.loads(body[:65536])
    except (ValueError, RecursionError):
        content = None
    content = content if isinstance(content, dict) else {}
    error = content.get("error")
    if isinstance(error, dict):  # Google's API form
        code, text = str(error.get("status", "")), str(error.get("message", ""))
    else:  # OAuth's
        code, text = str(error or ""), str(content.get("error_description", ""))
    iam = path.endswith(":generateAccessToken") and isinstance(error, dict) and isinstance(error.get("status"), str)
    return Answer(host, status, pause, code, str(content.get("error_subtype", "")), text, iam)


def retry_after(value: str, now: float) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110: seconds or a date), or None."""
    if re.fullmatch(r"[ \t]*[0-9]+[ \t]*", value):
        return min(float(value), DAY)
    import email.utils  # a mebibyte, for a form of date that Google does not use

    try:
        return min(max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now), DAY)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def judge(answer: Answer | None, login: Login) -> VxTokenError:
    """Return the error for a refresh whose last response is `answer`, None without any response."""
    if answer is None:
        hint = "check the network, DNS and the proxy settings; vx-token retries automatically"
        return TemporaryError("Google cannot be reached", hint)
    if answer.status < 300:
        hint = "a captive portal or a proxy may have answered; vx-token retries automatically"
        return TemporaryError(f"{answer.host} answered something that is no token", hint)
    if answer.status < 400:
        hint = "a captive portal or a proxy may have answered; vx-token retries automatically"
        message = f"{answer.host} redirected the request (HTTP {answer.status})"
        return TemporaryError(message, hint, answer.retry_after)
    if answer.iam and answer.status in (403, 404):
        return _not_allowed(login)
    text = answer.text.lower()
    if answer.code == "invalid_grant" and "reasonable timeframe" in text:
        hint = "set this machine's clock; vx-token retries automatically"
        return TemporaryError("Google finds this machine's clock wrong", hint)
    if "rapt" in answer.subtype or "rapt" in text or "reauth" in text:
        return LoginNeededError("Google wants you to log in again (your organisation's session length)", remedy(login))
    if answer.code in PERMANENT:
        return LoginNeededError(f"{PERMANENT[answer.code]} ({answer.code})", remedy(login))
    if "disabled" in text and answer.status in (400, 401, 403):
        return LoginNeededError(PERMANENT["account_disabled"], remedy(login))
    hint = "vx-token retries automatically"
    return TemporaryError(f"{answer.host} answered HTTP {answer.status}", hint, answer.retry_after)


def malformed(login: Login) -> VxTokenError:
    """Return the error for a malformed credential file."""
    return ConfigError(f"{login.name} is malformed", remedy(login))


def remedy(login: Login) -> str:
    """Return the hint: the exact command that the user must run."""
    if login.gcloud:
        return _gcloud_remedy(login)
    if login.kind == "service_account":
        path, account = shlex.quote(login.path or "KEY.json"), shlex.quote(login.account or "ACCOUNT")
        return f"make a new key: gcloud iam service-accounts keys create {path} --iam-account={account}"
    if login.kind == "impersonated_service_account" and login.target:
        return f"run: {LOGIN} --impersonate-service-account={shlex.quote(login.target)}"
    if login.kind == "external_account":
        return f"check the identity provider, and the pool that {login.path} names"
    if login.kind == "gdch_service_account":
        return f"get a new key file for the service identity: {login.path}"
    if login.kind == "metadata":
        return "check the service account attached to this machine"
    return f"run: {LOGIN}"


def _gcloud_remedy(login: Login) -> str:
    account = shlex.quote(login.account)
    if login.kind == "service_account":
        return f"make a new key, then run: gcloud auth activate-service-account {account} --key-file=KEY.json"
    if login.kind == "external_account":
        return f"check the identity provider; then run: gcloud auth login {account} --cred-file=FILE.json"
    return f"run: gcloud auth login {account}"


def _not_allowed(login: Login) -> VxTokenError:
    target = shlex.quote(login.target or "TARGET")
    kind = "serviceAccount" if login.kind == "service_account" else "user"
    member = shlex.quote(f"{kind}:{login.account or 'YOU'}")
    hint = (
        f"run: gcloud iam service-accounts add-iam-policy-binding {target}"
        f" --member={member} --role=roles/iam.serviceAccountTokenCreator"
    )
    return LoginNeededError(f"this login may not impersonate {login.target or 'the service account'}", hint)
