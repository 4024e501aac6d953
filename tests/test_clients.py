"""A stock OpenAI client and a stock curl, each with nothing but a key and a URL, across the lives of tokens."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import openai
import pytest

from sandbox import Box, until
from vx_token.emulator import Emulator

MODEL = "google/gemini-2.5-flash"
ASK = [{"role": "user", "content": "hello"}]
BODY = json.dumps({"model": MODEL, "messages": ASK})

PROGRAM = """
import json, openai
client = openai.OpenAI(max_retries=0)
with client:
    answer = client.chat.completions.create(model={model!r}, messages={ask!r})
    print(answer.choices[0].message.content)
"""


def refused(google: Emulator) -> int:
    """How many requests Vertex refused."""
    return sum(seen.status == 401 for seen in google.requests if seen.route != "iam")


@contextmanager
def client(key: str, url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=key, base_url=url, max_retries=0) as made:
        yield made


def snippet(box: Box) -> dict[str, str]:
    """The variables as a shell sees them that sources the snippet."""
    path = box.runtime / "default" / "env.sh"
    done = subprocess.run(["sh", "-euc", f". {path}; env -0"], env={}, capture_output=True, text=True, check=True)
    return dict(pair.split("=", 1) for pair in done.stdout.split("\0") if pair)


def by_file(box: Box, google: Emulator) -> None:
    with client((box.runtime / "default" / "token").read_text(), google.base_url()) as ai:
        assert "Hello" in str(ai.chat.completions.create(model=MODEL, messages=ASK).choices[0].message.content)  # type: ignore[arg-type]


def by_snippet(box: Box, google: Emulator) -> None:
    found = snippet(box)
    with (
        client(found["OPENAI_API_KEY"], found["OPENAI_BASE_URL"]) as ai,
        ai.chat.completions.stream(model=MODEL, messages=ASK) as stream,  # type: ignore[arg-type]
    ):
        assert "Hello" in "".join(event.delta for event in stream if event.type == "content.delta")


def by_print(box: Box, google: Emulator) -> None:
    with client(box.vx("print").stdout.strip(), google.base_url()) as ai:
        assert len(ai.embeddings.create(model=MODEL, input=["a", "b"]).data) == 2


def by_curl(box: Box, google: Emulator) -> None:
    header = box.runtime / "default" / "header"
    url = f"{google.base_url()}/chat/completions"
    argv = ["curl", "-sS", "--fail", "-H", f"@{header}", "-H", "Content-Type: application/json", "-d", BODY, url]
    done = subprocess.run(argv, env=box.environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Hello" in json.loads(done.stdout)["choices"][0]["message"]["content"]


def by_exec(box: Box, google: Emulator) -> None:
    # A shell's argv would show the key; printf is the shell's own.
    script = (
        'printf "Authorization: Bearer %s" "$OPENAI_API_KEY" | '
        'curl -sS --fail -H @- -H "Content-Type: application/json" -d "$1" "$OPENAI_BASE_URL/chat/completions"'
    )
    done = box.vx("exec", "--", "sh", "-c", script, "sh", BODY)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Hello" in json.loads(done.stdout)["choices"][0]["message"]["content"]


# Each asks within moments of getting its key: a program that starts longer than a token lives is the gateway's case.
WAYS: tuple[Callable[[Box, Emulator], None], ...] = (by_file, by_snippet, by_print, by_curl, by_exec)


def test_an_unmodified_program_needs_nothing_but_exec(signed_in: Box, google: Emulator) -> None:
    program = PROGRAM.format(model=MODEL, ask=ASK)
    done = signed_in.vx("exec", "--", sys.executable, "-W", "ignore", "-c", program)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Hello" in done.stdout


@pytest.mark.parametrize("way", WAYS)
def test_a_client_is_served(
    signed_in: Box, google: Emulator, require: Callable[[str], str], way: Callable[[Box, Emulator], None]
) -> None:
    require("curl")
    assert signed_in.vx("refresh").returncode == 0
    way(signed_in, google)
    assert refused(google) == 0


def test_a_client_gets_every_kind_of_answer(signed_in: Box, google: Emulator) -> None:
    signed_in.vx("refresh")
    tool = {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
    found = snippet(signed_in)
    with client(found["OPENAI_API_KEY"], found["OPENAI_BASE_URL"]) as ai:
        called = ai.chat.completions.create(model=MODEL, messages=ASK, tools=[tool])  # type: ignore[arg-type, list-item]
        [call] = called.choices[0].message.tool_calls or []
        assert call.type == "function"
        assert json.loads(call.function.arguments) == {"city": "example"}
        assert "Hello" in ai.completions.create(model=MODEL, prompt="hello").choices[0].text
        assert "Hello" in ai.responses.create(model=MODEL, input="hello").output_text
        assert ai.embeddings.create(model=MODEL, input="a").data[0].embedding


def test_the_key_that_is_read_once_dies_and_the_one_that_is_read_again_lives(signed_in: Box, google: Emulator) -> None:
    google.lifetime = 8.0
    with signed_in.daemon():
        until(lambda: signed_in.read("token"))
        once = google.issued[0].value
        until(lambda: time.time() > google.issued[0].expires_at + 0.2, 15)
        with client(once, google.base_url()) as ai, pytest.raises(openai.AuthenticationError):
            ai.chat.completions.create(model=MODEL, messages=ASK)  # type: ignore[arg-type]
        again = until(lambda: signed_in.read("token"))
        with client(again, google.base_url()) as ai:
            assert ai.chat.completions.create(model=MODEL, messages=ASK).choices  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_client_meets_a_401_across_the_lives_of_tokens(
    signed_in: Box, google: Emulator, require: Callable[[str], str]
) -> None:
    require("curl")
    google.lifetime = 1.0
    began = time.monotonic()
    assert signed_in.vx("refresh").returncode == 0
    own = time.monotonic() - began  # what a refresh costs at this moment
    google.lifetime = max(8.0, 8 * own)
    seconds = 8 * google.lifetime
    served = 0
    with signed_in.daemon():
        until(lambda: len(google.issued) > 1 and signed_in.read("env.fish").count(google.issued[-1].value))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for way in WAYS:
                way(signed_in, google)
                served += 1
    lives = len({issued.value for issued in google.issued[1:]})
    assert refused(google) == 0
    assert lives > seconds / google.lifetime
    assert served >= 2 * len(WAYS)
    sys.stdout.write(f"{served} requests, {lives} tokens, 0 refused\n")
