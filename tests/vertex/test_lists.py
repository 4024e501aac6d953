"""Lists from Vertex AI that are not what they should be: each is an error or is left out, and none stops a command."""

import signal
import time
from typing import Any

import pytest

from forked import fetch_here
from sandbox import Box, until
from vx_token.config.model import Profile
from vx_token.config.vertex import Place
from vx_token.credentials.google_errors import Login
from vx_token.emulator import Emulator
from vx_token.errors import ConfigError, TemporaryError
from vx_token.vertex.endpoints import DeployedModel, Endpoint, list_endpoints
from vx_token.vertex.lists import Account, place_of
from vx_token.vertex.parallel import ask_each
from vx_token.vertex.publishers import list_models

NAME = "projects/42/locations/us-central1/endpoints/7"
MODEL = "projects/42/locations/us-central1/models/m"


@pytest.fixture
def account(box: Box, google: Emulator) -> Account:
    google.service_account(box.key)
    profile = Profile("p", base_url=google.base_url(), credentials=str(box.key))
    return Account({}, profile, fetch_here(profile, {}), Login("service_account"))


@pytest.mark.parametrize("kind", ["html", "empty", "list", "truncated", "reset"])
def test_an_answer_that_is_no_list_is_worth_a_retry_and_quotes_no_token(
    account: Account, google: Emulator, kind: str
) -> None:
    google.fail("endpoints", kind=kind)
    with pytest.raises(TemporaryError) as caught:
        list_endpoints(account, "us-central1")
    assert caught.value.hint
    assert account.token.value not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    "document",
    [{}, {"name": 1}, {"name": "endpoints/7"}, {"name": NAME.replace("7", "../7")}, {"name": f"{NAME}\n"}],
)
def test_what_is_no_endpoint_is_left_out(document: dict[str, Any]) -> None:
    assert Endpoint.parse(document) is None


@pytest.mark.parametrize(
    ("fields", "endpoint"),
    [
        ({}, Endpoint("7", "us-central1")),
        ({"deployedModels": 1, "displayName": []}, Endpoint("7", "us-central1")),
        ({"displayName": "a\nhint: b"}, Endpoint("7", "us-central1", "a?hint: b")),
        (
            {"deployedModels": [1, {"id": "1", "model": f"{MODEL}@2"}]},
            Endpoint("7", "us-central1", models=(DeployedModel("1", "m", MODEL),)),
        ),
        (
            {"dedicatedEndpointDns": "https://7.us-central1-42.prediction.vertexai.goog"},
            Endpoint("7", "us-central1", host="7.us-central1-42.prediction.vertexai.goog"),
        ),
        ({"dedicatedEndpointDns": "evil.example/v1/projects?"}, Endpoint("7", "us-central1")),
        ({"network": "projects/42/global/networks/n"}, Endpoint("7", "us-central1", private=True)),
        (
            {"privateServiceConnectConfig": {"enablePrivateServiceConnect": True}},
            Endpoint("7", "us-central1", private=True),
        ),
    ],
)
def test_an_endpoint_is_read_whatever_its_fields_are(fields: dict[str, Any], endpoint: Endpoint) -> None:
    assert Endpoint.parse({"name": NAME, **fields}) == endpoint


GLOBAL = Place("https://aiplatform.googleapis.com", "v1", "p", "global", "openapi")
DEDICATED = "7.us-central1-42.prediction.vertexai.goog"


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (Endpoint("7", "us-central1"), None),
        (
            Endpoint("7", "us-central1", host=DEDICATED),
            f"https://{DEDICATED}/v1/projects/p/locations/us-central1/endpoints/7",
        ),
        (
            Endpoint("7", "us-central1", host=DEDICATED, invoke=True),
            f"https://{DEDICATED}/v1/projects/p/locations/us-central1/endpoints/7/invoke/v1",
        ),
    ],
)
def test_a_profile_gets_a_base_url_only_for_a_host_or_routes_of_its_own(endpoint: Endpoint, url: str | None) -> None:
    common = {"model": None, "publisher": None, "location": "us-central1", "endpoint": "7"}
    assert endpoint.settings(GLOBAL) == {**common, "base_url": url}


def test_a_list_that_never_ends_is_left(account: Account, google: Emulator) -> None:
    google.catalog.page = 1
    google.catalog.publish("google", *[f"m{number}" for number in range(300)])
    assert len(list_models(account, "google")) == 200


def test_a_server_that_is_not_vertex_ai_is_told() -> None:
    with pytest.raises(ConfigError, match="is not a URL of Vertex AI, so nothing can be listed there"):
        place_of(Profile("p", base_url="https://other.example/v1"))
    assert place_of(Profile("p", "mine", base_url="https://other.example/v1")).project == "mine"


def test_an_error_of_our_own_is_raised_and_one_of_googles_is_a_result() -> None:
    error = TemporaryError("x")

    def ask(number: int) -> int:
        if number == 1:
            raise error
        return 10 // number

    assert ask_each(ask, [1, 2, 5]) == [error, 5, 2]
    with pytest.raises(ZeroDivisionError):
        ask_each(ask, [0, 1])


def test_an_interrupt_waits_for_no_location(signed_in: Box, google: Emulator) -> None:
    signed_in.refresh()
    google.fail("endpoints", None, kind="hang")
    process = signed_in.start("endpoints")
    until(lambda: google.count("endpoints"), what="a request")
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert time.monotonic() - started < 10
