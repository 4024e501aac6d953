"""Containers for tests where no container engine is: processes in namespaces of their own, as runc would start them.

A container gets private mount, PID, IPC and UTS namespaces, a read-only root, a user without capabilities that can gain
none, and a memory limit. Its network namespace is the caller's, so the caller's is that of a pod. The system's /usr
stands for the base image.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

LINKS = ("bin", "lib", "lib32", "lib64", "sbin")
DEVICES = ("null", "zero", "full", "random", "urandom")
PYTHON = sys.base_prefix
"""This Python, which has the same path in a container, because its programs find its libraries by that."""

CGROUPS = Path("/sys/fs/cgroup")


def until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Wait until `condition` is true; raise TimeoutError after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"did not happen within {seconds:.0f} s: {what}")
        time.sleep(0.05)


@dataclass(frozen=True)
class Mount:
    """A bind mount of `source`, or a tmpfs with `options` if there is none."""

    target: str
    source: Path | None = None
    read_only: bool = False
    options: str = ""


@dataclass
class Network:
    """A network namespace, kept by a process that sleeps."""

    holder: "subprocess.Popen[bytes]"

    @property
    def path(self) -> str:
        return f"/proc/{self.holder.pid}/ns/net"

    def run(self, *argv: str) -> str:
        """Run a program of this machine in the namespace; return its output."""
        return subprocess.run(self.argv(*argv), check=True, capture_output=True, text=True).stdout

    def argv(self, *argv: str) -> list[str]:
        return ["nsenter", f"--net={self.path}", "--", *argv]


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Make a network namespace with loopback only."""
    with subprocess.Popen(["unshare", "--net", "sleep", "infinity"]) as holder:
        try:
            until(lambda: _namespace(holder.pid) != _namespace(os.getpid()), "a network namespace")
            net = Network(holder)
            net.run("ip", "link", "set", "lo", "up")
            yield net
        finally:
            holder.kill()


def _namespace(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def base_root(root: Path) -> None:
    """Make the skeleton of a root file system at `root`; `script` mounts the system's /usr into it."""
    for name in ("dev", "etc", "opt", "proc", PYTHON[1:], "run", "sys", "usr", "var/lib"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    for name in LINKS:
        if Path(f"/{name}").is_symlink():
            (root / name).symlink_to(Path(f"/{name}").readlink())
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    for name in ("ld.so.cache", "ld.so.conf"):
        if Path("/etc", name).exists():
            shutil.copy(Path("/etc", name), root / "etc" / name)


def script(root: Path, mounts: list[Mount], *, read_only: bool) -> str:
    """Return shell commands that mount a root file system and make it the root of this mount namespace."""
    new = shlex.quote(str(root))
    lines = [
        "set -e",
        "mount --make-rprivate /",
        f"mount --bind {new} {new}",
        f"mount --bind -o ro /usr {new}/usr",
    ]
    if not Path(PYTHON).is_relative_to("/usr"):
        lines.append(f"mount --bind -o ro {shlex.quote(PYTHON)} {shlex.quote(f'{root}{PYTHON}')}")
    lines += [f"mount -t tmpfs -o mode=0755,size=64k tmpfs {new}/dev", f"mkdir -m 1777 {new}/dev/shm"]  # noqa: S108 - of the container
    lines += [f": >{new}/dev/{name}; mount --bind /dev/{name} {new}/dev/{name}" for name in DEVICES]
    lines += [f"ln -s /proc/self/fd {new}/dev/fd"]
    for mount in mounts:
        place = shlex.quote(f"{root}{mount.target}")
        if mount.source is None:
            lines += [f"mkdir -p {place}", f"mount -t tmpfs -o nosuid,nodev,{mount.options} tmpfs {place}"]
            continue
        make = f"mkdir -p {place}" if mount.source.is_dir() else f'mkdir -p "$(dirname {place})"; : >>{place}'
        lines += [make, f"mount --bind {shlex.quote(str(mount.source))} {place}"]
        if mount.read_only:
            lines.append(f"mount -o remount,bind,ro,nosuid,nodev {place}")
    if read_only:
        lines.append(f"mount -o remount,bind,ro {new}")
    lines += [f"cd {new}", "mount -t proc -o nosuid,nodev,noexec proc proc", "pivot_root . .", "umount -l .", "cd /"]
    return "\n".join(lines)


@dataclass
class Container:
    """A container that can be started, entered and killed.

    Attributes:
        name: for messages.
        root: its root file system, which `base_root` began.
        argv: its program.
        environ: its whole environment.
        mounts: its mounts.
        uid: its user, which is its group, too.
        memory: its memory limit in bytes; 0 for none.
        read_only: whether its root is read-only.
        log: the file that gets its output.
    """

    name: str
    root: Path
    argv: list[str]
    environ: Mapping[str, str]
    log: Path
    mounts: list[Mount] = field(default_factory=list)
    uid: int = 65532
    memory: int = 0
    read_only: bool = True
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def pid(self) -> int:
        """The process id of its program, as this machine counts; 0 while it is starting."""
        return next((child for child in self._children() if self.uid in self.uids(child)), 0)

    def _children(self) -> list[int]:
        with contextlib.suppress(OSError, AttributeError):
            number = self.process.pid  # type: ignore[union-attr]
            return [int(child) for child in Path(f"/proc/{number}/task/{number}/children").read_text().split()]
        return []

    @staticmethod
    def uids(pid: int) -> list[int]:
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/status").read_text()
            return [int(uid) for uid in next(row for row in text.splitlines() if row.startswith("Uid:")).split()[1:]]
        return []

    def start(self) -> None:
        """Start it, and wait until its program runs."""
        become = self._become(self.argv)
        begin = f"{script(self.root, self.mounts, read_only=self.read_only)}\nexec {shlex.join(become)}\n"
        if self.memory:
            begin = f"echo 0 >{shlex.quote(str(self._cgroup() / 'cgroup.procs'))}\n{begin}"
        unshare = ["unshare", "--fork", "--pid", "--mount", "--ipc", "--uts", "sh", "-c", begin]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(unshare, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(lambda: self.pid or self.returncode is not None, f"start of {self.name}")

    def _become(self, argv: list[str]) -> list[str]:
        user = f"--reuid={self.uid} --regid={self.uid} --clear-groups"
        user += " --inh-caps=-all --bounding-set=-all --no-new-privs"
        environ = [f"{name}={value}" for name, value in self.environ.items()]
        return ["setpriv", *user.split(), "env", "-i", *environ, *argv]

    def _cgroup(self) -> Path:
        folder = CGROUPS / "memory" if (CGROUPS / "memory").is_dir() else CGROUPS
        group = folder / f"vx-test-{os.getpid()}-{self.name}"
        group.mkdir(exist_ok=True)
        limit = "memory.limit_in_bytes" if folder.name == "memory" else "memory.max"
        (group / limit).write_text(str(self.memory))
        return group

    def peak(self) -> int:
        """Return the largest memory use (bytes) of its control group, page cache included; 0 if it is not known."""
        group = self._cgroup()
        for name in ("memory.max_usage_in_bytes", "memory.peak"):
            if (group / name).exists():
                return int((group / name).read_text())
        return 0

    def resident(self) -> int:
        """Return the resident memory (bytes) of its program."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def enter(self, *argv: str, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
        """Run a program in it, as its user: what `exec` of a container engine and a kubelet's probe do."""
        inside = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--ipc", "--uts", "--root", "--wd=/"]
        return subprocess.run(
            [*inside, *self._become(list(argv))], capture_output=True, text=True, timeout=timeout, check=False
        )

    @property
    def returncode(self) -> int | None:
        return self.process.poll() if self.process else None

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to its program, and wait for its end."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number) if self.pid else None
        assert self.process is not None
        self.process.wait(60)

    @contextlib.contextmanager
    def running(self) -> Iterator["Container"]:
        """Start it, and kill it at the end."""
        self.start()
        try:
            yield self
        finally:
            self.close()

    def close(self) -> None:
        """Kill it, and remove its control group."""
        for child in self._children():  # the first process of the PID namespace, which ends all others
            os.kill(child, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(60)
        if self.memory:
            until(lambda: not (self._cgroup() / "cgroup.procs").read_text(), f"the end of {self.name}")
            self._cgroup().rmdir()
