"""The lock files hold exact versions with hashes that satisfy pyproject.toml, and name no registry."""

import re
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sandbox import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
LOCKS = {"demo": "checkout", "dev": "dev", "docs": "docs"}


def locked(name: str) -> dict[str, str]:
    """The version of each package in a lock file."""
    text = (REPOSITORY / f"scripts/requirements-{name}.txt").read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all("--hash=sha256:" in line for line in lines)
    assert "://" not in text
    return {canonicalize_name(package): version for package, version in (re.split("==| ", line)[:2] for line in lines)}


def group(name: str) -> Iterator[str]:
    """The requirements of a dependency group and of the groups that it includes."""
    for entry in PROJECT["dependency-groups"][name]:
        yield from [entry] if isinstance(entry, str) else group(entry["include-group"])


@pytest.mark.parametrize("name", LOCKS)
def test_each_requirement_is_locked_to_a_version_that_satisfies_it(name: str) -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *extras["gateway"], *extras["demo"], *group(LOCKS[name])]
    versions = locked(name)
    for requirement in map(Requirement, wanted):
        version = versions.get(canonicalize_name(requirement.name), "")
        assert version, f"{requirement} is missing: run scripts/lock"
        assert requirement.specifier.contains(version), f"{requirement} is not {version}: run scripts/lock"


def test_both_lock_files_have_the_same_versions() -> None:
    demo, dev = locked("demo"), locked("dev")
    assert demo.items() <= dev.items()
