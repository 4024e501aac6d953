"""Runs the tests against modules in which one thing was changed, and prints the changes that no test notices."""

import argparse
import contextlib
import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field
from pathlib import Path

import blocks
import pytest
from mutants import Mutant, mutants

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(r"^\| `(\S+)` \|((?: \d+ \|){4} \d+) \|", re.MULTILINE)

# Each module that decides, and the quick tests that must notice a change of it.
TESTS: dict[str, list[str]] = {
    "tokens/schedule": ["tests/tokens/test_schedule.py"],
    "tokens/pacing": ["tests/tokens/test_pacing.py", "tests/tokens/test_schedule.py"],
    "tokens/refresh": ["tests/tokens/test_refresher.py"],
    "tokens/store": ["tests/tokens/test_store.py"],
    "tokens/ownership": ["tests/tokens/test_ownership.py", "tests/tokens/test_refresher.py"],
    "credentials/google_errors": ["tests/credentials/test_google_errors.py"],
    "gateway/guard": ["tests/gateway/test_guard_rules.py"],
    "gateway/models": ["tests/gateway/test_models.py", "-k", "not a_large_body"],
    "gateway/headers": ["tests/gateway/test_headers.py"],
    "gateway/token_source": ["tests/gateway/test_back_off.py"],
    "cli/fastpath": ["tests/cli/test_fastpath.py"],
    "daemon/keeper": [
        "tests/daemon/test_keeper.py",
        "tests/daemon/test_days.py",
        "tests/daemon/test_clocks.py::test_a_clock_that_went_back_lends_a_token_no_second_of_life",
        "-k",
        "not test_a_day and not six_hours",
    ],
}

BEAT = "time.monotonic() - self._heartbeat_at"
AGE = "abs(time.time() - path.lstat().st_mtime)"

# Mutants that change nothing that can be observed: module, part of the line, change, and the reason.
EQUIVALENT: tuple[tuple[str, str, str, str], ...] = (
    ("tokens/pacing", "FIRST_PAUSE * 2.0", "16  ->  17", "the longest pause is reached with 5"),
    ("tokens/schedule", "2.0 **", "16  ->  17", "the longest pause is reached with 5"),
    ("tokens/refresh", '"temporary", "the last', "'temporary'  ->  ''", "an error of an unknown kind is temporary"),
    ("tokens/refresh", "", "time.monotonic() >= end  ->  (time.monotonic() > end)", "one nanosecond apart"),
    ("tokens/refresh", "if brief and", "0  ->  1", "the turn is looked at again with the lock held"),
    ("tokens/refresh", "0.0 if brief", "0.0  ->  1.0", "matters if another process begins between the two looks"),
    ("tokens/store", "", "time.monotonic() >= deadline  ->  (time.monotonic() > deadline)", "one nanosecond apart"),
    ("tokens/store", "link.unlink(", "True  ->  False", "matters if another process removes the link in between"),
    ("tokens/store", "", "link.unlink(missing_ok=True)  ->  (link.unlink())", "as above"),
    ("tokens/store", "", f"{AGE} > LEFT_OVER  ->  ({AGE} >= LEFT_OVER)", "one nanosecond apart"),
    ("tokens/store", "os.open(", "384  ->  385", "the next line sets the mode"),
    ("gateway/models", "if at >= 0", "at >= 0  ->  (at > 0)", "an id at the beginning is none of an object's"),
    ("gateway/models", "if at >= 0", "0  ->  1", "the long way gives the same id; no second key is found at 0"),
    ("gateway/models", "if at >= 0", "body.find(_MODEL, at + 1) < 0  ->  (body.find(_MODEL, at + 1) <= 0)", "as above"),
    ("gateway/models", "", "break  ->  continue", "the same error follows, later"),
    ("gateway/models", "if at >= 0", "1  ->  2", "two keys do not overlap"),
    ("cli/fastpath", "VX_TOKEN_PROFILE", "'token'  ->  ''", "each form but `header` prints the token"),
    ("cli/fastpath", "key = os.read", "''  ->  'x'", "neither begins as a key does"),
    ("cli/fastpath", "return folder if folder.startswith", "''  ->  'x'", "neither is a folder with a key"),
    ("cli/fastpath", "XDG_STATE_HOME", "''  ->  'x'", "neither is an absolute path"),
    ("cli/fastpath", "sys.platform ==", "''  ->  'x'", "neither is a folder with a key"),
    ("cli/fastpath", "unsafe_part(", "0  ->  1", "a part and a reason come together"),
    ("cli/fastpath", "os.read(", "65536  ->  65537", "no such file is so long"),
    ("cli/fastpath", "except OSError:\n        return False", "False  ->  True", "a missing folder has no file"),
    ("daemon/keeper", "", "before <= self.clock.now() < until  ->  (before < self.clock.now() < until)",
     "a nap that takes no time may be followed by a check"),
    ("daemon/keeper", "", "before <= self.clock.now() < until  ->  (before <= self.clock.now() <= until)",
     "the naps that follow take no time"),
    ("daemon/keeper", "set_by, before = ", "0.0  ->  1.0", "the first nap replaces it"),
    ("daemon/keeper", "", "time.monotonic() > overdue  ->  (time.monotonic() >= overdue)", "one nanosecond apart"),
    ("daemon/keeper", "", "'state.json'  ->  ''", "the folder's stamp changes with each file that is replaced"),
    ("daemon/keeper", "", f"{BEAT} < STUCK  ->  ({BEAT} <= STUCK)", "one nanosecond apart"),
    ("daemon/keeper", "return 0", "0  ->  1", "the value is only compared with that of the last check"),
    ("daemon/keeper", "", "state.live(now) is None  ->  (state.live(now) is not None)",
     "the value is only compared with that of the last check"),
    ("credentials/google_errors", 'headers.get("Retry-After"', "''  ->  'x'", "neither is a pause"),
    ("gateway/guard", "", "'%'  ->  ''", "each segment is then decoded, which changes no plain one"),
    ("gateway/guard", "", "'.'  ->  ''", "as above"),
    ("gateway/guard", "maxsplit=1", "part.split(';', maxsplit=1)  ->  (part.split(';'))", "the first part is used"),
    ("gateway/guard", "maxsplit=1", "1  ->  2", "as above"),
    ("gateway/token_source", "", "0.0  ->  1.0", "the loop's clock counts from the boot, so it is past one second"),
    ("gateway/headers", "", "'connection'  ->  ''", "the header is read, and so dropped, before the list is asked"),
    ("gateway/headers", "", "'authorization'  ->  ''", "the Google token replaces it, so it is dropped in any case"),
    ("gateway/headers", "", "''  ->  'x'", "no header has an empty name"),
    ("gateway/headers", "", "'keep-alive'  ->  ''", "that header is dropped in any case"),
    ("gateway/headers", "", "'close'  ->  ''", "no header has this name"),
    ("gateway/headers", "", "named <= _PLAIN  ->  (named < _PLAIN)", "it spares a search for names that no header has"),
)  # fmt: skip

# Imported once, before each run is forked; nothing of vx_token, which each run imports anew.
PRELOADED = (
    "_pytest.runner", "hypothesis", "hypothesis.strategies", "aiohttp.web", "click", "cryptography.x509", "requests",
    "google.auth.transport.requests", "google.oauth2.service_account", "psutil", "trustme", "watchdog.observers",
)  # fmt: skip


LATE = 99
"""The exit status of a run that a time limit ended."""


class Order:
    """A pytest plugin: the quickest tests run first, and each has a time limit made from a run without a change."""

    def __init__(self, path: Path, *, measuring: bool) -> None:
        self.path, self.measuring, self.late = path, measuring, False
        self.seconds: dict[str, float] = {} if measuring else json.loads(path.read_text())

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort the tests, unless this run measures them."""
        if not self.measuring:
            items.sort(key=lambda item: self.seconds.get(item.nodeid, 0.0))
            for item in items:
                item.add_marker(pytest.mark.timeout(5 + 4 * self.seconds.get(item.nodeid, 0.0)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up the phases of a test."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        self.late = self.late or "Failed: Timeout (>" in report.longreprtext

    def pytest_sessionfinish(self) -> None:
        """Keep what was measured."""
        if self.measuring:
            self.path.write_text(json.dumps(self.seconds))


@dataclass
class Run:
    """Tests that run in a process of their own, in a copy of the tree."""

    pid: int
    module: str
    mutant: Mutant | None
    tree: Path
    started: float = field(default_factory=time.monotonic)


@dataclass
class Result:
    """What became of the mutants of one module; `killed` includes those that a time limit ended, `late`."""

    possible: int
    tried: int = 0
    killed: int = 0
    late: int = 0
    explained: int = 0

    @property
    def survived(self) -> int:
        """The number of mutants that no test noticed and no reason explains."""
        return self.tried - self.killed - self.explained

    @property
    def noticed(self) -> float:
        """Percentage of the mutants that tests kill, of those that can be observed."""
        return 100.0 * self.killed / max(1, self.tried - self.explained)


def main() -> int:
    """Run the tests against a sample of mutants; the exit status is 1 if an unexplained one survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"default: all of {', '.join(TESTS)}")
    parser.add_argument("--sample", type=int, default=40, metavar="N", help="mutants of each module (40; 0: all)")
    parser.add_argument("--seed", type=int, default=18, metavar="N", help="chooses the sample (18)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="runs at the same time (2)")
    parser.add_argument("--line", type=int, metavar="N", help="only the mutants of this line of MODULE")
    parser.add_argument("--write", action="store_true", help="write these rows of docs/design.md")
    options = parser.parse_args()
    modules = options.modules or list(TESTS)
    for name in PRELOADED:
        importlib.import_module(name)
    work: list[tuple[str, Mutant]] = []
    results: dict[str, Result] = {}
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        first = copied(Path(folder) / "unchanged")
        tempfile.tempdir = os.environ["TMPDIR"] = str(Path(folder) / "tmp")  # for what a test that is ended leaves
        Path(tempfile.tempdir).mkdir()
        for module in modules:
            each = mutants((first / source_of(module)).read_bytes())
            results[module] = Result(len(each))
            chosen = [mutant for mutant in each if options.line in (None, mutant.line)]
            if options.sample and len(chosen) > options.sample:
                chosen = random.Random(f"{options.seed} {module}").sample(chosen, options.sample)  # noqa: S311 - repeatable
            work += [(module, mutant) for mutant in sorted(chosen, key=lambda mutant: mutant.start)]
        limits = {module: 20 + 3 * baseline(module, first) for module in modules}
        # With everything compiled.
        trees = [shutil.copytree(first, Path(folder) / str(number), symlinks=True) for number in range(options.jobs)]
        for number, (module, mutant, outcome) in enumerate(outcomes(work, first, trees, limits), 1):
            record(results[module], module, mutant, outcome)
            if outcome == "survived" and not explained(module, mutant):
                say(f"{source_of(module)}:{mutant.line}: {mutant}")
            elif number % 20 == 0:
                say(f"{number} of {len(work)}")
    sys.stdout.write(table(results))
    if options.write:
        write(results)
    return 1 if any(result.survived for result in results.values()) else 0


def say(text: str) -> None:
    """Print a line of progress."""
    sys.stderr.write(f"{text}\n")


def source_of(module: str) -> str:
    """The path of a module in the tree."""
    return f"src/vx_token/{module}.py"


def copied(tree: Path) -> Path:
    """Copy the checkout's files, so that the checkout itself never changes."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    return tree


def baseline(module: str, tree: Path) -> float:
    """Return how long (seconds) the tests of an unchanged module take; they must pass."""
    run = start(module, None, tree)
    _, status = os.waitpid(run.pid, 0)
    took = time.monotonic() - run.started
    if status:
        raise SystemExit(f"the tests of {module} fail without a change:\n{(tree / 'output').read_text()[-3000:]}")
    say(f"{module}: {took:.1f} s")
    return took


def outcomes(
    work: list[tuple[str, Mutant]], unchanged: Path, trees: list[Path], limits: dict[str, float]
) -> Iterator[tuple[str, Mutant, str]]:
    """Yield each mutant with its outcome: `killed`, `late` or `survived`."""
    waiting, free, running = list(reversed(work)), list(trees), dict[int, Run]()
    try:
        while waiting or running:
            while waiting and free:
                run = start(*waiting.pop(), free.pop())
                running[run.pid] = run
            pid, status = os.waitpid(-1, os.WNOHANG)
            late = [run for run in running.values() if time.monotonic() - run.started > limits[run.module]]
            if not pid and late:
                end(late[0].pid)
                pid, status = os.waitpid(late[0].pid, 0)[0], LATE << 8
            if not pid:
                time.sleep(0.02)
                continue
            run = running.pop(pid)
            end(pid)  # what its tests left running
            shutil.copy2(unchanged / source_of(run.module), run.tree / source_of(run.module))
            free.append(run.tree)
            assert run.mutant is not None
            outcome = "late" if os.waitstatus_to_exitcode(status) == LATE else "killed" if status else "survived"
            yield run.module, run.mutant, outcome
    finally:  # also of an interrupted command
        for pid in running:
            end(pid)


def start(module: str, mutant: Mutant | None, tree: Path) -> Run:
    """Run the module's tests with the change, in a forked process that leads a group of its own."""
    path = tree / source_of(module)
    if mutant is not None:
        path.write_bytes(mutant.applied(path.read_bytes()))
    sys.stdout.flush()
    if pid := os.fork():
        return Run(pid, module, mutant, tree)
    try:
        os._exit(tested(module, tree, unchanged=mutant is None))
    finally:
        os._exit(9)


def tested(module: str, tree: Path, *, unchanged: bool) -> int:
    """Run pytest in this process and return its exit status."""
    import hypothesis

    os.setsid()
    del sys.modules["__main__"].__file__  # multiprocessing would run this script again in the processes that tests fork
    output = os.open(tree / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(tree)
    sys.path[:] = [str(tree / "src"), *(each for each in sys.path if not each.startswith(f"{ROOT}/s"))]
    # The first run compiles all; a mutant's bytes are never kept, because the time of a file counts in whole seconds.
    sys.dont_write_bytecode = not unchanged
    if not unchanged:
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    # Examples that are the same in every run, and no search for the simplest one.
    hypothesis.settings.register_profile(
        "mutate", deadline=None, derandomize=True, database=None, max_examples=50,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )  # fmt: skip
    words = ["-q", "-x", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning", "-m", "not slow"]
    words += ["--hypothesis-profile=mutate", f"--basetemp={tree / 'basetemp'}"]
    order = Order(tree.parent / "unchanged" / f"{module.replace('/', '-')}.seconds", measuring=unchanged)
    status = int(pytest.main([*words, *TESTS[module]], plugins=[order]))
    return LATE if order.late else status


def end(pid: int) -> None:
    """End a run and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def explained(module: str, mutant: Mutant) -> bool:
    """Return whether EQUIVALENT has a reason why no test can notice this mutant."""
    return any(
        (module, str(mutant)) == (where, change) and part in mutant.context for where, part, change, _ in EQUIVALENT
    )


def record(result: Result, module: str, mutant: Mutant, outcome: str) -> None:
    """Count an outcome."""
    result.tried += 1
    result.killed += outcome != "survived"
    result.late += outcome == "late"
    result.explained += outcome == "survived" and explained(module, mutant)


def table(results: dict[str, Result]) -> str:
    """Return the table of all modules, and their sum."""
    head = ("module", "mutants", "tried", "killed", "of them by the time limit", "explained", "survived")
    rows: list[list[object]] = []
    total = Result(*map(sum, zip(*map(astuple, results.values()), strict=True)))
    for name, result in [*((f"`{module}`", each) for module, each in results.items()), ("all", total)]:
        rows.append([name, *astuple(result), result.survived, f"{result.noticed:.1f} %"])
    return blocks.table((*head, "killed of the rest"), *rows) + "\n"


def write(results: dict[str, Result]) -> None:
    """Replace the rows of these modules in the page's table, and the sum."""
    old = blocks.read("design.md", "mutants")
    numbers = {name: Result(*map(int, cells.split("|"))) for name, cells in ROW.findall(old)}
    merged = {module: (numbers | results)[module] for module in TESTS if module in numbers | results}
    blocks.write("design.md", "mutants", table(merged))


if __name__ == "__main__":
    raise SystemExit(main())
