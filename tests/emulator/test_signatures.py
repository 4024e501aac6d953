"""The emulated Gemini 3 signs its tool calls and refuses a conversation in which a signature is missing or altered."""

import contextlib
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from vx_token.emulator import Emulator, running
from vx_token.emulator.signatures import demanded

MODEL = "google/gemini-3-pro-preview"
TOOLS: Any = [{"type": "function", "function": {"name": name}} for name in ("one", "two", "three")]


@pytest.fixture
def client(google: Emulator) -> Iterator[openai.OpenAI]:
    with caller(google) as client:
        yield client


@contextlib.contextmanager
def caller(google: Emulator, place: str = "global", identity: str = "user") -> Iterator[openai.OpenAI]:
    token = google.mint.issue(identity, "token", 3600).value
    with openai.OpenAI(api_key=token, base_url=google.base_url(place), max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, messages: list[Any], model: str = MODEL, **more: Any) -> Any:
    return client.chat.completions.create(model=model, messages=messages, tools=TOOLS, **more)


def called(client: openai.OpenAI, wish: str = "go", **more: Any) -> list[Any]:
    """A conversation up to the results of the first calls."""
    messages: list[Any] = [{"role": "system", "content": "be"}, {"role": "user", "content": wish}]
    reply = ask(client, messages, **more).choices[0].message.to_dict()
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "x"} for call in reply["tool_calls"]]
    return [*messages, reply, *results]


def refusal(client: openai.OpenAI, messages: list[Any], **more: Any) -> str:
    with pytest.raises(openai.BadRequestError) as failure:
        ask(client, messages, **more)
    return str(failure.value.response.json()[0]["error"]["message"])


def test_a_signature_that_comes_back_is_accepted(client: openai.OpenAI) -> None:
    assert ask(client, called(client)).choices[0].message.content.startswith("Hello")


def test_a_missing_signature_is_refused_in_google_s_words(client: openai.OpenAI) -> None:
    messages = called(client)
    del messages[2]["tool_calls"][0]["extra_content"]
    assert refusal(client, messages).startswith(
        "Unable to submit request because function call `default_api:one` in the 2. content block is missing a "
        "`thought_signature`."
    )
    messages += [{"role": "assistant", "content": "done"}, {"role": "user", "content": "again"}]
    assert ask(client, messages).choices[0].finish_reason == "tool_calls", "only the current turn is checked"


@pytest.mark.parametrize("change", ["value", "arguments", "model", "place", "identity"])
def test_a_signature_of_another_call_or_origin_is_corrupted(google: Emulator, change: str) -> None:
    with caller(google) as client:
        messages = called(client)
    call = messages[2]["tool_calls"][0]
    if change == "value":
        call["extra_content"]["google"]["thought_signature"] = "c2lnbmF0dXJl"
    if change == "arguments":
        call["function"]["arguments"] = '{"x": 1}'
    place, identity = "us" if change == "place" else "global", "other" if change == "identity" else "user"
    with caller(google, place, identity) as client:
        model = "google/gemini-3-flash" if change == "model" else MODEL
        assert refusal(client, messages, model=model) == "Corrupted thought signature."


def test_google_s_stand_in_is_accepted(client: openai.OpenAI) -> None:
    messages = called(client)
    signature = {"google": {"thought_signature": "skip_thought_signature_validator"}}
    messages[2]["tool_calls"][0]["extra_content"] = signature
    assert ask(client, messages, model="google/gemini-3-flash").choices[0].message.content


def test_only_the_first_of_parallel_calls_is_signed_also_in_streams(client: openai.OpenAI) -> None:
    calls = called(client, "emulator: calls=3")[2]["tool_calls"]
    assert [bool(call.get("extra_content")) for call in calls] == [True, False, False]
    assert len({call["id"] for call in calls}) == 3
    prompt: Any = [{"role": "user", "content": "emulator: calls=2"}]
    events = ask(client, prompt, stream=True)
    parts = [part.to_dict() for event in events for part in event.choices[0].delta.tool_calls or []]
    assert [(part["index"], "extra_content" in part) for part in parts] == [(0, True), (1, False)]


def test_functions_are_called_as_often_as_the_user_asks(client: openai.OpenAI) -> None:
    messages = called(client, "emulator: steps=2 calls=2")
    reply = ask(client, messages).choices[0].message
    assert len(reply.tool_calls) == 2
    messages += [reply, *({"role": "tool", "tool_call_id": call.id, "content": "x"} for call in reply.tool_calls)]
    assert ask(client, messages).choices[0].message.content.startswith("Hello")


def test_the_option_says_which_models_sign() -> None:
    later = ["google/gemini-3-pro", "google/gemini-3.1-flash", "google/gemini-4-x", "google/gemini-10"]
    earlier = ["google/gemini-2.5-pro", "google/gemini-1.5", "meta/llama-3", "google/gemini-flash"]
    assert all(demanded("gemini-3", model) for model in later)
    assert not any(demanded("gemini-3", model) for model in earlier)
    with running(signatures="all") as google, caller(google) as client:
        messages = called(client, model="meta/llama-4")
        del messages[2]["tool_calls"][0]["extra_content"]
        assert "is missing" in refusal(client, messages, model="meta/llama-4")
    with running(signatures="none") as google, caller(google) as client:
        assert "extra_content" not in called(client)[2]["tool_calls"][0]
