"""Runs the attacks and fuzzers of docs/security.md, counts what they tried, and writes the counts into the page."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import blocks

REPOSITORY = Path(__file__).resolve().parent.parent
FUZZER = REPOSITORY / ".venv-fuzz" / "bin" / "python"
SECONDS = 600  # for one target of the coverage-guided fuzzer

CLASSES: dict[str, list[str]] = {
    "secrets in all that a run leaves": ["tests/test_secrets.py"],
    "configuration": [
        "tests/config/test_load.py", "tests/config/test_fields.py", "tests/test_fuzz.py::configuration",
        "tests/tools/test_document.py",
    ],
    "state files": ["tests/tokens/test_store.py", "tests/test_fuzz.py::state", "tests/cli/test_fastpath.py"],
    "credential files": ["tests/test_fuzz.py::credential file", "tests/credentials/test_token.py"],
    "Google's answers": ["tests/credentials/test_google_errors.py", "tests/test_fuzz.py::Google's answers"],
    "env files read by bash, zsh and fish": ["tests/test_fuzz.py::test_no_env_file"],
    "values quoted for sh, bash, zsh and fish": ["tests/outputs/test_shell.py"],
    "text shown on a terminal": ["tests/test_printable.py"],
    "request targets": ["tests/gateway/test_guard.py", "tests/test_fuzz.py::request targets"],
    "headers": ["tests/test_fuzz.py::headers"],
    "bodies that are rewritten": ["tests/gateway/test_models.py", "tests/test_fuzz.py::body rewriting"],
    "thought signatures in requests and streams": [
        "tests/gateway/test_thought_signatures.py", "tests/gateway/test_tool_calls.py",
        "tests/test_fuzz.py::signatures",
    ],
    "usage meter": ["tests/gateway/test_usage.py", "tests/test_fuzz.py::usage meter"],
    "peers of the Unix socket": [
        "tests/test_fuzz.py::test_any_peer", "tests/test_fuzz.py::test_the_gateway_still",
        "tests/test_fuzz.py::test_whatever",
    ],
    "request smuggling and desynchronisation": ["tests/gateway/test_desync.py"],
    "web pages in a real browser": ["tests/gateway/test_browser.py"],
    "another local user": [
        "tests/system/test_paths.py", "tests/system/test_hardening.py", "tests/system/test_other_user.py",
        "tests/shell/test_runtime_folder.py",
    ],
}  # fmt: skip
"""Each class with the files of its tests; after `::`, only the tests whose name contains that text."""


@dataclass(frozen=True)
class Case:
    """One test that ran.

    Attributes:
        name: `FILE::NAME`.
        outcome: "passed", "failed" or "skipped".
        figures: the counts that it recorded; `inputs` is that of Hypothesis.
    """

    name: str
    outcome: str
    figures: dict[str, int]


def show(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run_tests(examples: int, report: Path) -> str:
    """Run every test of `CLASSES` once, on two cores, into a JUnit report; return what pytest printed."""
    files = sorted({each.partition("::")[0] for tests in CLASSES.values() for each in tests})
    options = ["-q", "--no-header", "-n", "3", "--dist", "worksteal", "--timeout", "1500", "-p", "no:cacheprovider"]
    options += [f"--junitxml={report}", "-o", "junit_family=xunit1", "--hypothesis-seed=0"]
    options += ["--hypothesis-show-statistics"]
    options += ["-k", "not neither_memory_nor_time and not less_than_a_millisecond"]  # those measure speed
    environ = {**os.environ, "VX_TOKEN_EXAMPLES": str(examples)}
    argv = [sys.executable, "-m", "pytest", *options, *files]
    lines = []
    with subprocess.Popen(argv, cwd=REPOSITORY, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if " - " not in line:
                show(line.rstrip())
    return "".join(lines)


def cases(report: Path, output: str) -> Iterator[Case]:
    """Read the report, and the statistics of Hypothesis in the output, which pytest-xdist keeps out of the report."""
    inputs: Counter[str] = Counter()
    name = ""
    for line in output.splitlines():
        if re.match(r"tests/\S+::.*:$", line):
            name = line.removesuffix(":")
        elif counts := re.search(r"- (\d+) passing\D+(\d+) failing", line):
            inputs[name] += int(counts[1]) + int(counts[2])
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - our own file
        name = f"{case.get('file')}::{case.get('name')}"
        figures: Counter[str] = Counter({"inputs": inputs[name]})
        for item in case.iter("property"):
            figures[item.get("name", "")] += int(item.get("value", ""))
        bad = {child.tag for child in case} & {"failure", "error", "skipped"}
        outcome = "skipped" if "skipped" in bad else "failed" if bad else "passed"
        yield Case(name, outcome, dict(figures))


def fuzz(target: str, runs: int) -> tuple[str, int, bool]:
    """Run the coverage-guided fuzzer on a target; return the target, its inputs, and whether none failed."""
    libraries = next((REPOSITORY / ".venv" / "lib").glob("python3.*")) / "site-packages"
    environ = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}:{libraries}"}
    with tempfile.TemporaryDirectory() as folder:
        limits = [f"-runs={runs}", "-seed=1", "-max_len=2048", "-rss_limit_mb=1024", f"-max_total_time={SECONDS}"]
        argv = [str(FUZZER), str(REPOSITORY / "scripts" / "fuzz_coverage.py"), target, *limits]
        done = subprocess.run(
            argv, cwd=folder, env=environ, capture_output=True, text=True, errors="replace", check=False
        )
        for path in Path(folder).glob("*-*"):
            show(f"{target}: {path.read_bytes()!r}")
    count = re.search(r"Done (\d+) runs", done.stderr)
    if count is None:
        show(done.stderr[-3000:])
    return target, int(count[1]) if count else 0, count is not None and done.returncode == 0


def fuzz_all(runs: int) -> list[tuple[str, int, bool]]:
    """Run the coverage-guided fuzzer on each target; an empty list where it is not installed."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from fuzz_targets import TARGETS

    if not FUZZER.exists():
        show("atheris is not installed: the coverage-guided half did not run")
        return []
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda target: fuzz(target, runs), TARGETS))


def belongs(case: Case, test: str) -> bool:
    """Return whether a test is one of those that `CLASSES` names by `test`."""
    file, _, part = test.partition("::")
    return case.name.startswith(f"{file}::") and part in case.name.partition("::")[2]


def table(ran: list[Case], guided: Iterable[tuple[str, int, bool]]) -> tuple[str, bool]:
    """Return the table of the page, and whether everything held."""
    by_target = {target: (count, good) for target, count, good in guided}
    rows, good = [], True
    for name, tests in CLASSES.items():
        mine = [case for case in ran if any(belongs(case, test) for test in tests)]
        targets = [t for t in by_target if any(t.startswith(test.partition("::")[2] or "\0") for test in tests)]
        figures = sum((Counter(case.figures) for case in mine), Counter())
        inputs, guided_inputs = figures.pop("inputs", 0), sum(by_target[target][0] for target in targets)
        failed = sum(case.outcome == "failed" for case in mine) + sum(not by_target[target][1] for target in targets)
        skipped = sum(case.outcome == "skipped" for case in mine)
        good = good and bool(mine) and not failed
        more = ", ".join(f"{value:,} {key}" for key, value in figures.items())
        result = f"{failed} failed" if failed else f"{skipped} not run" if skipped or not mine else "none"
        rows.append(f"| {name} | {len(mine):,} | {inputs:,} | {guided_inputs:,} | {more} | {result} |")
    head = "| class | tests | inputs by Hypothesis | inputs by atheris | counted | successful attacks |"
    return "\n".join([head, "| --- | --: | --: | --: | --- | --- |", *rows]), good


def main() -> None:
    """Run all, print the table, and write it into the page; a quick run is the coverage-guided fuzzer alone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--inputs", type=int, default=5000, help="for each test of Hypothesis; atheris gets 20 times as many"
    )
    arguments = parser.parse_args()
    if arguments.quick:
        guided = fuzz_all(2000)
        for target, count, good in guided:
            show(f"{target}: {count:,} inputs, {'no failure' if good else 'FAILED'}")
        sys.exit(not (guided and all(good for _, _, good in guided)))
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        output = run_tests(arguments.inputs, Path(folder, "report.xml"))
        ran = list(cases(Path(folder, "report.xml"), output))
    figures, good = table(ran, fuzz_all(20 * arguments.inputs))
    show(figures)
    show(f"{time.monotonic() - started:.0f} s")
    made = f"{blocks.made('scripts/prove-security')} in {(time.monotonic() - started) / 60:.0f} minutes."
    blocks.write("security.md", "figures", f"{figures}\n\n{made}")
    sys.exit(not good)


main()
