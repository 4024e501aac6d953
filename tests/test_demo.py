"""The demo, as a newcomer runs it."""

import pytest

from sandbox import Box


@pytest.mark.waits
def test_the_demo_outlives_tokens_and_touches_nothing_of_the_users(box: Box) -> None:
    done = box.vx("demo", "--seconds", "24", timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DEAD 401" in done.stdout
    assert "the others never noticed" in done.stdout
    assert "ya29." not in done.stdout + done.stderr
    assert not list(box.home.rglob("*"))
    assert not box.runtime.exists()
    assert not box.config.exists()
