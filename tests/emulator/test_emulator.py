import asyncio
import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import google.auth.exceptions
import openai
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, identity_pool, impersonated_credentials, jwt
from google.auth.transport.requests import Request
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account
from openai.types.chat import ChatCompletionToolParam

from sandbox import until
from vx_token.emulator import KINDS, SCOPE, Emulator, running

JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
MODEL = "google/gemini-2.5-flash"
PATIENCE = 10.0  # seconds that any one thing may take
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}},
        },
    },
}


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def emulator(clock: Clock, caplog: pytest.LogCaptureFixture) -> Iterator[Emulator]:
    with running(now=clock) as started:
        yield started
    assert [record for record in caplog.records if record.name.startswith(("aiohttp", "asyncio"))] == []


@pytest.fixture
def token(emulator: Emulator, tmp_path: Path) -> str:
    return fetch_account(emulator, tmp_path / "account.json")


@pytest.fixture
def client(emulator: Emulator, token: str) -> Iterator[openai.OpenAI]:
    with make_client(emulator, token) as made:
        yield made


def make_client(emulator: Emulator, key: str, **more: Any) -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=emulator.base_url(**more), max_retries=0, timeout=PATIENCE)


def refreshed(credentials: Any) -> str:
    """The token google-auth gets."""
    credentials.refresh(Request())
    return str(credentials.token)


def make_login(saved: dict[str, Any]) -> Any:
    if saved["type"] == "service_account":
        return service_account.Credentials.from_service_account_info(saved, scopes=[SCOPE])
    # Not from_authorized_user_info: it overrides the token_uri.
    fields = ("refresh_token", "token_uri", "client_id", "client_secret")
    return user_credentials.Credentials(None, **{name: saved[name] for name in fields})


def login(path: Path) -> Any:
    return make_login(json.loads(path.read_text()))


def fetch_account(emulator: Emulator, path: Path) -> str:
    emulator.service_account(path)
    return refreshed(login(path))


def impersonation(path: Path, lifetime: int = 3600) -> Any:
    saved = json.loads(path.read_text())
    source = make_login(saved["source_credentials"])
    url = saved["service_account_impersonation_url"]
    target = url.rpartition("/")[2].removesuffix(":generateAccessToken")
    return impersonated_credentials.Credentials(source, target, [SCOPE], lifetime=lifetime, iam_endpoint_override=url)


def post(url: str, token: str = "", **more: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return requests.post(url, headers=headers, timeout=PATIENCE, **more)


def chat(emulator: Emulator, token: str, said: str = "hi") -> requests.Response:
    body = {"model": MODEL, "messages": [{"role": "user", "content": said}]}
    return post(emulator.base_url() + "/chat/completions", token, json=body)


def ask_token(emulator: Emulator, path: Path) -> requests.Response:
    """Refresh a user's login without google-auth, which hides the answer."""
    saved = json.loads(path.read_text())
    return post(saved["token_uri"], data={"grant_type": "refresh_token", "refresh_token": saved["refresh_token"]})


# The identity side, seen by google-auth


def test_a_service_account_gets_a_token_that_vertex_takes(emulator: Emulator, tmp_path: Path) -> None:
    name = emulator.service_account(tmp_path / "key.json")
    credentials = login(tmp_path / "key.json")
    got = refreshed(credentials)
    assert emulator.identity_of(got) == name
    assert f"to {name}:" in chat(emulator, got).text
    assert (emulator.count("token", 200), emulator.count("chat", 200)) == (1, 1)


def test_every_call_makes_a_new_identity_in_a_private_file(emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "login.json"
    names = {write(path) for write in (emulator.service_account, emulator.authorized_user) for _ in range(2)}
    assert len(names) == 4
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def claims(emulator: Emulator, name: str, **other: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": name, "aud": emulator.token_uri, "iat": now, "exp": now + 3600, "scope": SCOPE} | other


@pytest.mark.parametrize(
    ("wrong", "error", "description"),
    [
        ({}, None, None),
        ({"aud": "https://oauth2.googleapis.com/token"}, None, None),
        ({"aud": "https://example.com/token"}, "invalid_grant", "Failed audience check"),
        ({"iss": "nobody@demo.iam.gserviceaccount.com"}, "invalid_grant", "account not found"),
        ({"exp": int(time.time()) + 8000}, "invalid_grant", "reasonable timeframe"),
        ({"iat": 1000, "exp": 4600}, "invalid_grant", "reasonable timeframe"),
        ({"scope": ""}, "invalid_scope", "Invalid OAuth scope"),
    ],
)
def test_an_assertion_is_read_as_google_reads_it(
    emulator: Emulator, tmp_path: Path, wrong: dict[str, Any], error: str | None, description: str | None
) -> None:
    name = emulator.service_account(tmp_path / "key.json")
    signer = crypt.RSASigner.from_service_account_file(str(tmp_path / "key.json"))
    assertion = jwt.encode(signer, claims(emulator, name, **wrong)).decode()
    answer = post(emulator.token_uri, data={"grant_type": JWT_GRANT, "assertion": assertion})
    body = answer.json()
    assert (answer.status_code, body.get("error")) == ((400, error) if error else (200, None))
    assert (description or "") in body.get("error_description", "")


def test_an_assertion_signed_by_another_key_is_refused(emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    emulator.service_account(path)
    forged = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_text(json.dumps(json.loads(path.read_text()) | {"private_key": forged.decode()}))
    with pytest.raises(google.auth.exceptions.RefreshError, match=r"invalid_grant: Invalid JWT Signature\."):
        refreshed(login(path))
    assert emulator.issued == []


@pytest.mark.parametrize("assertion", ["", "a.b", "a.b.c", "e30.e30.e30", "x" * 5000])
def test_a_malformed_assertion_is_an_invalid_grant(emulator: Emulator, assertion: str) -> None:
    answer = post(emulator.token_uri, data={"grant_type": JWT_GRANT, "assertion": assertion})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def test_an_unknown_grant_type_is_named(emulator: Emulator) -> None:
    answer = post(emulator.token_uri, data={"grant_type": "password"})
    assert answer.json() == {"error": "unsupported_grant_type", "error_description": "Invalid grant_type: password"}


def test_a_users_login_works_until_it_is_revoked(emulator: Emulator, tmp_path: Path) -> None:
    name = emulator.authorized_user(tmp_path / "login.json", quota_project_id="billing")
    got = refreshed(login(tmp_path / "login.json"))
    emulator.revoke_identity(name)
    with pytest.raises(google.auth.exceptions.RefreshError, match="Token has been expired or revoked"):
        refreshed(login(tmp_path / "login.json"))
    emulator.restore_identity(name)
    assert emulator.identity_of(refreshed(login(tmp_path / "login.json"))) == emulator.identity_of(got) == name
    assert json.loads((tmp_path / "login.json").read_text())["quota_project_id"] == "billing"


def test_reauthentication_is_demanded_in_googles_words(emulator: Emulator, tmp_path: Path) -> None:
    name = emulator.authorized_user(tmp_path / "login.json")
    emulator.revoke_identity(name, reauth=True)
    answer = ask_token(emulator, tmp_path / "login.json")
    expected = {"error": "invalid_grant", "error_subtype": "invalid_rapt"}
    assert answer.json() == expected | {"error_description": "reauth related error (invalid_rapt)"}
    emulator.authorized_user(tmp_path / "login.json")
    assert ask_token(emulator, tmp_path / "login.json").status_code == 200


@pytest.mark.parametrize("source", ["service_account", "authorized_user"])
def test_impersonation_speaks_for_the_target(emulator: Emulator, tmp_path: Path, source: str) -> None:
    target = "target@demo.iam.gserviceaccount.com"
    caller = emulator.impersonated(tmp_path / "file.json", target, source)
    credentials = impersonation(tmp_path / "file.json")
    got = refreshed(credentials)
    assert emulator.identity_of(got) == target
    assert [seen.identity for seen in emulator.requests] == [caller, target]
    end = credentials.expiry.replace(tzinfo=UTC).timestamp()
    assert end % 1 == 0
    assert 0 <= end - emulator.issued[-1].issued_at - 3600 < 1.1


def test_a_longer_life_needs_the_organizations_leave(emulator: Emulator, tmp_path: Path) -> None:
    emulator.impersonated(tmp_path / "file.json")
    with pytest.raises(google.auth.exceptions.RefreshError) as refused:
        refreshed(impersonation(tmp_path / "file.json", lifetime=43200))
    assert "INVALID_ARGUMENT" in str(refused.value.args[1])
    emulator.extended_lifetimes = True
    refreshed(impersonation(tmp_path / "file.json", lifetime=43200))
    longest = emulator.issued[-1]
    assert longest.expires_at - longest.issued_at == pytest.approx(43200, abs=1)
    with pytest.raises(google.auth.exceptions.RefreshError):
        refreshed(impersonation(tmp_path / "file.json", lifetime=43201))


def test_a_target_nobody_allowed_is_forbidden(emulator: Emulator, token: str) -> None:
    answer = post(emulator.iam_url("stranger@demo.iam.gserviceaccount.com"), token, json={"scope": [SCOPE]})
    assert (answer.status_code, answer.json()["error"]["status"]) == (403, "PERMISSION_DENIED")


def test_impersonation_needs_a_live_token(emulator: Emulator, token: str) -> None:
    emulator.allow("target@demo.iam.gserviceaccount.com")
    emulator.revoke(token)
    answer = post(emulator.iam_url("target@demo.iam.gserviceaccount.com"), token, json={"scope": [SCOPE]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, 401)


@pytest.mark.parametrize("target", ["", "target@demo.iam.gserviceaccount.com"])
def test_a_workload_trades_its_subject_token(emulator: Emulator, tmp_path: Path, target: str) -> None:
    name = emulator.external_account(tmp_path / "file.json", tmp_path / "subject", target)
    credentials = identity_pool.Credentials.from_file(str(tmp_path / "file.json"), scopes=[SCOPE])
    assert emulator.identity_of(refreshed(credentials)) == (target or name)
    assert emulator.count("sts", 200) == 1
    (tmp_path / "subject").write_text("forged")
    with pytest.raises(google.auth.exceptions.GoogleAuthError, match="invalid_grant"):
        refreshed(identity_pool.Credentials.from_file(str(tmp_path / "file.json"), scopes=[SCOPE]))


METADATA = """
import google.auth.compute_engine, google.auth.compute_engine._metadata as metadata
from google.auth.transport.requests import Request
assert metadata.ping(Request())
assert metadata.get_project_id(Request()) == "demo"
assert metadata.get_universe_domain(Request()) == "googleapis.com"
credentials = google.auth.compute_engine.Credentials()
credentials.refresh(Request())
print(credentials.service_account_email, credentials.token)
"""


def test_the_metadata_server_satisfies_google_auth(emulator: Emulator) -> None:
    # google-auth reads these variables when it is imported.
    hosts = {"GCE_METADATA_HOST": emulator.metadata_host, "GCE_METADATA_IP": emulator.metadata_host}
    command = [sys.executable, "-c", METADATA]
    done = subprocess.run(command, env=os.environ | hosts, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    name, got = done.stdout.split()
    assert name == emulator.identity_of(got) == emulator.metadata_account


def metadata_token(emulator: Emulator) -> dict[str, Any]:
    url = f"{emulator.url}/computeMetadata/v1/instance/service-accounts/default/token"
    answer = requests.get(url, headers={"Metadata-Flavor": "Google"}, params={"scopes": SCOPE}, timeout=PATIENCE)
    assert answer.headers["Metadata-Flavor"] == "Google"
    body: dict[str, Any] = answer.json()
    return body


def test_the_metadata_server_repeats_its_token_until_its_last_minutes(emulator: Emulator, clock: Clock) -> None:
    first = metadata_token(emulator)
    clock.ahead = 3350
    again = metadata_token(emulator)
    clock.ahead = 3370
    new = metadata_token(emulator)
    assert first["access_token"] == again["access_token"] != new["access_token"]
    assert (first["expires_in"], new["expires_in"]) == (3600, 3600)
    assert again["expires_in"] in {249, 250}


def test_metadata_is_for_those_who_say_so(emulator: Emulator) -> None:
    answer = requests.get(f"{emulator.url}/computeMetadata/v1/project/project-id", timeout=PATIENCE)
    assert (answer.status_code, answer.headers["Metadata-Flavor"]) == (403, "Google")
    assert emulator.count("metadata-info", 403) == 1


def test_tokeninfo_tells_what_is_left(emulator: Emulator, token: str, clock: Clock) -> None:
    clock.ahead = 600
    told = post(f"{emulator.url}/tokeninfo", data={"access_token": token}).json()
    assert (told["scope"], told["email"]) == (SCOPE, emulator.identity_of(token))
    assert 2990 < int(told["expires_in"]) <= 3000
    clock.ahead = 3601
    dead = post(f"{emulator.url}/tokeninfo", data={"access_token": token})
    assert (dead.status_code, dead.json()["error"]) == (400, "invalid_token")


def test_the_date_header_is_the_emulators_clock(emulator: Emulator, clock: Clock, token: str) -> None:
    clock.ahead = -86400
    for answer in (chat(emulator, token), requests.get(emulator.url, timeout=PATIENCE)):
        assert parsedate_to_datetime(answer.headers["Date"]).timestamp() == pytest.approx(clock(), abs=5)


def test_the_life_of_new_tokens_follows_the_setting(emulator: Emulator, tmp_path: Path) -> None:
    emulator.authorized_user(tmp_path / "login.json")
    emulator.lifetime = 5
    assert ask_token(emulator, tmp_path / "login.json").json()["expires_in"] == 5
    assert emulator.issued[-1].expires_at - emulator.issued[-1].issued_at == pytest.approx(5)


# The Vertex side, seen by openai's client


def test_a_plain_answer_tells_who_asked(client: openai.OpenAI, emulator: Emulator, token: str) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
    said = answer.choices[0].message.content or ""
    assert said.startswith(f"Hello from the emulator (answer 1) to {emulator.identity_of(token)}: ")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 1


def test_a_stream_comes_in_the_pieces_that_were_wished(client: openai.OpenAI, emulator: Emulator) -> None:
    events = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "emulator: chunks=300 size=1000"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, finish, usage = list(events)
    said = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert emulator.count("chat", 200) == 1
    assert (len(said), len("".join(said)), finish.choices[0].finish_reason) == (300, 1000, "stop")
    assert (usage.choices, usage.usage is not None) == ([], True)


def test_a_delay_parts_the_pieces(client: openai.OpenAI) -> None:
    start = time.monotonic()
    says = "emulator: chunks=3 delay=0.1"
    list(client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": says}], stream=True))
    assert 0.3 <= time.monotonic() - start < PATIENCE


def test_a_declared_function_is_called_then_its_result_answered(client: openai.OpenAI) -> None:
    question: Any = {"role": "user", "content": [{"type": "text", "text": "the weather?"}]}
    asked = client.chat.completions.create(model=MODEL, messages=[question], tools=[WEATHER])
    assert asked.choices[0].finish_reason == "tool_calls"
    reply = asked.choices[0].message
    [call] = reply.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"city": "example", "days": 1, "unit": "C"}
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    told: Any = [question, reply.model_dump(exclude_none=True), result]
    answer = client.chat.completions.create(model=MODEL, messages=told, tools=[WEATHER])
    assert (answer.choices[0].message.content or "").startswith("Hello")


def test_a_streamed_function_call_is_whole(client: openai.OpenAI) -> None:
    events = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "?"}], tools=[WEATHER], stream=True
    )
    calls = [call for event in events for call in (event.choices[0].delta.tool_calls or [])]
    assert [(call.index, call.function and call.function.name) for call in calls] == [(0, "weather")]


def test_a_function_may_be_forbidden(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "?"}], tools=[WEATHER], tool_choice="none"
    )
    assert answer.choices[0].message.tool_calls is None


def test_embeddings_are_the_same_in_both_encodings(client: openai.OpenAI) -> None:
    def embed(**how: Any) -> list[list[float]]:
        answer = client.embeddings.create(model=MODEL, input=["one", "two", "one"], dimensions=5, **how)
        return [row.embedding for row in answer.data]

    decoded, plain = embed(), embed(encoding_format="float")
    assert decoded == plain
    assert plain[0] == plain[2] != plain[1]
    assert {len(vector) for vector in plain} == {5}


def test_the_older_and_the_newer_route_answer_too(client: openai.OpenAI) -> None:
    assert client.completions.create(model=MODEL, prompt="hi").choices[0].text.startswith("Hello")
    texts = client.completions.create(model=MODEL, prompt="hi", stream=True)
    assert "".join(event.choices[0].text for event in texts).startswith("Hello")
    assert client.responses.create(model=MODEL, input="hi").output_text.startswith("Hello")
    events = list(client.responses.create(model=MODEL, input="emulator: chunks=7", stream=True))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    last = events[-1]
    assert last.type == "response.completed"
    assert (len(deltas), "".join(deltas)) == (7, last.response.output_text)
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_a_deployed_endpoint_takes_any_model_and_openapi_a_publishers(
    emulator: Emulator, token: str, client: openai.OpenAI
) -> None:
    with make_client(emulator, token, location="us-central1", endpoint="1234") as deployed:
        assert deployed.chat.completions.create(model="", messages=[{"role": "user", "content": "hi"}]).choices
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
    assert refused.value.response.json()[0]["error"]["message"].startswith("Malformed publisher model")
    beta = emulator.base_url().replace("/v1/", "/v1beta1/")
    answer = post(f"{beta}/chat/completions", token, json={"model": "x", "messages": []})
    assert (answer.status_code, answer.json()[0]["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_there_is_no_list_of_models(emulator: Emulator, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.list()
    assert missing.value.response.text.startswith("<!DOCTYPE html>")
    assert emulator.count("unknown", 404) == 1


def test_a_long_body_is_read_to_its_end(emulator: Emulator, token: str) -> None:
    answer = chat(emulator, token, "x" * 5_000_000)
    assert re.search(r"50000\d\d bytes read", answer.text)


@pytest.mark.parametrize("body", ["", "{", "[]", '"x"', '{"model": "google/x", "messages": 5, "tools": [1]}'])
def test_a_body_that_makes_no_sense_is_a_bad_request(emulator: Emulator, token: str, body: str) -> None:
    answer = post(emulator.base_url() + "/chat/completions", token, data=body)
    assert (answer.status_code, answer.json()[0]["error"]["code"]) == (400, 400)


def test_the_quota_project_of_a_request_is_noted(emulator: Emulator, token: str) -> None:
    with make_client(emulator, token) as plain:
        charged = plain.with_options(default_headers={"x-goog-user-project": "billing"})
        for asking in (plain, charged):
            asking.embeddings.create(model=MODEL, input="hi")
    assert [seen.quota_project for seen in emulator.requests if seen.route == "embeddings"] == ["", "billing"]


def test_a_bearer_at_its_end_is_told_so(client: openai.OpenAI, clock: Clock) -> None:
    client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
    clock.ahead = 3601
    with pytest.raises(openai.AuthenticationError) as refused:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
    assert refused.value.response.json()[0]["error"]["details"][0]["reason"] == "ACCESS_TOKEN_EXPIRED"
    assert 'error="invalid_token"' in refused.value.response.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("bearer", "reason"), [("", "CREDENTIALS_MISSING"), ("ya29.unknown", "ACCESS_TOKEN_TYPE_UNSUPPORTED")]
)
def test_a_refused_bearer_gets_googles_array(emulator: Emulator, bearer: str, reason: str) -> None:
    answer = chat(emulator, bearer)
    [body] = answer.json()
    assert (answer.status_code, body["error"]["code"], body["error"]["status"]) == (401, 401, "UNAUTHENTICATED")
    assert body["error"]["details"][0]["reason"] == reason
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="https://accounts.google.com/"')


def test_a_revoked_token_is_refused_at_once(emulator: Emulator, token: str) -> None:
    assert chat(emulator, token).status_code == 200
    emulator.revoke(token)
    assert chat(emulator, token).status_code == 401


# Faults


def failing(emulator: Emulator, path: Path, **fault: Any) -> requests.Response:
    emulator.authorized_user(path)
    emulator.fail("token", **fault)
    return ask_token(emulator, path)


def test_a_fault_strikes_as_often_as_told_then_heals(emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "login.json"
    first = failing(emulator, path, times=2, status=503, headers={"Retry-After": "7"})
    assert (first.headers["Retry-After"], first.json()["error"]) == ("7", "internal_failure")
    assert [ask_token(emulator, path).status_code for _ in range(2)] == [503, 200]
    emulator.fail("token", times=None, status=500)
    assert [ask_token(emulator, path).status_code for _ in range(3)] == [500, 500, 500]
    emulator.heal("chat")
    assert ask_token(emulator, path).status_code == 500
    emulator.heal()
    assert ask_token(emulator, path).status_code == 200
    assert emulator.count("token", 503) == 2


def test_a_fault_may_be_left_to_a_seeded_chance(emulator: Emulator, tmp_path: Path) -> None:
    def draw(seed: int) -> list[int]:
        emulator.heal()
        emulator.fail("token", times=None, probability=0.5, seed=seed)
        return [ask_token(emulator, tmp_path / "login.json").status_code for _ in range(20)]

    emulator.authorized_user(tmp_path / "login.json")
    first = draw(1)
    assert set(first) == {200, 503}
    assert first == draw(1) != draw(2)


@pytest.mark.parametrize(
    ("kind", "content"),
    [("html", b"<!DOCTYPE html>"), ("empty", b""), ("list", b"[]")],
)
def test_a_wrong_body_comes_with_200(emulator: Emulator, tmp_path: Path, kind: str, content: bytes) -> None:
    answer = failing(emulator, tmp_path / "login.json", kind=kind)
    assert answer.status_code == 200
    assert answer.content.startswith(content)
    assert len(answer.content) < 100


@pytest.mark.parametrize("kind", ["truncated", "reset"])
def test_a_broken_connection_is_seen_as_one(emulator: Emulator, tmp_path: Path, kind: str) -> None:
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        failing(emulator, tmp_path / "login.json", kind=kind)
    assert ask_token(emulator, tmp_path / "login.json").status_code == 200
    assert emulator.requests[0].status == {"truncated": 200, "reset": 0}[kind]


def test_junk_is_as_long_as_told(emulator: Emulator, tmp_path: Path) -> None:
    assert len(failing(emulator, tmp_path / "login.json", kind="junk", size=1_000_001).content) == 1_000_001


def test_a_drip_passes_a_reading_timeout(emulator: Emulator, tmp_path: Path) -> None:
    emulator.authorized_user(tmp_path / "login.json")
    emulator.fail("token", kind="drip")
    start = time.monotonic()
    with requests.post(emulator.token_uri, data={}, stream=True, timeout=2) as answer:
        pieces = answer.iter_content(1)
        assert [next(pieces) for _ in range(3)] == [b" "] * 3
    assert 1.5 < time.monotonic() - start < PATIENCE


def test_a_hanging_answer_is_seen_and_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with running() as emulator:
        emulator.authorized_user(tmp_path / "login.json")
        emulator.fail("token", kind="hang")
        broken: list[BaseException] = []

        def ask() -> None:
            try:
                ask_token(emulator, tmp_path / "login.json")
            except requests.ConnectionError as error:
                broken.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: emulator.count("token", 0))
        start = time.monotonic()
    assert time.monotonic() - start < 0.5
    asking.join(PATIENCE)
    assert len(broken) == 1


def test_a_slow_answer_is_right(emulator: Emulator, tmp_path: Path) -> None:
    start = time.monotonic()
    assert failing(emulator, tmp_path / "login.json", kind="slow", delay=0.3).status_code == 200
    assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize(
    ("kind", "value", "expiry"),
    [
        ("no_expiry", r"ya29\.\S+", None),
        ("negative_expiry", r"ya29\.\S+", -60),
        ("newline_token", r"ya29\.\S+\n", 3600),
        ("empty_token", "", 3600),
        ("huge_token", r"ya29\.\S{12283}", 3600),
    ],
)
def test_a_token_may_be_handed_out_spoiled(
    emulator: Emulator, tmp_path: Path, kind: str, value: str, expiry: int | None
) -> None:
    body = failing(emulator, tmp_path / "login.json", kind=kind).json()
    assert re.fullmatch(value, body["access_token"])
    assert body.get("expires_in") == expiry


def test_a_huge_token_is_taken(emulator: Emulator, tmp_path: Path) -> None:
    got = failing(emulator, tmp_path / "login.json", kind="huge_token").json()["access_token"]
    assert chat(emulator, got).status_code == 200


def test_the_same_token_may_come_again(emulator: Emulator, tmp_path: Path) -> None:
    emulator.authorized_user(tmp_path / "login.json")
    first = ask_token(emulator, tmp_path / "login.json").json()
    emulator.fail("token", kind="same_token")
    same, new = (ask_token(emulator, tmp_path / "login.json").json()["access_token"] for _ in range(2))
    assert first["access_token"] == same != new


def test_impersonation_can_be_spoiled_too(emulator: Emulator, tmp_path: Path) -> None:
    emulator.impersonated(tmp_path / "file.json")
    emulator.fail("iam", kind="no_expiry")
    with pytest.raises(google.auth.exceptions.RefreshError, match="invalid expiration"):
        refreshed(impersonation(tmp_path / "file.json"))
    emulator.fail("iam", kind="negative_expiry")
    credentials = impersonation(tmp_path / "file.json")
    refreshed(credentials)
    assert credentials.expired


def test_a_stream_can_be_cut_in_its_middle(client: openai.OpenAI, emulator: Emulator) -> None:
    emulator.fail("chat", kind="cut", after=2)
    events = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}], stream=True)
    assert all(next(events).choices[0].delta.content for _ in range(2))
    with pytest.raises(openai.APIConnectionError):
        next(events)


def test_vertex_fails_in_its_own_form(emulator: Emulator, token: str, client: openai.OpenAI) -> None:
    emulator.fail("chat", status=429, headers={"Retry-After": "1"})
    with pytest.raises(openai.RateLimitError) as limited:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
    assert limited.value.response.json()[0]["error"]["status"] == "RESOURCE_EXHAUSTED"
    with make_client(emulator, token).with_options(max_retries=2) as patient:
        emulator.fail("embeddings", times=2)
        assert patient.embeddings.create(model=MODEL, input="hi").data
    assert emulator.count("embeddings") == 3


def test_a_mistaken_fault_is_refused(emulator: Emulator) -> None:
    with pytest.raises(ValueError, match="unknown route 'chatt'; there are token, sts"):
        emulator.fail("chatt")
    with pytest.raises(ValueError, match="unknown fault 'explode'"):
        emulator.fail("chat", kind="explode")


# Control and manner


def test_tokens_stay_out_of_every_description(emulator: Emulator, token: str) -> None:
    with pytest.raises(KeyError) as unknown:
        emulator.identity_of(token + "x")
    state = requests.get(f"{emulator.url}/_emulator/state", timeout=PATIENCE)
    for text in (repr(emulator.issued), repr(emulator.requests), repr(unknown.value), state.text):
        assert token not in text


def test_threads_can_use_it_at_once(emulator: Emulator, tmp_path: Path) -> None:
    emulator.authorized_user(tmp_path / "login.json")
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: ask_token(emulator, tmp_path / "login.json").status_code, range(64)))
    assert (statuses, emulator.count("token", 200), len(emulator.issued)) == ([200] * 64, 64, 64)
    assert len({issued.value for issued in emulator.issued}) == 64


def test_it_serves_an_asynchronous_program() -> None:
    async def story() -> int:
        async with Emulator() as emulator, openai.AsyncOpenAI(api_key="x", base_url=emulator.base_url()) as asking:
            with contextlib.suppress(openai.AuthenticationError):
                await asking.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
            return emulator.count("chat", 401)

    assert asyncio.run(story()) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_it_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(ValueError, match="loopback only"):
        Emulator(host=host)


def test_a_taken_port_is_an_error(emulator: Emulator) -> None:
    with pytest.raises(OSError, match="address already in use"), running(port=emulator.port):
        pass


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    arguments = ["--lifetime", "7", "--service-account", str(tmp_path / "key.json")]
    command = [sys.executable, "-m", "vx_token.emulator", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        yield started, json.loads(started.stdout.readline())
        started.kill()


Process = tuple[subprocess.Popen[str], dict[str, str]]


def test_another_process_steers_it_over_http(process: Process, tmp_path: Path) -> None:
    url = process[1]["url"] + "/_emulator"
    got = refreshed(login(tmp_path / "key.json"))
    wanted = {"type": "external_account", "path": str(tmp_path / "file.json"), "subject": str(tmp_path / "subject")}
    assert post(f"{url}/credentials", json=wanted).json()["identity"].startswith("workload-")
    assert post(f"{url}/lifetime", json={"lifetime": 9}).json() == {"lifetime": 9.0}
    assert post(f"{url}/faults", json={"route": "token", "times": None, "status": 400}).status_code == 200
    with pytest.raises(google.auth.exceptions.RefreshError):
        refreshed(login(tmp_path / "key.json"))
    assert requests.delete(f"{url}/faults", params={"route": "token"}, timeout=PATIENCE).status_code == 200
    refreshed(login(tmp_path / "key.json"))
    assert post(f"{url}/revoke", json={"token": got}).status_code == 200
    assert post(f"{url}/revoke", json={"identity": process[1]["service_account"]}).status_code == 200
    with pytest.raises(google.auth.exceptions.RefreshError, match="Invalid JWT Signature"):
        refreshed(login(tmp_path / "key.json"))
    state = requests.get(f"{url}/state", timeout=PATIENCE).json()
    assert state["counts"]["token"] == {"200": 2, "400": 2}
    assert [round(each["expires_at"] - each["issued_at"]) for each in state["issued"]] == [7, 9]


def test_control_answers_mistakes_and_strangers_politely(process: Process, tmp_path: Path) -> None:
    url = process[1]["url"] + "/_emulator"
    precious = tmp_path / "precious.json"
    precious.write_text("{}")
    mine = post(f"{url}/credentials", json={"type": "service_account", "path": str(precious)})
    assert (mine.status_code, precious.read_text()) == (400, "{}")
    assert "was not made by an emulator" in mine.json()["error"]
    assert post(f"{url}/credentials", json={"type": "service_account", "path": str(tmp_path / "key.json")}).ok
    assert post(f"{url}/faults", json={"route": "nowhere"}).status_code == 400
    assert post(f"{url}/faults", data='{"route": "chat"}').status_code == 415
    renamed = requests.get(f"{url}/state", headers={"Host": "evil.example"}, timeout=PATIENCE)
    assert renamed.status_code == 403


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_stop(process: Process, number: signal.Signals) -> None:
    started, ready = process
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", ready["url"])
    assert ready["base_url"] == ready["url"] + "/v1/projects/demo/locations/global/endpoints/openapi"
    start = time.monotonic()
    started.send_signal(number)
    assert started.communicate(timeout=PATIENCE) == ("", "")
    assert (started.returncode, time.monotonic() - start < 2) == (0, True)


def test_the_command_spares_a_real_login_and_refuses_other_hosts(tmp_path: Path) -> None:
    (tmp_path / "login.json").write_text('{"type": "authorized_user"}')
    for arguments in (["--authorized-user", str(tmp_path / "login.json")], ["--host", "0.0.0.0"]):
        command = [sys.executable, "-m", "vx_token.emulator", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert (tmp_path / "login.json").read_text() == '{"type": "authorized_user"}'


def test_every_kind_of_fault_is_spoken_of_here() -> None:
    text = Path(__file__).read_text()
    assert [kind for kind in KINDS if f'"{kind}"' not in text] == []
