"""Runs the examples for Envoy, nginx and Caddy side by side, each in namespaces of its own; prints what was seen."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import blocks
from blocks import table

SCRIPTS = Path(__file__).resolve().parent
EXAMPLES = ("envoy", "nginx", "caddy")
NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def missing() -> list[str]:
    """What cannot be had here."""
    fleet = SCRIPTS.parent / ".fleet"
    engines = {
        "root": os.geteuid() == 0,
        "nginx": shutil.which("nginx"),
        "njs": Path("/usr/lib/nginx/modules/ngx_http_js_module.so").exists(),
        "Envoy": list(fleet.glob("lib/python3*/site-packages/envoy/_bin/envoy")),
        "Caddy": (fleet / "bin/caddy").exists(),
    }
    return [name for name, there in engines.items() if not there]


def start(script: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start a script in new namespaces; it prints JSON."""
    command = [*NAMESPACES, sys.executable, str(SCRIPTS / script), *arguments]
    return subprocess.Popen(command, cwd=SCRIPTS.parent, stdout=subprocess.PIPE, text=True)


def result(process: "subprocess.Popen[str]") -> Any:
    """Return what it printed; None if it failed."""
    printed = process.communicate()[0]
    return None if process.returncode else json.loads(printed)


def run_examples(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Run all examples at once; return the facts of each engine."""
    options = ("requests", "seconds", "lives", "lifetime")
    arguments = [word for name in options for word in (f"--{name}", str(getattr(asked, name)))]
    processes = {example: start("fleet_run.py", example, *arguments) for example in asked.example or EXAMPLES}
    found = {example: result(process) for example, process in processes.items()}
    failed = [example for example, facts in found.items() if facts is None]
    if failed:
        raise SystemExit(f"did not run to the end: {', '.join(failed)}")
    return [facts for each in found.values() for facts in each]


def soak_table(found: list[dict[str, Any]]) -> str:
    """What clients saw over many token lives."""
    head = ("", "requests", "other than 200", "connections closed before a response", "tokens", "failed token requests")
    rows = []
    for facts in found:
        requests, good = sum(facts["statuses"].values()), facts["statuses"].get("200", 0)
        counts = (facts["lost"], facts["lives"], facts["token_failures"])
        rows.append((facts["name"], f"{requests:,}", requests - good, *counts))
    return table(head, *rows)


def failure_table(found: list[dict[str, Any]]) -> str:
    """What clients saw when something failed."""
    head = ("", *(facts["name"] for facts in found))
    used = ("a new token is used after", *(f"{facts['seconds']:.1f} s" for facts in found))
    return table(head, used, *((what, *(facts["failures"][what] for facts in found)) for what in found[0]["failures"]))


def main() -> int:
    """Return 1 if an engine did something that it must not do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("example", nargs="*", choices=[*EXAMPLES, []], help="default: all")
    parser.add_argument("--requests", type=int, default=10_000, help="to each engine")
    parser.add_argument("--seconds", type=float, default=110.0, help="for these requests")
    parser.add_argument("--lives", type=int, default=20, help="of tokens")
    parser.add_argument("--lifetime", type=float, default=10.0, help="seconds that a token lives; more if it must")
    parser.add_argument("--write", action="store_true", help="measure too, and put the tables into docs/scale.md")
    parser.add_argument("--rounds", type=int, default=5, help="of the measurement")
    asked = parser.parse_args()
    lacks = missing()
    if lacks:
        say(f"cannot run without {', '.join(lacks)}")
        return 1 if os.environ.get("VX_TOKEN_STRICT") else 0
    started = time.monotonic()
    found = run_examples(asked)
    tables = {"requests": soak_table(found), "failures": failure_table(found)}
    if asked.write:
        for name, script in (("speed", "fleet_speed.py"), ("schedule", "fleet_schedule.py")):
            tables[name] = result(start(script, *(["--rounds", str(asked.rounds)] if name == "speed" else [])))
    for name, text in tables.items():
        say(f"{text}\n")
        if asked.write and not asked.example:
            blocks.write("scale.md", name, text)
    problems = [f"{facts['name']}: {problem}" for facts in found for problem in facts["problems"]]
    for problem in problems:
        say(problem)
    say(f"{len(found) - len({each.partition(':')[0] for each in problems})} passed, {len(problems)} failed")
    say(f"{time.monotonic() - started:.0f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
