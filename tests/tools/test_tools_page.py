"""docs/tools.json and docs/tools.md, which scripts/test-tools writes, agree with each other and with the lock files."""

import json
import re
import runpy
from typing import Any

import pytest

from sandbox import REPOSITORY

LOCKS = REPOSITORY / "scripts" / "tools"
ENTRIES: list[dict[str, Any]] = json.loads((REPOSITORY / "docs" / "tools.json").read_text("utf-8"))["tools"]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The script that makes the tables."""
    monkeypatch.syspath_prepend(REPOSITORY / "scripts")
    return runpy.run_path(str(REPOSITORY / "scripts" / "tools_page.py"))


def locked(environment: str, package: str) -> str:
    """The version in the lock file of an environment."""
    if (LOCKS / environment).is_dir():
        packages = json.loads((LOCKS / environment / "package-lock.json").read_text())["packages"]
        return str(packages[f"node_modules/{package}"]["version"])
    versions: dict[str, str] = dict(
        re.findall(r"^([\w.-]+)==([\w.]+)", (LOCKS / f"{environment}.txt").read_text(), re.MULTILINE)
    )
    return versions[package.partition("[")[0]]


def test_each_tool_of_the_page_is_shown_in_its_locked_version(page: dict[str, Any]) -> None:
    rows = {row.name: row for row in page["rows"]()}
    for entry in ENTRIES:
        row = rows[entry["tool"]]
        assert (entry["package"], entry["version"]) == (row.package, locked(row.environment, row.package))


def test_the_page_shows_each_tool_that_the_suite_runs(page: dict[str, Any]) -> None:
    assert [entry["tool"] for entry in ENTRIES] == [row.name for row in page["rows"]()]


def test_no_tool_of_the_page_has_failed() -> None:
    failed = [
        f"{entry['tool']}, {name}: {column['why']}"
        for entry in ENTRIES
        for name, column in entry["columns"].items()
        if column["outcome"] == "failed"
    ]
    assert not failed


def test_the_tables_are_those_of_the_data(page: dict[str, Any]) -> None:
    assert page["blocks"].read("tools.md", "tools").strip() == page["tables"](ENTRIES).strip()
