"""What tests of the gateway may ask for."""

from collections.abc import Iterator

import pytest

from upstreams import Upstream, upstream


@pytest.fixture
def server() -> Iterator[Upstream]:
    """An upstream that answers as `upstreams.answer_ok` does unless a test gives it another handler."""
    with upstream() as running:
        yield running
