"""The gateway's model list has what is configured, deployed or probed, and what Google lists only when switched on."""

import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gateways import alone, client, configure, free_port, say
from sandbox import Box, until
from vx_token.config.model import Profile
from vx_token.emulator import Emulator
from vx_token.gateway.known_models import KnownModels
from vx_token.gateway.models import model_list, resolve, rewrite
from vx_token.gateway.settings import Route
from vx_token.vertex.endpoints import DeployedModel, Endpoint
from vx_token.vertex.known import Known, KnownFile, ProbedModel
from vx_token.vertex.publishers import ListedModel

PLACE = "https://aiplatform.googleapis.com/v1/projects/p/locations/global/endpoints"
OPENAPI = Profile("p", "p", models=("google/mine",))
OWN = Profile("p", "p", "us-central1", "7")


@pytest.fixture
def environ(box: Box) -> dict[str, str]:
    return box.environ


def known(environ: dict[str, str]) -> Known:
    content = Known("p").with_endpoint(Endpoint("7", "us-central1", models=(DeployedModel("1", "gemma", ""),)), 0.0)
    listed = [
        ListedModel("google/listed"),
        ListedModel("google/gone"),
        ListedModel("google/deployable", serverless=False),
    ]
    content = content.with_listed("google", listed, 0.0)
    now, url = time.time(), f"{PLACE}/openapi"
    probed = [ProbedModel("google/works", url, True, now), ProbedModel("google/gone", url, False, now)]
    elsewhere = ProbedModel("google/elsewhere", "https://us-central1-aiplatform.googleapis.com/v1", True, now)
    return KnownFile(environ, "p").update(lambda _: content.with_probed([*probed, elsewhere]))


@pytest.mark.parametrize(
    ("profile", "ids"),
    [
        (OPENAPI, ["google/mine", "google/works"]),
        (Profile("p", "p", list_publishers=("google",)), ["google/listed", "google/works"]),
        (OWN, ["gemma"]),
        (Profile("p", "other", models=("google/mine",)), ["google/mine"]),
    ],
)
def test_the_list_has_what_answers(environ: dict[str, str], profile: Profile, ids: list[str]) -> None:
    known(environ)
    route = Route("p", profile.url, models=profile.models, known=KnownModels(environ, profile))
    assert [each["id"] for each in model_list(route)["data"]] == ids


def test_the_model_of_an_endpoint_is_asked_for_without_a_name(environ: dict[str, str]) -> None:
    route = Route("p", OWN.url, known=KnownModels(environ, OWN), aliases={"fast": "gemma"})
    assert resolve("gemma", route) == "gemma"
    known(environ)
    assert [resolve(name, route) for name in ("gemma", "fast", "other")] == ["", "", "other"]
    assert rewrite(b'{"model": "gemma", "n": 1}', route, "chat/completions") == b'{"model": "", "n": 1}'
    assert model_list(route)["data"][-1]["owned_by"] == "deployed"


def test_a_child_starts_only_for_lists_that_are_wanted_and_old(environ: dict[str, str]) -> None:
    started: list[list[str]] = []

    def starts(profile: Profile) -> list[list[str]]:
        started.clear()
        models = KnownModels(environ, profile, started.append)
        models.refresh_if_due()
        models.refresh_if_due()
        return list(started)

    switched_on = Profile("p", "p", list_publishers=("google", "qwen"))
    assert starts(OPENAPI) == []
    assert starts(Profile("p", base_url="https://other.example/v1", list_publishers=("google",))) == []
    assert starts(OWN) == [["models", "--refresh", "--profile", "p"]]
    publishers = ["--publisher", "google", "--publisher", "qwen"]
    assert starts(switched_on) == [["models", "--refresh", "--profile", "p", *publishers]]
    fresh = Known("p").with_listed("google", [], time.time()).with_listed("qwen", [], time.time())
    KnownFile(environ, "p").update(lambda _: fresh)
    assert starts(switched_on) == []


@pytest.fixture
def serving(signed_in: Box, google: Emulator, request: Any) -> Iterator[tuple[Box, int]]:
    port = free_port()
    google.deploy("9", models=["gemma"], serves="gemma-it", dedicated=True)
    url = google.base_url(location="us-central1", endpoint="9").replace("127.0.0.1", "localhost")
    configure(signed_in, google, port, url=url)
    with alone(signed_in, port):
        yield signed_in, port


def test_a_client_without_configuration_finds_and_uses_the_deployed_model(serving: tuple[Box, int]) -> None:
    box, port = serving

    def names(tool: openai.OpenAI) -> list[str]:
        return [each.id for each in tool.models.list()]

    with client(box, port) as tool:
        assert until(lambda: names(tool), what="the child's answer") == ["gemma"]
        assert tool.models.retrieve("gemma").owned_by == "deployed"
        assert say(tool, model="gemma")
