"""Imports go one way: a package uses only itself and the packages above it."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "vx_token"

ORDER = [
    "emulator",
    "__init__",
    "errors",
    "system",
    "config",
    "credentials",
    "tokens",
    "outputs",
    "vertex",
    "gateway",
    "daemon",
    "tools",
    "install",
    "report",
    "cli",
    "__main__",
]
"""Packages and top-level modules, in the order in which data flows."""


def named(path: Path) -> str:
    """A module's name below `vx_token`; that of a package for its `__init__`."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {named(path): path for path in sorted(SOURCE.rglob("*.py"))}


def package(module: str) -> str:
    """The package of a module, or the module itself at the top."""
    return module.partition(".")[0]


def names(module: str) -> set[str]:
    """The full names of everything that a module imports, at its top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by a relative name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported(module: str) -> set[str]:
    """The modules of this project that a module imports."""
    ours = {name.removeprefix("vx_token").lstrip(".") for name in names(module) if f"{name}.".startswith("vx_token.")}
    return {_module(name) for name in ours}


def _module(name: str) -> str:
    """The module that `name`, a module or a name inside one, belongs to."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or "__init__"


def users(*libraries: str) -> set[str]:
    """The modules that import one of these libraries."""
    return {m for m in MODULES if any(f"{name}.".startswith(f"{each}.") for name in names(m) for each in libraries)}


def packages(modules: set[str]) -> set[str]:
    """The packages of these modules."""
    return {package(module) for module in modules}


def test_the_order_lists_every_package() -> None:
    assert {package(module) for module in MODULES} <= set(ORDER)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_its_own_package_and_those_above(module: str) -> None:
    place = ORDER.index(package(module))
    wrong = {name for name in imported(module) if ORDER.index(package(name)) > place}
    assert not wrong, f"{module} imports {wrong}"


@pytest.mark.parametrize("name", ORDER)
def test_no_package_has_a_cycle_inside(name: str) -> None:
    left = {m: {i for i in imported(m) if package(i) == name and i != m} for m in MODULES if package(m) == name}
    while free := {module for module, needs in left.items() if not needs & left.keys()}:
        left = {module: needs for module, needs in left.items() if module not in free}
    assert not left, f"a cycle among {sorted(left)}"


def test_the_emulator_imports_nothing_of_the_product() -> None:
    assert {package(name) for m in MODULES if package(m) == "emulator" for name in imported(m)} <= {"emulator"}


def test_the_google_worker_is_imported_by_no_module_because_it_runs_in_a_child() -> None:
    assert not [module for module in MODULES if "credentials.google_worker" in imported(module)]


def test_importing_a_package_loads_nothing_else() -> None:
    # The print command imports single modules of several packages, so a package itself must cost nothing.
    inits = [m for m, path in MODULES.items() if path.name == "__init__.py" and m not in {"__init__", "emulator"}]
    assert not [module for module in inits if names(module)]


def test_each_library_has_one_place() -> None:
    assert users("google", "requests") == {"credentials.google_worker"}
    assert users("watchdog") == {"daemon.watcher"}
    assert users("tomlkit", "ruamel") == {"tools.document"}
    # doctor finds another tool's folder by that tool's own rule, which is click's.
    assert packages(users("click") - {"report.doctor_facts"}) == {"cli"}
    assert packages(users("openai")) <= {"cli"}
    assert packages(users("aiohttp")) <= {"gateway", "emulator"}
