"""The sd_notify(3) protocol without a library: readiness, status and watchdog messages to systemd."""

import contextlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass

SEND_TIMEOUT = 2.0
"""Maximum seconds to wait for a full socket, because a busy service manager must not delay a refresh."""


class Notifier:
    """Sends nothing: for a daemon that systemd did not start."""

    heartbeat: float | None = None
    """Seconds between two calls of `alive`, half of the service manager's limit; None without a watchdog."""

    def send(self, *lines: str) -> None:
        """Send `NAME=value` lines in one message; errors are ignored."""

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self.send(f"STATUS={_one_line(text)}")

    def ready(self, text: str = "") -> None:
        """Report that startup or reload is complete."""
        self.send("READY=1", *([f"STATUS={_one_line(text)}"] if text else []))

    def alive(self) -> None:
        """Send the watchdog heartbeat."""
        self.send("WATCHDOG=1")

    def reloading(self, monotonic_ns: int) -> None:
        """Report the start of a reload, which `ready` must end; newer systemd requires `time.monotonic_ns()`."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns // 1000}")

    def stopping(self) -> None:
        """Report the start of the shutdown."""
        self.send("STOPPING=1")


@dataclass(frozen=True, slots=True)
class SystemdNotifier(Notifier):
    """Sends to the service manager's datagram socket; `address` is a path, or `@` and an abstract name."""

    address: str
    heartbeat: float | None = None

    def send(self, *lines: str) -> None:
        """Send `NAME=value` lines in one message; errors are ignored."""
        name = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        with (
            contextlib.suppress(OSError),  # after a lost heartbeat the service manager itself restarts the daemon
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel,
        ):
            channel.settimeout(SEND_TIMEOUT)
            channel.sendto("\n".join(lines).encode(), name)


def notifier(environ: Mapping[str, str], pid: int) -> Notifier:
    """Return the notifier for NOTIFY_SOCKET; other addresses than Unix sockets, such as vsock, are ignored."""
    address = environ.get("NOTIFY_SOCKET", "")
    if address[:1] in ("/", "@") and address[1:]:
        return SystemdNotifier(address, heartbeat(environ, pid))
    return Notifier()


def heartbeat(environ: Mapping[str, str], pid: int) -> float | None:
    """Return the heartbeat interval in seconds, None without a watchdog.

    The interval is half of WATCHDOG_USEC, as sd_watchdog_enabled(3) recommends.
    """
    limit, watched_pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not limit.isascii() or not limit.isdigit() or int(limit) == 0 or watched_pid not in ("", str(pid)):
        return None
    return int(limit) / 2_000_000


def _one_line(text: str) -> str:
    """Remove line breaks, because each line of a message is a separate assignment."""
    return " ".join(text.split())
