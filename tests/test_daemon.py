"""The daemon as a real process, across the lives of its tokens."""

import signal

from sandbox import Box, until
from vx_token.emulator import Emulator


def test_a_daemon_replaces_the_token_before_each_end(signed_in: Box, google: Emulator) -> None:
    google.lifetime = 2.0
    with signed_in.daemon() as process:
        seen = set()

        def three_lives() -> bool:
            if token := signed_in.read("token"):
                seen.add(token)
            return len(seen) >= 3

        until(three_lives, 15)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    assert signed_in.read("token") == google.issued[-1].value
