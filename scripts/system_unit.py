"""A machine with a systemd of its own, in namespaces: systemd-nspawn boots this system's /usr with an empty /etc.

Its /etc, /run and /tmp are its own, and its network is the caller's. It gets control groups of its own, so that its
systemd cannot touch those of this machine.
"""

import contextlib
import functools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from crun import CGROUPS, until

BOOT = """
for folder in {groups}; do mkdir "$folder"; echo $$ >"$folder/cgroup.procs"; done
exec unshare --cgroup --mount --pid --fork --kill-child --mount-proc sh -ec '
mount -t tmpfs -o mode=755 run /run
umount -R /sys/fs/cgroup
{mounts}
exec systemd-nspawn --quiet --register=no --keep-unit --link-journal=no --console=pipe --directory=/ --volatile=yes \\
    {binds} --boot -- systemd.unit=basic.target'
"""


@dataclass
class Machine:
    """A booted machine.

    Attributes:
        pid: its process 1, as the caller counts.
    """

    pid: int

    def run(self, *argv: str, user: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a program in it, as root or as a user with that user's groups."""
        inside = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--ipc", "--uts", "--root", "--wd=/"]
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
        return subprocess.run([*inside, *become, *argv], capture_output=True, text=True, check=False, timeout=120)

    def property(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()


@contextlib.contextmanager
def booted(binds: dict[Path, str], log: Path) -> Iterator[Machine]:
    """Boot a machine that has these files and folders at these places, read-only; its console goes to a log."""
    hybrid = (CGROUPS / "unified").is_dir()
    hierarchies = {"systemd": "cgroup -o none,name=systemd", "unified": "cgroup2"} if hybrid else {"": "cgroup2"}
    groups = [CGROUPS / name / f"vx-unit-{os.getppid()}-{os.getpid()}" for name in hierarchies]
    mounts = ["mount -t tmpfs -o mode=755 groups /sys/fs/cgroup"] if hybrid else []
    mounts += [
        f"mkdir -p /sys/fs/cgroup/{name}; mount -t {kind} groups /sys/fs/cgroup/{name}"
        for name, kind in hierarchies.items()
    ]
    words = [f"--bind-ro={source}:{place}" for source, place in binds.items()]
    script = BOOT.format(groups=" ".join(map(str, groups)), mounts="\n".join(mounts), binds=" ".join(words))
    with log.open("wb") as out:
        process = subprocess.Popen(["sh", "-ec", script], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        until(functools.partial(_process_1, process.pid), "the machine's process 1")
        machine = Machine(_process_1(process.pid))
        target = functools.partial(machine.run, "systemctl", "is-active", "basic.target")
        until(lambda: target().returncode == 0, "the machine has booted", 120)
        yield machine
    finally:
        process.kill()  # and so all processes of its PID namespace
        process.wait()
        for group in groups:
            until(functools.partial(_removed, group), f"the end of {group}")


def _process_1(pid: int) -> int:
    """Return the systemd among the descendants of a process; 0 while there is none."""
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(pid).children(recursive=True)
        return next((child.pid for child in children if child.name() == "systemd"), 0)
    return 0


def _removed(group: Path) -> bool:
    """Remove a control group with those in it; False while one has processes."""
    with contextlib.suppress(OSError):
        for folder, _, _ in os.walk(group, topdown=False):
            Path(folder).rmdir()
    return not group.exists()
