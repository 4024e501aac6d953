"""Writes docs/tools.json from runs of scripts/test-tools, and from it the tables of docs/tools.md."""

import json
from typing import Any

import blocks
from real_tools import ROOT, rows

from vx_token.tools.catalog import TOOLS

DATA = ROOT / "docs" / "tools.json"
CLIENTS = {"PyPI": "`scripts/tools/libraries`", "npm": "`scripts/tools/clients.mjs`"}
REASONS = {"works": "seen: ", "not run": "", "does not work": "does not work: "}
HEADS = {
    "direct": "token in the environment",
    "gateway": "local key in the environment",
    "calls": "tool call",
    "signed": "Gemini 3's tool call without the gateway",
    "lives": "outlives its tokens",
    "key": "key command or file",
    "connect": "connect and undo",
    "elsewhere": "no key to other hosts",
}
Entry = dict[str, Any]


def write(entries: list[Entry]) -> None:
    """Merge entries of a run into docs/tools.json, and make the tables again."""
    known = {each["tool"]: each for each in json.loads(DATA.read_text("utf-8"))["tools"]} if DATA.exists() else {}
    known |= {each["tool"]: each for each in entries}
    tools = [known[row.name] for row in rows() if row.name in known]
    DATA.write_text(json.dumps({"schema": 1, "tools": tools}, indent=1, ensure_ascii=False) + "\n", "utf-8")
    blocks.write("tools.md", "tools", tables(tools))


def tables(tools: list[Entry]) -> str:
    """Return the tables of results, of reasons, of configurations, of other hosts, and of tools that were not run."""
    parts = [
        table(["tool", "version", "date", *HEADS.values()], [result(each) for each in tools]),
        "### Reasons",
        table(["tool", "column", "reason"], [line for each in tools for line in reasons(each)]),
        "### How each was run",
        table(["tool", "package", "command", "variables and files"], [configuration(each) for each in tools]),
        "### Other hosts that a tool asks for",
        table(
            ["tool", "hosts", "the token was sent to"],
            [hosts(each) for each in tools if any(each["other_hosts"].values())],
        ),
        "### Tools that were not run here",
        table(
            ["tool", "source of what `vx-token connect` prints"],
            [[tool.title, tool.source] for tool in TOOLS.values() if tool.text and "not run" in tool.source],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def table(head: list[str], lines: list[list[str]]) -> str:
    """Return a table, or a sentence if it has no lines."""
    if not lines:
        return "None."
    return blocks.table(head, *lines)


def result(entry: Entry) -> list[str]:
    """Return the line of a tool's results; an empty cell was not run."""
    shown = {"works": "seen", "not run": ""}
    outcomes = {name: shown.get(column["outcome"], column["outcome"]) for name, column in entry["columns"].items()}
    return [entry["tool"], entry["version"], entry["date"], *(outcomes.get(name, "") for name in HEADS)]


def reasons(entry: Entry) -> list[list[str]]:
    """Return why columns are not `seen`, and what else is to say of those that are."""
    return [
        [entry["tool"], HEADS[name], f"{REASONS[column['outcome']]}{column['why']}"]
        for name, column in entry["columns"].items()
        if column["why"]
    ]


def configuration(entry: Entry) -> list[str]:
    """Return how a tool was started."""
    used = entry["configuration"]
    asked = [used["command"], used["session"]]
    commands = [f"`{' '.join(each)}`" for each in (used["first"], *asked) if each]
    commands += [] if any(asked) else [CLIENTS[entry["registry"]]]
    settings = [f"`{name}={value}`" for name, value in used["variables"].items()]
    settings += [f"`~/{name}`: {_lines(text)}" for name, text in used["files"].items()]
    package = f"{entry['package']} ({entry['registry']})"
    return [entry["tool"], package, "<br>".join(commands), "<br>".join(settings)]


def _lines(text: str) -> str:
    return "<br>".join(f"`{line}`" for line in text.strip().splitlines())


def hosts(entry: Entry) -> list[str]:
    """Return which other hosts a tool looked up or connected to."""
    other = sorted({host for mode in entry["other_hosts"].values() for host in mode})
    return [entry["tool"], ", ".join(other), ", ".join(entry["token_sent_to"]) or "none"]
