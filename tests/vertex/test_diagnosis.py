"""Answers of Vertex AI, in the form of public reports, and the sentence and the command that each leads to."""

from dataclasses import replace
from typing import Any

import pytest

from vx_token.config.model import Profile
from vx_token.credentials.google_errors import Login
from vx_token.credentials.token import Token
from vx_token.emulator.error_bodies import error, error_info
from vx_token.vertex.diagnosis import Asked, Diagnosis, diagnose
from vx_token.vertex.request import HttpResponse

PROFILE = Profile("default", "demo", "us-central1")
USER = Token("ya29.x", 2e9, 1e9, "authorized_user", account="me@example.com")
ASKED = Asked(PROFILE, "google/gemini-2.5-flash", USER, Login("authorized_user", "adc.json", "me@example.com"))
PLACE = "projects/demo/locations/us-central1"


def answer(status: int, message: str, reason: str = "", **metadata: str) -> HttpResponse:
    details = [error_info(reason, "googleapis.com", **metadata)] if reason else []
    return HttpResponse(status, {}, [error(status, message, *details)], 0.1)


def diagnosed(response: HttpResponse, asked: Asked = ASKED) -> Diagnosis:
    diagnosis = diagnose(response, asked)
    assert not diagnosis.ok
    assert diagnosis.hint
    return diagnosis


DISABLED = "Vertex AI API has not been used in project {} before or it is disabled. Enable it by visiting https://x/y"
DENIED = f"Permission 'aiplatform.endpoints.predict' denied on resource '//x/{PLACE}/e' (or it may not exist)."
QUOTA = "Caller does not have required permission to use project {}. Grant the caller the roles/x role"
LOCAL = "The aiplatform.googleapis.com API requires a quota project, which is not set by default."
MODEL = (
    f"Publisher Model `{PLACE}/publishers/google/models/gemini-9` was not found or your project does not have access"
)
ENABLE = "run: gcloud services enable aiplatform.googleapis.com --project="
GRANT = "run: gcloud projects add-iam-policy-binding demo --member="
LIST = "find its id: gcloud projects list; then run: vx-token setup --project ID"


@pytest.mark.parametrize(
    ("response", "detail", "hint"),
    [
        (
            answer(403, DISABLED.format(7), "SERVICE_DISABLED", consumer="projects/7"),
            "API is not enabled",
            f"{ENABLE}demo",
        ),
        (answer(403, DISABLED.format("o"), "SERVICE_DISABLED", consumer="projects/o"), "not enabled", f"{ENABLE}o"),
        (
            answer(403, LOCAL, "SERVICE_DISABLED"),
            "wants a quota project",
            "run: gcloud auth application-default set-quota",
        ),
        (
            answer(403, DENIED, "IAM_PERMISSION_DENIED"),
            "lacks the permission",
            f"{GRANT}user:me@example.com --role=roles/ai",
        ),
        (answer(403, DENIED), "lacks the permission aiplatform.endpoints.predict in the project demo", GRANT),
        (answer(403, "Permission denied", "CONSUMER_INVALID", consumer="projects/demo"), "does not exist, or", LIST),
        (
            answer(403, QUOTA.format("q"), "USER_PROJECT_DENIED", consumer="projects/q"),
            "the quota project q",
            "run: gcloud auth",
        ),
        (answer(403, "Billing", "BILLING_DISABLED"), "no billing account", "run: gcloud billing projects link demo "),
        (
            answer(403, "scopes", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"),
            "lacks the scope",
            "run: gcloud auth application-default",
        ),
        (answer(401, "no", "ACCESS_TOKEN_EXPIRED"), "HTTP 401", "run: gcloud auth application-default login"),
        (
            answer(404, MODEL),
            "no model google/gemini-2.5-flash in us-central1",
            "choose a model: vx-token setup --model ",
        ),
        (
            answer(400, "Invalid hostname: eu-aiplatform.googleapis.com"),
            "no location",
            "run: vx-token setup --location global",
        ),
        (
            answer(400, "Location us-x is not supported."),
            "no location us-central1",
            "run: vx-token setup --location global",
        ),
        (
            answer(400, "This endpoint is a dedicated endpoint via CloudESF and cannot be accessed through the API."),
            "has a host of its own",
            "run: vx-token endpoints use openapi",
        ),
        (answer(400, f"Endpoint {PLACE}/endpoints/1 doesn't have traffic_split."), "no model is deployed", "deploy a"),
        (answer(404, "Requested project not found."), "the project demo does not exist", LIST),
        (
            answer(400, "Malformed publisher model (`model`: 'x')"),
            "is not the name of a model",
            "write it as PUBLISHER/MODEL",
        ),
        (answer(429, "Resource exhausted"), "its quota is used up", "try again in a minute"),
        (HttpResponse(404, {}, None, 0.1), "no location us-central1", "run: vx-token setup --location global"),
        (answer(503, "busy"), "HTTP 503, busy", "Vertex AI has a problem; try again later"),
        (HttpResponse(0, {}, None, 0.1, "x is unreachable: no"), "x is unreachable", "check the network and the proxy"),
        (
            HttpResponse(0, {}, None, 0.1, "[SSL: CERTIFICATE_VERIFY_FAILED]"),
            "SSL",
            "if your network inspects TLS, trust",
        ),
        (HttpResponse(200, {}, None, 0.1), "HTTP 200", "another server answered"),
    ],
)
def test_an_answer_leads_to_one_sentence_and_one_command(response: HttpResponse, detail: str, hint: str) -> None:
    diagnosis = diagnosed(response)
    assert detail in diagnosis.detail
    assert diagnosis.hint.startswith(hint)


def test_a_model_that_is_not_there_is_no_wrong_location_although_its_name_holds_one() -> None:
    diagnosis = diagnosed(answer(404, MODEL))
    assert "some models are served only globally: vx-token setup --location global" in diagnosis.hint
    everywhere = replace(ASKED, profile=replace(PROFILE, location="global"))
    assert diagnosed(answer(404, MODEL), everywhere).hint == "choose a model: vx-token setup --model PUBLISHER/MODEL"


def test_commands_name_the_profile_that_was_asked() -> None:
    work = replace(ASKED, profile=replace(PROFILE, name="work"))
    assert "vx-token setup --profile work --model PUBLISHER/MODEL" in diagnosed(answer(404, MODEL), work).hint


@pytest.mark.parametrize(
    ("login", "account", "member"),
    [
        (
            Login("service_account", "k", "a@p.iam.gserviceaccount.com"),
            "",
            "serviceAccount:a@p.iam.gserviceaccount.com",
        ),
        (Login("authorized_user", "adc.json"), "", '"user:$(gcloud config get-value account)"'),
        (Login("authorized_user", "adc.json", target="t@p"), "t@p", "serviceAccount:t@p"),
        (Login("metadata"), "vm@p.iam.gserviceaccount.com", "serviceAccount:vm@p.iam.gserviceaccount.com"),
    ],
)
def test_the_command_that_grants_names_the_login(login: Login, account: str, member: str) -> None:
    asked = replace(ASKED, token=replace(USER, account=account), login=login)
    assert f"--member={member} --role=" in diagnosed(answer(403, DENIED), asked).hint


@pytest.mark.parametrize(("changes", "hint"), [({}, "set-quota-project demo"), ({"quota_project": "q"}, "binding q ")])
def test_a_refused_quota_project_is_replaced_or_granted(changes: dict[str, Any], hint: str) -> None:
    asked = replace(ASKED, token=replace(USER, quota_project="q"), profile=replace(PROFILE, **changes))
    diagnosis = diagnosed(answer(403, QUOTA.format("q"), "USER_PROJECT_DENIED", consumer="projects/q"), asked)
    assert diagnosis.detail == "this login may not use the quota project q"
    assert hint in diagnosis.hint
    # Where the API must be on is the quota project, because requests count there.
    assert diagnosed(answer(403, DISABLED.format(7), "SERVICE_DISABLED"), asked).hint == f"{ENABLE}q"


@pytest.mark.parametrize(
    "body", [None, [], [1], {}, {"error": 1}, {"error": {"message": 1}}, [{"error": {"details": 1}}]]
)
def test_any_other_answer_is_shown_as_it_is(body: Any) -> None:
    assert diagnosed(HttpResponse(418, {}, body, 0.1)).detail == "google/gemini-2.5-flash: HTTP 418"


def test_a_message_cannot_forge_a_line() -> None:
    assert diagnosed(answer(418, "a\nhint: \x1b[31mrun this")).detail.isprintable()


def test_an_own_url_is_not_blamed_on_the_location() -> None:
    own = replace(ASKED, profile=replace(PROFILE, base_url="https://gateway.example/v1"))
    assert diagnosed(HttpResponse(404, {}, None, 0.1), own).hint.startswith(
        "check base_url: it must end with /projects/"
    )
    assert diagnosed(answer(400, "Invalid hostname: x"), own).hint == "run: vx-token setup --base-url URL"


@pytest.mark.parametrize(
    ("response", "url"),
    [
        (answer(400, "Invalid hostname: x"), "https://us-central1-aiplatform.googleapis.com/v1/{}us-central1"),
        (answer(404, "Requested project not found."), "https://us-cental1-aiplatform.googleapis.com/v1/{}us-cental1"),
    ],
)
def test_where_a_url_replaces_project_and_location_the_command_changes_the_url(
    response: HttpResponse, url: str
) -> None:
    own = replace(ASKED, profile=Profile("default", base_url=Profile("x", "demo", "us-cental1").url))
    project = "ID" if "project" in response.body[0]["error"]["message"] else "demo"
    url = f"{url.format(f'projects/{project}/locations/')}/endpoints/openapi"
    assert diagnosed(response, own).hint.endswith(f"vx-token setup --base-url {url}")
