"""Clocks that are set, suspends, short and long tokens with real daemons; and a thousand simulated days."""

import datetime as dt
import json
import multiprocessing
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from test_clocks import Machine, faketime

from credential_kinds import IAM, TARGET
from reliability import days
from reliability.context import Context, room
from reliability.observed import observed
from reliability.page import Section
from sandbox import until
from vx_token.emulator import running

HOUR, DAY = 3600.0, 86400.0

SOON = 35.0
"""Seconds within which a set clock is noticed: the longest nap, and a refresh."""

SET = (
    ("clock set 3 hours on", 3 * HOUR),
    ("clock set 10 minutes back", -600.0),
    ("clock set a year back", -365 * DAY),
    ("clock set past 19 January 2038", None),
    ("clock set by a second, as at a leap second", 1.0),
)

DAYS = 1000.0


@dataclass
class Case:
    """A row, and what fell short."""

    cells: tuple[str, ...]
    short: list[str] = field(default_factory=list)


def clock_set(name: str, offset: float | None) -> Case:
    """Set the clock of a running daemon, and wait until its token is right by that clock."""
    after_2038 = dt.datetime(2038, 1, 19, 3, 14, tzinfo=dt.UTC).timestamp() - time.time()
    with running() as google, tempfile.TemporaryDirectory(dir=room()) as folder:
        machine = Machine.make(Path(folder) / "machine", google)
        with machine.box.daemon():
            until(lambda: machine.right, 120, "the first token")
            before = machine.asked
            machine.set_clock(after_2038 if offset is None else offset)
            started = time.monotonic()
            if abs(machine.offset) > 5:
                until(lambda: machine.right and machine.asked > before, 150, name)
            took = time.monotonic() - started
            done = machine.box.vx("print")
            alive = done.stdout.strip() in {each.value for each in google.issued if each.expires_at > time.time()}
            asked = machine.asked - before
    short = [] if alive and done.returncode == 0 else [f"print ended with {done.returncode}: {done.stderr}"]
    if took > SOON + 15:
        short.append(f"right after {took:.0f} s")
    if asked > 2:
        short.append(f"{asked} requests")
    return Case((name, "a live token", f"{asked}", "0", f"{took:.0f} s"), short)


def suspended(lifetime: float = 8.0) -> Case:
    """Stop the daemon for longer than a token lives, as a suspend does, and let it go on."""
    with observed(lifetime) as seen, seen.box.daemon() as daemon:
        until(lambda: seen.live, 120)
        daemon.send_signal(signal.SIGSTOP)
        until(lambda: time.time() > max(each.expires_at for each in seen.google.issued) + 1, 60)
        seen.google.lifetime = HOUR
        done, before = seen.box.vx("print"), seen.google.count("token")
        daemon.send_signal(signal.SIGCONT)
        took = seen.recovery()
        time.sleep(3)
        asked = seen.google.count("token") - before
    short = [] if seen.end(done.stdout.strip()) > time.time() else [f"print ended with {done.returncode}"]
    short += [f"{asked} requests"] if asked > 2 else []
    return Case(
        ("daemon stopped for longer than a token lives", "a live token", f"{asked}", "0", f"{took:.0f} s"), short
    )


def two_seconds() -> Case:
    """Tokens of two seconds for twenty: how much of the time there is a live one."""
    with observed(2.0) as seen, seen.box.daemon():
        until(lambda: seen.live, 120)
        end, looks, lives, before = time.monotonic() + 20, 0, 0, seen.google.count("token")
        while time.monotonic() < end:
            seen.look()
            looks, lives = looks + 1, lives + seen.live
            time.sleep(0.02)
        asked = seen.google.count("token") - before
        tokens = [seen.box.vx("print") for _ in range(3)]
    short = [f"a dead token for {seen.dead:.1f} s"] if seen.dead > 2 else []
    short += [f"print ended with {each.returncode}" for each in tokens if each.returncode]
    return Case(("tokens of 2 s", f"a live token {lives / looks:.0%} of the time", f"{asked} in 20 s", "0", ""), short)


def twelve_hours() -> Case:
    """Tokens of twelve hours, as an organization can allow for an impersonated account."""
    with observed() as seen:
        seen.google.extended_lifetimes = True
        seen.google.allow(TARGET)
        seen.box.environ[IAM] = seen.google.url
        seen.box.config.unlink()
        seen.box.profile(url=seen.google.base_url(), impersonate=TARGET, lifetime="12h")
        done = json.loads(seen.box.vx("print", "--format", "json").stdout)
        status = seen.box.status()
        asked = seen.google.count("iam")
    wait = (status["next_refresh_at"] - time.time()) / HOUR
    short = (
        [] if done["expires_in"] > 11.9 * HOUR and 5 < wait < 8 and asked == 1 else [f"{done['expires_in']}, {wait}"]
    )
    return Case(("tokens of 12 h", f"the next refresh is in {wait:.1f} h", f"{asked}", "0", ""), short)


def zone_changes() -> Case:
    """Cross the change from and to daylight saving time, in the zone of the daemon and of another reader."""
    with running() as google, tempfile.TemporaryDirectory(dir=room()) as folder:
        machine = Machine.make(Path(folder) / "machine", google)
        machine.box.environ["TZ"] = "Europe/Berlin"
        change = dt.datetime(2027, 3, 28, 1, 0, tzinfo=dt.UTC).timestamp()
        machine.set_clock(change - time.time() - 20)
        with machine.box.daemon():
            until(lambda: machine.right, 120)
            before = machine.asked
            until(lambda: time.time() + machine.offset > change + 2, 60)
            done, asked = machine.box.vx("print"), machine.asked - before
    short = [] if done.returncode == 0 and asked == 0 else [f"{asked} requests, print {done.returncode}: {done.stderr}"]
    return Case(("change to daylight saving time", "the same token", f"{asked}", "0", "0 s"), short)


def thousand_days(number: float, jobs: int) -> Case:
    """Simulated days in processes side by side."""
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        parts = pool.map(days.simulate, [number / jobs] * jobs)
    tallies = [tally for tally, _ in parts]
    short = [problem for _, problem in parts if problem]
    happened = sum((tally.happenings for tally in tallies), days.Tally().happenings)
    total, requests = sum(each.days for each in tallies), sum(each.requests for each in tallies)
    busiest, stale = max(each.busiest for each in tallies), max(each.stale for each in tallies)
    late = max(0.0, *(each.late for each in tallies))
    what = ", ".join(f"{count:,} x {kind}" for kind, count in happened.most_common())
    return Case(
        (
            f"{total:,.0f} simulated days: {what}",
            f"an expired token at most {late:.1f} s, and {stale:.0f} s after a suspend or a set clock",
            f"{requests:,}; {busiest} in the busiest hour of at most {days.REQUESTS}",
            "0",
            f"at most {days.RECOVERY:.0f} s",
        ),
        short,
    )


def clocks(context: Context) -> Section:
    """Run all cases."""
    section = Section("time", ("what", "what the user sees", "requests to Google", "tokens lost", "right again"))
    cases: list[tuple[str, Callable[[], Case]]] = []
    try:
        faketime()
    except BaseException as missing:  # noqa: BLE001 - pytest's way to skip
        section.skipped.append(f"clocks that are set: {missing}")
    else:
        chosen = SET[:1] if context.quick else SET
        cases += [(name, lambda n=name, o=offset: clock_set(n, o)) for name, offset in chosen]
        cases += [] if context.quick else [("zone", zone_changes)]
    cases += [("suspend", suspended), ("2 s", two_seconds), ("12 h", twelve_hours)]
    cases = [(name, run) for name, run in cases if context.chosen(name)]

    def run(case: tuple[str, Callable[[], Case]]) -> Case:
        done = case[1]()
        context.say(" | ".join(done.cells) + "".join(f"\n  FELL SHORT: {each}" for each in done.short))
        return done

    done = context.side_by_side(run, cases)
    if context.chosen("days"):
        done.append(run(("days", lambda: thousand_days(10.0 if context.quick else DAYS, context.jobs))))
    section.rows = [case.cells for case in done]
    section.short = [f"{case.cells[0]}: {each}" for case in done for each in case.short]
    section.cases = f"{len(done)} cases"
    return section
