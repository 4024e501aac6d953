"""`vx-token models` joins configured, listed, deployed and probed models, and keeps Google's lists for an hour."""

import json
import re
import stat
from typing import Any

import pytest

from sandbox import Box
from vx_token.config.model import Profile
from vx_token.credentials.google_errors import Login
from vx_token.credentials.token import Token
from vx_token.emulator import Emulator
from vx_token.vertex.lists import Account
from vx_token.vertex.publishers import list_models


def models(box: Box, *words: str) -> dict[str, dict[str, Any]]:
    done = box.vx("models", "--json", *words)
    assert done.returncode == 0, done.stderr
    return {each["id"]: each for each in json.loads(done.stdout)["models"]}


def known_file(box: Box) -> str:
    [path] = box.root.glob("known/*.jsonl")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return path.read_text()


def test_models_are_joined_and_marked(signed_in: Box, google: Emulator) -> None:
    text = (
        "model = 'google/gemini-2.5-flash'\nmodels = ['google/preview']\naliases = { best = 'google/gemini-2.5-pro' }\n"
    )
    signed_in.config.write_text(signed_in.config.read_text() + text)
    google.catalog.publish("meta", "llama-maas", deployable=("llama-4",))
    found = models(signed_in)
    assert found["google/gemini-2.5-flash"]["marks"] == ["configured", "listed"]
    assert found["google/preview"]["marks"] == ["configured"]
    assert (found["best"]["upstream"], found["best"]["marks"]) == ("google/gemini-2.5-pro", ["configured"])
    assert found["meta/llama-maas"]["answers"] is False
    assert (found["meta/llama-4"]["serverless"], found["meta/llama-maas"]["serverless"]) == (False, True)
    text = signed_in.vx("models").stdout
    assert re.search(r"^best -> google/gemini-2.5-pro +configured$", text, re.MULTILINE)
    assert "must be deployed first" in text


def test_lists_are_read_once_an_hour_and_on_demand(signed_in: Box, google: Emulator) -> None:
    models(signed_in)
    asked = google.count("publishers")
    assert asked == 12
    models(signed_in, "--publisher", "google")
    assert google.count("publishers") == asked
    google.catalog.publish("google", "new")
    assert "google/new" in models(signed_in, "--publisher", "google", "--refresh")
    assert google.count("publishers") == asked + 1
    assert '"google/new"' in known_file(signed_in)


def test_a_users_login_without_a_quota_project_lists_models(google: Emulator) -> None:
    issued = google.mint.issue("user-1@example.com", "token", 3600)
    token = Token(issued.value, issued.expires_at, issued.issued_at, "authorized_user")
    profile = Profile("p", base_url=google.base_url())
    found = list_models(Account({}, profile, token, Login("authorized_user")), "google")
    assert "google/gemini-2.5-flash" in [each.id for each in found]
    assert google.requests[-1].quota_project == "demo"


def test_probes_are_counted_first_and_tell_what_answers(signed_in: Box, google: Emulator) -> None:
    google.catalog.unavailable.add("google/gemini-2.5-pro")
    done = signed_in.vx("models", "--publisher", "google", "--probe")
    assert done.returncode == 2
    assert "probing 4 requests of at most 24 tokens each (96 in all), billed to demo" in done.stderr
    assert google.count("chat") == 0
    found = models(signed_in, "--publisher", "google", "--probe", "--yes")
    assert google.count("chat") == 4
    assert found["google/gemini-2.5-flash"]["answers"]
    assert not found["google/gemini-2.5-pro"]["answers"]
    assert "has no model google/gemini-2.5-pro in global" in found["google/gemini-2.5-pro"]["probe"]["detail"]
    assert re.search(r"refused \d+s ago: ", signed_in.vx("models").stdout)


def test_a_model_whose_quota_is_used_up_is_there_and_an_outage_says_nothing(signed_in: Box, google: Emulator) -> None:
    google.catalog.publish("google", "a")
    google.fail("chat", 1, status=429)
    assert models(signed_in, "--publisher", "google", "--probe", "--yes")["google/a"]["answers"]
    google.fail("chat", 1, status=503)
    assert signed_in.vx("models", "--publisher", "google", "--probe", "--yes").returncode == 5
    assert models(signed_in, "--publisher", "google")["google/a"]["answers"]


def test_at_a_deployed_endpoint_only_its_own_models_are_listed(signed_in: Box, google: Emulator) -> None:
    google.deploy("9", models=["gemma"], serves="gemma-it")
    signed_in.config.write_text(signed_in.profile_text(url=google.base_url(location="us-central1", endpoint="9")))
    assert [(name, each["marks"]) for name, each in models(signed_in).items()] == [("gemma", ["deployed"])]
    assert google.count("publishers") == 0
    assert models(signed_in, "--probe", "--yes")["gemma"]["probe"]["ok"]


@pytest.mark.parametrize("status", [403, 503])
def test_without_google_the_known_models_are_shown(signed_in: Box, google: Emulator, status: int) -> None:
    google.fail("publishers", None, status=status)
    assert signed_in.vx("models").returncode == {403: 3, 503: 5}[status]
    google.heal()
    models(signed_in)
    google.fail("publishers", None, status=status)
    done = signed_in.vx("models", "--refresh")
    assert done.returncode == 0
    assert "google/gemini-2.5-flash" in done.stdout
    assert "vx-token: models of google and 11 more: " in done.stderr


def test_a_spoiled_file_counts_as_empty(signed_in: Box, google: Emulator) -> None:
    models(signed_in)
    [path] = signed_in.root.glob("known/*.jsonl")
    for content in ("", "{", "[]\n", '{"project": "demo"}\n{"endpoint": "1"}\n', '{"project": 1}\n{"asked": "x"}\n'):
        path.write_text(content)
        assert "google/gemini-2.5-flash" in models(signed_in, "--publisher", "google")


def test_another_project_has_other_endpoints(signed_in: Box, google: Emulator) -> None:
    google.deploy("1")
    signed_in.vx("endpoints", "--location", "us-central1")
    assert '"endpoint": "1"' in known_file(signed_in)
    google.projects.add("other")
    signed_in.config.write_text(signed_in.profile_text(url=google.base_url("other")))
    signed_in.vx("models", "--refresh")
    assert '"endpoint": "1"' not in known_file(signed_in)
