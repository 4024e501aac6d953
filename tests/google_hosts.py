"""Google's own host names, led to the emulator: an HTTPS proxy that answers for every `*.googleapis.com`."""

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import trustme

from vx_token.emulator import Emulator


@contextlib.contextmanager
def leading_to(google: Emulator, folder: Path) -> Iterator[dict[str, str]]:
    """The variables by which a program reaches the emulator at Google's URLs."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("*.googleapis.com", "*.rep.googleapis.com").configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "google.pem"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server, context, google), daemon=True).start()
        proxy = f"http://127.0.0.1:{server.getsockname()[1]}"
        yield {"https_proxy": proxy, "REQUESTS_CA_BUNDLE": str(folder / "google.pem")}


def _serve(server: socket.socket, context: ssl.SSLContext, google: Emulator) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = server.accept()
            threading.Thread(target=_tunnel, args=(client, context, google), daemon=True).start()


def _tunnel(client: socket.socket, context: ssl.SSLContext, google: Emulator) -> None:
    """Answer CONNECT, end the TLS that the client thinks is Google's, and pass requests and answers on."""
    address = urlsplit(google.url)
    with contextlib.suppress(OSError), client:
        while b"\r\n\r\n" not in client.recv(65536):
            pass
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with (
            context.wrap_socket(client, server_side=True) as inner,
            socket.create_connection((address.hostname or "", address.port or 80)) as emulator,
        ):
            _copy_both(inner, emulator)


def _copy_both(inner: ssl.SSLSocket, emulator: socket.socket) -> None:
    """Pass bytes on until one side ends; in one thread, because two must not read and write one TLS connection."""
    while True:
        ready = [inner] if inner.pending() else select.select([inner, emulator], [], [])[0]
        for source in ready:
            data = source.recv(65536)
            if not data:
                return
            (emulator if source is inner else inner).sendall(data)
