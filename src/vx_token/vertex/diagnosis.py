"""What an answer of Vertex AI means: one sentence, and the command that helps; pure.

Sources for the reasons: google.api.ErrorReason in Google's API definitions, and answers of Vertex AI in public reports.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from vx_token.config import vertex
from vx_token.config.locations import nearest
from vx_token.config.model import CLOUD_PLATFORM, Profile
from vx_token.credentials.google_errors import LOGIN, Login, remedy
from vx_token.credentials.token import Token
from vx_token.errors import printable
from vx_token.vertex.request import HttpResponse

API = "aiplatform.googleapis.com"
PERMISSION = "aiplatform.endpoints.predict"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What an answer means; `status` is its HTTP status, 0 without an answer."""

    ok: bool
    detail: str
    hint: str = ""
    status: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """The request that was made: with which profile, model, token and login.

    Attributes:
        profile: its URL names project and location.
        model: the model's id, "" for a request without one.
        token: the token that was sent.
        login: where the token comes from.
        subject: the name of a request without a model.
        permission: the permission that the request needs.
        again: the command that makes the request again.
    """

    profile: Profile
    model: str
    token: Token
    login: Login
    subject: str = "the endpoint"
    permission: str = PERMISSION
    again: str = "vx-token doctor --live"

    @property
    def project(self) -> str:
        """The project in the base URL."""
        return self._place.project if self._place else self.profile.project or "PROJECT"

    @property
    def location(self) -> str:
        """The location in the base URL."""
        return self._place.location if self._place else self.profile.location

    @property
    def endpoint(self) -> str:
        """The endpoint in the base URL."""
        return self._place.endpoint if self._place else self.profile.endpoint

    @property
    def option(self) -> str:
        """The option that names this profile, with a space before it; "" for the profile `default`."""
        return "" if self.profile.name == "default" else f" --profile {shlex.quote(self.profile.name)}"

    @property
    def name(self) -> str:
        """What was asked, for sentences."""
        return self.model or self.subject

    @property
    def _place(self) -> vertex.Place | None:
        return vertex.Place.parse(self.profile.url)

    @property
    def member(self) -> str:
        """The login as IAM names it, quoted for a shell; gcloud's account where the credential file names none."""
        account = self.login.target or self.token.account or self.login.account
        if self.login.target or account.endswith(".gserviceaccount.com"):
            return shlex.quote(f"serviceAccount:{account or 'ACCOUNT'}")
        if account:
            return shlex.quote(f"user:{account}")
        if self.login.kind == "authorized_user":
            return '"user:$(gcloud config get-value account)"'
        return "serviceAccount:ACCOUNT" if self.login.kind in ("service_account", "metadata") else "PRINCIPAL"

    def setup(self, key: str, value: str) -> str:
        """The command that changes a setting of this profile; the URL, where that replaces project and location."""
        if self.profile.base_url and key != "model":
            key, value = "base-url", self._url_with(key, value)
        return f"vx-token setup{self.option} --{key} {shlex.quote(value)}"

    def _url_with(self, key: str, value: str) -> str:
        if self._place is None:
            return "URL"
        root = self._place.root_of(value) if key == "location" else self._place.root
        return replace(self._place, root=root, **{key: value}).url


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """Google's error object: the message on one line, its machine-readable reason and the project that it names."""

    message: str
    reason: str = ""
    consumer: str = ""

    @property
    def words(self) -> str:
        """The message without resource names, whose parts would look like words of the message."""
        return re.sub(r"\S+/\S+", "", self.message).lower()


def diagnose(answer: HttpResponse, asked: Asked) -> Diagnosis:
    """Return what the answer means, and the exact command that helps."""
    if answer.status == 200 and isinstance(answer.body, dict) and answer.body.get("choices"):
        return Diagnosis(True, f"{asked.name} answered in {answer.seconds:.1f} s", status=200)
    return explain(answer, asked)


def explain(answer: HttpResponse, asked: Asked) -> Diagnosis:
    """Return why an answer is not the wanted one, and the exact command that helps."""
    error = read_error(answer.body)
    detail, hint = _cause(answer, error, asked) or _unknown(answer, error, asked)
    return Diagnosis(False, printable(detail), printable(hint), answer.status)


def read_error(body: Any) -> ErrorBody | None:
    """Return Google's error; the body is an object or, from Vertex's OpenAI routes, a list with one object."""
    content = body[0] if isinstance(body, list) and body else body
    error = content.get("error") if isinstance(content, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return None
    info = next(_infos(error.get("details")), {})
    metadata = info.get("metadata")
    consumer = str(metadata.get("consumer", "")) if isinstance(metadata, dict) else ""
    message = " ".join(error["message"].split())
    return ErrorBody(message, str(info.get("reason", "")), consumer.removeprefix("projects/"))


def _infos(details: Any) -> Iterator[dict[str, Any]]:
    for each in details if isinstance(details, list) else []:
        if isinstance(each, dict) and "reason" in each:
            yield each


def _cause(answer: HttpResponse, error: ErrorBody | None, asked: Asked) -> tuple[str, str] | None:
    """Return sentence and hint for a known cause."""
    if answer.status == 401:
        return "Vertex AI does not accept this login's token (HTTP 401)", remedy(asked.login)
    if answer.status == 403 and error is not None:
        return _refused(error, asked)
    if answer.status in (400, 404) and error is not None:
        return _not_found(answer.status, error, asked)
    if answer.status == 404:
        return _wrong_path(asked)
    if answer.status == 429:
        hint = f"try again in a minute: {asked.again}; or elsewhere: {asked.setup('location', 'global')}"
        return f"{asked.name} is available, but its quota is used up (HTTP 429)", hint
    return None


def _refused(error: ErrorBody, asked: Asked) -> tuple[str, str] | None:
    """Return sentence and hint for a 403."""
    project, quota = asked.project, asked.token.quota_project
    named = error.consumer if not error.consumer.isdigit() else ""
    if "requires a quota project" in error.words:
        hint = _quota_setting(asked)
        return "Vertex AI wants a quota project for this login, and it has none", hint
    if error.reason == "USER_PROJECT_DENIED":
        return f"this login may not use the quota project {quota or named}", _quota_hint(named, asked)
    if error.reason == "SERVICE_DISABLED":
        where = named or quota or project
        return (
            f"the Vertex AI API is not enabled in the project {where}",
            f"run: gcloud services enable {API} --project={where}",
        )
    if error.reason == "CONSUMER_INVALID":
        hint = f"find its id: gcloud projects list; then run: {asked.setup('project', 'ID')}"
        return f"the project {named or project} does not exist, or this login has no access to it", hint
    if error.reason == "BILLING_DISABLED":
        hint = f"run: gcloud billing projects link {project} --billing-account=ID (gcloud billing accounts list)"
        return f"the project {project} has no billing account", hint
    if error.reason == "ACCESS_TOKEN_SCOPE_INSUFFICIENT":
        machine = "give this machine's service account the access scope cloud-platform"
        hint = machine if asked.login.kind == "metadata" else _login_with_scope(asked)
        return "the token lacks the scope cloud-platform", hint
    if error.reason == "IAM_PERMISSION_DENIED" or f"'{asked.permission}'" in error.message:
        grant = _grant(project, asked.member, "roles/aiplatform.user")
        detail = (
            f"this login lacks the permission {asked.permission} in the project {project}, or there is no such project"
        )
        return detail, f"run: {grant} (or another: {asked.setup('project', 'ID')})"
    return None


def _login_with_scope(asked: Asked) -> str:
    return remedy(asked.login) if asked.login.gcloud else f"run: {LOGIN} --scopes={CLOUD_PLATFORM}"


def _quota_hint(named: str, asked: Asked) -> str:
    quota = asked.token.quota_project or named
    if quota == asked.project or asked.profile.quota_project:
        return f"run: {_grant(quota, asked.member, 'roles/serviceusage.serviceUsageConsumer')}"
    return _quota_setting(asked)


def _quota_setting(asked: Asked) -> str:
    """Return the hint that sets the quota project: ADC keeps it in its file, gcloud's own logins have none."""
    if asked.login.gcloud:
        return f'set quota_project = "{asked.project}" in the profile {asked.profile.name}'
    return f"run: gcloud auth application-default set-quota-project {asked.project}"


def _grant(project: str, member: str, role: str) -> str:
    return f"gcloud projects add-iam-policy-binding {project} --member={member} --role={role}"


def _not_found(status: int, error: ErrorBody, asked: Asked) -> tuple[str, str] | None:
    """Return sentence and hint for a 404, or for a 400 that means the same."""
    if "dedicated endpoint" in error.words:
        hint = f"run: vx-token endpoints use {asked.endpoint}{asked.option}"
        return "this endpoint has a host of its own, and the shared one does not serve it", hint
    if "traffic_split" in error.words:
        hint = "deploy a model to it, or choose another: vx-token endpoints --all-locations"
        return f"no model is deployed at the endpoint {asked.endpoint}", hint
    if status == 404 and ("/models/" in error.message or "model" in error.words):  # first, because it names all others
        return _no_model(asked)
    if re.search(r"\b(hostname|location|region)\b", error.words):
        return _no_location(asked)
    if "model" in error.words:
        hint = f"write it as PUBLISHER/MODEL: {asked.setup('model', 'google/gemini-2.5-flash')}"
        return f"{asked.name} is not the name of a model: {error.message[:200]}", hint
    if "project" in error.words:
        hint = f"find its id: gcloud projects list; then run: {asked.setup('project', 'ID')}"
        return f"the project {asked.project} does not exist", hint
    if status == 404 and asked.profile.endpoint != "openapi":
        hint = "list them: vx-token endpoints --all-locations"
        return f"there is no endpoint {asked.profile.endpoint} in {asked.location}", hint
    return None


def _no_model(asked: Asked) -> tuple[str, str]:
    hint = f"choose a model: {asked.setup('model', 'PUBLISHER/MODEL')}"
    if asked.location != "global":
        hint += f"; some models are served only globally: {asked.setup('location', 'global')}"
    return f"the project {asked.project} has no model {asked.name} in {asked.location}", hint


def _no_location(asked: Asked) -> tuple[str, str]:
    location = nearest(asked.location)
    better = location if location not in ("", asked.location) else "global"
    return f"Vertex AI has no location {asked.location}", f"run: {asked.setup('location', better)}"


def _wrong_path(asked: Asked) -> tuple[str, str]:
    """Return sentence and hint for a 404 that is a page, not an error of Vertex AI."""
    if asked.profile.base_url:
        hint = "check base_url: it must end with /projects/PROJECT/locations/LOCATION/endpoints/openapi"
        return f"there is no API at {asked.profile.url} (HTTP 404)", hint
    return _no_location(asked)


def _unknown(answer: HttpResponse, error: ErrorBody | None, asked: Asked) -> tuple[str, str]:
    """Return the answer as it is, with a hint by its status."""
    message = f", {error.message[:200]}" if error else ""
    detail = answer.problem or f"{asked.name}: HTTP {answer.status}{message}"
    if "CERTIFICATE" in answer.problem.upper():
        return detail, "if your network inspects TLS, trust its certificate: export REQUESTS_CA_BUNDLE=FILE.pem"
    if answer.status == 0 and not asked.profile.base_url and asked.location != "global":
        location = f"; if other sites answer, the location is wrong: {asked.setup('location', 'global')}"
        return detail, f"check the network and the proxy settings{location}"
    if answer.status >= 500:
        return detail, f"Vertex AI has a problem; try again later: {asked.again}"
    return detail, HINTS.get(answer.status, "check project, location and base_url")


HINTS = {
    0: "check the network, the proxy settings and base_url",
    200: "another server answered instead of Vertex AI: check base_url and the proxy settings",
    400: "choose another model, written as PUBLISHER/MODEL",
    403: "ask an administrator of the project about this refusal",
}
"""Hints by status, for answers without a known cause."""
