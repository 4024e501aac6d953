"""From nothing to a working vx-token, and back: what is found, what would change, and the doing of it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vx_token import adc, edit, gcloud, paths, plan, rcfile, shell, startup, tomledit, verdict
from vx_token import config as settings
from vx_token.agent import Manager
from vx_token.config import Config, Gateway, Profile
from vx_token.edit import Edit
from vx_token.errors import ConfigError, LoginNeededError, UsageError, VxTokenError
from vx_token.setup_record import Record
from vx_token.source import metadata_likely
from vx_token.store import Store


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
        service: the machine's service manager, for a configuration's gateway.
        prove: gets a token for a profile and says how it went.
        now: the clock.
    """

    environ: Mapping[str, str]
    say: Callable[[str], None]
    ask: Asker
    service: Callable[[Gateway], Manager]
    prove: Callable[[str], str]
    now: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Plan:
    """What would change, in order; `service` is None when there is nothing to do for it."""

    profile: str
    config: Edit | None
    hooks: tuple[Edit, ...] = ()
    service: Manager | None = None
    steps: tuple[plan.Step, ...] = ()

    def __str__(self) -> str:
        told = [str(step).rstrip("\n") for step in (self.config, *self.hooks) if step is not None]
        if self.service:
            told.append("install and start the service (all of it: vx-token service install --dry-run)")
        return "\n".join(told)


def prepare(wishes: Wishes, world: World) -> Plan:
    """Find out what is there and what is missing, asking where nothing tells; changes nothing.

    Raises:
        LoginNeededError: there is no Google login; the hint is the one command.
        ConfigError: a file is wrong, or cannot be changed with certainty.
        UsageError: something is not known and nobody answers.
    """
    path = paths.config_file(world.environ)
    old = edit.read(path)
    text = _text(path, old)
    tables = _tables(text, path)
    name = wishes.profile or _default(text, path, tables)
    given = dict(wishes.values)
    login = _login(Profile(name, credentials=_credentials(given, tables.get(name, {}), path)), world)
    values = _missing(given, tables[name]) if name in tables else _found(given, login, world)
    new = _extended(text, path, name, values)
    config = settings.parse(new, path, _quiet(world.environ), {"profile": name, **given})
    change = Edit(path, old, new.encode(), below=startup.home(world.environ)) if values else None
    hooks = tuple(_hooks(wishes, world))
    service, steps = _service(wishes, world, config)
    return Plan(name, change, hooks, service, steps)


def perform(todo: Plan, world: World) -> None:
    """Do it, and prove it by a token; what was done is on record for `undo` before it is begun.

    Raises:
        VxTokenError: a step failed, or no token can be had.
    """
    record = Record.read(world.environ)
    record.noted(todo.config, todo.hooks, service=todo.service is not None).write(world.environ)
    for step in (todo.config, *todo.hooks):
        if step is not None:
            step.perform()
    if todo.service:
        world.say(todo.service.carry_out(todo.steps, world.now))
    world.say(world.prove(todo.profile))


def undoing(world: World) -> list[plan.Step | Edit]:
    """The steps that take back what `perform` did, and only that; what the user changed since then stays."""
    record = Record.read(world.environ)
    config = record.restored(startup.home(world.environ))
    steps: list[plan.Step | Edit] = list(_uninstall(record, world))
    steps += [*_unhooked(record, world), *([config] if config else [])]
    if config is not None and config.new is None and not record.service:
        steps += _tokens(Store(paths.runtime_dir(world.environ)))
    return [*steps, *record.forgotten(world.environ, startup.home(world.environ))]


def kept(world: World) -> str:
    """What `undoing` leaves and why, or ""."""
    record = Record.read(world.environ)
    if not record.config or record.restored(startup.home(world.environ)):
        return ""
    return f"{record.config} stays: it was changed after setup wrote it"


def undo(steps: Iterable[plan.Step | Edit], world: World) -> None:
    """Take the steps of `undoing`.

    Raises:
        VxTokenError: one failed.
    """
    run = world.service(Gateway()).run
    for step in steps:
        step.perform(run)


def _text(path: Path, data: bytes | None) -> str:
    try:
        return (data or b"").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text", "check the file, or name another by VX_TOKEN_CONFIG") from None


def _tables(text: str, path: Path) -> Mapping[str, Mapping[str, Any]]:
    import tomllib

    try:
        tables = tomllib.loads(text).get("profiles", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", "mend it, then run setup again") from None
    return tables if isinstance(tables, dict) else {}


def _quiet(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without settings: what is written must be right without them."""
    return {"HOME": environ.get("HOME", "")}


def _default(text: str, path: Path, tables: Mapping[str, object]) -> str:
    return settings.parse(text, path, {"HOME": ""}, {}).default_profile if tables else "default"


def _credentials(given: dict[str, str], table: Mapping[str, Any], path: Path) -> str:
    """The credential file in use; a relative one that was given is made absolute in place."""
    if value := given.get("credentials"):
        given["credentials"] = str(Path(value).expanduser().absolute())
        return given["credentials"]
    value = str(table.get("credentials", ""))
    return str(path.parent / Path(value).expanduser()) if value else ""


def _login(profile: Profile, world: World) -> adc.Facts | None:
    path = settings.credential_file(profile, world.environ)
    if path is None:
        if metadata_likely(world.environ):
            world.say("login      this machine's metadata server")
            return None
        raise LoginNeededError("no Google login was found", f"run: {verdict.LOGIN} (and then again: vx-token setup)")
    found = adc.look(path)
    if found.problem:
        hint = f"name another by --credentials, or run: {verdict.LOGIN}"
        raise ConfigError(f"the credential file {path} {found.problem}", hint)
    world.say(f"login      {found.account or found.kind} ({path})")
    return found


def _missing(given: Mapping[str, str], table: Mapping[str, Any]) -> dict[str, str]:
    return {key: value for key, value in given.items() if table.get(key) != value}


def _found(given: Mapping[str, str], login: adc.Facts | None, world: World) -> dict[str, str]:
    if given.get("base_url"):
        return dict(given)
    active = gcloud.active(world.environ)
    environ, configuration = world.environ, f"gcloud's configuration {active.name}"
    project = _first(
        (given.get("project"), "--project"),
        (environ.get("VX_TOKEN_PROJECT"), "VX_TOKEN_PROJECT"),
        (environ.get("GOOGLE_CLOUD_PROJECT"), "GOOGLE_CLOUD_PROJECT"),
        (login.project if login else "", "the login's own"),
        (active.project, configuration),
    )
    location = _first(
        (given.get("location"), "--location"),
        (environ.get("VX_TOKEN_LOCATION"), "VX_TOKEN_LOCATION"),
        (environ.get("GOOGLE_CLOUD_LOCATION"), "GOOGLE_CLOUD_LOCATION"),
        (active.region, configuration),
    )
    asked = {
        "project": _told("project", project, world) or world.ask.text("the Google Cloud project", ""),
        "location": _told("location", location, world)
        or world.ask.text("the location (global, us, eu or a region)", "global"),
    }
    return {**asked, **given}


def _first(*places: tuple[str | None, str]) -> tuple[str, str]:
    return next(((value, where) for value, where in places if value), ("", ""))


def _told(what: str, found: tuple[str, str], world: World) -> str:
    if found[0]:
        world.say(f"{what:<10} {found[0]} ({found[1]})")
    return found[0]


def _extended(text: str, path: Path, name: str, values: Mapping[str, str]) -> str:
    if not values:
        return text
    try:
        return tomledit.with_profile(text, name, values)
    except ValueError:
        wanted = ", ".join(f'{key} = "{value}"' for key, value in values.items())
        hint = f"write into its profile {name!r} by hand: {wanted}"
        raise ConfigError(f"{path} is written in a way that setup does not change", hint) from None


def _hooks(wishes: Wishes, world: World) -> Iterator[Edit]:
    kind = wishes.shell or startup.login_shell(world.environ)
    if wishes.hook is False or kind == "none":
        return
    if not kind:
        world.say("hook       your shell is none of bash, zsh and fish; use: vx-token exec -- COMMAND")
        return
    edits, by = [], ""
    for path in startup.TARGETS[kind](world.environ):
        old = edit.read(path)
        if old is not None and not rcfile.present(old) and startup.scan(_loose(old)).loads:
            by = f"{path} line {startup.scan(_loose(old)).loads}"
        new = rcfile.inserted(old or b"", rcfile.block(startup.lines(kind, shell.hook_file(kind))))
        edits += [Edit(path, old, new, 0o644, startup.home(world.environ))] if new != old else []
    if by or not edits:
        world.say(f"hook       loaded by {by or 'the block in ' + str(startup.TARGETS[kind](world.environ)[0])}")
        return
    question = f"Load the hook in every new {kind}, so that its commands find a live token?"
    if wishes.hook or world.ask.yes(question):
        yield from edits


def _loose(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _service(wishes: Wishes, world: World, config: Config) -> tuple[Manager | None, tuple[plan.Step, ...]]:
    if wishes.service is False:
        return None, ()
    manager = world.service(config.gateway)
    try:
        manager.check()
    except VxTokenError as error:
        if wishes.service:
            raise
        world.say(f"service    {error.message}; {error.hint}")
        return None, ()
    steps = manager.install()
    if all(_right(step) for step in steps) and manager.standing().running:
        world.say("service    runs")
        return None, ()
    if wishes.service or world.ask.yes("Install the service, so that a fresh token is always there?"):
        return manager, tuple(steps)
    return None, ()


def _right(step: plan.Step) -> bool:
    return not isinstance(step, plan.Write) or edit.read(step.path) == step.text.encode()


def _uninstall(record: Record, world: World) -> list[plan.Step]:
    return world.service(Gateway()).uninstall() if record.service else []


def _unhooked(record: Record, world: World) -> Iterator[Edit]:
    home = startup.home(world.environ)
    for path in dict.fromkeys([*record.hooks, *startup.files(world.environ)]):
        old = edit.read(path) if path.is_file() else None
        if old is not None and rcfile.present(old):
            new = rcfile.removed(old)
            created = record.hooks.get(path, False)
            yield Edit(path, old, None if created and not new else new, below=home)


def _tokens(store: Store) -> list[plan.Step]:
    names = [*store.known(), *(["default"] if (store.root / "default").is_symlink() else [])]
    return [plan.Remove(store.root / name, store.root.parent, tree=True) for name in names]
