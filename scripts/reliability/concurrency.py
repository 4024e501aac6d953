"""Many at once: prints at expiry, readers, changes of credentials, signals, connections, daemons."""

import contextlib
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import psutil

from gateways import ask, configure, free_port, local_key
from reliability.context import Context, repeated
from reliability.observed import Observed, observed
from reliability.page import Section
from sandbox import until


@dataclass
class Case:
    """What a case measured: what the user sees, requests, tokens lost, time; and what fell short."""

    sees: str
    requests: int
    lost: int = 0
    seconds: float = 0.0
    short: list[str] = field(default_factory=list)

    def expect(self, holds: bool, otherwise: str) -> None:
        """Add what fell short unless it holds."""
        if not holds:
            self.short.append(otherwise)


def prints(seen: Observed, scale: float) -> Case:
    """500 `print` at the expiry of a token, without a daemon."""
    number = max(50, int(500 * scale))
    seen.google.lifetime = 1.0
    seen.box.executed = False
    seen.box.vx("refresh")
    until(lambda: time.time() > seen.google.issued[-1].expires_at, 10)
    seen.google.lifetime = 3600.0
    seen.google.fail("token", 1, kind="slow", delay=6.0)  # so that all wait for the same answer
    before, started = seen.google.count("token"), time.monotonic()
    with ThreadPoolExecutor(number) as pool:
        done = list(pool.map(lambda _: seen.box.vx("print", timeout=300), range(number)))
    case = Case("", seen.google.count("token") - before, seconds=time.monotonic() - started)
    tokens = [each.stdout for each in done if not each.returncode]
    case.lost = number - len(tokens)
    case.sees = f"{len(tokens)} of {number} print the same token" if len(set(tokens)) == 1 else f"{set(tokens)}"
    case.expect(case.requests == 1 and case.lost == 0 and len(set(tokens)) == 1, f"{case}")
    return case


def readers(seen: Observed, scale: float) -> Case:
    """200 readers while the daemon replaces the files as fast as it may, which takes longer on a busy machine."""
    number, seconds, least = 200, 20.0 * max(0.2, scale), max(3, int(20 * scale))
    reads, torn, missing = [0] * number, [], [0] * number
    with seen.box.daemon() as daemon:
        until(lambda: seen.live, 120)
        started, before = time.monotonic(), seen.google.count("token")
        folder, over = seen.box.runtime / "default", threading.Event()

        def read(index: int) -> None:
            while not over.is_set():
                try:
                    token, snippet = (folder / "token").read_text(), (folder / "env.sh").read_text()
                except FileNotFoundError:
                    missing[index] += 1
                    continue
                reads[index] += 2
                if len(token) != 180 or not (snippet.startswith("# vx-token") and snippet.endswith("\n# end\n")):
                    torn.append(len(token))
                time.sleep(0.005)

        with repeated(lambda: daemon.send_signal(signal.SIGHUP), 0.2):
            threads = [threading.Thread(target=read, args=(index,)) for index in range(number)]
            for thread in threads:
                thread.start()
            time.sleep(seconds)
            until(lambda: seen.google.count("token") - before >= least, 120, f"{least} replacements")
            over.set()
            for thread in threads:
                thread.join()
    case = Case(f"{sum(reads):,} reads, {len(torn)} torn", seen.google.count("token") - before, sum(missing))
    case.seconds = time.monotonic() - started
    case.expect(not torn and not sum(missing), f"{len(torn)} torn, {sum(missing)} without a file")
    return case


def credentials(seen: Observed, scale: float) -> Case:
    """1,000 changes of the credential file a second; the last one is another account."""
    seconds = 10.0 * max(0.3, scale)
    with seen.box.daemon() as daemon:
        until(lambda: seen.live, 120)
        text, new = seen.box.key.read_text(), seen.box.root / "new.json"
        process, before, changes = psutil.Process(daemon.pid), seen.google.count("token"), 0
        cpu, started = sum(process.cpu_times()[:2]), time.monotonic()
        while time.monotonic() < started + seconds:
            new.write_text(text + " " * (changes % 100))
            new.replace(seen.box.key)
            changes += 1
            time.sleep(max(0.0, started + changes / 1000 - time.monotonic()))
        rate, asked = changes / (time.monotonic() - started), seen.google.count("token") - before
        used = sum(process.cpu_times()[:2]) - cpu
        identity, changed = seen.google.service_account(seen.box.key), time.monotonic()
        until(lambda: seen.live and seen.google.identity_of(seen.box.read("token")) == identity, 60, "the new account")
        case = Case("", asked, seconds=time.monotonic() - changed)
        case.sees = f"{rate:.0f} changes a second; the daemon used {used / seconds:.0%} of a core"
        case.expect(asked <= 2 * seconds + 2, f"{asked} requests in {seconds:.0f} s")
    return case


def hangups(seen: Observed, scale: float) -> Case:
    """200 SIGHUPs at once."""
    with seen.box.daemon() as daemon:
        until(lambda: seen.live, 120)
        token, before, started = seen.box.read("token"), seen.google.count("token"), time.monotonic()
        for _ in range(200):
            daemon.send_signal(signal.SIGHUP)
        until(lambda: seen.box.read("token") not in {"", token}, 60, "a new token")
        case = Case("a new token; the daemon runs on", 0, seconds=time.monotonic() - started)
        time.sleep(5)
        case.requests = seen.google.count("token") - before
        case.expect(daemon.poll() is None, "the daemon ended")
        case.expect(case.requests <= 12, f"{case.requests} requests")
    return case


def connections(seen: Observed, scale: float) -> Case:
    """5,000 idle connections to the gateway, from clients without the key."""
    number, port = int(5000 * max(0.1, scale)), free_port()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * number + 1000), hard))
    configure(seen.box, seen.google, port)
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(seen.box.daemon())
        until(lambda: seen.live, 120)
        key, process = local_key(seen.box), psutil.Process(daemon.pid)
        until(lambda: ask(port, "/v1/models", key)[0] == 200, 60)
        before, memory, opened, slowest = seen.google.count("token"), process.memory_info().rss, 0, 0.0
        for index in range(number):
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
                opened += 1
            if index % (number // 20) == 0:
                started = time.monotonic()
                status = ask(port, "/v1/models", key)[0]
                slowest = max(slowest, time.monotonic() - started if status == 200 else 1000.0)
        grown = (process.memory_info().rss - memory) / 2**20
        case = Case("", seen.google.count("token") - before, seconds=slowest)
        case.sees = f"{opened:,} opened; the key's holder is answered; {grown:.0f} MiB more"
        case.expect(slowest < 5 + 6 * seen.start and opened > 0.9 * number and grown < 100, case.sees)
    return case


def daemons(seen: Observed, scale: float) -> Case:
    """A second daemon in the same runtime folder."""
    with seen.box.daemon() as daemon:
        until(lambda: seen.live, 120)
        before, started = seen.google.count("token"), time.monotonic()
        done = seen.box.vx("run")
        case = Case(
            done.stderr.partition("\n")[0].replace(str(seen.box.root), "…"), seen.google.count("token") - before
        )
        case.seconds = time.monotonic() - started
        case.expect(done.returncode == 5 and daemon.poll() is None, f"{done.returncode}: {done.stderr}")
    return case


CASES: tuple[tuple[str, Callable[[Observed, float], Case]], ...] = (
    ("500 `print` at expiry, no daemon", prints),
    ("200 readers, files replaced on and on", readers),
    ("1,000 credential changes a second", credentials),
    ("200 SIGHUPs at once", hangups),
    ("5,000 idle connections to the gateway", connections),
    ("a second daemon", daemons),
)


def concurrency(context: Context) -> Section:
    """Run all cases one after the other, because each measures what the machine gives."""
    head = ("what", "what the user sees", "requests to Google", "tokens lost", "seconds")
    section = Section("concurrency", head)
    scale = 0.1 if context.quick else 1.0
    chosen = [(name, run) for name, run in CASES if context.chosen(name)]
    for name, run in chosen:
        with observed() as seen:
            case = run(seen, scale)
        section.rows.append((name, case.sees, f"{case.requests:,}", f"{case.lost}", f"{case.seconds:.1f} s"))
        section.short += [f"{name}: {each}" for each in case.short]
        context.say(" | ".join(section.rows[-1]) + "".join(f"\n  FELL SHORT: {each}" for each in case.short))
    section.cases = f"{len(chosen)} cases"
    return section
