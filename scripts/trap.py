"""A private network where every host name leads to a server that records all bytes; nothing leaves the machine.

Needs a network and a mount namespace of its own: `unshare --net --mount --propagation private`.
"""

import base64
import fcntl
import gzip
import socket
import socketserver
import ssl
import struct
import subprocess
import threading
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import trustme

ADDRESS = "127.0.0.2"
"""What every name resolves to; the emulator and the gateway listen on 127.0.0.1."""

PORTS = (80, 443, 8000, 8080, 8443, 11434, 3000, 4317, 4318, 5000, 8888)
ROOTS = Path("/etc/ssl/certs/ca-certificates.crt")
_ANSWER = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


@dataclass(frozen=True, slots=True)
class Caught:
    """A name that was looked up, or a connection.

    Attributes:
        host: the name; for a connection without TLS or a Host header the port.
        data: what was sent, b"" for a look-up.
    """

    host: str
    data: bytes = field(repr=False, default=b"")

    def holds(self, secret: str) -> bool:
        """Whether the secret is in the data, plain, in base64 or in a compressed body."""
        return any(form in data for data in _readings(self.data) for form in _forms(secret))

    @property
    def request(self) -> str:
        """The method and the path without its query; "" for other data."""
        words = self.data.partition(b"\r\n")[0].split()
        is_http = len(words) == 3 and words[2].startswith(b"HTTP/")
        return f"{words[0].decode('latin-1')} {words[1].partition(b'?')[0].decode('latin-1')}" if is_http else ""


def _forms(secret: str) -> list[bytes]:
    plain = secret.encode()
    # At each offset in a group of three bytes, without the characters that the neighbours share.
    coded = [base64.b64encode(b"\0" * shift + plain)[4 if shift else 0 : -4] for shift in range(3)]
    return [plain, *coded]


def _readings(data: bytes) -> list[bytes]:
    """Return the data, and its body decompressed."""
    body = data.partition(b"\r\n\r\n")[2]
    found = [data]
    for decompress in (gzip.decompress, zlib.decompress):
        try:
            found.append(decompress(body))
        except (OSError, EOFError, zlib.error):
            continue
    return found


class Trap:
    """The names that were looked up, and the connections, in order."""

    def __init__(self, folder: Path, environments: Path) -> None:
        """Start: bring loopback up, change the name service, and trust an authority that signs for every name.

        Args:
            folder: where to put files.
            environments: the tools, whose lists of authorities are replaced as seen by this process.
        """
        self.caught: list[Caught] = []
        self._authority = trustme.CA()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self.roots = folder / "roots.pem"
        self.roots.write_bytes(ROOTS.read_bytes() + self._authority.cert_pem.bytes())
        _loopback_up()
        hosts, resolver = folder / "hosts", folder / "resolv.conf"
        hosts.write_text(f"127.0.0.1 localhost {socket.gethostname()}\n")
        resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        _mount(hosts, Path("/etc/hosts"))
        _mount(resolver, Path("/etc/resolv.conf").resolve())
        for path in (ROOTS, *environments.glob("*/lib/python*/site-packages/certifi/cacert.pem")):
            _mount(self.roots, path)
        threading.Thread(target=self._names, daemon=True).start()
        for port in PORTS:
            server = _Server((ADDRESS, port), self._connection())
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def _names(self) -> None:
        """Answer each look-up of an IPv4 address."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 53))
            while True:
                query, client = server.recvfrom(4096)
                name, kind, end = _question(query)
                self.caught.append(Caught(name))
                found = kind == 1
                head = query[:2] + struct.pack(">5H", 0x8180, 1, found, 0, 0) + query[12:end]
                record = struct.pack(">HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(ADDRESS)
                server.sendto(head + (record if found else b""), client)

    def _context(self, name: str) -> ssl.SSLContext:
        if name not in self._contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_alpn_protocols(["http/1.1"])
            self._authority.issue_cert(name).configure_cert(context)
            self._contexts[name] = context
        return self._contexts[name]

    def _connection(self) -> type[socketserver.BaseRequestHandler]:
        trap = self

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                trap.record(self.request)

        return Connection

    def record(self, client: socket.socket) -> None:
        """Read one request, record it and answer 404."""
        host, data = f"port {client.getsockname()[1]}", b""
        client.settimeout(10)
        try:
            if client.recv(1, socket.MSG_PEEK) == b"\x16":
                names: list[str] = []

                def choose(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
                    names.append(name or "")
                    connection.context = self._context(name or ADDRESS)

                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.sni_callback = choose
                self._authority.issue_cert(ADDRESS).configure_cert(context)
                try:
                    client = context.wrap_socket(client, server_side=True)
                finally:
                    host = next(iter(names), host)
            while not _complete(data) and (chunk := client.recv(65536)):
                data += chunk
            client.sendall(_ANSWER)
        except OSError:
            pass  # the client has gone, or does not trust the authority
        finally:
            self.caught.append(Caught(_host_header(data) or host, data or b"(no bytes)"))
            client.close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def _complete(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return False
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        return body.endswith(b"0\r\n\r\n")
    return len(body) >= int(fields.get(b"content-length", b"0"))


def _host_header(data: bytes) -> str:
    for line in data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"host":
            return value.strip().decode("latin-1")
    return ""


def _question(query: bytes) -> tuple[str, int, int]:
    """Return the name and the type that a look-up asks for, and where its question ends."""
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("latin-1"))
        at += 1 + length
    return ".".join(labels).lower(), struct.unpack(">H", query[at + 1 : at + 3])[0], at + 5


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        up = struct.pack("16sH14s", b"lo", 0x1 | 0x40, b"")  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(control, 0x8914, up)  # SIOCSIFFLAGS


def _mount(source: Path, target: Path) -> None:
    if target.exists():
        subprocess.run(["mount", "--bind", str(source), str(target)], check=True)  # noqa: S607 - of the system
