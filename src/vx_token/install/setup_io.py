"""Options and context of setup: what the user chose, the prompts, and functions from the command line."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from vx_token.config.model import Config
from vx_token.errors import UsageError
from vx_token.install.desktop import RunWith, Session
from vx_token.install.service import ServiceManager


@dataclass(frozen=True, slots=True)
class SetupOptions:
    """Command line options; setup detects those that are "" or None, or asks for them.

    Attributes:
        profile: the profile to set up.
        values: its settings, by key.
        shell: the shell whose start-up file loads the hook; `none` for no hook.
        hook: whether to load the hook.
        service: whether to install the service.
        offline: whether to make no request, neither for a token nor to the model.
        desktop: whether programs that no shell starts get the gateway's URL and key.
    """

    profile: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    shell: str = ""
    hook: bool | None = None
    service: bool | None = None
    offline: bool = False
    desktop: bool = False


class Prompter(Protocol):
    """Asks the user; `DefaultPrompter` answers without a terminal."""

    @property
    def interactive(self) -> bool:
        """Whether a person answers, so that an invalid answer can be asked again."""

    def value(self, question: str, default: str) -> str:
        """Ask for a string; an empty answer returns `default`."""

    def confirm(self, question: str) -> bool:
        """Ask a yes-or-no question."""


class DefaultPrompter:
    """Answers every question with its default."""

    interactive = False

    def value(self, question: str, default: str) -> str:
        """Return the default.

        Raises:
            UsageError: there is no default.
        """
        if not default:
            raise UsageError(f"{question} is not known", "pass it as an option; see: vx-token setup --help")
        return default

    def confirm(self, question: str) -> bool:  # noqa: ARG002 - the signature of Prompter
        """Return True."""
        return True


@dataclass(frozen=True, slots=True)
class SetupContext:
    """What setup uses of the rest of the program.

    Attributes:
        environ: the program's environment.
        echo: prints a line for the user.
        prompter: asks the user.
        service: returns this machine's service manager for a configuration; None suffices for uninstalling.
        test: gets a profile's token, asks its model and returns a line that describes the answer.
        now: returns the time in epoch seconds.
        run: runs a program at the user's terminal and returns its exit status.
        session: the login session, whose environment `--desktop` changes.
        run_with: runs a program with more variables, quietly.
        waiting: shows that setup is alive while a step that may take long runs.
    """

    environ: Mapping[str, str]
    echo: Callable[[str], None]
    prompter: Prompter
    service: Callable[[Config | None], ServiceManager]
    test: Callable[[str], str]
    now: Callable[[], float]
    run: Callable[[list[str]], int]
    session: Session
    run_with: RunWith
    waiting: Callable[[str], AbstractContextManager[None]]
