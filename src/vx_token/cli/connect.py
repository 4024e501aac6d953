"""The command `vx-token connect`."""

import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vx_token.cli import help as cli_help
from vx_token.cli import output
from vx_token.cli.progress import waiting
from vx_token.cli.prompt import Terminal
from vx_token.config.load import load_config
from vx_token.config.model import Config, Profile
from vx_token.errors import ConfigError, TemporaryError, UsageError, VxTokenError
from vx_token.gateway import address

if TYPE_CHECKING:
    from vx_token.tools.connection import Plan
    from vx_token.tools.model import Access, Tool
    from vx_token.tools.proof import Asked
    from vx_token.tools.record import Record


@click.command(cls=cli_help.Command)
@click.argument("name", metavar="[TOOL]", required=False)
@click.option("--list", "lists", is_flag=True, help="List all known tools.")
@click.option("--profile", metavar="NAME", help="The profile to use.  [default: the default profile]")
@click.option("--model", metavar="ID", help="The model, instead of the profile's.")
@click.option("--all", "every", is_flag=True, help="Every installed tool; with --undo every connected one.")
@click.option("--undo", is_flag=True, help="Take back what connect changed, and revoke the tool's key.")
@click.option("--dry-run", is_flag=True, help="Show what would change, but change nothing.")
@click.option("--offline", is_flag=True, help="Make no test request at the end.")
@click.option("--yes", is_flag=True, help="Ask no questions.")
def connect(
    name: str | None,
    lists: bool,
    profile: str | None,
    model: str | None,
    every: bool,
    undo: bool,
    dry_run: bool,
    offline: bool,
    yes: bool,
) -> None:
    """Put the base URL, the model and a key into the settings of a tool.

    It shows the change, makes it, and runs the tool for one answer. The rest of the file does not change. In gateway
    mode each tool gets its own local key. For a tool that was never run with vx-token, it prints the text to paste.

    \b
    Example:
      vx-token connect --list
      vx-token connect llm
      vx-token connect --undo llm
    """
    if lists:
        output.show(_table())
        return
    if bool(name) == every:
        raise UsageError("name one tool, or use --all", "see: vx-token connect --list")
    connection = _Connection(profile, model, dry_run=dry_run, offline=offline, yes=yes)
    failures = []
    for each in [name] if name else connection.chosen(undo=undo):
        try:
            connection.undo(each) if undo else connection.connect(each)
        except VxTokenError as error:
            if name:
                raise
            failures.append(each)
            output.show(f"vx-token: {each}: {error.message}\nhint: {error.hint}", err=True)
    if failures:
        raise VxTokenError(f"not done: {', '.join(failures)}", "see the errors above")


class _Connection:
    """Connects tools and takes them back, with one set of options."""

    def __init__(self, profile: str | None, model: str | None, *, dry_run: bool, offline: bool, yes: bool) -> None:
        self._profile, self._model = profile, model
        self._dry_run, self._offline, self._yes = dry_run, offline, yes
        self._environ = dict(os.environ)

    def chosen(self, *, undo: bool) -> list[str]:
        """Return the tools that --all means."""
        from vx_token.tools import proof, record
        from vx_token.tools.catalog import TOOLS

        if undo:
            return record.connected(self._environ)
        return [name for name, tool in TOOLS.items() if tool.files and proof.program(tool, self._environ)]

    def connect(self, name: str) -> None:
        """Connect one tool, or print the text to paste."""
        from vx_token.tools import catalog, connection, record

        tool = catalog.find(name)
        if tool.refusal:
            raise ConfigError(f"{tool.title} cannot be connected", tool.refusal)
        settings = load_config(self._environ)
        profile = settings.profile(self._profile or self._environ.get("VX_TOKEN_PROFILE"))
        earlier = record.read(self._environ, tool.name)
        access = self._access(tool, settings, profile)
        if not tool.files:
            self._print(tool, access)
            return
        plan = self._plan(tool, access, earlier)
        if plan is None:
            return
        edits = [str(edit).rstrip() for edit in plan.edits] or ["the settings are there already"]
        output.show("\n".join([f"{tool.title}:", *edits]))
        for path, repository in connection.in_repositories(plan, access.key):
            output.show(f"warning: {path} is in the git repository {repository}: do not commit the key", err=True)
        if self._dry_run or not self._confirmed(bool(plan.edits)):
            return
        access, key = self._with_key(tool, access, profile, earlier)
        plan = self._plan(tool, access, earlier)
        assert plan is not None
        way = "gateway" if access.key else "direct"
        made = record.Record(tool.name, time.time(), profile.name, access.model, way, key, plan.files)
        made.write(self._environ)
        try:
            for edit in plan.edits:
                edit.perform()
        except VxTokenError:
            if earlier is None:
                self._take_back(made)
            raise
        self._prove(tool, access, settings)

    def _confirmed(self, is_change: bool) -> bool:
        if self._yes or not is_change:
            return True
        if not sys.stdin.isatty():
            raise UsageError("connect asks before it changes a file, but stdin is not a terminal", "add --yes")
        if Terminal().confirm("Do this?"):
            return True
        output.show("nothing changed")
        return False

    def _plan(self, tool: "Tool", access: "Access", earlier: "Record | None") -> "Plan | None":
        from vx_token.tools import connection
        from vx_token.tools.document import NotEditableError

        assert tool.files is not None
        _check_libraries()
        files = tool.files(access, self._environ)
        try:
            return connection.plan(files, access, earlier)
        except NotEditableError as error:
            from vx_token.tools import paste

            hint = f"put this into it by hand, with the key of: {' '.join(access.command)}\n"
            output.show(paste.text(files, access))
            raise ConfigError(f"cannot edit {error}", hint.strip()) from None

    def _access(self, tool: "Tool", settings: Config, profile: Profile) -> "Access":
        """Return what the tool needs; the key is a stand-in until the user has agreed."""
        from vx_token.system import paths
        from vx_token.tools.model import Access
        from vx_token.vertex.probe import probed_model

        program = shutil.which("vx-token") or str(Path(sys.argv[0]).absolute())
        model = self._model or probed_model(profile)
        if not model:
            raise ConfigError(f"the profile {profile.name} has no model", "add --model ID")
        if address.is_wanted(settings):
            key_command = (program, "gateway", "key", "--name", tool.name, "--profile", profile.name)
            return Access(tool.name, address.base_url(settings, profile.name), model, _STAND_IN, key_command)
        if tool.needs_static_key:
            hint = (
                "use the gateway: set `enabled = true` below `[gateway]` in the configuration (vx-token help gateway)"
            )
            raise ConfigError(f"{tool.title} stores its key, and a Google token expires within an hour", hint)
        name = settings.stable if profile.name == settings.default_profile else profile.name
        token = paths.runtime_dir(self._environ) / name / "token"
        command = (program, "print", "--profile", profile.name)
        return Access(tool.name, profile.url, model, "", command, str(token))

    def _with_key(
        self, tool: "Tool", access: "Access", profile: Profile, earlier: "Record | None"
    ) -> "tuple[Access, str]":
        """Return the access with its key, and the name of that key if it was created for this."""
        from dataclasses import replace

        if not access.key:
            return access, ""
        if earlier and earlier.key and earlier.profile != profile.name:
            self._revoke(earlier.key)
        owned = earlier is not None and earlier.key == tool.name
        exists = any(key.name == tool.name for key in address.key_owners(self._environ))
        key = address.named_key(self._environ, tool.name, None if exists else frozenset({profile.name}))
        return replace(access, key=key), tool.name if owned or not exists else ""

    def _revoke(self, key: str) -> None:
        if any(owner.name == key for owner in address.key_owners(self._environ)):
            address.revoke_key(self._environ, key)

    def _print(self, tool: "Tool", access: "Access") -> None:
        text = tool.pasted(access)
        lines = [f"{tool.title} ({tool.source}). Paste this:", "", text, ""]
        if re.search(r"\bKEY\b", text):
            lines.append(f"KEY is what this prints: {' '.join(access.command)}")
        output.show("\n".join([*lines, *tool.remarks]).rstrip())

    def _prove(self, tool: "Tool", access: "Access", settings: Config) -> None:
        from vx_token.tools import proof

        again = f"undo: vx-token connect --undo {tool.name}"
        example = f"try it: {tool.example(access)}\n" if tool.example else ""
        if self._offline or not tool.request or not proof.program(tool, self._environ):
            why = f"{tool.title} is not in PATH" if tool.request else f"{tool.title} would leave a process running"
            why = "--offline" if self._offline else why
            output.show(f"connected; no request was made ({why})\n{example}{again}")
            return
        try:
            with waiting(f"waiting for {tool.title} to print an answer"):
                line = proof.prove(tool, access, self._environ, _asked(tool.name, settings) if access.key else None)
        except VxTokenError:
            output.show(f"connected, but the test request failed\n{again}")
            raise
        output.show("\n".join([line, *tool.remarks, f"{example}{again}"]))

    def undo(self, name: str) -> None:
        """Take one tool's connection back."""
        from vx_token.tools import connection, record

        made = record.read(self._environ, name.lower())
        if made is None:
            raise ConfigError(f"{name} is not connected", "see: vx-token connect --list")
        _check_libraries()
        steps = connection.undo(made, self._environ)
        edits = [step.edit for step in steps if step.edit]
        output.show("\n".join([f"{name}:", *(str(edit).rstrip() for edit in edits)]))
        if made.key:
            output.show(f"revoke the key {made.key}")
        if self._dry_run or not self._confirmed(is_change=True):
            return
        self._take_back(made)
        output.show(f"{name} is not connected any more")

    def _take_back(self, made: "Record") -> None:
        from vx_token.tools import connection

        for step in connection.undo(made, self._environ):
            step.perform()
            for kept in step.kept:
                output.show(f"{step.file.path}: {kept} was changed since and stays")
        if made.key:
            self._revoke(made.key)
        made.remove(self._environ)


_STAND_IN = "vx-local-key-that-is-created-when-you-agree"


def _check_libraries() -> None:
    """Check the libraries that keep a file's comments.

    Raises:
        ConfigError: one is not installed.
    """
    from importlib import util

    missing = [name for name in ("ruamel.yaml", "tomlkit") if not util.find_spec(name.partition(".")[0])]
    if missing:
        from vx_token.system import installation

        raise ConfigError(f"connect needs {' and '.join(missing)}", installation.how_to_add("tools"))


def _asked(name: str, settings: Config) -> "Asked":
    """Return a function that reads the requests for an answer with a key from the running gateway."""
    from vx_token.cli.gateway_keys import running_gateway
    from vx_token.gateway import statusz

    def asked() -> dict[int, int] | None:
        try:
            _, requests = statusz.recent(running_gateway(settings), lambda: address.local_key(os.environ), 0)
        except TemporaryError:
            return None
        own = [each for each in requests if each["key"] == name and not each["route"].endswith("models")]
        return {each["number"]: each["status"] for each in own}

    return asked


def _table() -> str:
    """Return the list of all known tools."""
    from vx_token.tools import proof, record
    from vx_token.tools.catalog import TOOLS

    environ = dict(os.environ)
    rows = [("TOOL", "INSTALLED", "HOW", "CONNECTED")]
    for name, tool in TOOLS.items():
        try:
            made, state = record.read(environ, name), "-"
        except ConfigError as error:
            made, state = None, error.message
        how = "cannot be connected" if tool.refusal else "edits its settings" if tool.files else "prints what to paste"
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(made.since)) if made else ""
        state = f"{made.way}, profile {made.profile}, {made.model}, since {since}" if made else state
        installed = "yes" if proof.program(tool, environ) else "no" if tool.programs else "?"
        rows.append((name, installed, how, state))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
