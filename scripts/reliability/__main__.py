"""Runs the groups of faults one after the other, or two at a time for a quick run."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from reliability.concurrency import concurrency
from reliability.context import Context, isolate
from reliability.page import Section
from reliability.process_and_disk import crash, process_and_disk
from reliability.time_and_clocks import clocks
from reliability.token_endpoint import token_endpoint

GROUPS: dict[str, Callable[[Context], Section]] = {
    "token-endpoint": token_endpoint,
    "crashes": crash,
    "process-and-disk": process_and_disk,
    "concurrency": concurrency,
    "time": clocks,
}


def main() -> int:
    """Run them; 0 when nothing fell short."""
    parser = argparse.ArgumentParser(prog="scripts/prove-reliability", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"{', '.join(GROUPS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="a part of each group, in less than 3 minutes")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/reliability.md")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cases side by side")
    parser.add_argument("--case", default="", help="only cases whose name contains this")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"there is no group {', '.join(sorted(unknown))}")
    isolate()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background starts with it ignored
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # The few cases of the quick half mostly wait.
    context = Context(options.quick, max(options.jobs, 3 if options.quick else 1), options.case)

    def run(name: str) -> Section:
        started = time.monotonic()
        context.say(f"== {name}")
        section = GROUPS[name](context)
        section.seconds = time.monotonic() - started
        return section

    failed = False
    with ThreadPoolExecutor(2 if options.quick else 1) as pool:
        for section in pool.map(run, options.groups or GROUPS):
            context.say(section.text())
            failed = failed or bool(section.short)
            if options.write:
                section.write()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
