"""Containers for tests, started by crun, the OCI runtime of Podman and CRI-O; no container engine is needed.

A container's network namespace is the caller's, so the caller's is that of a pod. The system's /usr stands for the base
image. The seccomp filter is the default one of the container engines, which `RuntimeDefault` means.
"""

import contextlib
import functools
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PYTHON = sys.base_prefix
"""This Python, which has the same path in a container, because its programs find its libraries by that."""

PROFILE = Path("/usr/share/containers/seccomp.json")
CGROUPS = Path("/sys/fs/cgroup")
BUILD = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
)
"""The capabilities of root while an image is built."""


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

    def described(self) -> dict[str, Any]:
        """Return it as an OCI configuration has it."""
        if self.source is None:
            options = ["nosuid", "nodev", *self.options.split(",")]
            return {"destination": self.target, "type": "tmpfs", "source": "tmpfs", "options": options}
        options = ["rbind", "nosuid", "nodev", *(["ro"] if self.read_only else [])]
        return {"destination": self.target, "type": "bind", "source": str(self.source), "options": options}


def base_root(root: Path) -> None:
    """Make the skeleton of a root file system at `root`; the system's /usr is mounted into it."""
    for name in ("etc", "opt", "run", "usr", "var/lib"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    for name in ("bin", "lib", "lib32", "lib64", "sbin"):
        if Path(f"/{name}").is_symlink():
            (root / name).symlink_to(Path(f"/{name}").readlink())
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    for name in ("ld.so.cache", "ld.so.conf"):
        if Path("/etc", name).exists():
            shutil.copy(Path("/etc", name), root / "etc" / name)


@functools.cache
def seccomp(capabilities: frozenset[str]) -> dict[str, Any]:
    """Return the engines' default filter for a process with these capabilities, as an OCI configuration has it."""
    profile = json.loads(PROFILE.read_text())
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    native = f"SCMP_ARCH_{platform.machine().upper()}"
    granted = {f"CAP_{name}" for name in capabilities}

    def applies(rule: dict[str, Any]) -> bool:
        needed, barred = rule.get("includes") or {}, rule.get("excludes") or {}
        fits = machine in needed.get("arches", [machine]) and machine not in barred.get("arches", ())
        return fits and granted.issuperset(needed.get("caps", ())) and granted.isdisjoint(barred.get("caps", ()))

    keys = ("names", "action", "args", "errnoRet")
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": [
            name
            for each in profile["archMap"]
            if each["architecture"] == native
            for name in (native, *each["subArchitectures"])
        ],
        "syscalls": [
            {key: rule[key] for key in keys if rule.get(key)} for rule in profile["syscalls"] if applies(rule)
        ],
    }


@dataclass
class Container:
    """A container that can be started, entered and killed.

    Attributes:
        name: unique in `folder`.
        folder: gets its bundle and its output, `<name>.log`.
        root: its root file system, which `base_root` began.
        argv: its program.
        environ: its whole environment.
        mounts: its mounts.
        uid: its user, which is its group, too.
        capabilities: of its user.
        memory: its memory limit in bytes; 0 for none.
        processes: how many it may have; 0 for any number.
        read_only: whether its root is read-only.
    """

    name: str
    folder: Path
    root: Path
    argv: list[str]
    environ: Mapping[str, str]
    mounts: list[Mount] = field(default_factory=list)
    uid: int = 65532
    capabilities: tuple[str, ...] = ()
    memory: int = 0
    processes: int = 0
    read_only: bool = True
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def log(self) -> Path:
        """The file with its output."""
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """The process id of its program, as this machine counts."""
        return int((self.folder / f"{self.name}.pid").read_text())

    @property
    def returncode(self) -> int | None:
        """Of its program, when that has ended."""
        return self.process.poll() if self.process else None

    def _crun(self, *arguments: str) -> list[str]:
        return ["crun", "--cgroup-manager=cgroupfs", f"--root={self.folder}/crun", *arguments]

    def _process(self, argv: list[str]) -> dict[str, Any]:
        capabilities = [f"CAP_{name}" for name in self.capabilities]
        return {
            "user": {"uid": self.uid, "gid": self.uid},
            "args": argv,
            "env": [f"{name}={value}" for name, value in self.environ.items()],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            "noNewPrivileges": True,
        }

    def _configure(self) -> Path:
        """Write the bundle: what `crun spec` gives, with what this container has instead."""
        bundle = self.folder / f"{self.name}.bundle"
        if bundle.exists():
            return bundle
        bundle.mkdir()
        subprocess.run(self._crun("spec"), cwd=bundle, check=True)
        spec = json.loads((bundle / "config.json").read_text())
        spec["process"] = self._process(self.argv)
        spec["root"] = {"path": str(self.root), "readonly": self.read_only}
        usr = [Mount(place, Path(place), read_only=True) for place in dict.fromkeys(("/usr", PYTHON))]
        hosts = Mount("/etc/hosts", Path("/etc/hosts"), read_only=True)
        spec["mounts"] += [mount.described() for mount in (*usr, hosts, *self.mounts)]
        linux = spec["linux"]
        linux["namespaces"] = [each for each in linux["namespaces"] if each["type"] != "network"]
        linux["cgroupsPath"] = f"{str(self.folder).replace('/', '-')}-{self.name}".replace("-", "/", 1)
        linux["seccomp"] = seccomp(frozenset(self.capabilities))
        if self.memory:
            linux["resources"]["memory"] = {"limit": self.memory}
        if self.processes:
            linux["resources"]["pids"] = {"limit": self.processes}
        (bundle / "config.json").write_text(json.dumps(spec))
        return bundle

    def start(self) -> None:
        """Start it, and wait until its program runs.

        Raises:
            RuntimeError: it could not be started.
        """
        pid = self.folder / f"{self.name}.pid"
        pid.unlink(missing_ok=True)
        command = self._crun("run", f"--bundle={self._configure()}", f"--pid-file={pid}", self.name)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(lambda: (pid.exists() and pid.read_text()) or self.returncode is not None, f"start of {self.name}")
        if not pid.exists():
            raise RuntimeError(self.log.read_text())

    def enter(self, *argv: str) -> "subprocess.CompletedProcess[str]":
        """Run a program in it, as its user: what `exec` of a container engine and a kubelet's probe do."""
        process = self.folder / f"{self.name}.exec"
        process.write_text(json.dumps(self._process(list(argv))))
        command = self._crun("exec", f"--process={process}", self.name)
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def wait(self, seconds: float) -> int:
        """Wait for its end; return its exit status."""
        assert self.process is not None
        return self.process.wait(seconds)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to its program; return its exit status."""
        os.kill(self.pid, number)
        return self.wait(60)

    def resident(self) -> int:
        """Return the resident memory (bytes) of its program."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def peak(self) -> int:
        """Return the largest memory use (bytes) since its start, page cache included."""
        return int(self._counter("memory", "memory.max_usage_in_bytes", "memory.peak"))

    def seconds(self) -> float:
        """Return the processor time (seconds) since its start."""
        text = self._counter("cpuacct", "cpuacct.usage", "cpu.stat")
        return int(text) / 1e9 if text.strip().isdigit() else int(text.split()[1]) / 1e6

    def _counter(self, controller: str, first: str, second: str) -> str:
        """Read a file of its control group: the first name is that of version 1, the second that of version 2."""
        rows = [row.split(":", 2) for row in Path(f"/proc/{self.pid}/cgroup").read_text().splitlines()]
        groups = {name: path.lstrip("/") for _, names, path in rows for name in names.split(",")}
        if (CGROUPS / controller).is_dir():
            return (CGROUPS / controller / groups[controller] / first).read_text()
        return (CGROUPS / groups[""] / second).read_text()

    @contextlib.contextmanager
    def running(self) -> Iterator["Container"]:
        """Start it, and remove it at the end."""
        self.start()
        try:
            yield self
        finally:
            subprocess.run(self._crun("delete", "--force", self.name), check=False, stderr=subprocess.DEVNULL)
            self.wait(60)
