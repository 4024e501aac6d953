"""Runs the user's on_refresh and on_login_needed commands; their environment holds paths, never a token."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vx_token.config.model import Profile
from vx_token.credentials.token import Token
from vx_token.outputs.exports import variables
from vx_token.system import atomic
from vx_token.system.private_file import private_text
from vx_token.tokens.model import State

TIMEOUT = 30.0
"""Maximum run time of one command, in seconds."""

RECORD_FILE = "events.json"
"""Name of the event record in a profile's folder."""

_ANY_TOKEN = Token("any", 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class EventRecord:
    """Records which events on_refresh and on_login_needed already ran for, across restarts.

    Attributes:
        token: fingerprint of the token that on_refresh last ran for, "" for none.
        login: number of the last successful attempt before on_login_needed ran; None once a refresh succeeded.
    """

    token: str = ""
    login: int | None = None

    def after(self, state: State) -> "EventRecord":
        """Return the record once the commands have run for `state`."""
        if state.failure is None:
            return EventRecord(_fingerprint(state.token))
        # Attempts are counted in the state file, so a higher number shows a success while no daemon was running.
        last_success = state.attempts - state.failures
        if state.failure.kind == "temporary" or (self.login is not None and last_success <= self.login):
            return self
        return replace(self, login=last_success)

    def write(self, folder: Path) -> None:
        """Save the record; on a write error it lasts only until this process exits."""
        with contextlib.suppress(OSError):
            atomic.write(folder / RECORD_FILE, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, folder: Path) -> "EventRecord":
        """Read a profile's record; a missing or invalid file gives an empty record."""
        try:
            record = cls(**json.loads(private_text(folder / RECORD_FILE)))
        except (OSError, ValueError, TypeError):
            return cls()
        return record if isinstance(record.token, str) and isinstance(record.login, int | None) else cls()


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a profile: `refresh` or `login-needed`, with a notice for the user."""

    name: str
    profile: str
    folder: Path
    notice: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """The commands to run for an event, in order."""

    event: Event
    commands: tuple[tuple[str, ...], ...]
    environ: Mapping[str, str]

    @property
    def key(self) -> tuple[str, str]:
        """Profile and event name: a job's result replaces the earlier result with the same key."""
        return self.event.profile, self.event.name


def environment(environ: Mapping[str, str], event: Event, secret: Collection[str]) -> dict[str, str]:
    """Build a command's environment: the daemon's without the variables named in `secret`, plus the event's paths."""
    return {
        **{name: value for name, value in environ.items() if name not in secret},
        "VX_TOKEN_EVENT": event.name,
        "VX_TOKEN_PROFILE": event.profile,
        "VX_TOKEN_TOKEN_FILE": str(event.folder / "token"),
        "VX_TOKEN_HEADER_FILE": str(event.folder / "header"),
        "VX_TOKEN_ENV_FILE": str(event.folder / "env.sh"),
        "VX_TOKEN_NOTICE": event.notice,
    }


class JobRunner:
    """Runs jobs in threads, one at a time per key.

    While a job runs, later jobs with its key are queued and only the newest is kept, because the files are newest too.
    """

    def __init__(self, finished: Callable[[Job, tuple[str, ...]], None], timeout: float = TIMEOUT) -> None:
        """`finished` is called in the job's thread with the error message of each failed command, never its output."""
        self._finished = finished
        self._timeout = timeout
        self._lock = threading.Lock()
        self._queued: dict[tuple[str, str], Job | None] = {}  # one key for each running job

    def start(self, job: Job) -> None:
        """Run the job now, or after the running job with the same key."""
        with self._lock:
            busy = job.key in self._queued
            self._queued[job.key] = job if busy else None
        if not busy:
            name = f"{job.event.profile} {job.event.name}"
            threading.Thread(target=self._run_queue, args=(job,), name=name, daemon=True).start()

    def _run_queue(self, job: Job) -> None:
        following: Job | None = job
        while following is not None:
            problems = [_run(argv, following.environ, self._timeout) for argv in following.commands]
            self._finished(following, tuple(filter(None, problems)))
            with self._lock:
                following = self._queued.pop(job.key)
                if following is not None:
                    self._queued[job.key] = None


class UserCommands:
    """Starts a profile's commands when its state changes, and keeps the errors of their last run."""

    def __init__(self, environ: Mapping[str, str], finished: Callable[[Job, tuple[str, ...]], None]) -> None:
        """`finished`: see `JobRunner`."""
        self._environ = environ
        self._runner = JobRunner(finished)
        self._records: dict[str, EventRecord] = {}
        self._problems: dict[tuple[str, str], tuple[str, ...]] = {}

    def start(self, profile: Profile, state: State, folder: Path, profiles: Collection[Profile]) -> None:
        """Start the commands for events that no command ran for yet.

        Args:
            profile: whose state was reported.
            state: its new state.
            folder: the profile's folder.
            profiles: all profiles; variables that hold one of their tokens are removed from the environment.
        """
        if not (profile.on_refresh or profile.on_login_needed):
            return
        before = self._records.get(profile.name) or EventRecord.read(folder)
        after = self._records[profile.name] = before.after(state)
        if after != before:
            after.write(folder)
        if after.login != before.login and state.failure is not None:
            notice = f"{state.failure.message}; {state.failure.hint}"
            event, commands = Event("login-needed", profile.name, folder, notice), profile.on_login_needed
        elif after.token != before.token:
            event, commands = Event("refresh", profile.name, folder), profile.on_refresh
        else:
            return
        if commands:
            # A daemon that was started in a shell with the hook has that shell's token in its environment.
            secret = {name for each in profiles for name in variables(each, _ANY_TOKEN, urls=("any",))}
            self._runner.start(Job(event, commands, environment(self._environ, event, secret)))

    def record(self, job: Job, problems: tuple[str, ...]) -> bool:
        """Keep a finished job's errors; return whether they differ from those of the previous run."""
        changed = problems != self._problems.get(job.key, ())
        self._problems[job.key] = problems
        return changed

    def problems(self, profile: str) -> list[str]:
        """Return the errors of the last run of each event's commands."""
        return [text for (owner, _), texts in self._problems.items() if owner == profile for text in texts]

    def forget(self, profile: str) -> None:
        """Drop the record of a profile that was removed from the configuration."""
        self._records.pop(profile, None)


def _fingerprint(token: Token | None) -> str:
    """Return a string that differs between tokens; by crc32, because hashlib would load OpenSSL into the daemon."""
    return "" if token is None else f"{zlib.crc32(token.value.encode()):08x}-{len(token.value)}"


def _run(argv: tuple[str, ...], environ: Mapping[str, str], timeout: float) -> str:
    """Run one command and return its error message, "" after success."""
    name, null = f"the command {argv[0]!r}", subprocess.DEVNULL
    try:
        child = subprocess.Popen(
            argv,
            env=dict(environ),
            stdin=null,
            stdout=null,  # the command may print the token
            stderr=null,
            start_new_session=True,  # a process group, so that a timeout also kills the command's children
        )
    except OSError as error:
        return f"{name} cannot be run: {error.strerror}"
    try:
        status = child.wait(timeout)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return f"{name} timed out after {timeout:.0f} s"
    return f"{name} exited with status {status}" if status else ""
