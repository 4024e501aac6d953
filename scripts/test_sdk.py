"""Runs openai-python's tests directly and through the gateway, and compares the result of each test."""

import argparse
import itertools
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

from sdk_mock import Mock

from upstreams import Purse, front, upstream
from vx_token.gateway.settings import Route

SDK = Path(".sdk/openai").absolute()
PREFIX = "/v1/projects/p/endpoints/openapi"  # of the base URLs of `upstream`
KEYS = {"My API Key", "My Admin API Key"}  # tests/conftest.py of the SDK
MODEL = "gpt-6-astra"  # the tests' model, which the gateway must list
SELECTED = "(strict or aiohttp) and not path_params"  # the others send no request, or the same one again


def run(name: str, base_url: str, selected: str) -> "tuple[subprocess.Popen[bytes], Path]":
    """Start the SDK's tests; return the process and the path of its report."""
    report = SDK.parent / f"{name}.xml"
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(SDK),
        "PYTHONPATH": f"{SDK / 'src'}:{SDK.parent / 'packages'}",
        "TEST_API_BASE_URL": base_url,
    }
    options = ["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "log_level=ERROR"]
    command = [sys.executable, "-m", "pytest", *options, f"--junitxml={report}", "-k", selected, "tests/api_resources"]
    return subprocess.Popen(command, cwd=SDK, env=environ, stdout=subprocess.DEVNULL), report


def results(report: Path) -> dict[str, str]:
    """Return the outcome and the first line of the error of each test."""
    found = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - written by pytest
        outcome = next((child for child in case if child.tag in {"failure", "error", "skipped"}), None)
        text = "passed" if outcome is None else f"{outcome.tag}: {outcome.get('message', '').partition(chr(10))[0]}"
        found[f"{case.get('classname')}.{case.get('name')}"] = text
    return found


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")


def main() -> int:
    """Compare the two runs; return 1 if any test has another result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-k", dest="selected", default=SELECTED)
    selected, started = parser.parse_args().selected, time.monotonic()
    mocks = [Mock(SDK / "api.md", PREFIX) for _ in range(2)]
    with upstream(mocks[0].answer) as first, upstream(mocks[1].answer) as second:
        route = Route("p", second.url, models=(MODEL,))
        with front(Purse(), route, accepts=KEYS.__contains__) as gateway:
            runs = [run("direct", first.url, selected), run("gateway", f"http://127.0.0.1:{gateway.port}/v1", selected)]
            for process, _ in runs:
                process.wait()
    direct, through = (results(report) for _, report in runs)
    differences = [
        f"{name}\n  directly:            {direct.get(name)}\n  through the gateway: {through.get(name)}"
        for name in sorted(direct.keys() | through.keys())
        if direct.get(name) != through.get(name)
    ]
    for number, (mock, other) in enumerate(itertools.permutations(mocks)):
        way = "through the gateway" if number else "directly"
        differences += [f"arrived only {way}: {request}" for request in mock.seen - other.seen]
    for difference in differences:
        say(difference)
    outcomes = Counter(text.partition(":")[0] for text in direct.values())
    say(f"{len(direct)} tests directly: {dict(outcomes)}; {mocks[1].seen.total()} requests through the gateway")
    say(f"{len(differences)} differences, {time.monotonic() - started:.0f} s")
    return 1 if differences or not outcomes["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
