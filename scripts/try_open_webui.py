"""Opens Open WebUI in Chromium and prints the models that its page lists; see scripts/try-open-webui."""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
from test_connect import COMMAND, answers, environment, free_port, gateway

from vx_token.emulator import running

PLACE = Path(__file__).resolve().parent.parent / ".open-webui"

CONFIG = """\
[profiles.test]
base_url = "{url}"
credentials = "account.json"
model = "google/gemini-2.5-flash"
list_publishers = ["google"]
[profiles.test.aliases]
fast = "google/gemini-2.5-flash-lite"
[gateway]
port = {port}
"""

OFFLINE = {
    "WEBUI_AUTH": "False",
    "ENABLE_OLLAMA_API": "False",
    "OFFLINE_MODE": "True",
    "RAG_EMBEDDING_ENGINE": "openai",  # or it loads a model at its start
    "AUDIO_STT_ENGINE": "openai",
    "ANONYMIZED_TELEMETRY": "False",
    "DO_NOT_TRACK": "true",
}
"""Settings of Open WebUI that keep it from asking other hosts."""

PATIENCE = 600.0
"""Seconds for a start; the first one of Open WebUI fills a database."""

CLOSE_NEWS = (
    "[...document.querySelectorAll('button')].filter(b => /let.s go/i.test(b.innerText)).forEach(b => b.click())"
)
OPEN_LIST = "(b => { b && b.click(); return Boolean(b) })(document.querySelector('[id^=model-selector]'))"
LISTED = "[...document.querySelectorAll('[role=option]')].map(each => each.innerText.split('\\n')[0].trim())"


@contextlib.contextmanager
def started(url: str, argv: list[str], log: Path, environ: dict[str, str]) -> Iterator[None]:
    """Run a server from its first answer at `url` to its end."""
    with log.open("wb") as stream:
        process = subprocess.Popen(argv, env=environ, cwd=log.parent, stdout=stream, stderr=stream)
    try:
        end = time.monotonic() + PATIENCE
        while not answers(url):
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(log.read_text()[-2000:])
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(60)


class Page:
    """A page of Chromium, driven through the DevTools protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number = socket, 0

    async def call(self, method: str, **parameters: Any) -> Any:
        """Call a method and return its result."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while (answer := await self._socket.receive_json()).get("id") != self._number:
            pass
        return answer["result"]

    async def evaluate(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        return (await self.call("Runtime.evaluate", expression=script, returnByValue=True))["result"].get("value")

    async def until(self, script: str) -> Any:
        """Return the value of a JavaScript expression once it is true."""
        end = time.monotonic() + PATIENCE
        while not (value := await self.evaluate(script)):
            if time.monotonic() > end:
                sys.exit(f"the page never had: {script}")
            await asyncio.sleep(0.5)
        return value


def tab(devtools: str) -> str:
    """Return the address at which Chromium's first page is driven."""
    with urllib.request.urlopen(f"{devtools}/json") as answer:  # noqa: S310 - loopback
        return next(str(each["webSocketDebuggerUrl"]) for each in json.load(answer) if each["type"] == "page")


async def listed(target: str, url: str) -> tuple[list[str], bytes]:
    """Return the models that the page at `url` lists, and a screenshot."""
    async with aiohttp.ClientSession() as session, session.ws_connect(target, max_msg_size=0) as socket:
        page = Page(socket)
        await page.call("Page.navigate", url=url)
        await page.until("Boolean(document.querySelector('[id^=model-selector]'))")
        await asyncio.sleep(3)  # the news of this version appear over the page
        await page.evaluate(CLOSE_NEWS)
        await page.until(OPEN_LIST)
        models: list[str] = await page.until(f"(found => found.length && found)({LISTED})")
        await asyncio.sleep(1)  # the list fades in
        return models, base64.b64decode((await page.call("Page.captureScreenshot"))["data"])


def ids(url: str, key: str) -> list[str]:
    """Return the models that the gateway lists."""
    request = urllib.request.Request(f"{url}/models", headers={"Authorization": f"Bearer {key}"})  # noqa: S310 - loopback
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - loopback
        return [str(model["id"]) for model in json.load(answer)["data"]]


def main() -> int:
    """Print what the page lists; exit status 1 if the gateway lists something else."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or sys.exit("install Chromium")
    with tempfile.TemporaryDirectory(prefix="vx-token-open-webui-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        environ = environment(root)
        with running() as google, gateway(root, environ, google, CONFIG) as gateway_url:
            subprocess.run([*COMMAND, "models"], env=environ, stdout=subprocess.DEVNULL, check=True)  # asks Google
            key = subprocess.run([*COMMAND, "gateway", "key"], env=environ, capture_output=True, text=True, check=True)
            server, devtools = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
            settings = {"OPENAI_API_BASE_URL": f"{gateway_url}/v1", "OPENAI_API_KEY": key.stdout.strip()}
            (root / "data").mkdir()
            ours = {**environ, **OFFLINE, **settings, "DATA_DIR": str(root / "data"), "HF_HUB_OFFLINE": "1"}
            serve = [str(PLACE / "bin" / "open-webui"), "serve", "--host", "127.0.0.1", "--port", server.split(":")[2]]
            # Root, as in a container, cannot have Chromium's own sandbox; the page is on loopback.
            unboxed = ["--no-sandbox"] if os.geteuid() == 0 else []
            browse = [chromium, "--headless=new", *unboxed, "--disable-gpu", "--disable-dev-shm-usage"]
            browse += ["--window-size=1200,800", f"--remote-debugging-port={devtools.split(':')[2]}"]
            browse += [f"--user-data-dir={root / 'browser'}", "about:blank"]
            with (
                started(f"{server}/health", serve, root / "open-webui.log", ours),
                started(f"{devtools}/json/version", browse, root / "chromium.log", environ),
            ):
                models, picture = asyncio.run(listed(tab(devtools), server))
            served = ids(settings["OPENAI_API_BASE_URL"], settings["OPENAI_API_KEY"])
    (PLACE / "models.png").write_bytes(picture)
    sys.stdout.write("".join(f"{model}\n" for model in models))
    return 0 if sorted(models) == sorted(served) else 1


if __name__ == "__main__":
    sys.exit(main())
