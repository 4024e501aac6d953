"""A tool as data: where its settings are, what they get, and how it is asked for one answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from vx_token.tools.settings import Setting

Environ = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Access:
    """What a tool needs for its requests.

    Attributes:
        name: the name of its local key.
        url: the base URL.
        model: the id of the model.
        key: the local key; "" in direct mode, because a Google token expires.
        command: the command that prints a key that is valid now.
        key_file: the file that contains a valid token, in direct mode; "" in gateway mode.
    """

    name: str
    url: str
    model: str
    key: str = field(repr=False)
    command: tuple[str, ...]
    key_file: str = ""


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A file of a tool's settings and what it gets.

    Attributes:
        path: the file.
        form: `json`, `toml`, `yaml` or `dotenv`.
        settings: the values for it.
        only_secrets: whether all its values are keys, so that none is shown.
    """

    path: Path
    form: str
    settings: tuple[Setting, ...]
    only_secrets: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that speaks the OpenAI protocol.

    Attributes:
        name: the word for `vx-token connect`, which is also the name of its key.
        title: its name for people.
        source: where the facts come from, with version and date; for an edited tool the run that showed them.
        programs: its programs; the first that is in PATH is used.
        files: returns its settings files; None when the text to paste is printed instead.
        needs_static_key: whether its settings take only a key, so that direct mode cannot work.
        request: returns the command that asks for one answer, without the program; None if it would not end cleanly.
        text: the template of the text to paste, for a tool without `files`; it has KEY for the key.
        example: returns what the user types next.
        remarks: what else to know.
        refusal: why it cannot be connected; "" if it can.
    """

    name: str
    title: str
    source: str
    programs: tuple[str, ...] = ()
    files: Callable[[Access, Environ], tuple[SettingsFile, ...]] | None = None
    needs_static_key: bool = True
    request: Callable[[Access], tuple[str, ...]] | None = None
    text: str = ""
    example: Callable[[Access], str] | None = None
    remarks: tuple[str, ...] = ()
    refusal: str = ""

    def pasted(self, access: Access) -> str:
        """Return the text to paste, without the key, because a terminal keeps what it shows."""
        scheme, _, rest = access.url.partition("://")
        host, _, path = rest.partition("/")
        fields = {"url": access.url, "scheme": scheme, "host": host, "path": path}
        return Template(self.text).substitute(fields, model=access.model, command=" ".join(access.command))
