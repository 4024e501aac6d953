"""Setup: plans and performs configuration, shell hook and service, and undoes them."""

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from vx_token import __version__
from vx_token.config.model import Config
from vx_token.daemon import info
from vx_token.errors import LoginNeededError, TemporaryError, VxTokenError
from vx_token.install import changes, desktop, man_pages, rcfile, setup_config, shell_startup
from vx_token.install.changes import Step
from vx_token.install.desktop import SetDesktop, UnsetDesktop
from vx_token.install.man_pages import LinkPages, UnlinkPages
from vx_token.install.replaced_keys import replaced
from vx_token.install.service import ServiceManager, leftovers
from vx_token.install.setup_io import SetupContext, SetupOptions
from vx_token.install.setup_record import Record
from vx_token.system import file_edit, paths, shipped
from vx_token.system.file_edit import EditFile
from vx_token.tools import record as tools_record

UndoStep = Step | EditFile | UnlinkPages | UnsetDesktop


@dataclass(frozen=True, slots=True)
class SetupPlan:
    """The changes in order; `service` is None when the service needs no change.

    Attributes:
        profile: the profile to set up.
        shell: the shell whose new sessions load the hook, "" for none.
        config: the configuration after the changes.
        edit: the edit of the configuration file, None when it needs no change.
        hooks: the edits of start-up files.
        pages: the manual pages to link, None when all are linked.
        service: the manager that installs the service.
        steps: the steps that it performs.
        desktop: the change of the session's environment, None for none.
    """

    profile: str
    shell: str
    config: Config
    edit: EditFile | None
    hooks: tuple[EditFile, ...] = ()
    pages: LinkPages | None = None
    service: ServiceManager | None = None
    steps: tuple[Step, ...] = ()
    desktop: SetDesktop | None = None

    def __str__(self) -> str:
        lines = [str(step).rstrip("\n") for step in (self.edit, *self.hooks, self.pages, self.desktop) if step]
        if self.service:
            lines.append("install and start the service (details: vx-token service install --dry-run)")
        return "\n".join(lines)


def prepare(options: SetupOptions, context: SetupContext) -> SetupPlan:
    """Detect missing parts and return the plan, without changing anything.

    Raises:
        VxTokenError: see `setup_config.plan_config`; or a start-up file is not readable.
    """
    plan = setup_config.plan_config(options, context)
    session = _session(plan.config, plan.profile, context) if options.desktop else None
    shell, hooks = _hooks(options, context)
    service, steps = _service(options, context, plan.config)
    pages = man_pages.missing(context.environ)
    return SetupPlan(plan.profile, shell, plan.config, plan.edit, hooks, pages, service, steps, session)


def perform(plan: SetupPlan, context: SetupContext, done: list[str]) -> None:
    """Perform the plan; each change is recorded before it is made, for `undo`.

    Args:
        plan: the changes.
        context: the rest of the program.
        done: gets a line for each change that was made, also when an error or an interrupt stops the next one.

    Raises:
        VxTokenError: a step failed.
    """
    record = Record.read(context.environ)
    folders = _new_folders(plan, context)
    new = plan.service is not None and not plan.service.status().file.exists()
    with _uninterrupted():
        record.with_changes(plan.edit, plan.hooks, folders, service=new).write(context.environ)
        for step in (plan.edit, *plan.hooks):
            if step is not None:
                step.perform()
                done.append(f"{'wrote' if step.old is None else 'changed'} {step.path}")
        if plan.pages:
            _link_pages(plan.pages, context, done)
    if plan.service:
        done.append("began to install the service")
        context.echo(_start(plan.service, plan.steps, context))
        done[-1] = "installed the service"
    if plan.desktop:
        remark = plan.desktop.perform()
        done.append(f"wrote {plan.desktop.path}")
        context.echo(f"desktop    {remark}")


def _session(config: Config, profile: str, context: SetupContext) -> SetDesktop | None:
    step = desktop.addition(context.session, context.environ, config, profile, context.run_with)
    if step is None:
        context.echo(f"desktop    {context.session.path} is up to date")
    return step


def _start(manager: ServiceManager, steps: Iterable[Step], context: SetupContext) -> str:
    """Install and start the service; a service without a token yet is no error here, because the test shows the cause.

    Raises:
        VxTokenError: the service is not running.
    """
    try:
        with context.waiting("starting the service"):
            return manager.apply(steps, context.now)
    except (LoginNeededError, TemporaryError) as error:
        if not manager.status().running:
            raise
        return error.message


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C until files and their record agree, which takes milliseconds."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _link_pages(pages: LinkPages, context: SetupContext, done: list[str]) -> None:
    """Link the manual pages; without them everything else works."""
    try:
        pages.perform()
        done.append(f"linked the manual pages into {pages.path.parent}")
    except OSError as error:
        context.echo(f"man pages  not linked: {error.strerror}; instead of man use: vx-token help")


def undo_steps(context: SetupContext, *, only_desktop: bool = False) -> list[UndoStep]:
    """Return the steps that revert what `perform` did; files that the user changed since stay."""
    record = Record.read(context.environ)
    config = record.restoration(paths.home_dir(context.environ))
    session = desktop.removal(context.session, context.environ, context.run_with)
    steps: list[UndoStep] = [session] if session else []
    if only_desktop:
        return [_keep_older_folders(step, record, context) for step in steps]
    steps += _uninstall(record, context)
    steps += [*_remove_hooks(record, context), *([config] if config else [])]
    if config is not None and config.new is None and not context.service(None).status().file.exists():
        steps += _runtime_files(context)
    if pages := man_pages.removal(context.environ):
        steps.append(pages)
    steps += [changes.RemoveFile(path, path.parent) for path in record.leftovers(context.environ)]
    steps += record.removal(context.environ, paths.home_dir(context.environ))
    return [_keep_older_folders(step, record, context) for step in steps]


def kept_files(context: SetupContext) -> str:
    """Return a line for each file that undo does not change, with the reason."""
    record = Record.read(context.environ)
    incomplete = [path for path, data in _start_up_files(record, context) if rcfile.is_incomplete(data)]
    lines = [f"{path} stays: its vx-token block is incomplete, {rcfile.REMOVE_HINT}" for path in incomplete]
    if record.config and not record.restoration(paths.home_dir(context.environ)):
        lines.append(f"{record.config} stays: it was changed after setup wrote it")
    if tools := tools_record.connected(context.environ):
        lines.append(f"{', '.join(tools)} stay connected; to take them back: vx-token connect --undo --all")
    return "\n".join(lines)


def undo(steps: Iterable[UndoStep], context: SetupContext, done: list[str]) -> None:
    """Perform the steps of `undo_steps`; `done` gets a line for each that was performed.

    Raises:
        VxTokenError: a step failed.
    """
    run = context.service(None).run
    folders = Record.read(context.environ).folders
    with context.waiting("removing"):
        for step in steps:
            step.perform(run)
            done.append(str(step).partition("\n")[0])
    for folder in sorted(folders, reverse=True):  # a setup that was killed may have filled none of them
        with suppress(OSError):
            folder.rmdir()


def _hooks(options: SetupOptions, context: SetupContext) -> tuple[str, tuple[EditFile, ...]]:
    """Return the shell that loads the hook after setup, "" for none, and the edits of its start-up files."""
    kind = options.shell or shell_startup.login_shell(context.environ)
    if options.hook is False or kind == "none":
        return "", ()
    if not kind:
        context.echo("hook       none for your shell; choose another with --shell, or use: vx-token exec -- COMMAND")
        return "", ()
    edits, loaded_by = [], ""
    targets = shell_startup.HOOK_TARGETS[kind](context.environ)
    for path in targets:
        old = file_edit.read_if_exists(path)
        if old is not None and not rcfile.has_block(old) and shell_startup.scan(_decoded(old)).loads:
            loaded_by = f"{path} line {shell_startup.scan(_decoded(old)).loads}"
        new = rcfile.with_block(
            old or b"", rcfile.block(shell_startup.lines(kind, shipped.hook_file(kind), shipped.completion_file(kind)))
        )
        edits += [EditFile(path, old, new, 0o644, paths.home_dir(context.environ))] if new != old else []
    if loaded_by or not edits:
        context.echo(f"hook       loaded by {loaded_by or f'the block in {targets[0]}'}")
        return kind, ()
    old_keys = replaced(context.environ, _startup_texts(context))
    for line in old_keys:
        context.echo(f"hook       {line}")
    question = f"Set OPENAI_API_KEY automatically in new {kind} shells?"
    if old_keys:
        context.echo("           new shells get OPENAI_API_KEY and OPENAI_BASE_URL for Vertex AI instead;")
        context.echo("           vx-token-off brings your own values back there")
        question = f"Use those of vx-token in new {kind} shells?"
    if (options.hook and not old_keys) or context.prompter.confirm(question):
        return kind, tuple(edits)
    return "", ()


def _startup_texts(context: SetupContext) -> dict[Path, str]:
    files = shell_startup.files(context.environ)
    return {path: _decoded(file_edit.read_if_exists(path) or b"") for path in files if path.is_file()}


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
        context.echo(f"service    {error.message}\n           to keep tokens fresh, {error.hint}")
        return None, ()
    with context.waiting("examining the service manager"):
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
    return not isinstance(step, changes.WriteFile) or file_edit.read_if_exists(step.path) == step.text.encode()


def _new_folders(plan: SetupPlan, context: SetupContext) -> frozenset[Path]:
    """Return the folders that the plan will create."""
    edits = [each.path.resolve().parent for each in (plan.edit, *plan.hooks) if each is not None]
    edits += [step.path.parent for step in (plan.pages, plan.desktop) if step]
    folders = [step.path for step in plan.steps if isinstance(step, changes.MakeFolder)]
    files = [step.path.parent for step in plan.steps if isinstance(step, changes.WriteFile)]
    if not (edits or folders or files):
        return frozenset()
    state = paths.state_dir(context.environ)
    paths_needed = [*edits, *folders, *files, state, state.resolve()]
    return frozenset(each for path in paths_needed for each in (path, *path.parents) if not each.exists())


def _keep_older_folders(step: UndoStep, record: Record, context: SetupContext) -> UndoStep:
    """Return the step with a `below` that preserves folders which setup did not create."""
    if not isinstance(step, changes.RemoveFile | EditFile | UnlinkPages | UnsetDesktop) or step.path.is_relative_to(
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
        old = file_edit.read_if_exists(path) if path.is_file() else None
        if old is not None:
            yield path, old


def _runtime_files(context: SetupContext) -> list[Step]:
    """Return the steps that remove files which commands wrote without the service."""
    environ = context.environ
    steps = leftovers(paths.home_dir(environ), paths.runtime_dir(environ), paths.state_dir(environ))
    return [step for step in steps if isinstance(step, changes.RemoveFile) and os.path.lexists(step.path)]
