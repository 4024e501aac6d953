"""Crashes and failing calls, full and missing disks, killed and stopped processes, and two versions on one folder."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psutil

from reliability import crashes, traced
from reliability.context import Context, isolated, repeated
from reliability.observed import Observed, observed
from reliability.page import Section
from sandbox import SOURCE, Box, until

LIFETIME = 24.0
"""Seconds that a token lives before the fault; then an hour."""

PARTS = {"Undo": 6, "Setup": 4, "Refresh": 2, "Rotation": 1}
"""Into how many parts each scenario is divided, which run side by side."""

QUICK_STEPS = {"Refresh": 60, "Rotation": 15, "Setup": 120, "Undo": 180}
"""Of the points of each scenario, one of so many belongs to the quick half."""


@dataclass(frozen=True)
class Fault:
    """What happens to a folder or a process.

    Attributes:
        name: as in the table.
        strike: does it, and undoes it when its generator goes on.
        disk: the options of a file system for the runtime folder alone, or "".
        tokens: whether every print must have a token, also after the first one's expiry.
        kept: whether the token that was there must be printed until its expiry.
        withdrawn: whether the token file can be changed at all when that token expires.
        quick: whether it belongs to the quick half.
    """

    name: str
    strike: Callable[[Observed, Any], Iterator[None]]
    disk: str = ""
    tokens: bool = True
    kept: bool = True
    withdrawn: bool = True
    quick: bool = False


def full(seen: Observed, daemon: Any) -> Iterator[None]:
    """Take all room, whatever is freed."""
    folder = seen.box.runtime

    def fill() -> None:
        with contextlib.suppress(OSError), (folder / "hog").open("ab", buffering=0) as hog:
            while True:
                hog.write(bytes(4096))

    with repeated(fill, 0.001):
        yield
    (folder / "hog").unlink()


def out_of_inodes(seen: Observed, daemon: Any) -> Iterator[None]:
    """Take all inodes."""
    folder = seen.box.runtime

    def fill() -> None:
        with contextlib.suppress(OSError):
            while True:
                (folder / f"hog-{time.monotonic_ns()}").touch()

    with repeated(fill, 0.001):
        yield
    for hog in folder.glob("hog-*"):
        hog.unlink()


def read_only(seen: Observed, daemon: Any) -> Iterator[None]:
    """Mount the folder over itself, read-only: the file system itself is busy while a daemon has locks there."""
    folder = str(seen.box.runtime)
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
    yield
    subprocess.run(["umount", folder], check=True)


def root_removed(seen: Observed, daemon: Any) -> Iterator[None]:
    """Remove the runtime folder, as a logout can do."""
    shutil.rmtree(seen.box.runtime, ignore_errors=True)
    yield


def profile_removed(seen: Observed, daemon: Any) -> Iterator[None]:
    """Remove the profile's folder."""
    shutil.rmtree(seen.box.runtime / "gemini", ignore_errors=True)
    yield


def root_replaced(seen: Observed, daemon: Any) -> Iterator[None]:
    """Put an empty folder in the place of the runtime folder."""
    seen.box.runtime.rename(seen.box.root / "elsewhere")
    seen.box.runtime.mkdir(mode=0o700)
    yield


def file_instead(seen: Observed, daemon: Any) -> Iterator[None]:
    """Put a file in the place of the profile's folder."""
    (seen.box.runtime / "gemini").rename(seen.box.root / "elsewhere")
    (seen.box.runtime / "gemini").write_text("in the way")
    yield
    (seen.box.runtime / "gemini").unlink()


def files_removed(seen: Observed, daemon: Any) -> Iterator[None]:
    """Remove the state, the lock and the token; the open ones are without a name then."""
    for name in ("state.json", "lock", "token"):
        (seen.box.runtime / "gemini" / name).unlink()
    yield


def state_broken(seen: Observed, daemon: Any) -> Iterator[None]:
    """Cut the state file short, as a crash of the machine can do."""
    state = seen.box.runtime / "gemini/state.json"
    os.truncate(state, state.stat().st_size // 2)
    yield


def child_killed(seen: Observed, daemon: Any) -> Iterator[None]:
    """Kill every process that asks Google, as the kernel does when memory is short."""
    process = psutil.Process(daemon.pid)
    seen.google.fail("token", None, kind="slow", delay=1.0)

    def kill() -> None:
        for child in process.children():
            with contextlib.suppress(psutil.Error):
                child.kill()

    with repeated(kill, 0.05):
        yield
    seen.google.heal()


def memory_limited(seen: Observed, daemon: Any) -> Iterator[None]:
    """Limit the daemon's address space, which its children inherit, to less than google-auth needs."""
    before = resource.prlimit(daemon.pid, resource.RLIMIT_AS)
    used = psutil.Process(daemon.pid).memory_info().vms
    resource.prlimit(daemon.pid, resource.RLIMIT_AS, (min(used + 2**20, 60 * 2**20), before[1]))
    yield
    resource.prlimit(daemon.pid, resource.RLIMIT_AS, before)


def daemon_killed(seen: Observed, daemon: Any) -> Iterator[None]:
    """Kill the daemon, and start another one at the end."""
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    yield
    (seen.box.runtime / ".daemon.json").unlink(missing_ok=True)


def holder_stopped(seen: Observed, daemon: Any) -> Iterator[None]:
    """Stop the daemon while it holds the profile's lock, in the middle of a refresh."""
    before = seen.google.count("token")
    seen.google.fail("token", 1, kind="slow", delay=3.0)
    daemon.send_signal(signal.SIGHUP)
    until(lambda: seen.google.count("token") > before, 60)
    daemon.send_signal(signal.SIGSTOP)
    yield
    daemon.send_signal(signal.SIGCONT)


def another_version(seen: Observed, daemon: Any) -> Iterator[None]:
    """Refresh and print by a version with another form of the state, in turns with this daemon."""
    copy = seen.box.root / "other"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name, old, new in (
        ("tokens/state_file.py", "VERSION = 1", "VERSION = 2"),
        ("__init__.py", "__version__ = ", "__version__ = 'other' or "),
    ):
        path = copy / "vx_token" / name
        text = path.read_text()
        assert old in text, name
        path.write_text(text.replace(old, new, 1))
    environ = seen.box.environ | {"PYTHONPATH": str(copy)}

    def use() -> None:
        for words in (("print",), ("refresh",)):
            done = subprocess.run(
                seen.box.command(*words), env=environ, cwd=seen.box.root, capture_output=True, text=True, check=False
            )
            if done.returncode or "Traceback" in done.stderr:
                seen.wrong.append(f"the other version's {words} ended with {done.returncode}: {done.stderr}")

    with repeated(use, 0.5):
        yield


FAULTS = (
    Fault("runtime folder's disk full", full, "size=256k", quick=True),
    Fault("runtime folder without inodes", out_of_inodes, "nr_inodes=60"),
    Fault("runtime folder remounted read-only", read_only, "size=1m", tokens=False, withdrawn=False),
    Fault("runtime folder removed", root_removed, quick=True),
    Fault("profile's folder removed", profile_removed),
    Fault("runtime folder replaced by an empty one", root_replaced),
    Fault("file in the place of the profile's folder", file_instead, tokens=False, kept=False),
    Fault("state, lock and token removed", files_removed),
    Fault("state cut short", state_broken),
    Fault("every child killed (out of memory)", child_killed, tokens=False),
    Fault("60 MiB of address space for the daemon", memory_limited),
    Fault("daemon killed, another started 25 s later", daemon_killed),
    Fault("daemon stopped while it holds the lock", holder_stopped, quick=True, tokens=False, withdrawn=False),
    Fault("another version's commands beside the daemon", another_version),
)


def process_and_disk(context: Context) -> Section:
    """Run the crashes, then the faults."""
    head = (
        "fault",
        "what `print` prints",
        "slowest `print`",
        "`print` without a token",
        "in the token file after expiry",
    )
    section = Section("process-and-disk", (*head, "live token in the file again"))
    faults = [fault for fault in FAULTS if context.chosen(fault.name) and (fault.quick or not context.quick)]
    if not isolated():
        section.skipped += [f"{fault.name} (needs root)" for fault in faults if fault.disk]
        faults = [fault for fault in faults if not fault.disk]

    def run(fault: Fault) -> tuple[tuple[str, ...], list[str]]:
        row, short = _suffer(fault)
        context.say(" | ".join(row))
        for each in short:
            context.say(f"  FELL SHORT: {each}")
        return row, short

    for row, short in context.side_by_side(run, faults):
        section.rows.append(row)
        section.short += short
    section.cases = f"{len(faults)} faults"
    return section


def crash(context: Context) -> Section:
    """Kill commands at their system calls, and let each of these fail."""
    head = ("command", "its system calls", "killed", *(f"failed with {error}" for error in crashes.ERRORS))
    section = Section(
        "crashes", (*head, "exit statuses after a failed call", "unusable afterwards", "empty folder left")
    )
    if not traced.POSSIBLE:
        section.skipped.append("all of it (needs Linux on x86-64)")
        return section
    if context.quick:
        parts = [crashes.Part(name, 0, step) for name, step in QUICK_STEPS.items()]
    else:
        parts = [crashes.Part(name, first, step) for name, step in PARTS.items() for first in range(step)]
    parts = [part for part in parts if context.chosen(part.name)]
    tried: dict[str, crashes.Tried] = {}
    for part, each in zip(
        parts, context.side_by_side(lambda part: crashes.try_all(part, context.say), parts), strict=True
    ):
        tried[part.name] = tried[part.name] + each if part.name in tried else each
    for each in tried.values():
        failures = [f"{each.failures.get(error, 0):,}" for error in crashes.ERRORS]
        statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(each.statuses.items()))
        counts = (f"{each.calls:,}", f"{each.kills:,}", *failures, statuses)
        section.rows.append((each.title, *counts, str(len(each.wrong)), str(each.empty_folders)))
        section.short += [f"{each.title}: {wrong}" for wrong in each.wrong]
    kills = sum(each.kills for each in tried.values())
    failed = sum(sum(each.failures.values()) for each in tried.values())
    section.cases = f"{kills:,} kills and {failed:,} failed calls"
    return section


def _suffer(fault: Fault) -> tuple[tuple[str, ...], list[str]]:
    """Let a user suffer the fault from one token's life past its expiry."""
    with observed(LIFETIME) as seen, contextlib.ExitStack() as stack:
        if fault.disk:
            stack.enter_context(_mounted(seen.box, fault.disk))
        seen.kept = fault.kept
        with seen.box.daemon() as daemon:
            until(lambda: seen.live, 120, "the first token")
            end = seen.end(seen.box.read("token"))
            seen.google.lifetime = 3600.0
            with seen.watched():
                struck = fault.strike(seen, daemon)
                next(struck)
                if fault.strike is not holder_stopped:
                    daemon.send_signal(signal.SIGHUP)
                time.sleep(max(0.0, end + 3 - time.time()))
                for _ in struck:
                    pass
                if fault.strike is daemon_killed:
                    stack.enter_context(seen.box.daemon())
                recovered = seen.recovery()
        said = max(set(seen.errors), key=seen.errors.count) if seen.errors else "a live token"
        counts = (f"{seen.slowest:.1f} s of {seen.prints}", str(len(seen.errors)), f"{max(0.0, seen.dead):.1f} s")
        short = [f"{fault.name}: {each}" for each in seen.short(tokens=fault.tokens, withdrawn=fault.withdrawn)]
        return (fault.name, said.replace(str(seen.box.root), "…"), *counts, f"{recovered:.0f} s"), short


@contextlib.contextmanager
def _mounted(box: Box, options: str) -> Iterator[None]:
    """Give the runtime folder a small file system of its own."""
    box.runtime.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=0700,{options}", "tmpfs", str(box.runtime)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(box.runtime)], check=True)
