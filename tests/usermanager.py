"""A real `systemd --user` for an ordinary user that exists only for the tests, also where PID 1 is not systemd."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from sandbox import until

REPOSITORY = Path(__file__).resolve().parent.parent
SYSTEMD = Path("/lib/systemd/systemd")
CGROUPS = (Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
NOT_OURS = ("dbus-1", "systemd/transient", "systemd/units", "systemd/propagate")
PROGRAMS = ("systemctl", "systemd-analyze", "dbus-daemon", "setpriv", "nsenter", "unshare", "useradd", "userdel")

# Over each folder that strangers may not enter lies a copy that holds only what the user needs to see. And /run is
# that of a machine which systemd has booted: a mount (or ProtectProc= and the like would hide it), with the sign by
# which programs know systemd and what each namespace is built on: unit-root, in later versions mount-rootfs (without
# which it ends with 226/NAMESPACE).
PREPARE = """
runtime=$1; stash=$1/stash; shift
mkdir "$stash" && mount -n -t tmpfs tmpfs "$stash"
n=0
for tree; do n=$((n+1)); mkdir "$stash/$n" && mount -n --bind "${tree#*:}" "$stash/$n"; done
n=0; last=
for tree; do
    n=$((n+1)); closed=${tree%%:*}
    [ "$closed" = "$last" ] || mount -n -t tmpfs -o mode=755 tmpfs "$closed"
    last=$closed
    mkdir -p "${tree#*:}" && mount -n --bind "$stash/$n" "${tree#*:}"
done
umount -n -l "$stash" && rmdir "$stash"
exec 9<"$runtime"
mount -n -t tmpfs -o mode=755 tmpfs /run
mkdir -p "$runtime" /run/systemd/system /run/systemd/unit-root /run/systemd/mount-rootfs /run/credentials
mount -n --no-canonicalize --bind /proc/self/fd/9 "$runtime"
echo ready
exec 9<&- sleep infinity
"""

# Into the delegated groups first, while it is still root; into a leaf of each, where the manager would go by itself: a
# group whose leaves an earlier manager has given controllers takes no process (cgroups(7), "no internal processes").
START = """
for group in $1; do
    leaf=$group/init.scope
    [ -d "$leaf" ] || { mkdir "$leaf" && chown --reference="$group" "$leaf" "$leaf"/*; }
    echo $$ > "$leaf/cgroup.procs"
done
shift; exec "$@"
"""


@dataclass(frozen=True, slots=True)
class UserManager:
    """One user with its own manager; everything it runs sees a login shell's plain environment."""

    name: str
    uid: int
    gid: int
    home: Path
    runtime: Path
    enter: tuple[str, ...]

    @property
    def environ(self) -> dict[str, str]:
        """What a login of that user has."""
        return {
            "HOME": str(self.home),
            "USER": self.name,
            "LOGNAME": self.name,
            "LANG": "C.UTF-8",
            "PATH": f"{self.home}/.local/bin:/usr/local/bin:/usr/bin:/bin",
            "XDG_RUNTIME_DIR": str(self.runtime),
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={self.runtime}/bus",
        }

    def argv(self, *argv: str) -> list[str]:
        """`argv` as that user."""
        become = ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"]
        return [*self.enter, *become, "env", f"--chdir={self.home}", *argv]

    def run(
        self, *argv: str, env: dict[str, str] | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` as that user to its end; `env` is added to the login environment."""
        return subprocess.run(
            self.argv(*argv),
            env={**self.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def systemctl(self, *words: str) -> str:
        """Run `systemctl --user`, demand success, answer stdout."""
        done = self.run("systemctl", "--user", *words)
        assert done.returncode == 0, f"systemctl {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.systemctl("show", "--value", "-p", name, unit)

    def write(self, path: Path, text: str, mode: int = 0o600) -> Path:
        """A file of that user, its folders made as needed; nobody sees either before it is the user's."""
        missing = [folder for folder in [*reversed(path.parents)] if not folder.exists()]
        for folder in missing:
            new = folder.with_name(f".{folder.name}.new")
            new.mkdir(mode=0o700)
            os.chown(new, self.uid, self.gid)
            new.rename(folder)
        new = path.with_name(f".{path.name}.new")
        new.write_text(text)
        new.chmod(mode)
        os.chown(new, self.uid, self.gid)
        new.replace(path)
        return path

    def tree(self) -> set[str]:
        """Every path in the home and the runtime folder but the manager's own, to compare before and after."""
        found = {str(path) for root in (self.home, self.runtime) for path in root.rglob("*")}
        return {path for path in found if not path.startswith(tuple(f"{self.runtime}/{name}" for name in NOT_OURS))}


def why_not() -> str:
    """Return what this machine lacks, "" when nothing is missing."""
    if os.geteuid() != 0:
        return "only root can make the user and its cgroup"
    if not SYSTEMD.exists():
        return "systemd is not installed"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"missing: {', '.join(missing)}" if missing else ""


def _closed(path: Path) -> Path | None:
    """The outermost folder on the way to `path` that strangers may not enter."""
    return next((folder for folder in [*reversed(path.parents), path] if not folder.stat().st_mode & 0o001), None)


def _needed() -> Iterator[tuple[Path, Path]]:
    """Each closed folder with a tree inside it that the user's Python needs."""
    for tree in {Path(sys.prefix), Path(sys.base_prefix).resolve(), REPOSITORY}:
        if closed := _closed(tree):
            yield closed, tree


@contextlib.contextmanager
def _world(runtime: Path) -> Iterator[tuple[str, ...]]:
    """The words that enter a mount namespace where an ordinary user reaches this interpreter, which nobody else sees.

    An interpreter below /root is the usual case in containers.
    """
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", PREPARE, "sh", str(runtime)]
    words = [f"{closed}:{tree}" for closed, tree in sorted(_needed())]
    with subprocess.Popen([*argv, *words], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == "ready\n", "the mount namespace cannot be made"
            yield ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt")
        finally:
            holder.kill()


@contextlib.contextmanager
def _user(name: str) -> Iterator[pwd.struct_passwd]:
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", name], check=True, capture_output=True)
    try:
        yield pwd.getpwnam(name)
    finally:
        subprocess.run(["userdel", "--remove", name], check=False, capture_output=True)


@contextlib.contextmanager
def _runtime(user: pwd.struct_passwd) -> Iterator[Path]:
    """/run/user/UID, which a login would have made; what is there is of a run that was killed, for the user is new."""
    runtime = Path(f"/run/user/{user.pw_uid}")
    shutil.rmtree(runtime, ignore_errors=True)
    runtime.mkdir(mode=0o700, parents=True)
    os.chown(runtime, user.pw_uid, user.pw_gid)
    try:
        yield runtime
    finally:
        shutil.rmtree(runtime, ignore_errors=True)


@contextlib.contextmanager
def _cgroups(user: pwd.struct_passwd) -> Iterator[list[Path]]:
    """A delegated group in each hierarchy that systemd works with; whatever still lives there dies at the end."""
    groups = [root / f"{user.pw_name}.slice" for root in CGROUPS if (root / "cgroup.procs").exists()]
    for group in groups:
        group.mkdir()
        for path in [group, *group.iterdir()]:
            os.chown(path, user.pw_uid, user.pw_gid)
    try:
        yield groups
    finally:
        for group in groups:
            _empty(group)


def _deserted(group: Path) -> bool:
    return not (group / "cgroup.procs").read_text()


def _empty(group: Path) -> None:
    folders = sorted([group, *(path for path in group.rglob("*") if path.is_dir())], reverse=True)
    for folder in folders:
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        until(partial(_deserted, folder), 60, f"{folder} empty")
        folder.rmdir()


@dataclass(frozen=True, slots=True)
class Machine:
    """Where that user's manager can be started, as at a login or, with lingering, at boot."""

    manager: UserManager
    groups: list[Path]

    @contextlib.contextmanager
    def booted(self, *through: str) -> Iterator[UserManager]:
        """The manager while it runs, started by the command `through` where there is one.

        Raises:
            AssertionError: it did not come up.
        """
        manager, enter = self.manager, self.manager.enter
        become = manager.argv(str(SYSTEMD), "--user", "--log-target=console")[len(enter) :]
        _open_tmp(manager)
        start = [*enter, "sh", "-euc", START, "sh", " ".join(map(str, self.groups)), *through, *become]
        with (
            tempfile.TemporaryFile() as log,
            subprocess.Popen(start, env=manager.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process,
        ):
            try:
                until(
                    lambda: "running" in manager.run("systemctl", "--user", "is-system-running").stdout,
                    60,
                    "a running user manager",
                )
                yield manager
            finally:
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(15)
                process.kill()

    def reset(self) -> None:
        """Empty the runtime folder, which lives in memory, as a reboot does."""
        for path in self.manager.runtime.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@contextlib.contextmanager
def machine(name: str) -> Iterator[Machine]:
    """Make the user, and leave nothing of it behind."""
    with (
        _user(name) as user,
        _runtime(user) as runtime,
        _world(runtime) as enter,
        _cgroups(user) as groups,
    ):
        yield Machine(UserManager(name, user.pw_uid, user.pw_gid, Path(user.pw_dir), runtime, enter), groups)


def _open_tmp(manager: UserManager) -> None:
    """Let the service see an interpreter or checkout in /tmp, which its own private one would hide."""
    if any(str(tree).startswith(("/tmp/", "/var/tmp/")) for tree in (sys.prefix, REPOSITORY)):
        folder = manager.runtime / "systemd/user/vx-token.service.d"
        manager.write(folder / "checkout.conf", "[Service]\nPrivateTmp=no\n")


def demanded() -> None:
    """Skip the test without a user manager, or fail when VX_TOKEN_STRICT=1."""
    if reason := why_not():
        (pytest.fail if os.environ.get("VX_TOKEN_STRICT") == "1" else pytest.skip)(f"no systemd --user: {reason}")


@contextlib.contextmanager
def for_the_tests() -> Iterator[UserManager]:
    """A user manager."""
    demanded()
    with machine(f"vxt{os.getpid()}") as here, here.booted() as manager:
        yield manager
