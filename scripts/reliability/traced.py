"""Runs a function in a forked process under ptrace: counts its system calls, ends it at one, or lets one fail.

Only the process itself is traced, not those that it starts. The numbers of the calls are those of Linux on x86-64.
"""

import ctypes
import os
import platform
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

POSSIBLE = sys.platform == "linux" and platform.machine() == "x86_64"

_TRACEME, _PEEKUSER, _POKEUSER, _SYSCALL, _SETOPTIONS = 0, 3, 6, 24, 0x4200
_GOOD, _EXITKILL = 1, 0x100000
_RAX, _ORIG_RAX = 10 * 8, 15 * 8
_SYSCALL_STOP = signal.SIGTRAP | 0x80

NAMES = {
    0: "read",
    1: "write",
    3: "close",
    5: "fstat",
    7: "poll",
    16: "ioctl",
    17: "pread64",
    18: "pwrite64",
    32: "dup",
    33: "dup2",
    41: "socket",
    42: "connect",
    44: "sendto",
    45: "recvfrom",
    46: "sendmsg",
    47: "recvmsg",
    51: "getsockname",
    52: "getpeername",
    54: "setsockopt",
    55: "getsockopt",
    72: "fcntl",
    73: "flock",
    74: "fsync",
    77: "ftruncate",
    79: "getcwd",
    80: "chdir",
    82: "rename",
    83: "mkdir",
    84: "rmdir",
    86: "link",
    87: "unlink",
    88: "symlink",
    89: "readlink",
    90: "chmod",
    91: "fchmod",
    137: "statfs",
    138: "fstatfs",
    217: "getdents64",
    257: "openat",
    262: "newfstatat",
    263: "unlinkat",
    269: "faccessat",
    280: "utimensat",
    292: "dup3",
    293: "pipe2",
    332: "statx",
}
"""The calls that reach files, descriptors and the network, and so can fail; more calls are only counted."""

CHANGING = frozenset(
    {
        "write",
        "pwrite64",
        "openat",
        "rename",
        "mkdir",
        "rmdir",
        "link",
        "unlink",
        "unlinkat",
        "symlink",
        "chmod",
        "fchmod",
    }
    | {"ftruncate", "utimensat", "fsync", "sendto"}
)
"""The calls after which a file system, or Google, may be another."""

_libc = ctypes.CDLL(None, use_errno=True) if POSSIBLE else None


@dataclass
class Ended:
    """How the process ended: its status, or minus the signal's number; and the names of its calls."""

    status: int = 0
    calls: list[str] = field(default_factory=list)


def run(ready: Callable[[], None], work: Callable[[], None], at: int | None = None, error: int | None = None) -> Ended:
    """Run `work` in a fork of this process.

    Args:
        ready: called first, and not traced.
        work: must not return.
        at: the number of a call, from 0: SIGKILL ends the process there, before the call does anything.
        error: the errno with which that call fails instead, also without doing anything.
    """
    child = os.fork()
    if not child:
        try:
            ready()
            _ptrace(_TRACEME, 0, 0, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            work()
        finally:
            os._exit(98)  # a traceback has been printed
    os.waitpid(child, 0)
    _ptrace(_SETOPTIONS, child, 0, _GOOD | _EXITKILL)
    ended, inside, struck, done, send = Ended(), False, False, False, 0
    while True:
        _ptrace(_SYSCALL, child, 0, send)
        _, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            ended.status = os.waitstatus_to_exitcode(status)
            return ended
        if os.WSTOPSIG(status) != _SYSCALL_STOP:
            send = os.WSTOPSIG(status)  # a signal of its own
            continue
        send, inside = 0, not inside
        if inside:
            name = NAMES.get(number := _ptrace(_PEEKUSER, child, _ORIG_RAX, 0), str(number))
            ended.calls.append(name)
            due = at is not None and len(ended.calls) > at and not done
            # The order of the calls differs a little between two runs, so the next one that can fail is taken.
            struck = due and (error is None or name in NAMES.values())
            if struck and error is None:
                os.kill(child, signal.SIGKILL)
            elif struck:
                _ptrace(_POKEUSER, child, _ORIG_RAX, -1)
            done = done or struck
        elif struck and error is not None:
            _ptrace(_POKEUSER, child, _RAX, -error)


def _ptrace(request: int, pid: int, address: int, data: int) -> int:
    assert _libc is not None
    _libc.ptrace.restype = ctypes.c_long
    word = ctypes.c_long()
    argument = ctypes.byref(word) if request == _PEEKUSER else ctypes.c_long(data)
    _libc.ptrace.argtypes = None
    # glibc's wrapper returns the word for a PEEK request, and sets errno.
    ctypes.set_errno(0)
    result = _libc.ptrace(ctypes.c_long(request), ctypes.c_long(pid), ctypes.c_void_p(address), argument)
    if result == -1 and ctypes.get_errno():
        if ctypes.get_errno() == 3:  # ESRCH: it was ended meanwhile, which waitpid will tell
            return 0
        raise OSError(ctypes.get_errno(), f"ptrace {request}")
    return int(result)
