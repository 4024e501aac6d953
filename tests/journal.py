"""A substitute for journald on a machine without it: it serves the journal's socket."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import PIPE, Popen

from sandbox import until
from usermanager import UserManager

# The stream's protocol: seven lines (identifier, unit, priority, whether levels are put before lines, three switches),
# then what the program writes.
JOURNALD = """
import json, os, pathlib, shutil, socket, sys, threading
place = pathlib.Path("/run/systemd/journal")
place.mkdir(mode=0o755)
end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
end.bind(str(place / "stdout"))
os.chmod(place / "stdout", 0o666)
end.listen(100)

def take(stream):
    head = [stream.readline().rstrip("\\n") for _ in range(7)]
    for line in stream:
        print(json.dumps([head[0], head[3] == "1", line.rstrip("\\n")]), flush=True)

def accept():
    while True:
        stream = end.accept()[0].makefile("r", errors="replace")
        threading.Thread(target=take, args=(stream,), daemon=True).start()

threading.Thread(target=accept, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
shutil.rmtree(place)
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a program's output; `leveled` if the manager announced level prefixes."""

    program: str
    leveled: bool
    text: str


@contextmanager
def journal(manager: UserManager) -> Iterator[Callable[[], list[Line]]]:
    """A journal where this manager looks for one, while it lasts; gives what it has got."""
    with tempfile.TemporaryFile("w+") as kept:

        def got() -> list[str]:
            return os.pread(kept.fileno(), 2**20, 0).decode().split("\n")[:-1]

        argv = [*manager.enter, sys.executable, "-c", JOURNALD]
        with Popen(argv, stdin=PIPE, stdout=kept) as daemon:
            try:
                until(lambda: got() == ["ready"])
                yield lambda: [Line(*json.loads(line)) for line in got()[1:]]
            finally:
                daemon.communicate()
