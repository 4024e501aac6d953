"""Setup: plans and performs configuration, shell hook and service, and undoes them."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vx_token import __version__
from vx_token.config.model import Config
from vx_token.daemon import info
from vx_token.errors import VxTokenError
from vx_token.install import changes, rcfile, setup_config, shell_startup
from vx_token.install.changes import EditFile, Step
from vx_token.install.service import ServiceManager, leftovers
from vx_token.install.setup_io import SetupContext, SetupOptions
from vx_token.install.setup_record import Record
from vx_token.system import paths, shipped


@dataclass(frozen=True, slots=True)
class SetupPlan:
    """The changes in order; `service` is None when the service needs no change."""

    profile: str
    config: EditFile | None
    hooks: tuple[EditFile, ...] = ()
    service: ServiceManager | None = None
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        lines = [str(step).rstrip("\n") for step in (self.config, *self.hooks) if step is not None]
        if self.service:
            lines.append("install and start the service (details: vx-token service install --dry-run)")
        return "\n".join(lines)


def prepare(options: SetupOptions, context: SetupContext) -> SetupPlan:
    """Detect missing parts and return the plan, without changing anything.

    Raises:
        VxTokenError: see `setup_config.plan_config`; or a start-up file is not readable.
    """
    plan = setup_config.plan_config(options, context)
    hooks = tuple(_hooks(options, context))
    service, steps = _service(options, context, plan.config)
    return SetupPlan(plan.profile, plan.edit, hooks, service, steps)


def perform(plan: SetupPlan, context: SetupContext) -> None:
    """Perform the plan and verify it by refreshing a token; each change is recorded before it is made, for `undo`.

    Raises:
        VxTokenError: a step failed, or there is no token.
    """
    record = Record.read(context.environ)
    folders = _new_folders(plan, context)
    new = plan.service is not None and not plan.service.status().file.exists()
    record.with_changes(plan.config, plan.hooks, folders, service=new).write(context.environ)
    for step in (plan.config, *plan.hooks):
        if step is not None:
            step.perform()
    if plan.service:
        context.echo(plan.service.apply(plan.steps, context.now))
    context.echo(context.verify(plan.profile))


def undo_steps(context: SetupContext) -> list[Step | EditFile]:
    """Return the steps that revert what `perform` did; files that the user changed since stay."""
    record = Record.read(context.environ)
    config = record.restoration(paths.home_dir(context.environ))
    steps: list[Step | EditFile] = list(_uninstall(record, context))
    steps += [*_remove_hooks(record, context), *([config] if config else [])]
    if config is not None and config.new is None and not context.service(None).status().file.exists():
        steps += _runtime_files(context)
    steps += record.removal(context.environ, paths.home_dir(context.environ))
    return [_keep_older_folders(step, record, context) for step in steps]


def kept_files(context: SetupContext) -> str:
    """Return a line for each file that undo does not change, with the reason."""
    record = Record.read(context.environ)
    incomplete = [path for path, data in _start_up_files(record, context) if rcfile.is_incomplete(data)]
    lines = [f"{path} stays: its vx-token block is incomplete, {rcfile.REMOVE_HINT}" for path in incomplete]
    if record.config and not record.restoration(paths.home_dir(context.environ)):
        lines.append(f"{record.config} stays: it was changed after setup wrote it")
    return "\n".join(lines)


def undo(steps: Iterable[Step | EditFile], context: SetupContext) -> None:
    """Perform the steps of `undo_steps`.

    Raises:
        VxTokenError: a step failed.
    """
    run = context.service(None).run
    for step in steps:
        step.perform(run)


def _hooks(options: SetupOptions, context: SetupContext) -> Iterator[EditFile]:
    kind = options.shell or shell_startup.login_shell(context.environ)
    if options.hook is False or kind == "none":
        return
    if not kind:
        context.echo("hook       none for your shell; choose another with --shell, or use: vx-token exec -- COMMAND")
        return
    edits, loaded_by = [], ""
    targets = shell_startup.HOOK_TARGETS[kind](context.environ)
    for path in targets:
        old = changes.read_if_exists(path)
        if old is not None and not rcfile.has_block(old) and shell_startup.scan(_decoded(old)).loads:
            loaded_by = f"{path} line {shell_startup.scan(_decoded(old)).loads}"
        new = rcfile.with_block(old or b"", rcfile.block(shell_startup.lines(kind, shipped.hook_file(kind))))
        edits += [EditFile(path, old, new, 0o644, paths.home_dir(context.environ))] if new != old else []
    if loaded_by or not edits:
        context.echo(f"hook       loaded by {loaded_by or f'the block in {targets[0]}'}")
        return
    question = f"Set OPENAI_API_KEY automatically in new {kind} shells?"
    if options.hook or context.prompter.confirm(question):
        yield from edits


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _service(
    options: SetupOptions, context: SetupContext, config: Config
) -> tuple[ServiceManager | None, tuple[Step, ...]]:
    if options.service is False:
        return None, ()
    manager = context.service(config)
    try:
        manager.check()
    except VxTokenError as error:
        if options.service:
            raise
        context.echo(f"service    {error.message}; {error.hint}")
        return None, ()
    steps = manager.install()
    if all(_done(step) for step in steps) and manager.status().running and _up_to_date(context):
        context.echo("service    is running")
        return None, ()
    if options.service or context.prompter.confirm("Install the service, which keeps a fresh token at all times?"):
        return manager, tuple(steps)
    return None, ()


def _up_to_date(context: SetupContext) -> bool:
    """Whether the running daemon has this version; after an upgrade it differs while the unit stays the same."""
    running = info.read(paths.runtime_dir(context.environ))
    return running is not None and running.get("version") == __version__


def _done(step: Step) -> bool:
    return not isinstance(step, changes.WriteFile) or changes.read_if_exists(step.path) == step.text.encode()


def _new_folders(plan: SetupPlan, context: SetupContext) -> frozenset[Path]:
    """Return the folders that the plan will create."""
    edits = [each.path.resolve().parent for each in (plan.config, *plan.hooks) if each is not None]
    folders = [step.path for step in plan.steps if isinstance(step, changes.MakeFolder)]
    files = [step.path.parent for step in plan.steps if isinstance(step, changes.WriteFile)]
    if not (edits or folders or files):
        return frozenset()
    state = paths.state_dir(context.environ)
    paths_needed = [*edits, *folders, *files, state, state.resolve()]
    return frozenset(each for path in paths_needed for each in (path, *path.parents) if not each.exists())


def _keep_older_folders(step: Step | EditFile, record: Record, context: SetupContext) -> Step | EditFile:
    """Return the step with a `below` that preserves folders which setup did not create."""
    if not isinstance(step, changes.RemoveFile | EditFile) or step.path.is_relative_to(
        paths.runtime_dir(context.environ)
    ):
        return step
    path = step.path.resolve() if isinstance(step, EditFile) else step.path
    return replace(step, below=next(each for each in path.parents if each not in record.folders))


def _uninstall(record: Record, context: SetupContext) -> list[Step]:
    return context.service(None).uninstall() if record.service else []


def _remove_hooks(record: Record, context: SetupContext) -> Iterator[EditFile]:
    for path, old in _start_up_files(record, context):
        if rcfile.has_block(old) and not rcfile.is_incomplete(old):
            new = rcfile.without_block(old)
            created = record.hooks.get(path, False)
            yield EditFile(path, old, None if created and not new else new, below=paths.home_dir(context.environ))


def _start_up_files(record: Record, context: SetupContext) -> Iterator[tuple[Path, bytes]]:
    for path in dict.fromkeys([*record.hooks, *shell_startup.files(context.environ)]):
        old = changes.read_if_exists(path) if path.is_file() else None
        if old is not None:
            yield path, old


def _runtime_files(context: SetupContext) -> list[Step]:
    """Return the steps that remove files which commands wrote without the service."""
    environ = context.environ
    steps = leftovers(paths.home_dir(environ), paths.runtime_dir(environ), paths.state_dir(environ))
    return [step for step in steps if isinstance(step, changes.RemoveFile) and os.path.lexists(step.path)]
