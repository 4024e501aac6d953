"""Runs real tools, unmodified, against a Google on loopback, where every other host name leads to a trap.

For each tool: an answer with the environment's variables in direct and in gateway mode, one process that outlives its
tokens, a key command or key file, `vx-token connect` and its undo, a tool call, and what was sent to other hosts.
"""

import argparse
import contextlib
import datetime as dt
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import pexpect
import real_tools
import tools_page
import tools_together
from home_files import changes, files, with_keys
from real_tools import INSTALLED, RealTool
from trap import Caught, Trap

from vx_token.emulator import Emulator, running
from vx_token.tools import catalog

MODELS = {"direct": "google/gemini-2.5-flash", "gateway": "google/gemini-3-pro-preview"}
"""Gemini 3 demands that its signatures of function calls come back, which many tools drop."""

LIFETIME = 5.0
"""Seconds that a token lives where a process must outlive it."""

TIMEOUT = 240
"""Seconds for an answer: some tools need a minute to start on a busy machine."""

QUESTION = "Say hello."
CALLS = "emulator: steps=3"
"""A prompt for which the emulator calls functions three times before it answers, if there are any."""

NONE: Mapping[str, str] = MappingProxyType({})
COMMAND = [sys.executable, "-P", "-m", "vx_token"]
Outcome = tuple[str, str]
"""`works`, `not run`, `refused` or `does not work`, and the reason."""

WORKS: Outcome = ("works", "")


class FailedError(Exception):
    """A tool did not do what is asked of it; the message has the reason."""


@dataclass
class Stage:
    """Google, the trap, a configuration for each mode, and the folders."""

    root: Path
    google: Emulator
    trap: Trap
    port: int = 0
    keys: list[str] = field(default_factory=list)
    identities: dict[str, str] = field(default_factory=dict)
    variables: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        program = self.root / "bin" / "vx-token"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
        program.chmod(0o755)
        for mode in ("direct", "gateway"):
            folder = self.root / mode
            folder.mkdir()
            self.identities[mode] = self.google.service_account(folder / "account.json")
            text = f'[profiles.test]\nbase_url = "{self.google.base_url()}"\ncredentials = "account.json"\n'
            text += f'mode = "{mode}"\nmodel = "{MODELS[mode]}"\n'
            text += f"[gateway]\nport = {self.port}\n" if mode == "gateway" else ""
            (folder / "config.toml").write_text(text)

    def environ(self, tool: RealTool | None, mode: str, home: Path) -> dict[str, str]:
        """Return a user's environment without the variables of vx-token."""
        path = [str(self.root / "bin"), tool.path if tool else "", os.environ["PATH"]]
        roots = dict.fromkeys(
            ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE"), str(self.trap.roots)
        )
        return {
            **roots,
            "PATH": os.pathsep.join(filter(None, path)),
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "HOME": str(home),
            "TMPDIR": str(self.root),
            "VX_TOKEN_CONFIG": str(self.root / mode / "config.toml"),
            "VX_TOKEN_RUNTIME_DIR": str(self.root / mode / "run"),
        }

    def vx(self, environ: dict[str, str], *words: str) -> str:
        """Run vx-token and return its output.

        Raises:
            FailedError: the exit status is not 0.
        """
        done = subprocess.run(
            [*COMMAND, *words], env=environ, cwd=environ["HOME"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise FailedError(f"vx-token {' '.join(words)}: {' '.join(done.stderr.split())}")
        return done.stdout

    def answers(self) -> int:
        """Return how many requests for an answer were answered."""
        return sum(self.google.count(route, 200) for route in ("chat", "completions", "responses"))

    def revoke(self, mode: str = "gateway") -> None:
        """End every token of a mode's account."""
        for issued in self.google.issued:
            if issued.identity == self.identities[mode]:
                self.google.revoke(issued.value)

    def exported(self, mode: str) -> dict[str, str]:
        """Return what `vx-token env` prints; a token is printed once."""
        if mode not in self.variables:
            self.variables[mode] = json.loads(self.vx(self.environ(None, mode, self.root), "env", "--shell", "json"))
        return self.variables[mode]

    def renew(self, environ: dict[str, str]) -> None:
        """Replace the token of direct mode, which has been revoked."""
        self.revoke("direct")
        self.vx(environ, "refresh")
        self.variables.pop("direct", None)

    def await_expiry(self) -> None:
        """Wait until every short-lived token of now has expired."""
        last = max(each.expires_at for each in self.google.issued if each.expires_at - each.issued_at < 2 * LIFETIME)
        while self.google.now() < last + 0.2:
            time.sleep(0.1)

    def lost_signatures(self) -> int:
        """Return how many signatures the gateway has lost: Google's stand-in went in their place."""
        headers = {"Authorization": f"Bearer {self.keys[0]}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/statusz", headers=headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310 - loopback
            return int(json.load(answer)["signatures_stood_in"])

    def secrets(self) -> list[str]:
        """Return the tokens and keys that no other host may get."""
        return [*(issued.value for issued in self.google.issued), *self.keys]

    @contextlib.contextmanager
    def home(self, tool: RealTool, files: dict[str, str], **values: str) -> Iterator[Path]:
        """Make a home folder with files; at the end, kill what the tool has left running in it."""
        home = Path(tempfile.mkdtemp(dir=self.root))
        for name, text in files.items():
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(filled(text, values))
        (home / "work").mkdir(exist_ok=True)
        try:
            if tool.first:
                environ = {**self.environ(tool, "gateway", home), "OPENAI_API_KEY": "not-used"}
                done = subprocess.run(
                    tool.first, cwd=home / "work", env=environ, capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise FailedError(f"{' '.join(tool.first)}: {last_words(done.stderr)}")
            yield home
        finally:
            end_all(home)
            shutil.rmtree(home, ignore_errors=True)


def filled(text: str, values: dict[str, str]) -> str:
    """Replace {name} by each value."""
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def end_all(home: Path) -> None:
    """Kill every process whose HOME is this folder: some tools leave one running."""
    mark = f"HOME={home}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                os.kill(int(path.parent.name), signal.SIGKILL)


class Run:
    """One tool on the stage."""

    def __init__(self, stage: Stage, tool: RealTool) -> None:
        self.stage, self.tool = stage, tool
        self.caught: dict[str, list[Caught]] = {"direct": [], "gateway": []}
        self.noted: dict[str, Outcome] = dict.fromkeys(("calls", "lives"), ("failed", "the first question failed"))

    @contextlib.contextmanager
    def watched(self, mode: str) -> Iterator[None]:
        """Record what goes elsewhere."""
        before = len(self.stage.trap.caught)
        try:
            yield
        finally:
            self.caught[mode] += self.stage.trap.caught[before:]

    def ask(self, mode: str, prompt: str = QUESTION, model: str = "", extra: Mapping[str, str] = NONE) -> int:
        """Start the tool with the variables for one answer; return how many requests it made.

        Args:
            mode: `direct` or `gateway`.
            prompt: the question.
            model: another model than the mode's.
            extra: variables that replace those of the mode.
        """
        with self.watched(mode), self.prepared(mode, model) as (environ, values):
            environ |= {name: filled(text, values) for name, text in extra.items()}
            return self.answer(environ, {**values, "prompt": prompt})

    def answer(self, environ: dict[str, str], values: dict[str, str]) -> int:
        """Run the tool's command to its end, in a home folder that is ready; return how many requests it made."""
        tool, stage = self.tool, self.stage
        before, values = stage.answers(), {"prompt": QUESTION, **values}
        command = [filled(word, values) for word in tool.command or tool.client]
        asked = None if tool.command else f"{values['prompt']}\n"
        try:
            done = subprocess.run(
                command, cwd=f"{environ['HOME']}/work", env=environ, input=asked,
                stdin=subprocess.DEVNULL if asked is None else None, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, errors="replace", timeout=TIMEOUT, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise FailedError(f"no end within {TIMEOUT} s") from None
        requests = stage.answers() - before
        if not requests:
            raise FailedError(f"no answered request; {last_words(done.stdout)}")
        if tool.answer not in done.stdout:
            raise FailedError(f"it printed no answer; {last_words(done.stdout)}")
        return requests

    @contextlib.contextmanager
    def prepared(self, mode: str, model: str = "") -> Iterator[tuple[dict[str, str], dict[str, str]]]:
        """Yield the environment with the variables of `vx-token env`, and the values for {name}."""
        tool, stage = self.tool, self.stage
        bare = stage.environ(tool, mode, stage.root)
        model = model or MODELS[mode]
        exported = {**stage.exported(mode), "OPENAI_MODEL": model}
        values = {"model": model, "url": exported["OPENAI_BASE_URL"], "key": exported["OPENAI_API_KEY"]}
        values["command"] = f"{stage.root}/bin/vx-token print"
        with stage.home(tool, tool.files, **values) as home:
            variables = {name: filled(text, values) for name, text in tool.variables.items()}
            node = {"TOOLS": str(INSTALLED / tool.environment)} if tool.of_node and not tool.command else {}
            yield {**bare, **exported, **variables, **node, "HOME": str(home)}, {**values, "home": str(home)}

    # The columns

    def direct(self) -> Outcome:
        """Start the tool with a token in the environment."""
        self.ask("direct")
        return WORKS

    def gateway(self) -> Outcome:
        """Start the tool with a local key in the environment; without a session, let the model call functions, too."""
        tool, lost = self.tool, self.stage.lost_signatures()
        if not self.in_session:
            self.count_calls(self.ask("gateway", CALLS if tool.calls else QUESTION))
        else:
            self.session()
        if self.stage.lost_signatures() > lost and not self.tool.changes_ids:
            raise FailedError("the gateway has lost a signature of Gemini 3")
        return WORKS

    def calls(self) -> Outcome:
        """Return whether the model's calls of functions, in the first request of `gateway`, had their results."""
        if not self.tool.calls:
            return ("not run", self.tool.why.get("calls", "it declares no functions"))
        if self.noted["calls"] == WORKS and self.tool.changes_ids:
            return ("works", "it changes the ids of calls, so that Google's stand-in replaces their signatures")
        return self.noted["calls"]

    def signed(self) -> Outcome:
        """Return whether the tool itself sends the signatures of Gemini 3's calls back, without the gateway."""
        if not self.tool.calls:
            return self.calls()
        refused = self.stage.google.count("chat", 400)
        try:
            self.ask("direct", CALLS, MODELS["gateway"])
        except FailedError:
            if self.stage.google.count("chat", 400) == refused:
                raise
        return ("refused", "") if self.stage.google.count("chat", 400) > refused else WORKS

    def lives(self) -> Outcome:
        """Return whether one process had answers after a revocation and after an expiry."""
        if not self.in_session:
            return ("not run", self.tool.why.get("lives", "it ends after its answer"))
        return self.noted["lives"]

    @property
    def in_session(self) -> bool:
        """Whether one process answers several questions."""
        return bool(self.tool.loop or not self.tool.command)

    def count_calls(self, requests: int) -> None:
        """Note whether there were three calls of functions."""
        problem = "" if requests > 3 else f"{requests} requests, so that no three calls were made"
        self.noted["calls"] = ("failed", problem) if problem else WORKS

    def session(self) -> None:
        """Ask one process at first, after a revocation and after an expiry."""
        tool, stage = self.tool, self.stage
        with (
            self.watched("gateway"),
            self.prepared("gateway") as (environ, values),
            short_lives(stage),
        ):
            words = [filled(word, values) for word in tool.loop or tool.client]
            child = pexpect.spawn(
                words[0], words[1:], env=environ, cwd=f"{environ['HOME']}/work", encoding="utf-8",
                codec_errors="replace", echo=False, timeout=TIMEOUT, dimensions=(50, 400),
            )  # fmt: skip
            try:
                self.count_calls(self.turn(child, "at first", CALLS if tool.calls else QUESTION))
                self.noted["lives"] = self.outlived(child)
            finally:
                end(child)

    def outlived(self, child: "pexpect.spawn[str]") -> Outcome:
        """Ask again after a revocation, and after an expiry."""
        try:
            self.stage.revoke()
            self.turn(child, "after the revocation")
            self.stage.await_expiry()
            self.turn(child, "after the expiry")
        except FailedError as error:
            return ("failed", str(error))
        return WORKS

    def turn(self, child: "pexpect.spawn[str]", when: str, prompt: str = QUESTION) -> int:
        """Type a line and wait for the answer; return the number of requests."""
        before, seen, end = self.stage.answers(), "", time.monotonic() + TIMEOUT
        quiet(child)
        child.sendline(filled(self.tool.line, {"prompt": prompt}))
        while self.stage.answers() == before or self.tool.answer not in seen:
            try:
                seen += child.read_nonblocking(65536, 0.5)
            except pexpect.TIMEOUT:
                if time.monotonic() > end:
                    raise FailedError(f"no answer {when}; {last_words(seen)}") from None
            except pexpect.EOF:
                raise FailedError(f"it ended {when}; {last_words(seen)}") from None
        return self.stage.answers() - before

    def key(self) -> Outcome:
        """Use a key command or a key file, before and after a revocation."""
        if self.tool.key == "connect":
            self.connected("direct")
            return WORKS
        if self.tool.key == "client":
            self.client_with_command()
            return WORKS
        if self.tool.key_variables:
            self.ask("direct", extra={"OPENAI_API_KEY": "not-used", **self.tool.key_variables})
            self.stage.renew(self.stage.environ(None, "direct", self.stage.root))
            self.ask("direct", extra={"OPENAI_API_KEY": "not-used", **self.tool.key_variables})
            return WORKS
        return ("not run", self.tool.why.get("key", "it has no setting for a key command or a key file"))

    def client_with_command(self) -> None:
        """Let a library run the key command, in one process across a revocation."""
        tool, stage = self.tool, self.stage
        bare = stage.environ(tool, "direct", stage.root)
        with self.watched("direct"), self.prepared("direct") as (environ, _):
            command = {"KEY_COMMAND": f"{stage.root}/bin/vx-token print", "OPENAI_API_KEY": "not-used"}
            words = tool.client
            child = pexpect.spawn(
                words[0], list(words[1:]), env={**environ, **command}, encoding="utf-8", echo=False, timeout=TIMEOUT
            )
            try:
                self.turn(child, "at first")
                stage.renew(bare)
                self.turn(child, "after the revocation")
            finally:
                end(child)

    def connect(self) -> Outcome:
        """Connect the tool, let it ask again after a revocation, and take it back."""
        if not self.tool.connect:
            return ("not run", self.tool.why.get("connect", "vx-token connect does not edit its settings"))
        self.connected("gateway")
        return WORKS

    def connected(self, mode: str) -> None:
        """Connect and take back; the user's files stay."""
        tool, stage = self.tool, self.stage
        with self.watched(mode), stage.home(tool, tool.users) as home:
            before = files(home)
            environ = stage.environ(tool, mode, home)
            stage.vx(environ, "connect", tool.connect, "--yes")
            keep_keys(stage, home)
            if mode == "direct":
                stage.renew(environ)
            else:
                stage.revoke()
            stage.vx(environ, "connect", tool.connect, "--yes")
            if catalog.find(tool.connect).request is None:
                self.answer(environ, {})
            stage.vx(environ, "connect", "--undo", tool.connect, "--yes")
            end_all(home)
            if changed := changes(before, files(home)):
                raise FailedError(f"undo has not restored {changed}")
            if left := with_keys(home):
                raise FailedError(f"undo has left a key in {left[0].relative_to(home)}")

    def elsewhere(self) -> Outcome:
        """Check that no key and no token went to another host."""
        if leaks := self.leaks("gateway"):
            raise FailedError(f"a key was sent to {', '.join(leaks)}")
        return WORKS

    def leaks(self, mode: str) -> list[str]:
        """Return where a token or a key went."""
        secrets = self.stage.secrets()
        return sorted({each.host for each in self.caught[mode] if any(map(each.holds, secrets))})

    def hosts(self, mode: str) -> list[str]:
        """Return the other hosts that the tool looked up or connected to."""
        return sorted({each.host for each in self.caught[mode]})


COLUMNS: dict[str, Callable[[Run], Outcome]] = {
    "direct": Run.direct,
    "gateway": Run.gateway,
    "calls": Run.calls,
    "signed": Run.signed,
    "lives": Run.lives,
    "key": Run.key,
    "connect": Run.connect,
    "elsewhere": Run.elsewhere,
}


@contextlib.contextmanager
def short_lives(stage: Stage) -> Iterator[None]:
    """Let tokens live for seconds."""
    before, stage.google.lifetime = stage.google.lifetime, LIFETIME
    stage.revoke()
    try:
        yield
    finally:
        stage.google.lifetime = before


def quiet(child: "pexpect.spawn[str]") -> None:
    """Read what a program prints until it pauses for a second."""
    with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
        while True:
            child.read_nonblocking(65536, 1)


def end(child: "pexpect.spawn[str]") -> None:
    """Kill a program; what it has started is killed with its home folder."""
    child.kill(signal.SIGKILL)
    with contextlib.suppress(pexpect.ExceptionPexpect):
        child.close()


def last_words(text: str) -> str:
    """Return the end of an output, on one line."""
    return " ".join(text.split())[-200:]


def keep_keys(stage: Stage, home: Path) -> None:
    """Remember the local keys that are in files, so that they are recognized elsewhere."""
    for path in with_keys(home):
        stage.keys += [key.decode() for key in re.findall(rb"vx-local-[\w-]+", path.read_bytes())]


@contextlib.contextmanager
def gateway(stage: Stage) -> Iterator[None]:
    """Run the gateway."""
    environ = stage.environ(None, "gateway", stage.root)
    with (stage.root / "gateway.log").open("wb") as log:
        process = subprocess.Popen([*COMMAND, "gateway"], env=environ, stderr=log)
    try:
        end = time.monotonic() + 60
        while not answers(f"http://127.0.0.1:{stage.port}/healthz"):
            if time.monotonic() > end:
                sys.exit((stage.root / "gateway.log").read_text())
            time.sleep(0.1)
        stage.keys.append(stage.vx(environ, "gateway", "key").strip())
        yield
    finally:
        process.terminate()
        process.wait(TIMEOUT)


def answers(url: str) -> bool:
    """Return whether a server answers."""
    try:
        with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - loopback
            return True
    except OSError:
        return False


def result(stage: Stage, tool: RealTool, columns: list[str]) -> tools_page.Entry:
    """Run one tool and return its entry of docs/tools.json."""
    run, outcomes = Run(stage, tool), {}
    for name in columns:
        began = time.monotonic()
        if name in tool.broken:
            outcomes[name] = ("does not work", tool.broken[name])
            continue
        try:
            outcomes[name] = COLUMNS[name](run)
        except FailedError as error:
            outcomes[name] = ("failed", str(error))
        seconds = time.monotonic() - began
        print(f"  {name}: {': '.join(filter(None, outcomes[name]))} ({seconds:.0f} s)", flush=True)
    return {
        "tool": tool.name,
        "package": tool.package,
        "registry": "npm" if tool.of_node else "PyPI",
        "version": tool.version,
        "date": str(dt.datetime.now(tz=dt.UTC).date()),
        "columns": {name: {"outcome": outcome, "why": why} for name, (outcome, why) in outcomes.items()},
        "other_hosts": {mode: run.hosts(mode) for mode in run.caught},
        "token_sent_to": run.leaks("direct"),
        "configuration": {
            "first": list(tool.first),
            "command": list(tool.command),
            "session": list(tool.loop),
            "variables": tool.variables,
            "files": tool.files,
            "connect": tool.connect,
        },
    }


def together(google: Emulator, trap: Trap, root: Path) -> tools_page.Entry:
    """Run the tools that one command connects."""
    name = "ten tools together"
    print(name, flush=True)
    try:
        outcome, why = "works", tools_together.run(google, trap, root, real_tools.chosen([], together=True))
    except tools_together.TogetherError as error:
        outcome, why = "failed", str(error)
    print(f"  {outcome}: {why}", flush=True)
    return {"tool": name, "columns": {"together": {"outcome": outcome, "why": why}}}


def failed(entry: tools_page.Entry) -> bool:
    """Return whether a column failed."""
    return any(column["outcome"] == "failed" for column in entry["columns"].values())


def main() -> int:
    """Run the tools that are named, or all; exit status 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a dozen tools that start fast")
    parser.add_argument("--together", action="store_true", help="only the ten tools that one command connects")
    parser.add_argument("--write", action="store_true", help="write docs/tools.json and docs/tools.md")
    parser.add_argument("--columns", default=",".join(COLUMNS), help="default: all")
    parser.add_argument("tools", nargs="*", metavar="TOOL", help="default: all")
    options = parser.parse_args()
    if options.write and options.columns != ",".join(COLUMNS):
        parser.error("--write needs all columns")
    chosen = [] if options.together else real_tools.chosen(options.tools, quick=options.quick)
    entries: list[tools_page.Entry] = []
    root = Path(tempfile.mkdtemp(prefix="vx-token-tools-"))
    root.chmod(0o711)
    try:
        with running() as google:
            trap = Trap(root, INSTALLED)
            if options.together or not (options.quick or options.tools):
                entries.append(together(google, trap, root))
            stage = Stage(root, google, trap)
            with gateway(stage) if chosen else contextlib.nullcontext():
                for tool in chosen:
                    print(f"{tool.name} {tool.version}", flush=True)
                    if not tool.version:
                        print("  failed: it is not installed", flush=True)
                        entries.append({"tool": tool.name, "columns": {"installed": {"outcome": "failed"}}})
                        continue
                    entries.append(result(stage, tool, options.columns.split(",")))
                    if options.write and not failed(entries[-1]):
                        tools_page.write(entries[-1:])
    finally:
        shutil.rmtree(root, ignore_errors=True)
    names = [each["tool"] for each in entries if failed(each)]
    if names:
        print("failed:", ", ".join(names))
    print(f"{len(entries) - len(names)} passed, {len(names)} failed")
    return 1 if names or not entries else 0


if __name__ == "__main__":
    sys.exit(main())
