"""The messages to the service manager, on real sockets."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Box, until
from vx_token.daemon.sd_notify import Notifier, heartbeat, notifier
from vx_token.emulator import Emulator

PID = os.getpid()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A listening manager and its NOTIFY_SOCKET."""
    place = str(tmp_path / "notify") if request.param == "path" else f"\0vx-token-test-{PID}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(place)
        listener.settimeout(5)
        yield place.replace("\0", "@"), listener


def test_each_message_is_one_datagram(manager: tuple[str, socket.socket]) -> None:
    address, listener = manager
    told = notifier({"NOTIFY_SOCKET": address}, PID)
    told.ready("gemini: 60 min left")
    told.ready()
    told.status("gemini: 42 min left")
    told.alive()
    told.reloading(1_234_567_000)
    told.stopping()
    assert [listener.recv(4096) for _ in range(6)] == [
        b"READY=1\nSTATUS=gemini: 60 min left",
        b"READY=1",
        b"STATUS=gemini: 42 min left",
        b"WATCHDOG=1",
        b"RELOADING=1\nMONOTONIC_USEC=1234567",
        b"STOPPING=1",
    ]


def test_a_status_cannot_carry_another_message(manager: tuple[str, socket.socket]) -> None:
    address, listener = manager
    notifier({"NOTIFY_SOCKET": address}, PID).status("log in\nWATCHDOG=trigger\r\nMAINPID=1")
    assert listener.recv(4096) == b"STATUS=log in WATCHDOG=trigger MAINPID=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "@"}, {"NOTIFY_SOCKET": "vsock:2:3"}])
def test_without_a_socket_of_ours_nobody_is_told(environ: dict[str, str]) -> None:
    told = notifier({**environ, "WATCHDOG_USEC": "1000000"}, PID)
    assert type(told) is Notifier
    assert told.heartbeat is None
    told.ready("all is well")


def test_a_manager_that_went_away_is_no_failure(tmp_path: Path) -> None:
    notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}, PID).alive()


def fill(place: str) -> None:
    """Send until the listener's queue takes no more; by many senders, for each has a limit of its own."""
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            sender = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            sender.setblocking(False)
            try:
                sender.sendto(b"x", place)
            except BlockingIOError:
                return
            with contextlib.suppress(BlockingIOError):
                for _ in range(100):
                    sender.sendto(b"x", place)
    pytest.fail("the queue never filled")


def test_a_manager_that_does_not_read_holds_us_up_for_seconds_at_most(manager: tuple[str, socket.socket]) -> None:
    address, _ = manager
    told = notifier({"NOTIFY_SOCKET": address}, PID)
    fill(address.replace("@", "\0"))
    start = time.monotonic()
    told.alive()
    assert 1 < time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(PID)}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(PID + 1)}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
        ({}, None),
    ],
)
def test_the_heartbeat_is_half_of_what_the_manager_grants_to_us(environ: dict[str, str], seconds: float | None) -> None:
    assert heartbeat(environ, PID) == seconds
    assert notifier({**environ, "NOTIFY_SOCKET": "/run/notify"}, PID).heartbeat == seconds


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_the_minutes_count_down_between_two_refreshes_which_the_margin_puts_in_time(
    box: Box, google: Emulator, manager: tuple[str, socket.socket]
) -> None:
    address, listener = manager
    google.service_account(box.key)
    google.lifetime = 59.5 * 60 + 10  # "60 min" for so many seconds
    box.profile(url=google.base_url(), refresh_margin="20m")
    box.environ |= {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"}

    def said() -> str:
        lines = listener.recv(4096).decode().splitlines()
        return "".join(line.removeprefix("STATUS=") for line in lines if line.startswith("STATUS="))

    with box.daemon():
        until(lambda: said().startswith("gemini: 60 min left"))
        last = until(lambda: (text := said()).startswith("gemini: 59 min left") and text, 30)
        due = json.loads(box.vx("status", "--json").stdout)["profiles"][0]["next_refresh_at"]
    assert due == pytest.approx(google.issued[-1].expires_at - 20 * 60, abs=1)
    assert last.endswith(f", next refresh {time.strftime('%H:%M:%S', time.localtime(due))}")
    assert google.count("token") == 1
