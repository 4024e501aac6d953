"""Imports go one way: a module uses only what stands on the levels above it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "vx_token"

LEVELS = """
__init__ cli doctor gateway service setup errors tokens clock peek atomic adc commands hardening presets tomledit \
    vertex cli.become cli.help service.notify emulator.answers emulator.aws emulator.refusals \
    gateway.usage gateway.listener
values log cli.output paths plan rcfile schedule shell verdict watch \
    emulator.identity emulator.vertex \
    gateway.connections gateway.errors gateway.headers gateway.key gateway.metrics gateway.proxy \
    gateway.settings gateway.statusz
claim settings store edit gcloud startup service.agent \
    emulator.faults emulator.logins \
    gateway.acceptor gateway.body gateway.freshness gateway.guard gateway.models gateway.sockets
config endpoint login mint sinks told service.launchd service.systemd setup.record setup.world \
    emulator.world gateway.memory gateway.upstream
refresh source cli.service setup.config emulator.control emulator.machine emulator.tokens gateway.relay
status here keeper emulator.server gateway.forward
emulator cli.options doctor.scene setup.steps gateway.app
demo emulator.__main__ doctor.live doctor.shell doctor.token gateway.server
doctor.checks gateway.link
gateway.switch
daemon cli.files cli.gateway cli.setup cli.status
cli.keys
cli.main
__main__
""".strip().splitlines()
"""From the values at the top down to the command; within a level nobody knows anybody."""

ORDER = {name: level for level, names in enumerate(LEVELS) for name in names.split()}


def named(path: Path) -> str:
    """A module's name below the package; a folder's own is the folder's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {named(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def names(module: str) -> set[str]:
    """The full names of all that a module imports, at its top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by a relative name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported(module: str) -> set[str]:
    """Our own modules that a module imports."""
    ours = {name.removeprefix("vx_token").lstrip(".") for name in names(module) if f"{name}.".startswith("vx_token.")}
    return {_module(name) for name in ours}


def _module(name: str) -> str:
    """The module that `name`, a module or something in one, is or lies in."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or "__init__"


def users(*packages: str) -> set[str]:
    """The modules that import a package of somebody else's."""
    return {
        module for module in MODULES if any(f"{name}.".startswith(f"{p}.") for name in names(module) for p in packages)
    }


def folders(modules: set[str]) -> set[str]:
    """The first parts of their names."""
    return {module.partition(".")[0] for module in modules}


def test_every_module_has_its_level_and_only_one() -> None:
    assert sorted(name for level in LEVELS for name in level.split()) == sorted(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_the_levels_above(module: str) -> None:
    wrong = {name for name in imported(module) if ORDER[name] >= ORDER[module]}
    assert not wrong, f"{module} imports {wrong}"


def test_the_table_is_not_kept_for_nothing() -> None:
    assert {"settings", "store", "schedule"} <= imported("daemon") | imported("refresh")
    assert "peek" in imported("__main__")
    assert "gateway.relay" in imported("gateway.app")


def test_nobody_imports_source_which_runs_in_a_process_of_its_own() -> None:
    assert not [module for module in MODULES if "source" in imported(module)]


def test_a_folder_brings_nothing_with_it() -> None:
    # Whoever needs one light module of the gateway must not get aiohttp with it.
    assert not [module for module in ("cli", "doctor", "gateway", "service", "setup") if names(module)]


def test_each_outside_thing_has_its_own_place() -> None:
    assert users("google", "requests") == {"source"}
    assert users("watchdog") == {"watch"}
    # doctor finds another tool's folder by that tool's own rule, which is click's.
    assert folders(users("click") - {"doctor.scene"}) == {"cli"}
    assert folders(users("openai")) <= {"demo", "cli"}
    assert folders(users("aiohttp")) <= {"gateway", "emulator"}
