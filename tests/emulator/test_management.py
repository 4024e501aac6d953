"""The emulator's lists of endpoints and models, as Google's discovery documents and public reports describe them."""

from pathlib import Path
from typing import Any

import pytest
import requests

from forked import fetch_here
from vx_token.config.model import Profile
from vx_token.emulator import Emulator

PLACE = "projects/demo/locations/us-central1"


@pytest.fixture
def token(google: Emulator, tmp_path: Path) -> str:
    google.service_account(tmp_path / "key.json")
    return fetch_here(Profile("p", "demo", credentials=str(tmp_path / "key.json")), {}).value


def get(google: Emulator, path: str, token: str, **headers: str) -> requests.Response:
    fields = {"Authorization": f"Bearer {token}"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.get(f"{google.url}/{path}", headers=fields, timeout=10)


def chat(google: Emulator, url: str, token: str, model: str = "llama") -> requests.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return requests.post(f"{url}/chat/completions", json=body, headers={"Authorization": f"Bearer {token}"}, timeout=10)


def test_endpoints_are_listed_by_project_and_location_page_by_page(google: Emulator, token: str) -> None:
    for number in range(5):
        google.deploy(str(100 + number))
    google.deploy("9", location="europe-west4", models=())
    ids: list[str] = []
    page: dict[str, Any] = {"nextPageToken": ""}
    while "nextPageToken" in page:
        page = get(google, f"v1/{PLACE}/endpoints?pageSize=2&pageToken={page['nextPageToken']}", token).json()
        ids += [each["name"].rpartition("/")[2] for each in page["endpoints"]]
    assert ids == ["100", "101", "102", "103", "104"]
    [empty] = get(google, "v1/projects/demo/locations/europe-west4/endpoints", token).json()["endpoints"]
    assert "deployedModels" not in empty
    assert get(google, "v1/projects/demo/locations/us-east1/endpoints", token).json() == {}


def test_lists_need_a_token_and_a_known_project(google: Emulator, token: str) -> None:
    answer = get(google, f"v1/{PLACE}/endpoints", "ya29.unknown")
    assert (answer.status_code, answer.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    answer = get(google, "v1/projects/other/locations/us-central1/endpoints", token)
    assert answer.json()["error"]["details"][0]["reason"] == "CONSUMER_INVALID"


def test_publisher_models_are_listed_by_v1beta1_only(google: Emulator, token: str) -> None:
    models = get(google, "v1beta1/publishers/google/models", token).json()["publisherModels"]
    assert models[0]["name"] == "publishers/google/models/gemini-2.5-flash"
    assert get(google, "v1/publishers/google/models", token).status_code == 404
    assert get(google, "v1beta1/publishers/nobody/models", token).json() == {}


def test_a_users_login_needs_a_quota_project_to_list_publisher_models(google: Emulator, tmp_path: Path) -> None:
    google.authorized_user(tmp_path / "adc.json")
    issued = google.mint.issue("user-1@example.com", "token", 3600)
    answer = get(google, "v1beta1/publishers/google/models", issued.value)
    assert answer.status_code == 403
    assert "requires a quota project" in answer.json()["error"]["message"]
    allowed = get(google, "v1beta1/publishers/google/models", issued.value, x_goog_user_project="demo")
    assert allowed.status_code == 200


def test_a_dedicated_endpoint_is_refused_on_the_shared_host(google: Emulator, token: str) -> None:
    google.deploy("5", dedicated=True)
    shared = chat(google, google.base_url(location="us-central1", endpoint="5"), token)
    assert shared.status_code == 400
    assert "is a dedicated endpoint" in shared.json()[0]["error"]["message"]
    document = get(google, f"v1/{PLACE}/endpoints/5", token).json()
    own = f"http://{document['dedicatedEndpointDns']}/v1/{PLACE}/endpoints/5"
    assert chat(google, own, token).status_code == 200
    assert chat(google, f"{own}/invoke/v1", token).status_code == 404


def test_a_container_with_routes_of_its_own_is_below_invoke(google: Emulator, token: str) -> None:
    google.deploy("6", invoke=True, serves="llama")
    url = google.base_url(location="us-central1", endpoint="6")
    assert get(google, f"v1/{PLACE}/models/llama", token).json()["containerSpec"]["invokeRoutePrefix"] == "/*"
    assert chat(google, url, token).status_code == 404
    assert chat(google, f"{url}/invoke/v1", token).status_code == 200
    assert chat(google, f"{url}/invoke/v1", token, "").status_code == 200
    unknown = chat(google, f"{url}/invoke/v1", token, "other")
    assert (unknown.status_code, unknown.json()["type"]) == (404, "NotFoundError")


def test_an_endpoint_without_models_serves_nothing(google: Emulator, token: str) -> None:
    google.deploy("7", models=())
    assert chat(google, google.base_url(location="us-central1", endpoint="7"), token).status_code == 400


def test_a_listed_model_may_be_missing_in_the_location(google: Emulator, token: str) -> None:
    google.catalog.unavailable.add("google/gemini-2.5-pro")
    answer = chat(google, google.base_url(), token, "google/gemini-2.5-pro")
    assert answer.status_code == 404
    assert "was not found or your project does not have access" in answer.json()[0]["error"]["message"]


@pytest.mark.parametrize(("fault", "status"), [({"status": 429}, 429), ({"kind": "slow", "delay": 0.01}, 200)])
def test_lists_fail_and_wait_on_demand(google: Emulator, token: str, fault: dict[str, Any], status: int) -> None:
    google.fail("endpoints", **fault)
    answer = get(google, f"v1/{PLACE}/endpoints", token)
    assert answer.status_code == status
    assert isinstance(answer.json(), dict)


def test_another_process_deploys_by_the_control_route(google: Emulator, token: str) -> None:
    done = requests.post(f"{google.url}/_emulator/endpoints", json={"id": "8", "models": ["m"]}, timeout=10)
    assert done.json() == {"id": "8"}
    assert google.catalog.find("8") is not None
