"""Listening sockets that the gateway opens itself."""

import contextlib
import errno
import os
import resource
import socket
import stat
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from vx_token.config.listen import is_loopback
from vx_token.errors import AddressError
from vx_token.gateway.settings import GatewaySettings

# Linux's include/uapi/linux/in.h and in6.h; Python has no names for them.
_IP_FREEBIND, _IPV6_FREEBIND = (socket.IPPROTO_IP, 15), (socket.IPPROTO_IPV6, 78)
_MAX_FILES = 65536
BACKLOG = 1024  # connections that wait in the kernel while one process replaces another


def open_sockets(settings: GatewaySettings, existing: Iterable[socket.socket] = ()) -> list[socket.socket]:
    """Open the sockets that the settings name; share those of `existing` with the same address.

    Raises:
        AddressError: the port or the path is in use or cannot be bound.
    """
    shared = {_bound_to(sock): sock for sock in existing}
    sockets: list[socket.socket] = []
    try:
        path = settings.unix_socket
        for host, port in ((settings.host, settings.port), *settings.listen):
            sockets.append(shared[host, port].dup() if (host, port) in shared else _tcp(host, port))
        if path is not None:
            sockets.append(shared[str(path)].dup() if str(path) in shared else _unix(path))
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def socket_files(sockets: Iterable[socket.socket]) -> dict[Path, int]:
    """Return the paths of the Unix sockets with their inode numbers."""
    paths = [Path(sock.getsockname()) for sock in sockets if sock.family == socket.AF_UNIX]
    return {path: path.lstat().st_ino for path in paths}


def remove_files(files: Mapping[Path, int]) -> None:
    """Remove socket files, except those that another process has replaced (another inode)."""
    for path, inode in files.items():
        with contextlib.suppress(OSError):
            if path.lstat().st_ino == inode:
                path.unlink()


def _bound_to(sock: socket.socket) -> object:
    name = sock.getsockname()
    return name if sock.family == socket.AF_UNIX else name[:2]


def client_url(sockets: Iterable[socket.socket]) -> str:
    """Return the base URL of the first TCP socket, else `unix:` and the path of a Unix socket."""
    for sock in sockets:
        name = sock.getsockname()
        if sock.family == socket.AF_INET6:
            return f"http://[{name[0]}]:{name[1]}/v1"
        if sock.family == socket.AF_INET:
            return f"http://{name[0]}:{name[1]}/v1"
    return "".join(f"unix:{sock.getsockname()}" for sock in sockets)


def max_connections() -> int:
    """Raise the soft limit of open files to the hard limit (at most 65536), and return the number of streams it allows.

    A stream needs two descriptors: the client's and upstream's. A quarter of the limit, at most 256, is reserved for
    the rest of the process (refreshes, files, DNS).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS rejects values close to its hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    limit = _MAX_FILES if soft == resource.RLIM_INFINITY else min(soft, _MAX_FILES)
    used = len(list(Path("/dev/fd").iterdir()))
    return max(1, (limit - used - min(256, limit // 4)) // 2)


def _tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":  # a bridge of containers may be created later than the socket
            sock.setsockopt(*(_IPV6_FREEBIND if family == socket.AF_INET6 else _IP_FREEBIND), 1)
        sock.bind((host, port))
        # On Linux two programs can bind with SO_REUSEADDR; only listen() fails if the port is in use.
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        key = "gateway.port" if is_loopback(host) else "gateway.listen"
        raise _bind_error(key, f"port {port} of {host}", error) from None
    return sock


def _unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        sock.bind(str(path))
        path.chmod(0o600)  # before listen(), so that no other user can connect in between
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _bind_error("gateway.unix_socket", str(path), error) from None
    return sock


def _remove_stale(path: Path) -> None:
    """Remove the socket file of a process that no longer runs."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(str(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        path.unlink()


def _bind_error(key: str, what: str, error: OSError) -> AddressError:
    if error.errno == errno.EADDRINUSE:
        hint = f"stop the program that uses it, or change `{key}` in the configuration"
        return AddressError(f"the gateway's {what} is in use", hint)
    return AddressError(f"the gateway cannot listen on {what}: {os.strerror(error.errno or 0)}", f"change `{key}`")
