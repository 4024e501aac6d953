"""docs/security.md links each mitigation to tests that exist, and says how its figures are made."""

import ast
import re
from functools import cache

import pytest

from sandbox import REPOSITORY

PAGE = (REPOSITORY / "docs" / "security.md").read_text()
TESTS = re.findall(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`", PAGE)


@cache
def functions(path: str) -> set[str]:
    """The names of the tests in a file."""
    tree = ast.parse((REPOSITORY / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("path", "name"), sorted(set(TESTS)))
def test_each_test_that_the_page_names_exists(path: str, name: str) -> None:
    assert not name or name in functions(path)


def test_each_mitigation_names_a_test() -> None:
    table = PAGE.partition("## Mitigations")[2].partition("\n## ")[0]
    rows = [
        line for line in table.splitlines() if line.startswith("| ") and not line.startswith(("| mitigation", "| ---"))
    ]
    assert len(rows) >= 30
    assert [row for row in rows if "`tests/" not in row.rpartition(" | ")[2]] == []


def test_the_figures_are_between_the_marks_of_their_script() -> None:
    assert PAGE.count("<!-- figures: scripts/prove-security -->") == 1
    assert PAGE.count("<!-- end of figures -->") == 1
