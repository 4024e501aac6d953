"""Where setup happens: what the user wants, who answers, and the seams to the rest of the program."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from vx_token.config.model import Config
from vx_token.errors import UsageError
from vx_token.install.service import Manager


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the options say; "" and None leave it to be found out.

    Attributes:
        profile: the profile to set up.
        values: its settings, by key.
        shell: whose start-up file loads the hook; `none` for no hook.
        hook: whether to load it.
        service: whether to install the service.
    """

    profile: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    shell: str = ""
    hook: bool | None = None
    service: bool | None = None


class Asker(Protocol):
    """Somebody who answers questions; `Silent` for nobody."""

    def text(self, question: str, default: str) -> str:
        """A text; `default` when it is empty."""

    def yes(self, question: str) -> bool:
        """Whether to do it."""


class Silent:
    """Answers every question by its default."""

    def text(self, question: str, default: str) -> str:
        """The default.

        Raises:
            UsageError: there is none.
        """
        if not default:
            raise UsageError(f"{question} is not known", "give it as an option; see: vx-token setup --help")
        return default

    def yes(self, question: str) -> bool:  # noqa: ARG002 - answers as a person would
        """Yes."""
        return True


@dataclass(frozen=True, slots=True)
class World:
    """Where setup happens: the environment, a voice, an ear, and the seams to the rest of the program.

    Attributes:
        environ: the program's environment.
        say: tells the user a line.
        ask: the user's answers.
        service: the machine's service manager, for a configuration; None where nothing is to be installed.
        prove: gets a token for a profile and says how it went.
        now: the clock.
    """

    environ: Mapping[str, str]
    say: Callable[[str], None]
    ask: Asker
    service: Callable[[Config | None], Manager]
    prove: Callable[[str], str]
    now: Callable[[], float]
