"""Stock openai clients, which know nothing of the gateway."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import openai
import pytest

from sandbox import REPOSITORY, plain_environment
from upstreams import KEY, Front, Purse, front
from vx_token.credentials.token import Token
from vx_token.emulator import Emulator
from vx_token.errors import LoginNeededError
from vx_token.gateway.settings import Route


class Granted(Purse):
    """A purse that the emulator fills."""

    def __init__(self, google: Emulator) -> None:
        self.google = google
        super().__init__()

    def mint(self) -> Token:
        issued = self.google.mint.issue("user", "token", self.lifetime)
        return Token(issued.value, issued.expires_at, issued.issued_at)


@pytest.fixture
def purse(google: Emulator) -> Granted:
    return Granted(google)


@pytest.fixture
def proxy(google: Emulator, purse: Granted) -> Iterator[Front]:
    route = Route("p", google.base_url(), aliases={"gpt-4o": "google/gemini-2.5-pro"}, publisher="google")
    with front(purse, route) as running:
        yield running


@pytest.fixture
def client(proxy: Front) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=KEY, base_url=proxy.url, max_retries=0) as created:
        yield created


def ask(client: openai.OpenAI, model: str = "gpt-4o") -> openai.types.chat.ChatCompletion:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hello"}])


def test_a_client_built_once_outlives_its_token(client: openai.OpenAI, google: Emulator, purse: Granted) -> None:
    for _ in range(5):
        answer = ask(client)
        assert answer.model == "google/gemini-2.5-pro"
        assert answer.choices[0].finish_reason == "stop"
        assert purse.token is not None
        google.revoke(purse.token.value)
    assert google.count("chat", 401) == 4


def test_streams_embeddings_responses_and_the_model_list_work(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="gemini-2.5-flash", messages=[{"role": "user", "content": "hello"}], stream=True
    )
    assert len(list(stream)) > 2
    assert len(client.embeddings.create(model="text-embedding", input="x").data[0].embedding) == 8
    assert client.responses.create(model="gemini-2.5-flash", input="hello").output_text
    assert [model.id for model in client.models.list()] == ["gpt-4o"]


def test_a_user_is_shown_what_to_do(client: openai.OpenAI, purse: Granted) -> None:
    purse.token = None
    purse.failures = [LoginNeededError("Google wants a new login", "run: gcloud auth application-default login")]
    with pytest.raises(openai.AuthenticationError, match="run: gcloud auth application-default login"):
        ask(client)


def test_googles_own_words_reach_the_user(client: openai.OpenAI, google: Emulator) -> None:
    google.fail("chat", status=404)
    with pytest.raises(openai.NotFoundError, match="told to fail"):
        ask(client)


def test_a_wrong_key_is_explained(proxy: Front) -> None:
    other = openai.OpenAI(api_key="sk-x", base_url=proxy.url, max_retries=0)
    with other, pytest.raises(openai.AuthenticationError, match="not the local key"):
        ask(other)


def test_a_stream_that_breaks_off_is_an_error(client: openai.OpenAI, google: Emulator) -> None:
    google.fail("chat", kind="cut", after=2)
    stream = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "x"}], stream=True)
    with pytest.raises(openai.APIConnectionError):
        list(stream)


@pytest.mark.slow
def test_the_soak_in_small_sees_no_failure() -> None:
    """Both clients without retries, a restart under socket activation, reloads, revocations, failing refreshes."""
    kept = {name: os.environ[name] for name in ("npm_config_cache", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts/soak_gateway.py", "--requests=60", "--seconds=8", "--restarts=1"],
        env={**plain_environment(REPOSITORY), **kept},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert [(client["answers"], client["broken"]) for client in report["clients"]] == [({"200": 60}, {})] * len(
        report["clients"]
    )
    assert report["token_lives"] >= 3
    if len(report["clients"]) < 2:
        missing = "no Node client took part: " + ("npm cannot install it" if shutil.which("node") else "no node")
        (pytest.fail if os.environ.get("VX_TOKEN_STRICT") else pytest.skip)(missing)
