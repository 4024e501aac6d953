"""Real interactive shells on a pseudo-terminal, and the runtime folder that their hooks read."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pexpect
import psutil
import pytest

from sandbox import until
from vx_token.system import atomic

ROOT = Path(__file__).resolve().parent.parent
HOOKS = {kind: ROOT / "shell" / f"vx-token.{kind}" for kind in ("bash", "zsh", "fish")}
URL = "https://aiplatform.example/v1/projects/demo/locations/global/endpoints/openapi"
READY = "R> "
# Other versions are tried as well: VX_TOKEN_BASHES=/opt/bash-4.4/bin/bash:/opt/bash-5.3/bin/bash
BASHES = [path for path in os.environ.get("VX_TOKEN_BASHES", "").split(":") if path]


def need(program: str) -> str:
    """The path of a program; without it the test fails in CI (VX_TOKEN_STRICT=1) and is skipped elsewhere."""
    if path := shutil.which(program):
        return path
    if os.environ.get("VX_TOKEN_STRICT") == "1":
        pytest.fail(f"{program} is not installed")
    pytest.skip(f"{program} is not installed")


def version_of(bash: str) -> tuple[int, int]:
    """Major and minor version of a bash."""
    text = subprocess.run([bash, "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = text.partition("version ")[2].split(".")[:2]
    return int(major), int(minor)


def notices(shown: str) -> list[str]:
    """What the hook has told the user, among all that a terminal showed."""
    return re.findall(r"vx-token: ([^\r\n]*)", shown)


@dataclass(frozen=True)
class Runtime:
    """A runtime folder, written as the daemon writes it."""

    root: Path

    def folder(self, profile: str = "default") -> Path:
        """The folder of a profile, made when it is not there."""
        path = self.root / profile
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def file(self, kind: str = "bash", profile: str = "default") -> Path:
        """`env.fish` for fish, `env.sh` for every other shell."""
        return self.folder(profile) / ("env.fish" if kind == "fish" else "env.sh")

    def write(self, token: str = "tok-1", *, folder: str = "default", **more: object) -> None:
        """Replace both snippets; `more` goes to `snippet`."""
        self.put(snippet(token, **more), folder)  # type: ignore[arg-type]

    def put(self, text: str, folder: str = "default") -> None:
        """Replace both snippets by the text of an env.sh, good or bad, and its translation for fish."""
        atomic.write(self.file("bash", folder), text.encode())
        fish = re.sub(r"^export ([^=\n]*)=", r"set -gx \1 ", text.replace(" env.sh ", " env.fish "), flags=re.MULTILINE)
        atomic.write(self.file("fish", folder), fish.encode())

    def expires(self) -> int:
        """The second in which the token in place ends."""
        return int(re.findall(r"^# expires: (\d+)$", self.file().read_text(), re.MULTILINE)[0])

    def remove(self) -> None:
        """Take both snippets of the default profile away."""
        for kind in HOOKS:
            self.file(kind).unlink(missing_ok=True)


def snippet(
    token: str,
    *,
    life: float = 3600,
    status: str = "fresh",
    mode: str = "direct",
    profile: str = "gemini",
    notice: str = "",
    url: str = URL,
    extra: Mapping[str, str] | None = None,
) -> str:
    """The text of an env.sh; `life` in seconds from now; an empty token means that there is none."""
    expires = int(time.time() + life) if token else 0
    head = ["# vx-token env.sh 1", f"# profile: {profile}", f"# status: {status}", f"# expires: {expires}"]
    head += [f"# mode: {mode}", *([f"# notice: {notice}"] if notice else [])]
    bases = dict.fromkeys(("OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_BASE_URL"), url)
    values = {"OPENAI_API_KEY": token, **bases, "OPENAI_AGENTS_DISABLE_TRACING": "1", **(extra or {})}
    values["VX_TOKEN_EXPIRES_AT"] = str(expires)
    exports = [f"export {name}='{value}'" for name, value in values.items()] if token else []
    return "\n".join([*head, *exports, "# end", ""])


PROMPTS = {
    "bash": f"PS1='{READY}'\nbind 'set enable-bracketed-paste off' 2>&-\n",
    "zsh": f"PROMPT='{READY}'\nunsetopt prompt_sp prompt_cr\n",
    # fish draws a prompt again while a line is typed, so each prompt carries its number.
    "fish": "function fish_prompt; set -g count (math $count + 1); printf 'R%d> ' $count; end\nset -g fish_greeting\n",
}


@dataclass
class Shell:
    """An interactive shell that a test types into."""

    kind: str
    home: Path
    environ: dict[str, str]
    banner: str = ""
    prompts: int = 0
    child: "pexpect.spawn[str]" = field(init=False)

    def start(self, argv: list[str]) -> None:
        """Start the shell and wait for its first prompt; what came before it is the `banner`."""
        self.child = pexpect.spawn(
            argv[0], argv[1:], env=self.environ, cwd=str(self.home), encoding="utf-8", timeout=60, dimensions=(50, 400)
        )
        self.child.delaybeforesend = None
        self.banner = self.wait()

    def wait(self) -> str:
        """All that the terminal shows until the next prompt."""
        if self.kind != "fish":
            self.child.expect_exact(READY)
            return str(self.child.before)
        shown, number = "", 0
        while number <= self.prompts:
            self.child.expect(r"R(\d+)> ")
            shown += str(self.child.before)
            number = int(str(self.child.after)[1:-2])
        self.prompts = number
        return shown

    def run(self, line: str = "") -> str:
        """Type a line; all that the terminal showed until the next prompt, the echo included."""
        self.child.sendline(line)
        return self.wait()

    def interrupt(self) -> None:
        """Press Ctrl-C once the shell waits for a key: bash of itself loses one that comes while it still draws."""
        process = psutil.Process(self.child.pid)
        until(lambda: process.status() == psutil.STATUS_SLEEPING)
        self.child.sendintr()

    def out(self, line: str) -> str:
        """What a command writes to its stdout, by way of a file and so free of echo and terminal codes."""
        path = self.home / "out"
        path.write_text("")
        self.run(f"{line} >> {path}")
        return path.read_text()

    def environment(self) -> dict[str, str]:
        """The whole environment of a program started now."""
        entries = self.out("/usr/bin/env -0").split("\0")
        return dict(entry.split("=", 1) for entry in entries if "=" in entry)

    def seen(self, name: str) -> str | None:
        """What a program started now finds in its environment under `name`."""
        return self.environment().get(name)

    def close(self) -> None:
        """End the shell; a busy machine may take longer for it than pexpect grants."""
        with suppress(pexpect.ExceptionPexpect):
            self.child.close(force=True)
        until(lambda: not self.child.isalive(), 60)


def environment(home: Path, runtime: Runtime, **more: str) -> dict[str, str]:
    """A small, clean environment for a shell under test."""
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
        "VX_TOKEN_RUNTIME_DIR": str(runtime.root),
        **more,
    }


def arguments(kind: str, home: Path, rc: str) -> tuple[list[str], dict[str, str]]:
    """Write the rc file of a shell; the options and variables that make an interactive one read it and nothing else."""
    home.mkdir(exist_ok=True)
    if kind == "bash":
        (home / ".bashrc").write_text(rc)
        return ["--noprofile", "--rcfile", str(home / ".bashrc"), "-i"], {"HISTFILE": str(home / "history")}
    if kind == "zsh":
        (home / ".zshrc").write_text(rc)
        return ["--no-globalrcs", "-i"], {"ZDOTDIR": str(home)}
    folder = home / ".config" / "fish"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.fish").write_text(rc)
    quiet_fish(home)
    return ["-i"], {}


def quiet_fish(home: Path) -> None:
    """Keep fish's first start from making completions of all manual pages, a minute's work in the background."""
    (home / ".local/share/fish/generated_completions").mkdir(parents=True, exist_ok=True)


@contextmanager
def interactive(
    kind: str,
    home: Path,
    runtime: Runtime,
    *,
    before: str = "",
    after: str = "",
    program: str = "",
    flags: tuple[str, ...] = (),
    hook: bool = True,
    lowered: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Shell]:
    """A shell whose rc file sources the hook between `before` and `after`; `lowered` takes root's powers away."""
    load = f"source {shlex.quote(str(HOOKS[kind]))}" if hook else ""
    argv, more = arguments(kind, home, "\n".join([before, load, after, PROMPTS[kind]]))
    shell = Shell(kind, home, environment(home, runtime, **more, **(environ or {})))
    powers = "-dac_override,-dac_read_search"
    lower = [need("setpriv"), f"--inh-caps={powers}", f"--bounding-set={powers}"] if lowered else []
    shell.start([*lower, program or need(kind), *argv, *flags])
    try:
        yield shell
    finally:
        shell.close()


def script(argv: list[str], text: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script without a terminal."""
    return subprocess.run(
        [*argv, "-c", text], env=dict(environ), capture_output=True, text=True, timeout=30, check=False
    )


WRITER = """
import sys, time
from pathlib import Path
from shells import Runtime
runtime, life, pause, number = Runtime(Path(sys.argv[1])), float(sys.argv[2]), float(sys.argv[3]), 0
while True:
    number += 1
    runtime.write(f"tok-{number}-{int((time.time() + life) * 1000)}", life=life)
    time.sleep(pause)
"""


@contextmanager
def rotating(runtime: Runtime, life: float = 2.0, pause: float = 0.25) -> Iterator[None]:
    """A process that replaces the snippets every `pause` seconds by ones whose token lives `life` seconds.

    The token ends with the millisecond of its own end; the snippet says the whole second before, as the daemon does.
    """
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}"}
    argv = [sys.executable, "-c", WRITER, str(runtime.root), str(life), str(pause)]
    with subprocess.Popen(argv, env=environ) as writer:
        with suppress(PermissionError):  # who writes tokens of two seconds must not wait for its turn
            os.setpriority(os.PRIO_PROCESS, writer.pid, -10)
        try:
            until(runtime.file("fish").exists, 60)
            yield
        finally:
            writer.kill()
