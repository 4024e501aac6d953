"""`python apparmor.py COMMAND …`: run it where a user namespace gives no capability, as on Ubuntu 24.04 by AppArmor.

The namespace itself can be made there. What systemd then asks for is refused, here by seccomp(2): a mount namespace,
and a smaller bounding set.
"""

import ctypes
import os
import struct
import sys

NUMBERS = {"x86_64": (272, 157), "aarch64": (97, 167)}
"""Of unshare and prctl."""

CLONE_NEWNS, PR_CAPBSET_DROP, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 0x20000, 24, 22, 2

LOAD, EQUAL, ANY_BIT, ANSWER = 0x20, 0x15, 0x45, 0x06
NUMBER, FIRST_ARGUMENT = 0, 16
ALLOWED, EPERM = 0x7FFF0000, 0x00050001


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def code() -> bytes:
    unshare, prctl = NUMBERS[os.uname().machine]
    refused = ((unshare, ANY_BIT, CLONE_NEWNS), (prctl, EQUAL, PR_CAPBSET_DROP))
    lines: list[tuple[int, int, int, int]] = []  # instruction, lines to skip where it holds and where not, operand
    for call, how, argument in refused:
        lines += [(LOAD, 0, 0, NUMBER), (EQUAL, 0, 3, call)]
        lines += [(LOAD, 0, 0, FIRST_ARGUMENT), (how, 0, 1, argument), (ANSWER, 0, 0, EPERM)]
    return b"".join(struct.pack("HBBI", *line) for line in [*lines, (ANSWER, 0, 0, ALLOWED)])


if __name__ == "__main__":
    text = ctypes.create_string_buffer(code())
    program = Program(len(code()) // 8, ctypes.addressof(text))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    os.execvp(sys.argv[1], sys.argv[1:])
