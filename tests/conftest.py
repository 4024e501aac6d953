"""What all tests may ask for."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import accounts
import usermanager
from sandbox import Box
from vx_token.emulator import Emulator, running

# A busy machine is no failure: pytest-timeout ends what hangs. scripts/prove-security tries more inputs.
settings.register_profile("vx-token", deadline=None, max_examples=int(os.environ.get("VX_TOKEN_EXAMPLES", "100")))
settings.load_profile("vx-token")

# A run in the background or under nohup starts with these signals ignored, and every program that a test starts would
# inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the real user manager as slow."""
    for item in items:
        if "user_manager" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything must be there (VX_TOKEN_STRICT=1), a skipped test is a failed run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("VX_TOKEN_STRICT") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def require() -> Callable[[str], str]:
    """Find a program; where everything must be there (VX_TOKEN_STRICT=1) a missing one is a failure, else a skip."""

    def find(program: str) -> str:
        found = shutil.which(program)
        if found is None and os.environ.get("VX_TOKEN_STRICT"):
            pytest.fail(f"{program} is not installed")
        if found is None:
            pytest.skip(f"{program} is not installed")
        return found

    return find


@pytest.fixture
def google() -> Iterator[Emulator]:
    """A Google on loopback whose tokens live an hour unless the test says otherwise."""
    with running() as emulator:
        yield emulator


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """An empty home and no configuration."""
    return Box(tmp_path)


@pytest.fixture
def signed_in(box: Box, google: Emulator) -> Box:
    """A home with the profile `gemini`, a service account of the emulator's, and Vertex on the emulator."""
    google.service_account(box.key)
    box.profile(url=google.base_url())
    return box


@pytest.fixture(scope="session")
def user_manager() -> Iterator[usermanager.UserManager]:
    """An ordinary user with a real `systemd --user`, for the whole run."""
    with usermanager.for_the_tests() as manager:
        yield manager


@pytest.fixture
def account(user_manager: usermanager.UserManager, google: Emulator) -> Iterator[accounts.Account]:
    """That user with the command, and nothing else."""
    with accounts.opened(user_manager, google) as account:
        yield account
