"""Start a gateway in a test, send it requests, and read what it exports."""

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import openai

from sandbox import Box, until
from vx_token.emulator import Emulator, Seen
from vx_token.system import atomic

if TYPE_CHECKING:
    import subprocess

    import forked

MODEL = "google/gemini-2.5-flash"


NAMES = ("OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_BASE_URL")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def configure(
    box: Box, google: Emulator, port: int, gateway: str = "", best: str = "", alias: str = "best", **settings: Any
) -> None:
    """Write the configuration anew; `best` is a model and `alias` another name for it."""
    text = f"[gateway]\nport = {port}\n{gateway}\n"
    text += box.profile_text(**{"url": google.base_url(), "mode": "gateway", **settings})
    if best:
        text += f"[profiles.gemini.aliases]\n{alias} = '{best}'\n"
    # At once, for a daemon may read it at any moment.
    atomic.write(box.config, text.encode())


def exported(box: Box, *words: str) -> dict[str, str]:
    done = box.vx("env", "--shell", "json", *words)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, str] = json.loads(done.stdout)
    return found


def local_key(box: Box) -> str:
    return box.vx("gateway", "key").stdout.strip()


@contextlib.contextmanager
def client(box: Box, port: int, profile: str = "") -> Iterator[openai.OpenAI]:
    """A stock client, without retries, so that nothing is hidden."""
    url = f"http://127.0.0.1:{port}{profile and '/' + profile}/v1"
    with openai.OpenAI(base_url=url, api_key=local_key(box), max_retries=0, timeout=30) as made:
        yield made


def say(client: openai.OpenAI, text: str = "hello", model: str = MODEL) -> str:
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])
    return answer.choices[0].message.content or ""


def listen(client: openai.OpenAI, text: str = "hello") -> str:
    stream = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}], stream=True)
    chunks = list(stream)
    assert chunks[-1].choices[0].finish_reason == "stop"
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def last_chat(google: Emulator) -> Seen:
    """What came last on that route; a refresh of the daemon's may be under way at any moment beside it."""
    return [seen for seen in google.requests if seen.route == "chat"][-1]


def ask(port: int, path: str, key: str = "") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(f"127.0.0.1:{port}", timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        return answer.status, answer.read()


def answers(port: int) -> bool:
    try:
        return ask(port, "/healthz")[0] == 200
    except OSError:
        return False


@contextlib.contextmanager
def alone(box: Box, port: int, *words: str) -> Iterator["subprocess.Popen[str] | forked.Command"]:
    """A gateway without a daemon, from its first answer to its clean end."""
    with box.logged("gateway", *words) as process:
        try:
            until(lambda: answers(port) or process.poll() is not None, what="gateway start")
            assert process.poll() is None, box.log
            yield process
        finally:
            process.terminate()
            process.wait(30)
