"""The daemon's main loop: one keeper per profile, a file watcher, the gateway, and signals."""

import contextlib
import math
import os
import queue
import signal
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vx_token import __version__
from vx_token.config.model import Config
from vx_token.credentials.credential_file import credential_files, reauthentication_files
from vx_token.daemon import environment, signals
from vx_token.daemon.gateway_supervisor import RETRY, GatewaySupervisor
from vx_token.daemon.info import DAEMON_FILE, DaemonInfo, headline, state_message
from vx_token.daemon.instance_lock import InstanceLock
from vx_token.daemon.keeper import Keeper
from vx_token.daemon.sd_notify import Notifier
from vx_token.daemon.user_commands import Job, UserCommands
from vx_token.daemon.watcher import POLL, Watcher
from vx_token.errors import AddressError, TemporaryError, VxTokenError
from vx_token.gateway.controller import GatewayController, activation_sockets
from vx_token.outputs.files import SINKS
from vx_token.outputs.publisher import Publisher
from vx_token.system import daemon_lock, hardening, paths, stamps
from vx_token.system.clock import Clock
from vx_token.system.log import Log, libraries
from vx_token.tokens.model import State
from vx_token.tokens.refresh import Refresher


def run(
    load: Callable[[], Config],
    make_refresher: Callable[[Config], Refresher],
    make_publisher: Callable[[Config], Publisher],
    environ: Mapping[str, str],
    clock: Clock,
    log: Log,
    notifier: Notifier,
) -> None:
    """Serve a runtime folder until SIGTERM or SIGINT.

    Raises:
        ConfigError: the configuration is invalid at the start, or the runtime folder is not safe.
        TemporaryError: another daemon serves this runtime folder.
    """
    hardening.forbid_core_dumps()
    config = load()
    lock = InstanceLock(make_refresher(config).store.root / daemon_lock.DAEMON_LOCK)
    lock.acquire()
    with contextlib.closing(lock):
        supervisor = GatewaySupervisor(GatewayController(log, activation_sockets(environ)), make_refresher, log)
        daemon = Daemon(load, make_refresher, make_publisher, environ, clock, log, notifier, config, lock, supervisor)
        with signals.delivered(daemon.on_signal), libraries(log):
            daemon.serve()


@dataclass
class Daemon:
    """The state of the main loop; other threads put events into its queue. None in the queue stops the loop."""

    load: Callable[[], Config]
    make_refresher: Callable[[Config], Refresher]
    make_publisher: Callable[[Config], Publisher]
    environ: Mapping[str, str]
    clock: Clock
    log: Log
    notifier: Notifier
    config: Config
    lock: InstanceLock
    supervisor: GatewaySupervisor
    events: "queue.SimpleQueue[Callable[[], None] | None]" = field(default_factory=queue.SimpleQueue)
    keepers: dict[str, Keeper] = field(default_factory=dict)
    config_error: str = ""
    address_conflict: bool = False
    watch_problem: str = ""
    folder_problem: str = ""
    ready: bool = False
    retried_at: float = 0.0
    last_headline: str = ""

    def __post_init__(self) -> None:
        self.started_at = self.clock.now()
        self.store = self.make_refresher(self.config).store
        self.registration_files = {self.store.root / DAEMON_FILE, self.store.root / daemon_lock.DAEMON_LOCK}
        self.watcher = Watcher(lambda changed: self.events.put(lambda: self._files_changed(changed)))
        self.commands = UserCommands(
            self.environ, lambda job, problems: self.events.put(lambda: self._commands_finished(job, problems))
        )

    def serve(self) -> None:
        """Run the main loop until a signal or another daemon stops it."""
        self.watcher.start()
        try:
            self.supervisor.apply(self.config)
            self._start_keepers(forced=())
            self._loop()
        finally:
            self.notifier.stopping()
            self.supervisor.gateway.stop()
            self._stop_keepers()
            self.watcher.stop()
            if self.lock.held():
                (self.store.root / DAEMON_FILE).unlink(missing_ok=True)
            self.log.event("info", "stopped")

    def on_signal(self, number: int) -> None:
        """Queue a reload for SIGHUP and the stop for any other signal; called from the signal thread."""
        self.events.put((lambda: self._reload(forced=True)) if number == signal.SIGHUP else None)

    def _loop(self) -> None:
        heartbeat = self.notifier.heartbeat
        while True:
            timeout = min(self.watcher.interval, RETRY if self._degraded() else math.inf, heartbeat or math.inf)
            with contextlib.suppress(queue.Empty):
                event = self.events.get(timeout=timeout)
                if event is None:
                    return
                event()
            self._check_files()
            self._retry()
            self._update_status()
            if heartbeat and self.supervisor.gateway.alive() and all(k.alive() for k in self.keepers.values()):
                self.notifier.alive()

    def _degraded(self) -> bool:
        """Return whether `_retry` has work: an address is unavailable, or the runtime folder was replaced."""
        return self.supervisor.problem is not None or self.address_conflict or not self._registered()

    def _update_status(self) -> None:
        """Send the summary to systemd when it has changed, for example because minutes have passed."""
        if self.last_headline != self._headline():
            self.notifier.status(self.last_headline)

    def _check_files(self) -> None:
        """Check all files from time to time, because the kernel may report no events."""
        problem = self.watcher.problem
        if problem and not self.watch_problem:
            self.log.event("warning", f"no file events from the kernel; polling every {POLL:.0f} s: {problem}")
        elif self.watch_problem and not problem:
            self.log.event("info", "file events from the kernel work again")
        self.watch_problem = problem
        self.watcher.check_if_due()

    def _retry(self) -> None:
        """Retry what failed: registering in the runtime folder, and binding the gateway's address."""
        if not self._degraded() or time.monotonic() < self.retried_at + RETRY:
            return
        self.retried_at = time.monotonic()
        if not self._registered():
            self._register()
        if self.address_conflict:
            self._load_config(forced=False, retry=True)
        elif self.supervisor.problem and self.supervisor.retry(self.config):
            self._write_info()

    def _start_keepers(self, forced: Collection[str]) -> None:
        """Start a keeper per profile; the profiles in `forced` are refreshed at once."""
        refresher, publisher = self.make_refresher(self.config), self.make_publisher(self.config)
        with contextlib.suppress(OSError):  # a full disk; every refresh retries
            self.store.link_default(self.config.stable)
        for name, profile in self.config.profiles.items():
            self.keepers[name] = Keeper(profile, refresher, publisher, self._report, forced=name in forced)
        self._write_info()
        self._follow_files()
        self.log.event(
            "info", f"vx-token {__version__} keeps {', '.join(self.config.profiles)} fresh in {self.store.root}"
        )

    def _stop_keepers(self) -> None:
        for keeper in self.keepers.values():
            keeper.wake.stop()
        for keeper in self.keepers.values():
            keeper.thread.join(5)
        self.keepers.clear()

    def _reload(self, *, forced: bool) -> None:
        self.notifier.reloading(time.monotonic_ns())
        self._load_config(forced=forced)
        self.notifier.ready(self._headline())

    def _load_config(self, *, forced: bool, retry: bool = False) -> None:
        """Load and apply the configuration; a `retry` logs only errors that are new."""
        try:
            config = self.load()
            self.supervisor.apply(config)
        except VxTokenError as error:
            before, self.config_error = self.config_error, f"{error.message} ({error.hint})"
            self.address_conflict = isinstance(error, AddressError)
            if not (retry and self.config_error == before):
                self.log.event("error", f"the last good configuration stays in force: {self.config_error}")
            self._keep_keepers(forced=forced)
            return
        self.config_error, self.address_conflict = "", False
        if config == self.config:
            if not retry:
                self.log.event("info", "the configuration is unchanged")
            self._keep_keepers(forced=forced)
            return
        publisher = self.make_publisher(self.config)
        profiles, self.config = self.config.profiles, config
        changed = {name for name, profile in config.profiles.items() if forced or profile != profiles.get(name)}
        self._stop_keepers()
        for name in set(profiles) - set(config.profiles):
            publisher.forget(name)
            self.store.forget(name)
            self.commands.forget(name)
        self._start_keepers(forced=changed)

    def _keep_keepers(self, *, forced: bool) -> None:
        """Continue with the same profiles, so that no refresh in progress is lost."""
        self._write_info()
        if forced:
            for keeper in self.keepers.values():
                keeper.wake.force()

    def _registered(self) -> bool:
        """Return whether other processes can detect this daemon in the runtime folder."""
        return self.lock.held() and bool(stamps.stamp(self.store.root / DAEMON_FILE))

    def _register(self) -> None:
        """Lock and describe the runtime folder again; stop if another daemon serves it now."""
        lost = not self.lock.held()
        try:
            if lost:
                self.lock.acquire()
        except VxTokenError as error:
            problem = f"{error.message}; {error.hint}"
            if problem != self.folder_problem:
                self.folder_problem = problem
                self.log.event("error", problem)
            if isinstance(error, TemporaryError):
                self.events.put(None)
            return
        self.folder_problem = ""
        self._write_info()
        if lost:
            self._follow_files()
            for keeper in self.keepers.values():
                keeper.wake.nudge()

    def _files_changed(self, changed: frozenset[Path]) -> None:
        """Reload, refresh, or let the keepers compare their files with what they wrote.

        They do so after any event, because a folder that was removed before its files' first stamps were taken looks
        unchanged.
        """
        if self.config.path in changed:
            self.log.event("info", f"{self.config.path} has changed")
            self._reload(forced=False)
        affected = [keeper for keeper in self.keepers.values() if changed & self._login_files(keeper)]
        if affected:
            self._follow_files()  # because gcloud's active configuration may be another file now
        for keeper in self.keepers.values():
            if keeper in affected:
                self.log.event("info", "the credential file has changed", keeper.profile.name)
                keeper.wake.force()
            else:
                keeper.wake.nudge()

    def _login_files(self, keeper: Keeper) -> set[Path]:
        """Return the files whose change starts a refresh of the keeper's profile."""
        refused = keeper.state.failure is not None and keeper.state.failure.kind == "login"
        proofs = reauthentication_files(keeper.profile, self.environ) if refused else []
        return {*credential_files(keeper.profile, self.environ), *proofs}

    def _follow_files(self) -> None:
        profiles = self.config.profiles.values()
        credentials = [
            path
            for profile in profiles
            for files in (credential_files, reauthentication_files)
            for path in files(profile, self.environ)
        ]
        outputs = [self.store.folder(profile.name) / name for profile in profiles for name in ("state.json", *SINKS)]
        self.watcher.follow([self.config.path, *credentials, *outputs, *self.registration_files])

    def _report(self, keeper: Keeper, state: State) -> None:
        self.events.put(lambda: self._state_reported(keeper, state))

    def _state_reported(self, keeper: Keeper, state: State) -> None:
        profile, before, first = keeper.profile, keeper.state, not keeper.tried
        keeper.state, keeper.tried = state, True
        if first or before.attempts != state.attempts or before.failure != state.failure:
            if message := state_message(state, self.clock.now()):
                self.log.event(*message, profile.name)
            self.commands.start(profile, state, self.store.folder(profile.name), self.config.profiles.values())
        if not self.ready and all(k.tried for k in self.keepers.values()):
            self.ready = True
            self.notifier.ready(self._headline())

    def _commands_finished(self, job: Job, problems: tuple[str, ...]) -> None:
        for problem in problems:
            self.log.event("warning", problem, job.event.profile)
        if self.commands.record(job, problems):
            self._write_info()

    def _headline(self) -> str:
        states = [(keeper.profile, keeper.state) for keeper in self.keepers.values()]
        self.last_headline = headline(states, self.clock.now(), self.config_error, self.supervisor.message)
        return self.last_headline

    def _write_info(self) -> None:
        problem = self.supervisor.problem
        DaemonInfo(
            version=__version__,
            pid=os.getpid(),
            started_at=self.started_at,
            config_error=self.config_error,
            profiles={profile.name: profile.url for profile in self.config.profiles.values()},
            gateway=self.supervisor.gateway.address,
            environment=environment.checksums(self.environ, paths.working_folder(self.environ)),
            gateway_problem=[problem.message, problem.hint] if problem else [],
            problems={name: self.commands.problems(name) for name in self.config.profiles},
        ).write(self.store.root)
