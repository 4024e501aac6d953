"""Ends a command at each of its system calls, and lets each of them fail: what is on the disk afterwards is usable."""

import contextlib
import errno
import os
import re
import shutil
import signal
import socket
import stat
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import forked
from reliability import traced
from reliability.context import boxed
from sandbox import Box
from vx_token import __main__
from vx_token.config.load import load_config
from vx_token.emulator import Emulator, running
from vx_token.gateway import key
from vx_token.system import paths
from vx_token.system.clock import SystemClock
from vx_token.tokens.refresh import Refresher
from vx_token.tokens.store import Store

ERRORS = ("ENOSPC", "EIO", "EMFILE", "EACCES", "EINTR")
STATUSES = {0, 1, 2, 3, 4, 5}
TOKEN = re.compile(r"ya29\.[\w.~+/-]+")
SECRET = re.compile(r"ya29\.[\w.-]{20}|vx-[\w-]{40}|-----BEGIN")
Tree = dict[str, tuple[int, bytes | str]]


@dataclass
class Bench:
    """What runs the command, in a process forked for it alone."""

    box: Box
    url: str

    @property
    def output(self) -> Path:
        """Where the command writes."""
        return self.box.root / "output"

    def run(self, *words: str, at: int | None = None, error: int | None = None) -> traced.Ended:
        """Run the command, traced."""
        self.output.write_text("")
        return traced.run(lambda: self._move_in(words), _start, at, error)

    def plain(self, *words: str) -> int:
        """Run the command to its end."""
        self.output.write_text("")
        child = os.fork()
        if not child:
            try:
                self._move_in(words)
                _start()
            finally:
                os._exit(98)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def _move_in(self, words: tuple[str, ...]) -> None:
        forked.move_in(words, dict(self.box.environ), self.box.root, self.output, self.output)


def _start() -> None:
    """Call the program in this process, and end it as the interpreter would."""
    sys.unraisablehook = _report
    status: object = 0
    try:
        __main__.main()
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        traceback.print_exc()
        raise
    sys.stdout.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


def _report(problem: "sys.UnraisableHookArgs") -> None:
    """Report what an object's end raised, except what no user sees.

    A user's connections are in the child, whose stderr is closed; and a user's interpreter ignores ResourceWarning.
    """
    of_a_connection = socket.__file__ in (frame.filename for frame in traceback.extract_tb(problem.exc_traceback))
    if not of_a_connection and not issubclass(problem.exc_type, ResourceWarning):
        sys.__unraisablehook__(problem)


class Scenario:
    """A command, and what must hold whatever happened to it."""

    words: tuple[str, ...]
    title: str

    def __init__(self, bench: Bench) -> None:
        self.bench, self.box = bench, bench.box
        self.empty_folders = 0

    def prepare(self) -> None:
        """Make what the command needs, before each run."""

    def check(self) -> str:
        """What is wrong now, or ""."""
        raise NotImplementedError

    def finish(self) -> str:
        """What is wrong after one more run that nothing disturbs."""
        status = self.bench.plain(*self.words)
        return f"the next {self.words} ended with {status}: {self.bench.output.read_text()}" if status else self.check()


class Refresh(Scenario):
    """Refreshes the token and publishes it into five files and one of the user's own."""

    words = ("refresh",)
    title = "refresh and publication"

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.store = Store(self.box.runtime)
        config = load_config(self.box.environ)
        self.profile = config.profile()
        self.refresher = Refresher(self.store, SystemClock(), forked.fetch_here, self.box.environ, config)
        assert bench.plain("refresh") == 0
        self.tokens: set[str] = set()

    def prepare(self) -> None:
        """A file may keep its token from before, too."""
        self.tokens = {self._token()}
        for path in (self.box.root / "mine", *(self.box.runtime / "gemini").glob("[!.]*")):
            with contextlib.suppress(FileNotFoundError):
                self.tokens.update(TOKEN.findall(path.read_text()))

    def _token(self) -> str:
        token = Store(self.box.runtime).read("gemini").token
        return token.value if token else ""

    def check(self) -> str:
        """Each file is whole, private, and holds a token that lives."""
        self.tokens.add(self._token())
        state = Store(self.box.runtime).read("gemini")
        if state.live(time.time()) is None:
            return "the state has no live token"
        if self.refresher.current(self.profile).value not in self.tokens:
            return "print would give another token"
        folder = self.box.runtime / "gemini"
        texts = {path.name: path.read_text() for path in folder.iterdir() if not path.name.startswith(".")}
        texts["mine"] = (self.box.root / "mine").read_text()
        if {folder.stat().st_mode & 0o777, self.box.runtime.stat().st_mode & 0o777} != {0o700}:
            return "a folder is open to others"
        if wide := [path.name for path in folder.iterdir() if path.stat().st_mode & 0o777 != 0o600]:
            return f"{wide} can be read by others"
        ends = {"header": "\n", "env.sh": "# end\n", "env.fish": "# end\n", "mine": "\n"}
        for name in ("token", "header", "env.sh", "env.fish", "mine"):
            text = texts.get(name, "")
            if not any(token in text for token in self.tokens) or not text.endswith(ends.get(name, "")):
                return f"{name} is not whole: {len(text)} characters"
        return ""


class Rotation(Scenario):
    """Replaces the gateway's local key, the old one stays valid for an hour."""

    words = ("gateway", "rotate-key", "--grace", "1h")
    title = "rotation of the local key"

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.folder = paths.state_dir(self.box.environ)
        self.before = key.load_or_create_key(self.folder)

    def prepare(self) -> None:
        """Remember the valid key."""
        self.before = key.load_or_create_key(self.folder)

    def check(self) -> str:
        """There is a whole private key, and the one from before is still valid."""
        now = key.read_key_file(self.folder / key.KEY_FILE)
        valid = {now, *(each for each, _ in key.read_previous_keys(self.folder))}
        return "" if len(now) == len(self.before) and self.before in valid else "the key in use is not valid any more"


class Setup(Scenario):
    """Sets up configuration and hook; `setup --undo` then leaves the home as it was."""

    title = "setup, then its undo"

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        address = ("--base-url", bench.url, "--project", "demo", "--profile", "gemini")
        self.words = ("setup", "--yes", "--no-service", "--offline", "--shell", "bash", *address)
        self.before = self._tree()
        self.saved = self.box.root / "saved"
        shutil.copytree(self.box.home, self.saved, symlinks=True)

    def prepare(self) -> None:
        """Bring the home back to what it was, whatever the run before left."""
        shutil.rmtree(self.box.home)
        shutil.copytree(self.saved, self.box.home, symlinks=True)

    def _tree(self) -> Tree:
        """All that is in the home: modes, contents, and where links lead."""
        return {str(path): (path.lstat().st_mode, _content(path)) for path in sorted(self.box.home.rglob("*"))}

    def check(self) -> str:
        """The undo restores the home byte for byte."""
        status = self.bench.plain("setup", "--undo", "--yes")
        if status:
            return f"the undo ended with {status}: {self.bench.output.read_text()}"
        now = self._tree()
        empty = {name for name, (mode, _) in now.items() if stat.S_ISDIR(mode) and not _filled(name, now)}
        self.empty_folders += bool(empty - self.before.keys())
        changed = [name for name in _difference(self.before, now) if name not in empty]
        return f"left behind: {changed[:3]}" if changed else ""


class Undo(Setup):
    """Undoes a setup; a second undo finishes what the first left."""

    title = "undo of a setup, then once more"

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        status = bench.plain(*self.words)
        assert status == 0, bench.output.read_text()
        self.words = ("setup", "--undo", "--yes")
        shutil.rmtree(self.saved)
        shutil.copytree(self.box.home, self.saved, symlinks=True)

    def finish(self) -> str:
        """Once more, from the start."""
        self.prepare()
        return super().finish()


SCENARIOS: dict[str, type[Scenario]] = {each.__name__: each for each in (Refresh, Rotation, Setup, Undo)}


def _content(path: Path) -> bytes | str:
    return str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else ""


def _difference(before: Tree, now: Tree) -> list[str]:
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def _filled(folder: str, now: Tree) -> bool:
    """Whether there is anything but folders in a folder."""
    return any(name.startswith(f"{folder}/") and not stat.S_ISDIR(mode) for name, (mode, _) in now.items())


@dataclass
class Tried:
    """What became of a scenario.

    Attributes:
        kills: runs that SIGKILL ended.
        failures: runs in which a call failed, by the error's name.
        statuses: how often the command with a failed call ended with each status.
        wrong: what must not be.
        calls: how many system calls the command makes.
        empty_folders: runs after which an empty folder stayed, which nobody needs.
    """

    title: str
    calls: int = 0
    kills: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    empty_folders: int = 0

    def __add__(self, other: "Tried") -> "Tried":
        """Both parts of a scenario."""
        failures, statuses = Counter(self.failures) + Counter(other.failures), Counter(self.statuses)
        return Tried(
            self.title,
            max(self.calls, other.calls),
            self.kills + other.kills,
            dict(failures),
            dict(statuses + Counter(other.statuses)),
            self.wrong + other.wrong,
            self.empty_folders + other.empty_folders,
        )


@dataclass(frozen=True)
class Part:
    """The points `first`, `first + step` … of a scenario: a call, and what happens to it."""

    name: str
    first: int
    step: int


def try_all(part: Part, say: Callable[[str], None]) -> Tried:
    """Kill the scenario's command at its calls, and let these fail."""
    name = part.name
    with boxed(executed=False) as box, running() as google:
        _furnish(box, google, name)
        ours, theirs = get_context("forkserver").Pipe(duplex=False)
        # Forked from a process with one thread, as ptrace needs it.
        process = forked.FORKS.Process(target=_work, args=(part, box, google.base_url(), theirs))
        process.start()
        theirs.close()
        tried = Tried(SCENARIOS[name].title)
        with contextlib.suppress(EOFError):
            while True:
                result = ours.recv()
                if isinstance(result, Tried):
                    tried = result
                else:
                    say(f"   {name} {part.first}: {result}")
        process.join()
        if process.exitcode:
            tried.wrong.append(f"{name}: its process ended with {process.exitcode}")
    return tried


def _furnish(box: Box, google: Emulator, name: str) -> None:
    if name in {"Setup", "Undo"}:
        del box.environ["VX_TOKEN_CONFIG"], box.environ["VX_TOKEN_RUNTIME_DIR"]
        box.runtime.mkdir(0o700)
        box.environ |= {"XDG_RUNTIME_DIR": str(box.runtime), "SHELL": "/bin/bash"}
        (box.home / ".bashrc").write_text("alias ll='ls -l'\n")
        path = box.home / ".config/gcloud/application_default_credentials.json"
        path.parent.mkdir(parents=True)
        google.authorized_user(path)
    else:
        google.service_account(box.key)
        box.profile(url=google.base_url())
        with box.config.open("a") as config:
            config.write(f'[[profiles.gemini.files]]\npath = "{box.root}/mine"\nformat = "header"\n')


def _work(part: Part, box: Box, url: str, results: Connection) -> None:
    """Try a part of a scenario in this process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    scenario = SCENARIOS[part.name](Bench(box, url))
    scenario.prepare()
    counted = scenario.bench.run(*scenario.words)
    if counted.status:
        results.send(Tried(scenario.title, wrong=[f"undisturbed: {scenario.bench.output.read_text()}"]))
        return
    tried = Tried(scenario.title, len(counted.calls))
    if problem := scenario.check():
        tried.wrong.append(f"undisturbed: {problem}")
    for number, (at, error) in enumerate(_points(counted.calls)[part.first :: part.step]):
        scenario.prepare()
        ended = scenario.bench.run(*scenario.words, at=at, error=getattr(errno, error) if error else None)
        where = f"{error or 'SIGKILL'} at {counted.calls[at]} ({at})"
        tried.wrong += [f"{where}: {each}" for each in _judged(tried, scenario, ended, error)]
        if number % 100 == 99:
            results.send(f"{number + 1} runs, {len(tried.wrong)} wrong {tried.wrong[-1:]}")
    tried.empty_folders = scenario.empty_folders
    if problem := scenario.finish():
        tried.wrong.append(problem)
    results.send(tried)


def _points(calls: list[str]) -> list[tuple[int, str]]:
    kills = [(at, "") for at in range(len(calls))]
    return kills + [(at, error) for error in ERRORS for at, name in enumerate(calls) if name in traced.NAMES.values()]


def _judged(tried: Tried, scenario: Scenario, ended: traced.Ended, error: str) -> Iterator[str]:
    output = scenario.bench.output.read_text()
    if not error:
        tried.kills += ended.status == -signal.SIGKILL
    else:
        tried.failures[error] = tried.failures.get(error, 0) + 1
        tried.statuses[ended.status] = tried.statuses.get(ended.status, 0) + 1
        if ended.status not in STATUSES or "Traceback" in output:
            yield f"ended with {ended.status}: {output.strip()[-300:]}"
    if SECRET.search(output):
        yield "a secret in its output"
    try:
        problem = scenario.check()
    except Exception as wrong:  # noqa: BLE001 - which is a result
        problem = f"{type(wrong).__name__}: {wrong}"
    if problem:
        yield problem
