"""From nothing to a working vx-token, and back: what is found, what would change, and the doing of it."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vx_token import __version__
from vx_token.config.model import Config
from vx_token.daemon import info
from vx_token.errors import VxTokenError
from vx_token.install import changes, edit, rcfile, setup_config, shell_startup
from vx_token.install.edit import Edit
from vx_token.install.service import Manager, leftovers
from vx_token.install.setup_io import Wishes, World
from vx_token.install.setup_record import Record
from vx_token.system import paths, shipped


@dataclass(frozen=True, slots=True)
class Plan:
    """What would change, in order; `service` is None when there is nothing to do for it."""

    profile: str
    config: Edit | None
    hooks: tuple[Edit, ...] = ()
    service: Manager | None = None
    steps: tuple[changes.Step, ...] = ()

    def __str__(self) -> str:
        told = [str(step).rstrip("\n") for step in (self.config, *self.hooks) if step is not None]
        if self.service:
            told.append("install and start the service (all of it: vx-token service install --dry-run)")
        return "\n".join(told)


def prepare(wishes: Wishes, world: World) -> Plan:
    """Find out what is there and what is missing; changes nothing.

    Raises:
        VxTokenError: see `setup_config.target`; or a start-up file cannot be read.
    """
    aim = setup_config.target(wishes, world)
    hooks = tuple(_hooks(wishes, world))
    service, steps = _service(wishes, world, aim.config)
    return Plan(aim.profile, aim.change, hooks, service, steps)


def perform(todo: Plan, world: World) -> None:
    """Do it, and prove it by a token; what was done is on record for `undo` before it is begun.

    Raises:
        VxTokenError: a step failed, or no token can be had.
    """
    record = Record.read(world.environ)
    folders = _new_folders(todo, world)
    new = todo.service is not None and not todo.service.standing().file.exists()
    record.noted(todo.config, todo.hooks, folders, service=new).write(world.environ)
    for step in (todo.config, *todo.hooks):
        if step is not None:
            step.perform()
    if todo.service:
        world.say(todo.service.carry_out(todo.steps, world.now))
    world.say(world.prove(todo.profile))


def undoing(world: World) -> list[changes.Step | Edit]:
    """The steps that take back what `perform` did, and only that; what the user changed since then stays."""
    record = Record.read(world.environ)
    config = record.restored(shell_startup.home(world.environ))
    steps: list[changes.Step | Edit] = list(_uninstall(record, world))
    steps += [*_unhooked(record, world), *([config] if config else [])]
    if config is not None and config.new is None and not world.service(None).standing().file.exists():
        steps += _written(world)
    steps += record.forgotten(world.environ, shell_startup.home(world.environ))
    return [_sparing(step, record, world) for step in steps]


def kept(world: World) -> str:
    """What `undoing` leaves and why, a line each."""
    record = Record.read(world.environ)
    torn = [path for path, data in _start_up_files(record, world) if rcfile.torn(data)]
    told = [f"{path} stays: a block there lost one of its ends, {rcfile.BY_HAND}" for path in torn]
    if record.config and not record.restored(shell_startup.home(world.environ)):
        told.append(f"{record.config} stays: it was changed after setup wrote it")
    return "\n".join(told)


def undo(steps: Iterable[changes.Step | Edit], world: World) -> None:
    """Take the steps of `undoing`.

    Raises:
        VxTokenError: one failed.
    """
    run = world.service(None).run
    for step in steps:
        step.perform(run)


def _hooks(wishes: Wishes, world: World) -> Iterator[Edit]:
    kind = wishes.shell or shell_startup.login_shell(world.environ)
    if wishes.hook is False or kind == "none":
        return
    if not kind:
        world.say("hook       none for your shell; name another by --shell, or use: vx-token exec -- COMMAND")
        return
    edits, by = [], ""
    for path in shell_startup.TARGETS[kind](world.environ):
        old = edit.read(path)
        if old is not None and not rcfile.present(old) and shell_startup.scan(_loose(old)).loads:
            by = f"{path} line {shell_startup.scan(_loose(old)).loads}"
        new = rcfile.inserted(old or b"", rcfile.block(shell_startup.lines(kind, shipped.hook_file(kind))))
        edits += [Edit(path, old, new, 0o644, shell_startup.home(world.environ))] if new != old else []
    if by or not edits:
        world.say(f"hook       loaded by {by or 'the block in ' + str(shell_startup.TARGETS[kind](world.environ)[0])}")
        return
    question = f"Load the hook in every new {kind}, so that its commands find a live token?"
    if wishes.hook or world.ask.yes(question):
        yield from edits


def _loose(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _service(wishes: Wishes, world: World, config: Config) -> tuple[Manager | None, tuple[changes.Step, ...]]:
    if wishes.service is False:
        return None, ()
    manager = world.service(config)
    try:
        manager.check()
    except VxTokenError as error:
        if wishes.service:
            raise
        world.say(f"service    {error.message}; {error.hint}")
        return None, ()
    steps = manager.install()
    if all(_right(step) for step in steps) and manager.standing().running and _up_to_date(world):
        world.say("service    runs")
        return None, ()
    if wishes.service or world.ask.yes("Install the service, so that a fresh token is always there?"):
        return manager, tuple(steps)
    return None, ()


def _up_to_date(world: World) -> bool:
    """Whether what runs is this program; after an upgrade it is not, though the unit is the same."""
    running = info.daemon(paths.runtime_dir(world.environ))
    return running is not None and running.get("version") == __version__


def _right(step: changes.Step) -> bool:
    return not isinstance(step, changes.Write) or edit.read(step.path) == step.text.encode()


def _new_folders(todo: Plan, world: World) -> frozenset[Path]:
    """The folders that doing it makes."""
    edits = [each.path.resolve().parent for each in (todo.config, *todo.hooks) if each is not None]
    folders = [step.path for step in todo.steps if isinstance(step, changes.Folder)]
    files = [step.path.parent for step in todo.steps if isinstance(step, changes.Write)]
    if not (edits or folders or files):
        return frozenset()
    state = paths.state_dir(world.environ)
    places = [*edits, *folders, *files, state, state.resolve()]
    return frozenset(each for place in places for each in (place, *place.parents) if not each.exists())


def _sparing(step: changes.Step | Edit, record: Record, world: World) -> changes.Step | Edit:
    """The step that takes no folder away which setup did not make, empty or not."""
    if not isinstance(step, changes.Remove | Edit) or step.path.is_relative_to(paths.runtime_dir(world.environ)):
        return step
    path = step.path.resolve() if isinstance(step, Edit) else step.path
    return replace(step, below=next(each for each in path.parents if each not in record.folders))


def _uninstall(record: Record, world: World) -> list[changes.Step]:
    return world.service(None).uninstall() if record.service else []


def _unhooked(record: Record, world: World) -> Iterator[Edit]:
    for path, old in _start_up_files(record, world):
        if rcfile.present(old) and not rcfile.torn(old):
            new = rcfile.removed(old)
            created = record.hooks.get(path, False)
            yield Edit(path, old, None if created and not new else new, below=shell_startup.home(world.environ))


def _start_up_files(record: Record, world: World) -> Iterator[tuple[Path, bytes]]:
    for path in dict.fromkeys([*record.hooks, *shell_startup.files(world.environ)]):
        old = edit.read(path) if path.is_file() else None
        if old is not None:
            yield path, old


def _written(world: World) -> list[changes.Step]:
    """What was written by commands that ran without the service."""
    environ = world.environ
    found = leftovers(shell_startup.home(environ), paths.runtime_dir(environ), paths.state_dir(environ))
    return [step for step in found if isinstance(step, changes.Remove) and os.path.lexists(step.path)]
