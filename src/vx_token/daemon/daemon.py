"""The daemon: a keeper for each profile, a watcher for the files they depend on, and the signals that steer them."""

import contextlib
import json
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vx_token import __version__
from vx_token.config.duration import shown
from vx_token.config.model import Config, Profile
from vx_token.credentials.credential_file import credential_files
from vx_token.credentials.token import Token
from vx_token.daemon import environment as daemon_environment
from vx_token.daemon import event_record
from vx_token.daemon.event_record import Told
from vx_token.daemon.info import DAEMON_FILE, headline
from vx_token.daemon.instance_lock import Claim
from vx_token.daemon.keeper import Keeper
from vx_token.daemon.sd_notify import Silent
from vx_token.daemon.user_commands import Event, Order, Runner, environment
from vx_token.daemon.watcher import POLL, Watcher
from vx_token.errors import AddressError, TemporaryError, VxTokenError, shortage
from vx_token.gateway import controller
from vx_token.gateway.controller import GatewayController
from vx_token.outputs.exports import variables
from vx_token.outputs.files import SINKS
from vx_token.outputs.publisher import Publisher
from vx_token.system import atomic, daemon_lock, hardening, paths, stamps
from vx_token.system.clock import NAP, Clock
from vx_token.system.log import Log, libraries
from vx_token.tokens.model import State
from vx_token.tokens.refresh import Refresher

CHECK = 10 * NAP
"""Seconds between two looks at all files, for file systems that report no events."""

RETRY = 5.0
"""Seconds between two tries of what failed and may succeed later: the runtime folder, the gateway's address."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_ANY = Token("any", 0.0, 0.0)


@dataclass
class Daemon:
    """What runs in one process for one runtime folder."""

    load: Callable[[], Config]
    make: Callable[[Config], Refresher]
    outputs: Callable[[Config], Publisher]
    environ: Mapping[str, str]
    clock: Clock
    log: Log
    notifier: Silent
    events: "queue.SimpleQueue[Callable[[], None] | None]" = field(default_factory=queue.SimpleQueue)
    config_error: str = ""
    gateway_problem: VxTokenError | None = None
    waits_for_address: bool = False
    watch_problem: str = ""
    folder_problem: str = ""
    keepers: dict[str, Keeper] = field(default_factory=dict)
    ready: bool = False
    checked: float = 0.0
    retried: float = 0.0
    said: str = ""
    told: dict[str, Told] = field(default_factory=dict)
    problems: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commands = Runner(lambda order, found: self.events.put(lambda: self._commands_ended(order, found)))

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            ConfigError: the configuration is wrong at the start, or the folder not safe.
            TemporaryError: another daemon serves this runtime folder.
        """
        hardening.forbid_core_dumps()
        self.config = self.load()
        self.store = self.make(self.config).store
        self.claim = Claim(self.store.root / daemon_lock.DAEMON_LOCK)
        self.claim.take()
        self.started = self.clock.now()
        with contextlib.closing(self.claim), self._signals(), libraries(self.log):
            self.watcher = Watcher(lambda changed: self.events.put(lambda: self._changed(changed)))
            self.gateway = GatewayController(self.log, controller.activation_sockets(self.environ))
            self.watcher.start()
            try:
                self._serve_gateway(self.config)
                self._begin(forced=())
                self._serve()
            finally:
                self.notifier.stopping()
                self.gateway.stop()
                self._end()
                self.watcher.stop()
                if self.claim.held():
                    (self.store.root / DAEMON_FILE).unlink(missing_ok=True)
                self.log.event("info", "stopped")

    def _serve(self) -> None:
        heartbeat = self.notifier.heartbeat
        while True:
            try:
                event = self.events.get(timeout=min(heartbeat or CHECK, self._pause()))
            except queue.Empty:
                pass
            else:
                if event is None:
                    return
                event()
            self._check()
            self._retry()
            self._say()
            if heartbeat and self.gateway.alive() and all(keeper.alive() for keeper in self.keepers.values()):
                self.notifier.alive()

    def _pause(self) -> float:
        """Seconds until something must be looked at again, should no event come first."""
        if self.watcher.problem:
            return POLL
        return RETRY if self.gateway_problem or self.waits_for_address or not self._placed() else CHECK

    def _say(self) -> None:
        """Have the manager show how things stand; the minutes count down while nothing else happens."""
        before = self.said
        if self._headline() != before:
            self.notifier.status(self.said)

    def _check(self) -> None:
        """Look at the files now and then, should the kernel report no events; keepers look at theirs each nap."""
        problem = self.watcher.problem
        if problem and not self.watch_problem:
            text = f"the kernel reports no changes of files, so vx-token looks every {POLL:.0f} s instead"
            self.log.event("warning", f"{text}: {problem}")
        elif self.watch_problem and not problem:
            self.log.event("info", "the kernel reports changes of files again")
        self.watch_problem = problem
        if time.monotonic() >= self.checked + (POLL if problem else CHECK):
            self.checked = time.monotonic()
            self.watcher.check()

    def _retry(self) -> None:
        """Try again what failed: to be found in the runtime folder, and to serve the gateway's address."""
        broken = self.gateway_problem or self.waits_for_address or not self._placed()
        if not broken or time.monotonic() < self.retried + RETRY:
            return
        self.retried = time.monotonic()
        if not self._placed():
            self._stay()
        if self.waits_for_address:
            self._adopt(forced=False, again=True)
        elif self.gateway_problem:
            before = self.gateway_problem
            with contextlib.suppress(VxTokenError):
                self._serve_gateway(self.config)
            if self.gateway_problem is None or self.gateway_problem.message != before.message:
                self._note()

    def _serve_gateway(self, config: Config) -> None:
        """Have the gateway that `config` asks for; without its address the tokens are kept fresh all the same.

        Raises:
            ConfigError: the extra is not installed, or a setting is wrong.
            AddressError, TemporaryError: it cannot be had, and the one that serves already stays.
        """
        problem: VxTokenError | None = None
        try:
            self.gateway.apply(config, self.make(config))
        except (VxTokenError, OSError, MemoryError, RuntimeError) as caught:
            error = caught if isinstance(caught, VxTokenError) else shortage(caught)
            if not isinstance(error, AddressError | TemporaryError):
                raise
            if self.gateway.address:
                raise error from None
            problem = error
            if self.gateway_problem is None or self.gateway_problem.message != error.message:
                self.log.event("error", f"{error.message}; {error.hint}; trying again every {RETRY:.0f} s")
        self.gateway_problem = problem

    def _begin(self, forced: Collection[str]) -> None:
        """Start a keeper for each profile; those of `forced` ask Google at once."""
        refresher, publisher = self.make(self.config), self.outputs(self.config)
        with contextlib.suppress(OSError):  # a full disk; every refresh tries again
            self.store.link_default(self.config.stable)
        for profile in self.config.profiles.values():
            self.keepers[profile.name] = Keeper(
                profile, refresher, publisher, self._report, forced=profile.name in forced
            )
        self._note()
        self._follow()
        names = ", ".join(self.config.profiles)
        self.log.event("info", f"vx-token {__version__} keeps {names} fresh in {self.store.root}")

    def _end(self) -> None:
        for keeper in self.keepers.values():
            keeper.wake.stop()
        for keeper in self.keepers.values():
            keeper.thread.join(5)
        self.keepers.clear()

    def _reload(self, *, forced: bool) -> None:
        self.notifier.reloading(time.monotonic_ns())
        self._adopt(forced=forced)
        self.notifier.ready(self._headline())

    def _adopt(self, *, forced: bool, again: bool = False) -> None:
        """Take the configuration as it is now; `again` reports only an error that is new."""
        try:
            config = self.load()
            self._serve_gateway(config)
        except VxTokenError as error:
            before, self.config_error = self.config_error, f"{error.message} ({error.hint})"
            self.waits_for_address = isinstance(error, AddressError)
            if not (again and self.config_error == before):
                self.log.event("error", f"the last good configuration stays in force: {self.config_error}")
            self._note()
            self._force(self.keepers if forced else ())
            return
        self.config_error, self.waits_for_address = "", False
        if config == self.config:  # keepers go on: a refresh under way is not lost
            if not again:
                self.log.event("info", "the configuration is unchanged")
            self._note()
            self._force(self.keepers if forced else ())
            return
        profiles, self.config = self.config.profiles, config
        gone = set(profiles) - set(config.profiles)
        moved = {name for name, profile in config.profiles.items() if forced or profile != profiles.get(name)}
        self._end()
        for name in gone:
            self.store.forget(name)
            self.told.pop(name, None)
        self._begin(forced=moved)

    def _force(self, names: Collection[str]) -> None:
        for name in names:
            self.keepers[name].wake.force()

    def _placed(self) -> bool:
        """Whether other processes find us in the runtime folder."""
        return self.claim.held() and bool(stamps.stamp(self.store.root / DAEMON_FILE))

    def _stay(self) -> None:
        """Be found in the runtime folder again, unless another daemon is there now."""
        lost = not self.claim.held()
        try:
            if lost:
                self.claim.take()
        except VxTokenError as error:
            problem = f"{error.message}; {error.hint}"
            if problem != self.folder_problem:
                self.folder_problem = problem
                self.log.event("error", problem)
            if isinstance(error, TemporaryError):
                self.events.put(None)
            return
        self.folder_problem = ""
        self._note()
        if lost:
            self._follow()
            for keeper in self.keepers.values():
                keeper.wake.nudge()

    def _changed(self, changed: frozenset[Path]) -> None:
        whole = bool(changed & {self.store.root / DAEMON_FILE, self.store.root / daemon_lock.DAEMON_LOCK})
        if self.config.path in changed:
            self.log.event("info", f"{self.config.path} has changed")
            self._reload(forced=False)
        for keeper in self.keepers.values():
            if changed & set(credential_files(keeper.profile, self.environ)):
                self.log.event("info", "the credential file has changed", keeper.profile.name)
                keeper.wake.force()
            elif whole or any(path.parent.name == keeper.profile.name for path in changed):
                keeper.wake.nudge()

    def _follow(self) -> None:
        profiles = self.config.profiles.values()
        credentials = [path for profile in profiles for path in credential_files(profile, self.environ)]
        ours = [self.store.folder(profile.name) / name for profile in profiles for name in ("state.json", *SINKS)]
        known_by = [self.store.root / DAEMON_FILE, self.store.root / daemon_lock.DAEMON_LOCK]
        self.watcher.follow([self.config.path, *credentials, *ours, *known_by])

    def _report(self, keeper: Keeper, state: State) -> None:
        self.events.put(lambda: self._reported(keeper, state))

    def _reported(self, keeper: Keeper, state: State) -> None:
        before, keeper.state, first = keeper.state, state, not keeper.tried
        keeper.tried = True
        if first or before.attempts != state.attempts or before.failure != state.failure:
            self._tell(keeper.profile, state)
            self._run_commands(keeper.profile, state)
        if not self.ready and all(k.tried for k in self.keepers.values()):
            self.ready = True
            self.notifier.ready(self._headline())

    def _run_commands(self, profile: Profile, state: State) -> None:
        if not (profile.on_refresh or profile.on_login_needed):
            return
        folder = self.store.folder(profile.name)
        before = self.told.get(profile.name) or event_record.read(folder)
        after = self.told[profile.name] = before.after(state)
        if after != before:
            after.write(folder)
        if after.login != before.login and state.failure is not None:
            notice = f"{state.failure.message}; {state.failure.hint}"
            self._start(profile, "login-needed", profile.on_login_needed, notice)
        elif after.token != before.token:
            self._start(profile, "refresh", profile.on_refresh)

    def _start(self, profile: Profile, name: str, commands: tuple[tuple[str, ...], ...], notice: str = "") -> None:
        if not commands:
            return
        event = Event(name, profile.name, self.store.folder(profile.name), notice)
        # Started in a shell with our hook, the daemon has that shell's token in its environment.
        secret = {name for each in self.config.profiles.values() for name in variables(each, _ANY)}
        self.commands.start(Order(event, commands, environment(self.environ, event, secret)))

    def _commands_ended(self, order: Order, problems: tuple[str, ...]) -> None:
        for problem in problems:
            self.log.event("warning", problem, order.event.profile)
        if problems != self.problems.get(order.kind, ()):
            self.problems[order.kind] = problems
            self._note()

    def _tell(self, profile: Profile, state: State) -> None:
        now = self.clock.now()
        live = state.live(now)
        if state.failure is not None:
            level = "warning" if live else "error"
            self.log.event(level, f"{state.failure.message}; {state.failure.hint}", profile.name)
        elif live is not None:
            text = f"fresh token of {live.account or live.kind}, {shown(live.remaining(now))} left"
            self.log.event("info", f"{text}; {live.note}" if live.note else text, profile.name)

    def _headline(self) -> str:
        kept = [(keeper.profile, keeper.state) for keeper in self.keepers.values()]
        problem = self.gateway_problem.message if self.gateway_problem else ""
        self.said = headline(kept, self.clock.now(), self.config_error, problem)
        return self.said

    def _note(self) -> None:
        problem = self.gateway_problem
        content = {
            "version": __version__,
            "pid": os.getpid(),
            "started_at": self.started,
            "config_error": self.config_error,
            "profiles": {p.name: p.url for p in self.config.profiles.values()},
            "gateway": self.gateway.address,
            "environment": daemon_environment.digests(self.environ, paths.working_folder(self.environ)),
            "gateway_problem": [problem.message, problem.hint] if problem else [],
            "problems": {
                name: [text for (owner, _), found in self.problems.items() if owner == name for text in found]
                for name in self.config.profiles
            },
        }
        with contextlib.suppress(OSError):  # a full disk: `status` knows less then
            atomic.write(self.store.root / DAEMON_FILE, json.dumps(content).encode())

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Make events of signals while this lasts."""

        def act(number: int) -> None:
            self.events.put((lambda: self._reload(forced=True)) if number == signal.SIGHUP else None)

        # Not by handlers: they run when the main thread next looks, and it may just be about to wait for long.
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        listener = threading.Thread(target=_listen, args=(reader, act), name="signals", daemon=True)
        listener.start()
        woken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(woken)
            os.close(writer)
            listener.join()


def _listen(reader: int, act: Callable[[int], None]) -> None:
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            if number[0] in SIGNALS:
                act(number[0])
