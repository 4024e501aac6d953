"""The shell integrations of terminals and prompts report the same with the hook as without it.

Each is the program's own script in a real shell. The same lines are typed into a shell without the hook and into one
with it, loaded before or after the integration. With the hook each prompt waits for three seconds before Enter, and at
some of them a new token comes in that time. What the integration reports, `$?`, PIPESTATUS, `$_` and BASH_COMMAND must
be equal.

`scripts/integrations` installs those that a package registry has. VX_TOKEN_INTEGRATIONS names a folder with others.
"""

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pexpect
import pytest

from sandbox import until
from shells import HOOKS, ROOT, Runtime, Shell, interactive, need

INSTALLED = ROOT / ".integrations"
FETCHED = Path(os.environ.get("VX_TOKEN_INTEGRATIONS") or INSTALLED)
DEBIAN_KITTY = Path("/usr/lib/kitty/shell-integration")
STRICT = os.environ.get("VX_TOKEN_STRICT") == "1"

# Control sequences by which a shell informs its terminal: prompt marks (133, 633), user variables (1337).
REPORT = re.compile(r"\x1b\](133|633|1337);([^\x07\x1b]*)(?:\x07|\x1b\\)")
# Different in each run: process ids, and with them the marks of a shell.
VARYING = re.compile(r"\b(aid|pid)=\d+")
# The environment that VS Code asks for is not ours to keep equal; redrawing a prompt is not an event.
IGNORED = ("EnvSingle", "EnvStart", "EnvEntry", "EnvEnd")


@dataclass(frozen=True)
class Integration:
    """The script of a program: where it is and how a start-up file loads it."""

    name: str
    kind: str
    file: str  # below the folder of integrations
    load: str = "source {file}"
    packaged: bool = False  # a package registry has it, so a run that must be complete needs it
    early: str = ""  # what a user has at the top of the start-up file

    def path(self) -> Path | None:
        """The script, or None when it is not there."""
        places = [FETCHED / self.file, INSTALLED / self.file]
        if self.name == "kitty":
            places.append(DEBIAN_KITTY / self.file.removeprefix("kitty/"))
        return next((place for place in places if place.exists()), None)


# kitty before 0.35 appends a command substitution to PS0 at each prompt, after the hook: see docs/shell.md.
APPENDED = "_ksi_prompt[ps0_suffix]+='$("

# Records what bash-preexec calls user functions with; $? in precmd is the status of the command.
PREEXEC = r"""
preexec() { printf '%s\n' "preexec $1 [$BASH_COMMAND]" >> ~/reports; }
precmd() { printf '%s\n' "precmd $? ${BP_PIPESTATUS[*]}" >> ~/reports; }
"""
# The prompt hook that a user has already.
MINE = {
    "bash": "mine() { printf '%s\\n' \"mine $? ${PIPESTATUS[*]}\" >> ~/reports; }\nPROMPT_COMMAND=mine",
    "zsh": "mine() { printf '%s\\n' \"mine $? $pipestatus\" >> ~/reports }\nprecmd_functions=(mine)",
    "fish": "function mine --on-event fish_prompt; echo mine $status $pipestatus >> ~/reports; end",
}
# starship's scripts are the real ones; this program in starship's place records how they call it.
STARSHIP = """#!/bin/sh
case $1 in
time) echo 1 ;;
prompt)
    case $* in *--right* | *--continuation*) exit ;; esac
    for word; do case $word in --status=* | --pipestatus=* | --jobs=*) printf '%s ' "$word" ;; esac; done >> ~/reports
    echo >> ~/reports
    echo x >> ~/prompts
    case $STARSHIP_SHELL in fish) printf 'R%d> ' "$(wc -l < ~/prompts)" ;; *) printf 'R> ' ;; esac ;;
esac
"""
# The tests' own prompt is set last in the start-up file, so these put starship's back before the first prompt.
STARSHIP_PROMPT = {
    "bash": "source {file}",
    "zsh": "source {file}; theirs=$PROMPT; again() {{ PROMPT=$theirs }}; precmd_functions+=(again)",
    "fish": "source {file}; functions --copy fish_prompt theirs\n"
    "function again --on-event fish_prompt\n"
    "functions --erase fish_prompt; functions --copy theirs fish_prompt; functions --erase again\nend",
}
POWERLEVEL = """
POWERLEVEL9K_DISABLE_CONFIGURATION_WIZARD=true POWERLEVEL9K_DISABLE_GITSTATUS=true
POWERLEVEL9K_LEFT_PROMPT_ELEMENTS=(status ready) POWERLEVEL9K_RIGHT_PROMPT_ELEMENTS=()
POWERLEVEL9K_STATUS_EXTENDED_STATES=true POWERLEVEL9K_STATUS_OK=true
POWERLEVEL9K_STATUS_OK_PIPE=true POWERLEVEL9K_STATUS_ERROR_PIPE=true
function prompt_ready() { p10k segment -t 'R> .'; }
"""


def of(name: str, kind: str, file: str, load: str = "source {file}", **more: Any) -> Integration:
    return Integration(name, kind, file, load, **more)


KITTY_FISH = "kitty/fish/vendor_conf.d/kitty-shell-integration.fish"
GHOSTTY_FISH = "ghostty/fish/vendor_conf.d/ghostty-shell-integration.fish"
INTEGRATIONS = [
    of("vscode", "bash", "vscode/shellIntegration-bash.sh", packaged=True),
    of("vscode-no-history", "bash", "vscode/shellIntegration-bash.sh", packaged=True, early="HISTCONTROL=ignoreboth"),
    of("vscode", "zsh", "vscode/shellIntegration-rc.zsh", "USER_ZDOTDIR=$ZDOTDIR; source {file}", packaged=True),
    of("vscode", "fish", "vscode/shellIntegration.fish", "set TERM_PROGRAM vscode; source {file}", packaged=True),
    of("kitty", "bash", "kitty/bash/kitty.bash", "KITTY_SHELL_INTEGRATION=enabled; source {file}", packaged=True),
    of("kitty", "zsh", "kitty/zsh/kitty.zsh", "KITTY_SHELL_INTEGRATION=enabled; source {file}", packaged=True),
    of("kitty", "fish", KITTY_FISH, "set -gx KITTY_SHELL_INTEGRATION enabled; source {file}", packaged=True),
    of("atuin", "bash", "atuin/bin/atuin", 'PATH={folder}:$PATH; eval "$(atuin init bash)"', packaged=True),
    of("atuin", "zsh", "atuin/bin/atuin", 'PATH={folder}:$PATH; eval "$(atuin init zsh)"', packaged=True),
    of("atuin", "fish", "atuin/bin/atuin", "set -gx PATH {folder} $PATH; atuin init fish | source", packaged=True),
    of("bash-preexec", "bash", "bash-preexec/bash-preexec.sh"),
    *(of("starship", kind, f"starship/starship.{kind}", STARSHIP_PROMPT[kind]) for kind in HOOKS),
    of("ble.sh", "bash", "blesh/ble.sh", "source {file} --norc"),
    of("wezterm", "bash", "wezterm/wezterm.sh"),
    of("wezterm", "zsh", "wezterm/wezterm.sh"),
    of("ghostty", "bash", "ghostty/bash/ghostty.bash", "GHOSTTY_SHELL_FEATURES=title; source {file}"),
    of("ghostty", "zsh", "ghostty/zsh/ghostty-integration", "GHOSTTY_SHELL_FEATURES=title; source {file}"),
    of("ghostty", "fish", GHOSTTY_FISH, "set -gx GHOSTTY_SHELL_FEATURES title; source {file}"),
    *(of("iterm2", kind, f"iterm2/iterm2.{kind}") for kind in HOOKS),
    of("powerlevel10k", "zsh", "powerlevel10k/powerlevel10k.zsh-theme", early=POWERLEVEL),
]
# No registry has these integrations, so they are tested only if VX_TOKEN_INTEGRATIONS has them.
CASES = [each for each in INTEGRATIONS if each.packaged or each.path()]

# Each typed line, and whether a new token arrives while the prompt waits.
LINES = {
    "bash": [
        ("(exit 3) | (exit 5)", True),
        ('echo "$? ${PIPESTATUS[*]}" >> seen; echo "$OPENAI_API_KEY" >> keys', True),
        ("sh -c 'exit 7' third", False),
        ('echo "$? $_" >> seen; echo "$OPENAI_API_KEY" >> keys', False),
        ("(echo sub) > /dev/null", True),
        ("", True),
        ('echo "$BASH_COMMAND" >> seen; echo "$OPENAI_API_KEY" >> keys', True),
    ],
    "zsh": [
        ("(exit 3) | (exit 5)", True),
        ('echo "$? $pipestatus" >> seen; echo "$OPENAI_API_KEY" >> keys', True),
        ("sh -c 'exit 7' third", False),
        ('echo "$? $_" >> seen; echo "$OPENAI_API_KEY" >> keys', False),
        ("(echo sub) > /dev/null", True),
        ("", True),
    ],
    "fish": [
        ("sh -c 'exit 3' | sh -c 'exit 5'", True),
        ("echo $status $pipestatus >> seen; echo $OPENAI_API_KEY >> keys", True),
        ("sh -c 'exit 7' third", False),
        ("echo $status >> seen; echo $OPENAI_API_KEY >> keys", False),
        ("begin; echo sub; end > /dev/null", True),
        ("", True),
    ],
}
# The token that each line with `keys` must have had: the newest one.
HAD = {"bash": ["tok-3", "tok-3", "tok-6"], "zsh": ["tok-3", "tok-3"], "fish": ["tok-3", "tok-3"]}
# Without an update before commands: the newest token at the prompt.
HAD_AT_PROMPT = ["tok-2", "tok-3", "tok-5"]


@dataclass(frozen=True)
class Session:
    """What a session showed to everyone but its user."""

    reports: list[str]  # control sequences, and what functions and programs were called with
    seen: str  # what the commands saw of the commands before
    keys: list[str]  # the token that the commands had


def reports(shown: str) -> list[str]:
    """The control sequences in what a terminal received, without what differs from run to run."""
    found = [f"{code};{VARYING.sub('', body)}" for code, body in REPORT.findall(shown)]
    return [each for each in found if not each.partition(";")[2].startswith(IGNORED)]


def read(path: Path) -> str:
    """The text of a file that may never have been written."""
    return path.read_text() if path.exists() else ""


def prompts(home: Path) -> int:
    """How many prompts the shell has prepared: the user's own hook records each."""
    return read(home / "reports").count("mine ")


def prompted(home: Path, before: int) -> bool:
    """Has the shell prepared another prompt? What a terminal shows may be the one before, drawn again."""
    return prompts(home) > before


def passed(instant: float) -> bool:
    """Is it later than `instant`?"""
    return time.time() > instant


def session(integration: Integration, path: Path, home: Path, runtime: Runtime, place: str) -> Session:
    """Type the lines into a shell with the hook before, after or (`place` is empty) without the integration."""
    shutil.rmtree(home, ignore_errors=True)
    (home / "starship").mkdir(parents=True)
    if integration.name == "starship":
        program = home / "starship" / "starship"
        program.write_text(STARSHIP)
        program.chmod(0o755)
        init = home / "starship" / "init"
        init.write_text(path.read_text().replace("::STARSHIP::", str(program)))
        path = init
    load = integration.load.format(file=path, folder=path.parent)
    early = "\n".join([MINE[integration.kind], integration.early, PREEXEC if integration.kind == "bash" else ""])
    before, after = (early, load) if place == "before" else (f"{early}\n{load}", "")
    number, recorded = 1, list[str]()
    runtime.write("tok-1")
    environ = {"TERM": "xterm-256color", "HOSTNAME": "host"}
    with interactive(
        integration.kind, home, runtime, before=before, after=after, hook=bool(place), environ=environ
    ) as shell:
        shown = shell.banner
        for line, renewed in [*LINES[integration.kind], ("echo end", False)]:
            ready = time.time() + 3
            if renewed:
                number += 1
                runtime.write(f"tok-{number}")
            # ble.sh takes lines that are typed before it is idle for one paste.
            if place or integration.name == "ble.sh":
                until(partial(passed, ready))
            drawn = prompts(home)
            shown += shell.run(line)
            until(partial(prompted, home, drawn), 60)
            if integration.name == "atuin":
                recorded = until(partial(history, path, shell), 60)
        shell.child.sendline("exit")
        shell.child.expect_exact(pexpect.EOF)
        shown += str(shell.child.before)
    written = [*read(home / "reports").splitlines(), *recorded]
    if integration.name == "powerlevel10k":
        written += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).splitlines()
    return Session(reports(shown) + written, read(home / "seen"), read(home / "keys").split())


def history(atuin: Path, shell: Shell) -> list[str]:
    """The commands and statuses that atuin recorded, below a heading; empty while it still writes in the background.

    Reading fails now and then while the shell's own atuin writes: both may find the database locked.
    """
    argv = [str(atuin), "history", "list", "--reverse=false", "--format", "{command} {exit}"]
    environ = {**shell.environ, "ATUIN_SESSION": "none"}
    listed = subprocess.run(argv, check=False, env=environ, capture_output=True, text=True)
    lines = listed.stdout.splitlines()
    return [] if listed.returncode or any(line.endswith(" -1") for line in lines) else ["recorded:", *lines]


@pytest.mark.slow
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("integration", CASES, ids=lambda each: f"{each.name}-{each.kind}")
def test_an_integration_reports_the_same_with_the_hook_as_without(
    integration: Integration, place: str, tmp_path: Path
) -> None:
    path = integration.path()
    if path is None and STRICT:
        pytest.fail(f"{integration.file} is not installed; run scripts/integrations")
    if path is None:
        pytest.skip(f"{integration.file} is not installed")
    need(integration.kind)
    home, runtime = tmp_path / "home", Runtime(tmp_path / "runtime")
    plain = session(integration, path, home, runtime, "")
    hooked = session(integration, path, home, runtime, place)
    assert plain.reports
    assert hooked.reports == plain.reports
    assert hooked.seen == plain.seen
    if APPENDED in path.read_text(errors="replace"):
        assert hooked.keys == HAD_AT_PROMPT
    else:
        assert hooked.keys == HAD[integration.kind]
