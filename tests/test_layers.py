"""Imports go one way: a module uses only what stands on the levels above it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "vx_token"

LEVELS = """
__init__ errors tokens clock log peek cli_help atomic adc commands presets systemd tomledit vertex \
    emulator_refusals gateway_proxy gateway_usage
values paths plan rcfile schedule shell verdict watch \
    emulator_identity emulator_vertex gateway_errors gateway_headers gateway_key gateway_metrics gateway_settings
config store agent edit gcloud startup \
    emulator_faults gateway_body gateway_freshness gateway_guard gateway_models gateway_sockets
endpoint gateway_memory mint sinks source launchd service setup_record setup_world emulator_world gateway_upstream
refresh setup_config cli_service emulator_control emulator_tokens gateway_relay
status setup here keeper emulator gateway_forward
gateway demo doctor_scene
doctor_live doctor_shell doctor_token gateway_server
doctor gateway_link
gateway_switch
daemon cli_gateway cli_setup
cli
__main__
""".strip().splitlines()
"""From the values at the top down to the command; within a level nobody knows anybody."""

ORDER = {name: level for level, names in enumerate(LEVELS) for name in names.split()}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))


def imported(module: str) -> set[str]:
    """Our own modules that a module imports, at its top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by a relative name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = (name.split(".") for name in found if name == "vx_token" or name.startswith("vx_token."))
    return {name[1] if len(name) > 1 and name[1] in MODULES else "__init__" for name in ours}


def outside(module: str) -> set[str]:
    """The first names of all that a module imports."""
    tree = ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text()))
    return {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in tree
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }


def test_every_module_has_its_level_and_only_one() -> None:
    named = [name for names in LEVELS for name in names.split()]
    assert sorted(named) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_the_levels_above(module: str) -> None:
    wrong = {name for name in imported(module) if ORDER[name] >= ORDER[module]}
    assert not wrong, f"{module} imports {wrong}"


def test_the_table_is_not_kept_for_nothing() -> None:
    assert {"config", "store", "schedule"} <= imported("daemon") | imported("refresh")
    assert "peek" in imported("__main__")


def test_nobody_imports_source_which_runs_in_a_process_of_its_own() -> None:
    assert not [module for module in MODULES if "source" in imported(module)]


def users(*prefixes: str) -> set[str]:
    """The modules that import a package of somebody else's."""
    return {
        module
        for module in MODULES
        if any(f"{name}.".startswith(f"{p}.") for name in outside(module) for p in prefixes)
    }


def test_each_outside_thing_has_its_own_place() -> None:
    assert users("google", "requests") == {"source"}
    assert users("watchdog") == {"watch"}
    # doctor finds another tool's folder by that tool's own rule, which is click's.
    assert users("click") - {"doctor_scene"} == {module for module in MODULES if module.split("_")[0] == "cli"}
    assert users("openai") <= {"demo", "cli"}
    assert not {m for m in users("aiohttp") if m.split("_")[0] not in ("gateway", "emulator")}
