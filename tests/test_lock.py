"""The lock files hold exact versions with hashes that satisfy pyproject.toml, and name no registry."""

import re
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from sandbox import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
LOCKS = {"demo": "checkout", "dev": "dev", "docs": "docs", "lowest": "dev", "release": "release"}


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
    product = [*PROJECT["project"]["dependencies"], *(each for extra in extras.values() for each in extra)]
    wanted = [*(product if name != "release" else ()), *group(LOCKS[name])]
    versions = locked(name)
    for requirement in map(Requirement, wanted):
        version = versions.get(canonicalize_name(requirement.name), "")
        assert version, f"{requirement} is missing: run scripts/lock"
        assert requirement.specifier.contains(version), f"{requirement} is not {version}: run scripts/lock"


def test_the_demo_has_the_versions_of_the_tests() -> None:
    demo, dev = locked("demo"), locked("dev")
    assert demo.items() <= dev.items()


def test_users_can_have_the_versions_that_the_tests_ran_with() -> None:
    lines = [line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    versions = {canonicalize_name(name): version for name, version in (re.split("==| ", line)[:2] for line in lines)}
    assert versions.keys() >= {Requirement(each).name for each in PROJECT["project"]["dependencies"]}
    assert versions.items() <= locked("dev").items()


def test_the_lowest_versions_are_those_of_pyproject() -> None:
    versions = locked("lowest")
    extras = PROJECT["project"]["optional-dependencies"]
    for requirement in map(Requirement, [*PROJECT["project"]["dependencies"], *extras["gateway"]]):
        [bound] = [each for each in requirement.specifier if each.operator == ">="]
        assert Version(versions[canonicalize_name(requirement.name)]) == Version(bound.version), requirement
