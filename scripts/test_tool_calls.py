"""Drives real tools through two turns of tool calls, directly and through the gateway; writes the table of results.

The emulator demands thought signatures as Vertex does.
"""

import argparse
import contextlib
import datetime as dt
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vx_token.emulator import Emulator, running

ROOT = Path(__file__).resolve().parent.parent
INSTALLED = ROOT / ".tools"
PAGE = ROOT / "docs" / "tools.md"
BEGIN, END = "<!-- scripts/test-tool-calls writes this table. -->\n", "<!-- End of the table. -->\n"
MODEL = "google/gemini-3-pro-preview"
PROMPTS = ("Look at the house.", "Look at the garden.")
ANSWER = "Hello from the emulator"
WAYS = ("plain", "stream")


@dataclass(frozen=True)
class Tool:
    """A tool: its name, the package with its version, the folder of its environment, and how it can be driven."""

    name: str
    package: str
    environment: str
    ways: tuple[str, ...] = WAYS
    command: tuple[str, ...] = ()  # a terminal program; its words for a second prompt are in `again`
    again: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """Return the installed version, "" if it is not installed."""
        if self.environment == "node":
            path = INSTALLED / "node" / "node_modules" / self.package / "package.json"
            return str(json.loads(path.read_text())["version"]) if path.exists() else ""
        name = self.package.replace("-", "_")
        found = list((INSTALLED / self.environment).glob(f"lib/python*/site-packages/{name}-*.dist-info"))
        return found[0].name.removeprefix(f"{name}-").removesuffix(".dist-info") if found else ""

    def commands(self, way: str) -> list[list[str]]:
        """Return the commands of one conversation."""
        if self.command:
            return [[*self.command, PROMPTS[0]], [*self.command, *self.again, PROMPTS[1]]]
        clients = ROOT / "scripts" / "tools"
        if self.environment == "node":
            return [["node", str(clients / "clients.mjs"), self.package, way]]
        python = INSTALLED / self.environment / "bin" / "python"
        return [[str(python), str(clients / "clients.py"), self.package, way]]


_PI = ("pi", "-p", "--provider", "vertex", "--model", MODEL)
_QWEN = ("qwen", "--auth-type", "openai", "-m", MODEL, "-y")
_OPENCODE = ("opencode", "run", "-m", f"vertex/{MODEL}")
TOOLS = (
    Tool("openai-python", "openai", "python"),
    Tool("openai-node", "openai", "node"),
    Tool("openai-agents", "openai-agents", "python"),
    Tool("pydantic-ai", "pydantic-ai-slim", "python"),
    Tool("litellm", "litellm", "python-litellm"),
    Tool("langchain-openai", "langchain-openai", "python"),
    Tool("@langchain/openai", "@langchain/openai", "node"),
    Tool("AI SDK 6, @ai-sdk/openai", "@ai-sdk/openai", "node"),
    Tool("AI SDK 6, @ai-sdk/openai-compatible", "@ai-sdk/openai-compatible", "node"),
    Tool("haystack-ai", "haystack-ai", "python"),
    Tool("strands-agents", "strands-agents", "python-openai2", ("stream",)),
    Tool("pi", "@earendil-works/pi-coding-agent", "node", ("stream",), _PI, ("--continue",)),
    Tool("qwen-code", "@qwen-code/qwen-code", "node", ("stream",), _QWEN, ("--continue",)),
    Tool("opencode", "opencode-ai", "node", ("stream",), _OPENCODE, ("--continue",)),
)


class Stage:
    """Folders and environment of the runs."""

    def __init__(self, root: Path, google: Emulator) -> None:
        self.root = root
        self.google = google
        node = INSTALLED / "node" / "node_modules"
        self.environ = {
            "PATH": os.pathsep.join([str(node / "node" / "bin"), str(node / ".bin"), os.environ["PATH"]]),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "TOOLS": str(INSTALLED / "node"),
            "OPENAI_MODEL": MODEL,
            "OPENAI_AGENTS_DISABLE_TRACING": "1",
            "HAYSTACK_TELEMETRY_ENABLED": "False",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "PI_OFFLINE": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "QWEN_CODE_SUPPRESS_YOLO_WARNING": "1",
        }

    def converse(self, tool: Tool, way: str, url: str, key: str) -> str:
        """Run one conversation in a new home; return "works", "400", or what went wrong."""
        home = Path(tempfile.mkdtemp(dir=self.root))
        self._configure(home, url, key)
        environ = {**self.environ, "HOME": str(home), "OPENAI_BASE_URL": url, "OPENAI_API_KEY": key}
        refused, output = self.google.count("chat", 400), ""
        lines = "" if tool.command else "\n".join([*PROMPTS, ""])
        for command in tool.commands(way):
            try:
                done = subprocess.run(
                    command, cwd=home / "work", env=environ, input=lines, capture_output=True, text=True,
                    timeout=120, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return "no end within 120 s"
            output += done.stdout
            if self.google.count("chat", 400) > refused:
                return "400"
            if done.returncode:
                sys.stderr.write(done.stderr[-2000:] + "\n")
                return f"exit status {done.returncode}"
        if output.count(ANSWER) < len(PROMPTS):
            sys.stderr.write(output[-2000:] + "\n")
            return "no answer"
        return "works"

    def _configure(self, home: Path, url: str, key: str) -> None:
        (home / "work").mkdir()
        models = home / ".pi" / "agent" / "models.json"
        models.parent.mkdir(parents=True)
        provider = {"baseUrl": url, "api": "openai-completions", "apiKey": key, "models": [{"id": MODEL}]}
        models.write_text(json.dumps({"providers": {"vertex": provider}}))
        options = {"baseURL": url, "apiKey": key}
        vertex = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {MODEL: {}}}
        (home / "work" / "opencode.json").write_text(json.dumps({"provider": {"vertex": vertex}, "share": "disabled"}))


@contextlib.contextmanager
def gateway(root: Path, google: Emulator) -> Iterator[tuple[str, str]]:
    """Run `vx-token gateway`; yields its URL and local key."""
    google.service_account(root / "account.json")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (root / "config.toml").write_text(
        f'[profiles.test]\nbase_url = "{google.base_url()}"\ncredentials = "account.json"\n[gateway]\nport = {port}\n'
    )
    environ = {"PATH": os.environ["PATH"], "HOME": str(root), "VX_TOKEN_CONFIG": str(root / "config.toml")}
    environ["VX_TOKEN_RUNTIME_DIR"] = str(root / "run")
    with (root / "gateway.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-P", "-m", "vx_token", "gateway"], env=environ, stderr=log)
    try:
        _wait(f"http://127.0.0.1:{port}/healthz")
        yield f"http://127.0.0.1:{port}/v1", next(root.rglob("gateway.key")).read_text()
    finally:
        process.terminate()
        process.wait(30)


def stood_in(url: str, key: str) -> int:
    """Return how many signatures the gateway has lost: Google's stand-in went in their place."""
    request = urllib.request.Request(f"{url.removesuffix('/v1')}/statusz", headers={"Authorization": f"Bearer {key}"})  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - loopback
        return int(json.load(answer)["signatures_stood_in"])


def _wait(url: str) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - loopback
                return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def cell(results: dict[str, str]) -> str:
    """Return one table cell for the results by way."""
    if len(set(results.values())) == 1:
        return next(iter(results.values()))
    return ", ".join(f"{'streaming' if way == 'stream' else 'not streaming'}: {each}" for way, each in results.items())


def row(tool: Tool, stage: Stage, through: tuple[str, str]) -> tuple[str, bool]:
    """Run a tool; return its row of the table, and whether it works through the gateway with its own signatures."""
    if not tool.version:
        return f"| {tool.name} | | not installed | not installed |", False
    token = stage.google.mint.issue("user", "token", 3600).value
    direct = {way: stage.converse(tool, way, stage.google.base_url(), token) for way in tool.ways}
    before = stood_in(*through)
    proxied = {way: stage.converse(tool, way, *through) for way in tool.ways}
    if stood_in(*through) > before:
        proxied = {way: f"{each}, with the stand-in" for way, each in proxied.items()}
    return f"| {tool.name} | {tool.version} | {cell(direct)} | {cell(proxied)} |", set(proxied.values()) == {"works"}


def write(rows: list[str]) -> None:
    """Replace the table in the docs."""
    today = dt.datetime.now(tz=dt.UTC).date()
    table = [f"Run on {today}:\n", "| tool | version | directly | through the gateway |", "|---|---|---|---|", *rows]
    page = PAGE.read_text(encoding="utf-8")
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    new = BEGIN + "\n" + "\n".join(table) + "\n\n" + END
    PAGE.write_text(re.sub(pattern, lambda _: new, page, count=1, flags=re.DOTALL), encoding="utf-8")


def main() -> int:
    """Run the tools that are named, or all; exit status 1 if one fails through the gateway."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table into docs/tools.md")
    parser.add_argument("tools", nargs="*", metavar="TOOL", help="default: all")
    options = parser.parse_args()
    chosen = [tool for tool in TOOLS if not options.tools or tool.name in options.tools]
    root = Path(tempfile.mkdtemp(prefix="vx-token-tools-"))
    rows, good = [], True
    try:
        with running() as google, gateway(root, google) as through:
            stage = Stage(root, google)
            for tool in chosen:
                line, works = row(tool, stage, through)
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
                rows.append(line)
                good = good and works
    finally:
        shutil.rmtree(root, ignore_errors=True)
    if options.write:
        write(rows)
    return 0 if good and chosen else 1


if __name__ == "__main__":
    sys.exit(main())
