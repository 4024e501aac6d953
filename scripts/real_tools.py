"""Rows of scripts/tools/tools.toml: real tools, where they are installed, and how each is asked for an answer."""

import json
import os
import sys
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSTALLED = ROOT / ".tools"
SCRIPTS = ROOT / "scripts" / "tools"
ANSWER = "Hello from the emulator"


@dataclass(frozen=True, slots=True)
class RealTool:
    """A tool and its commands, in which {model}, {url}, {key}, {prompt} and {home} are replaced.

    Attributes:
        name: its name.
        package: the package; its version is that of the lock file.
        environment: the folder of `.tools` that it is installed in.
        first: is run before all else, so that the tool writes its own defaults.
        command: asks for one answer; empty for a library, which a program of scripts/tools uses.
        loop: a program that answers one line after the other; empty if there is none.
        line: what is typed into the loop for a prompt.
        variables: variables besides those of `vx-token env`.
        files: files in the home folder for the run with variables.
        users: files that a user may have before `connect`.
        connect: its name for `vx-token connect`, "" for none.
        key: `connect` if that uses a key command or file in direct mode, `client` if the library takes a function.
        key_variables: variables by which it runs a key command, {command}, in direct mode.
        calls: whether it declares functions to the model.
        changes_ids: whether it changes the ids of the model's calls, by which the gateway knows their signatures.
        answer: what it prints when it got an answer.
        quick: whether it belongs to the quick dozen.
        together: whether it belongs to the ten tools that are connected by one command.
        why: reasons for columns that do not apply, by column.
        broken: columns that do not work, and why.
    """

    name: str
    package: str
    environment: str
    first: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    loop: tuple[str, ...] = ()
    line: str = "{prompt}"
    variables: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)
    connect: str = ""
    key: str = ""
    key_variables: dict[str, str] = field(default_factory=dict)
    calls: bool = True
    changes_ids: bool = False
    answer: str = ANSWER
    quick: bool = False
    together: bool = False
    why: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def of_node(self) -> bool:
        """Whether it comes from npm."""
        return (SCRIPTS / self.environment / "package.json").exists()

    @property
    def version(self) -> str:
        """Return the installed version, "" if it is not installed."""
        if self.of_node:
            path = INSTALLED / self.environment / "node_modules" / self.package / "package.json"
            return str(json.loads(path.read_text())["version"]) if path.exists() else ""
        name = self.package.partition("[")[0].replace("-", "_").lower()
        folder = INSTALLED / self.environment / "lib"
        for path in folder.glob("python*/site-packages/*.dist-info"):
            package, _, version = path.name.removesuffix(".dist-info").partition("-")
            if package.lower() == name:
                return version
        return ""

    @property
    def client(self) -> tuple[str, ...]:
        """Return the command of the program that uses the library."""
        if self.of_node:
            return ("node", str(SCRIPTS / "clients.mjs"), self.package, "stream")
        return ("python", "-u", str(SCRIPTS / "clients.py"), self.package, "stream")

    @property
    def path(self) -> str:
        """Return the folders of its programs, for PATH."""
        folder = INSTALLED / self.environment
        own = [folder / "node_modules" / ".bin"] if self.of_node else [folder / "bin"]
        node = INSTALLED / "node" / "node_modules" / "node" / "bin"  # a newer Node than the system's
        return os.pathsep.join(map(str, [*own, node]))


def rows() -> list[RealTool]:
    """Return all tools, in the order of the file."""
    with (SCRIPTS / "tools.toml").open("rb") as file:
        return [RealTool(**_tuples(row)) for row in tomllib.load(file)["tool"]]


def chosen(names: Collection[str], *, quick: bool = False, together: bool = False) -> list[RealTool]:
    """Return the tools that the arguments of scripts/test-tools choose."""
    named = [row for row in rows() if not names or row.name in names]
    return [row for row in named if row.quick or not quick if row.together or not together]


def _tuples(row: dict[str, object]) -> dict[str, object]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}


def main() -> None:
    """Print the environments of the tools that the arguments of scripts/test-tools name."""
    names = [word for word in sys.argv[1:] if not word.startswith("-")]
    tools = chosen(names, quick="--quick" in sys.argv, together="--together" in sys.argv)
    sys.stdout.write(" ".join(dict.fromkeys(["node", *(row.environment for row in tools)])) + "\n")


if __name__ == "__main__":
    main()
