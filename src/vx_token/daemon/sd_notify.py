"""What a service tells systemd, and how often it must: sd_notify(3) without a library."""

import contextlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass

SEND_WITHIN = 2.0
"""Seconds that a full socket may hold us up: a busy manager must not stop a refresh."""


class Silent:
    """Nobody listens: what a program outside systemd talks to."""

    heartbeat: float | None = None
    """Seconds between two calls of `alive`, half of what the manager grants; None when it does not ask."""

    def send(self, *lines: str) -> None:
        """Tell the manager some `NAME=value` lines at once; a failure is of no consequence."""

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self.send(f"STATUS={_one_line(text)}")

    def ready(self, text: str = "") -> None:
        """Startup or reload is complete."""
        self.send("READY=1", *([f"STATUS={_one_line(text)}"] if text else []))

    def alive(self) -> None:
        """The heartbeat: still working, not just still running."""
        self.send("WATCHDOG=1")

    def reloading(self, monotonic_ns: int) -> None:
        """The configuration is read again; `ready` must follow. Takes `time.monotonic_ns()`, as newer systemd asks."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self.send("STOPPING=1")


@dataclass(frozen=True, slots=True)
class Notifier(Silent):
    """Talks to the manager's datagram socket; `address` is a path, or a name after `@`."""

    address: str
    heartbeat: float | None = None

    def send(self, *lines: str) -> None:
        """Tell the manager some `NAME=value` lines at once; a failure is of no consequence."""
        name = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        with (
            contextlib.suppress(OSError),  # the manager sees the missing heartbeat, and nobody else could act
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel,
        ):
            channel.settimeout(SEND_WITHIN)
            channel.sendto("\n".join(lines).encode(), name)


def notifier(environ: Mapping[str, str], pid: int) -> Silent:
    """What to talk to in this environment: the manager, or nobody.

    Addresses other than a path or an abstract name (a virtual machine's vsock) are not ours and count as nobody.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    return Notifier(address, heartbeat(environ, pid)) if address[:1] in ("/", "@") and address[1:] else Silent()


def heartbeat(environ: Mapping[str, str], pid: int) -> float | None:
    """Seconds between heartbeats: half of WATCHDOG_USEC, as sd_watchdog_enabled(3) advises; None when none is due."""
    limit, meant_for = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not limit.isascii() or not limit.isdigit() or int(limit) == 0 or meant_for not in ("", str(pid)):
        return None
    return int(limit) / 2_000_000


def _one_line(text: str) -> str:
    """A line break inside a status would be read as a further message."""
    return " ".join(text.split())
