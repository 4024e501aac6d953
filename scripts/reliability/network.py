"""A network that fails on command: a front before the emulator, and a name server."""

import contextlib
import ipaddress
import os
import select
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path


class Front:
    """Listens on loopback and passes connections on to `target`, a port.

    Attributes:
        port: where it listens, also while it refuses.
        tls: what it shows to clients, or None for plain TCP.
    """

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        self.target, self.tls = target, tls
        self._server = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = int(self._server.getsockname()[1])
        self._serve()

    def refuse(self) -> None:
        """Close the port, as when nothing runs there."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def listen(self) -> None:
        """Open the port again."""
        self._server = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self._serve()

    def _serve(self) -> None:
        server = self._server

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            inner = self.tls.wrap_socket(client, server_side=True) if self.tls else client
            with inner, socket.create_connection(("127.0.0.1", self.target)) as emulator:
                self._copy(inner, emulator)

    def _copy(self, client: socket.socket, emulator: socket.socket) -> None:
        while True:
            waiting = isinstance(client, ssl.SSLSocket) and client.pending()
            ready = [client] if waiting else select.select([client, emulator], [], [])[0]
            for source in ready:
                try:
                    data = source.recv(65536)
                except ConnectionResetError:  # which the other side must see, too
                    other = client if source is emulator else emulator
                    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                if not data:
                    return
                (emulator if source is client else client).sendall(data)


class NameServer:
    """A name server for all names, on a loopback address of this process's own.

    Attributes:
        address: where it listens.
        modes: what goes wrong with a name: `servfail`, `nxdomain`, `hang`, or `ipv6`, an address that never answers.
    """

    def __init__(self) -> None:
        self.modes: dict[str, str] = {}
        self.address = str(ipaddress.ip_address("127.77.0.0") + os.getpid() % 2**16)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self.address, 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                query, sender = self._socket.recvfrom(4096)
                if answer := self._answer(query):
                    self._socket.sendto(answer, sender)

    def _answer(self, query: bytes) -> bytes:
        end = query.index(b"\0", 12) + 5
        kind = struct.unpack("!H", query[end - 4 : end - 2])[0]
        mode = self.modes.get(_name(query[12 : end - 5]), "")
        if mode == "hang":
            return b""
        code = {"servfail": 2, "nxdomain": 3}.get(mode, 0)
        addresses = {1: socket.inet_aton("127.0.0.1")}
        if mode == "ipv6":
            addresses[28] = socket.inet_pton(socket.AF_INET6, "::1")
        address = addresses.get(kind) if code == 0 else None
        head = query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, int(address is not None), 0, 0)
        answer = struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(address)) + address if address else b""
        return head + query[12:end] + answer

    def close(self) -> None:
        """Stop."""
        self._socket.close()


def _name(labels: bytes) -> str:
    parts = []
    while labels:
        parts.append(labels[1 : labels[0] + 1].decode())
        labels = labels[labels[0] + 1 :]
    return ".".join(parts).lower()


@contextlib.contextmanager
def black_hole(port: int) -> Iterator[None]:
    """Let connections to this port of [::1] hang: the queue of a socket that accepts nothing is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_INET6))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("::1", port))
        server.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket(socket.AF_INET6))
            waiting.setblocking(False)
            waiting.connect_ex(("::1", port))
        yield


@contextlib.contextmanager
def resolved_by(server: str, folder: Path) -> Iterator[None]:
    """Resolve names by `server` alone; requires a mount namespace of our own."""
    conf = folder / "resolv.conf"
    conf.write_text(f"nameserver {server}\noptions timeout:5 attempts:2\n")
    subprocess.run(["mount", "--bind", str(conf), "/etc/resolv.conf"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "/etc/resolv.conf"], check=True)
