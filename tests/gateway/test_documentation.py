"""What docs/gateway.md says to configure, to export and to write into opencode's settings, done as it says."""

import json
import re
import subprocess
from collections.abc import Iterator

import openai
import pytest

from gateways import NAMES, alone, ask, free_port, local_key, say
from sandbox import REPOSITORY, Box
from vx_token.emulator import Emulator

PAGE = (REPOSITORY / "docs/gateway.md").read_text(encoding="utf-8")


def block(kind: str, inside: str) -> str:
    """The first code block of a kind that contains a string, without the indent of a list."""
    blocks = re.findall(rf"^( *)```{kind}\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
    return next(re.sub(f"(?m)^{indent}", "", text) for indent, text in blocks if inside in text)


@pytest.fixture
def port(box: Box, google: Emulator) -> Iterator[int]:
    """The gateway's port, of the page's configuration with the emulator as Google; the state is below the home."""
    google.service_account(box.key)
    port, place = free_port(), box.home / ".config/vx-token/config.toml"
    place.parent.mkdir(parents=True)
    added = f'base_url = "{google.base_url()}"\ncredentials = "{box.key}"\n[gateway]\nport = {port}\n'
    place.write_text(block("toml", 'mode = "gateway"') + added)
    del box.environ["VX_TOKEN_CONFIG"]
    with alone(box, port):
        yield port


def test_its_profile_and_its_settings_for_opencode_reach_a_model(box: Box, port: int) -> None:
    status, body = ask(port, "/v1/models", local_key(box))
    listed = [model["id"] for model in json.loads(body)["data"]]
    assert (status, listed) == (200, ["google/gemini-2.5-flash"])
    [provider] = json.loads(block("json", "@ai-sdk/openai-compatible"))["provider"].values()
    assert [*provider["models"]] == listed
    key = box.home / re.fullmatch(r"\{file:~/(.+)\}", provider["options"]["apiKey"])[1]  # type: ignore[index]
    url = provider["options"]["baseURL"].replace("8490", str(port))
    with openai.OpenAI(base_url=url, api_key=key.read_text(), max_retries=0) as client:
        assert "Hello" in say(client, model=listed[0])


def test_its_recipe_exports_every_name_and_doctor_has_no_complaint(box: Box, port: int) -> None:
    recipe = "\n".join(re.findall(r"(?m)^\$ (export .*)$", block("console", "gateway key)")))
    recipe = recipe.replace("8490", str(port)).replace("$(vx-token gateway key)", local_key(box))
    done = subprocess.run(
        ["sh", "-euc", f"{recipe}\nenv -0"], env=box.environ, capture_output=True, text=True, check=True
    )
    exported = dict(pair.split("=", 1) for pair in done.stdout.split("\0") if pair)
    assert {exported[name] for name in NAMES} == {f"http://127.0.0.1:{port}/v1"}
    assert exported["OPENAI_AGENTS_DISABLE_TRACING"] == "1"
    box.environ |= {name: value for name, value in exported.items() if name.startswith("OPENAI_")}
    checks = json.loads(box.vx("doctor", "--json").stdout)["checks"]
    assert [(each["ok"], each["detail"]) for each in checks if each["name"] == "variables"] == [("ok", "consistent")]
