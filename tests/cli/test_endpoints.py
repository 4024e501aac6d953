"""`vx-token endpoints` lists what is deployed, and `endpoints use` writes the settings that reach it."""

import json
import re
import tomllib
from typing import Any

import openai
import pytest

from sandbox import Box
from vx_token.emulator import Emulator
from vx_token.emulator.error_bodies import error, error_info

HOSTED: dict[str, Any] = {
    "id": "222",
    "name": "own host",
    "location": "europe-west4",
    "models": ["mistral"],
    "dedicated": True,
}


@pytest.fixture
def deployed(signed_in: Box, google: Emulator) -> Box:
    google.deploy("111", name="my llama", models=["llama"])
    google.deploy(**HOSTED, invoke=True)
    google.deploy("333", name="empty", models=[])
    return signed_in


def listed(box: Box, *words: str) -> list[dict[str, Any]]:
    done = box.vx("endpoints", "--json", *words)
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)["endpoints"]
    return found


def profile(box: Box, name: str = "gemini") -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(box.config.read_text())["profiles"][name]
    return found


def say(box: Box, google: Emulator, name: str = "gemini") -> str:
    """What a stock client gets from the profile's base URL."""
    token = box.vx("print", "--profile", name).stdout.strip()
    with openai.OpenAI(base_url=profile(box, name)["base_url"], api_key=token, max_retries=0) as client:
        answer = client.chat.completions.create(model="any", messages=[{"role": "user", "content": "hi"}])
    return answer.choices[0].message.content or ""


def test_every_region_is_asked_for_a_profile_without_one(deployed: Box, google: Emulator) -> None:
    assert {(each["id"], each["location"], each["deployed"]) for each in listed(deployed)} == {
        ("111", "us-central1", True),
        ("222", "europe-west4", True),
        ("333", "us-central1", False),
    }
    assert google.count("endpoints", 200) > 40


def test_locations_are_those_that_are_asked_for(deployed: Box, google: Emulator) -> None:
    found = listed(deployed, "--location", "europe-west4", "--location", "us-east1")
    assert [(each["id"], each["dedicated_dns"]) for each in found] == [("222", google.dedicated_host)]
    assert found[0]["base_url"].endswith("/locations/europe-west4/endpoints/222/invoke/v1")
    assert google.count("endpoints") == 2


def test_the_text_shows_models_host_and_base_url(deployed: Box, google: Emulator) -> None:
    done = deployed.vx("endpoints", "--location", "us-central1")
    assert "111  my llama  (us-central1)\n  model     llama (deployed model 1111)\n" in done.stdout
    assert "  model     none, so it answers no request\n" in done.stdout
    assert f"  base URL  {google.base_url(location='us-central1', endpoint='111')}\n" in done.stdout


def test_all_pages_are_read(signed_in: Box, google: Emulator) -> None:
    google.catalog.page = 2
    for number in range(7):
        google.deploy(str(number))
    assert len(listed(signed_in, "--location", "us-central1")) == 7
    assert google.count("endpoints") == 4


def test_an_unknown_location_is_asked_with_a_warning(signed_in: Box, google: Emulator) -> None:
    google.deploy("1", location="us-centrall1")
    done = signed_in.vx("endpoints", "--location", "us-centrall1")
    assert done.stdout.startswith("1  endpoint  (us-centrall1)")
    assert done.stderr.endswith("hint: did you mean us-central1?\n")


def failure(status: int, message: str, reason: str, **metadata: str) -> str:
    return json.dumps(error(status, message, error_info(reason, "googleapis.com", **metadata)))


@pytest.mark.parametrize(
    ("status", "message", "reason", "exit_status", "hint"),
    [
        (
            403,
            "Vertex AI API has not been used",
            "SERVICE_DISABLED",
            3,
            "gcloud services enable aiplatform.googleapis.com",
        ),
        (
            403,
            "Permission 'aiplatform.endpoints.list' denied on resource '//x/projects/demo' (or it may not exist).",
            "IAM_PERMISSION_DENIED",
            3,
            "gcloud projects add-iam-policy-binding demo --member=serviceAccount:",
        ),
        (403, "Permission denied on resource project demo.", "CONSUMER_INVALID", 3, "gcloud projects list"),
        (401, "invalid", "ACCESS_TOKEN_EXPIRED", 4, "gcloud iam service-accounts keys create"),
        (429, "Quota exceeded", "RATE_LIMIT_EXCEEDED", 5, "try again in a minute: vx-token endpoints"),
        (503, "down", "", 5, "try again later: vx-token endpoints"),
    ],
)
def test_a_refusal_names_the_command_that_helps(
    signed_in: Box, google: Emulator, status: int, message: str, reason: str, exit_status: int, hint: str
) -> None:
    google.fail("endpoints", None, status=status, body=failure(status, message, reason))
    done = signed_in.vx("endpoints", "--location", "us-central1")
    assert (done.returncode, done.stdout) == (exit_status, "")
    assert re.fullmatch(r"vx-token: [^\n]+\nhint: [^\n]+\n", done.stderr)
    assert hint in done.stderr


def test_a_location_that_fails_hides_no_other(deployed: Box, google: Emulator) -> None:
    google.fail("endpoints", 1, status=503)
    done = deployed.vx("endpoints")
    assert done.returncode == 0
    assert "vx-token: " in done.stderr
    assert done.stderr.count("HTTP 503") == 1


def test_use_writes_what_a_stock_client_reaches(deployed: Box, google: Emulator) -> None:
    text = deployed.config.read_text().replace("project =", "# the team's\nmodel = 'google/x'\nproject =", 1)
    deployed.config.write_text(text)
    done = deployed.vx("endpoints", "use", "222")
    assert done.returncode == 0, done.stderr
    assert "    - model = 'google/x'\n" in done.stdout
    assert "  model = 'google/x'\n" in done.stdout.partition("replaced lines")[2]
    assert "# the team's" in deployed.config.read_text()
    settings = profile(deployed)
    assert (settings["location"], settings["endpoint"], "model" in settings) == ("europe-west4", "222", False)
    assert (
        settings["base_url"]
        == f"http://{google.dedicated_host}/v1/projects/demo/locations/europe-west4/endpoints/222/invoke/v1"
    )
    assert say(deployed, google)
    assert listed(deployed, "--location", "europe-west4")[0]["profile"] == "gemini"


def test_use_finds_an_endpoint_by_its_name_for_a_new_profile(deployed: Box, google: Emulator) -> None:
    before = profile(deployed)
    assert deployed.vx("endpoints", "use", "my llama", "--profile", "tuned").returncode == 0
    assert profile(deployed) == before
    assert (profile(deployed, "tuned")["endpoint"], profile(deployed, "tuned")["credentials"]) == (
        "111",
        str(deployed.key),
    )
    assert say(deployed, google, "tuned")


def test_use_changes_nothing_in_a_dry_run_or_a_second_time(deployed: Box) -> None:
    before = deployed.config.read_bytes()
    done = deployed.vx("endpoints", "use", "111", "--dry-run")
    assert '    + endpoint = "111"\n' in done.stdout
    assert deployed.config.read_bytes() == before
    deployed.vx("endpoints", "use", "111")
    assert deployed.vx("endpoints", "use", "111").stdout == "the profile gemini uses this endpoint already\n"
    assert deployed.vx("endpoints", "use", "openapi").returncode == 0
    assert profile(deployed)["base_url"].endswith("/endpoints/openapi")


@pytest.mark.parametrize(
    ("fields", "name", "error"),
    [
        ({"models": []}, "5", "no model is deployed at the endpoint 5"),
        ({"private": True}, "5", "the endpoint 5 is reached through a private network only"),
        ({}, "6", "6 is no endpoint of the project demo"),
    ],
)
def test_use_refuses_an_endpoint_that_cannot_answer(
    signed_in: Box, google: Emulator, fields: dict[str, Any], name: str, error: str
) -> None:
    before = signed_in.config.read_bytes()
    google.deploy("5", **fields)
    done = signed_in.vx("endpoints", "use", name, "--location", "us-central1")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"vx-token: {error}\nhint: ")
    assert signed_in.config.read_bytes() == before


def test_an_own_endpoint_without_its_host_is_explained_by_doctor(signed_in: Box, google: Emulator) -> None:
    google.deploy("7", dedicated=True)
    url = google.base_url(location="us-central1", endpoint="7")
    signed_in.config.write_text(signed_in.profile_text(url=url))
    signed_in.refresh()
    done = signed_in.vx("doctor", "--live", "--json")
    [check] = [each for each in json.loads(done.stdout)["checks"] if each["name"] == "live completion"]
    assert check["hint"] == "run: vx-token endpoints use 7 --profile gemini"
