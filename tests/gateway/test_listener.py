"""The user id of a listening socket is read from the kernel's table."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vx_token.gateway.listener import owner_uid, parse_listeners

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux has the table")

STRANGER = 65534

# The imports come first: another user may be unable to read the interpreter's library.
LISTENER = f"""
import os, socket, sys
os.setgid({STRANGER})
os.setuid({STRANGER})
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("bound", "asked"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::1", "::1"),
        ("::", "::1"),
        ("::", "127.0.0.1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
    ],
)
def test_a_listener_of_ours_has_our_user_id(bound: str, asked: str) -> None:
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    with socket.socket(family) as listening:
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind((bound, 0))
        port = listening.getsockname()[1]
        assert owner_uid(asked, port) is None
        listening.listen()
        assert owner_uid(asked, port) == os.geteuid()
    assert owner_uid(asked, port) is None


def test_a_listener_on_another_address_is_not_taken_for_it() -> None:
    with socket.create_server(("127.0.0.2", 0)) as listening:
        assert owner_uid("127.0.0.1", listening.getsockname()[1]) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_a_stranger_has_another_user_id() -> None:
    command = [sys.executable, "-I", "-c", LISTENER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert owner_uid("127.0.0.1", port) == STRANGER
        process.communicate("")


def test_a_table_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="too few fields"):
        list(parse_listeners("header\n  0: 0100007F:212A\n"))
