"""Another user of this machine, with every right of its own, gets no secret and no file into vx-token's places.

The other user is a real one: root starts its processes with another user id. Without root these tests are skipped.
"""

import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from sandbox import SOURCE, Box, until
from vx_token.emulator import Emulator

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes of two other users"),
    pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc"),
]

VICTIM, ATTACKER = 54321, 54322
READ = """
import ctypes, os, sys
pid = int(sys.argv[1])
def works(action):
    try:
        action()
    except OSError:
        return 0
    return 1
libc = ctypes.CDLL(None, use_errno=True)
def attach():
    if libc.ptrace(16, pid, 0, 0):
        raise OSError(ctypes.get_errno())
names = ["environ", "mem", "maps", "auxv", "stack", "io"]
found = [name for name in names if works(lambda: open(f"/proc/{pid}/{name}", "rb").read(1))]
found += ["fd"] if works(lambda: os.listdir(f"/proc/{pid}/fd")) else []
found += ["cwd"] if works(lambda: os.readlink(f"/proc/{pid}/cwd")) else []
found += ["ptrace"] if works(attach) else []
found += ["signal"] if works(lambda: os.kill(pid, 0)) else []
print(",".join(found))
"""


def as_user(uid: int, argv: list[str], **options: object) -> "subprocess.Popen[str]":
    """Start a program with another user's id and no group of ours."""
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        argv, user=uid, group=uid, extra_groups=[], text=True, stdin=subprocess.DEVNULL, **options
    )


def attack(script: str, *arguments: str, cwd: Path = Path("/")) -> str:
    """Run a script of the attacker's to its end; return what it printed."""
    with as_user(ATTACKER, [BASE_PYTHON, "-c", script, *arguments], cwd=cwd, stdout=subprocess.PIPE) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return str(out).strip()


BASE_PYTHON = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
"""An interpreter that every user can start; that of the tests may be in a closed folder."""


@contextmanager
def public_folder() -> Iterator[Path]:
    """A sticky folder that everyone can write, as /tmp is."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="vx-token-") as name:
        folder = Path(name)
        folder.chmod(0o1777)
        yield folder


def belongs_to(uid: int, folder: Path) -> None:
    """Give a folder and everything in it to a user."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, uid, follow_symlinks=False)


@contextmanager
def as_effective(uid: int) -> Iterator[None]:
    """Let this thread's file accesses be those of a user."""
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def test_no_other_user_reads_a_running_daemon(signed_in: Box) -> None:
    with signed_in.daemon() as process:
        until(lambda: signed_in.read("peek"))
        signed_in.root.chmod(0o755)
        # It runs as root here, whom an ordinary user can no more read than another user.
        assert attack(READ, str(process.pid)) == ""
        for path in signed_in.runtime.rglob("*"):
            assert attack("import os, sys; print(os.access(sys.argv[1], os.R_OK))", str(path)) == "False"


RUNTIME = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from vx_token.errors import ConfigError
from vx_token.system import paths
from vx_token.tokens.store import Store
from vx_token.system.runtime_path import runtime_path
os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[3]))
environ = {"TMPDIR": sys.argv[2]}
try:
    folder = paths.runtime_dir(environ)
    store = Store(folder)
    store.prepare("p")
    print("used", folder)
except ConfigError as error:
    print("refused", error.message)
"""


def fallback(folder: Path) -> str:
    """What vx-token makes of its fallback folder below `folder`, as the victim."""
    argv = [sys.executable, "-c", RUNTIME, str(SOURCE), str(folder), str(VICTIM)]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=True, timeout=60, env={"PATH": os.environ["PATH"]}
    )
    return done.stdout.strip()


SQUATS = {
    "a folder": "os.mkdir(name, 0o777); os.chmod(name, 0o777)",
    "a folder with its mode": "os.mkdir(name, 0o700)",
    "a link to the attacker's folder": "own = name + '-own'; os.mkdir(own); os.chmod(own, 511); os.symlink(own, name)",
    "a link to the victim's home": "os.symlink(victims, name)",
    "a link to nowhere": "os.symlink(name + '-missing', name)",
    "a loop of links": "os.symlink(name, name)",
    "a file": "open(name, 'w').close()",
    "a pipe": "os.mkfifo(name)",
}


@pytest.mark.parametrize("what", SQUATS)
def test_a_squatted_fallback_folder_is_never_used(what: str) -> None:
    if Path(f"/run/user/{VICTIM}").is_dir():
        pytest.skip("this user has a folder in /run/user, which comes first")
    with public_folder() as shared:
        home = shared / "home"
        home.mkdir(mode=0o700)
        os.chown(home, VICTIM, VICTIM)
        name = shared / f"runtime-{VICTIM}"
        script = f"import os, sys; name, victims = sys.argv[1:]; {SQUATS[what]}"
        attack(script, str(name), str(home))
        assert fallback(shared).startswith("refused no safe runtime folder: ")
        assert list(home.iterdir()) == []


def test_an_unoccupied_fallback_folder_is_made_for_the_user_alone() -> None:
    if Path(f"/run/user/{VICTIM}").is_dir():
        pytest.skip("this user has a folder in /run/user, which comes first")
    with public_folder() as shared:
        assert fallback(shared) == f"used {shared}/runtime-{VICTIM}/vx-token"
        for path in (shared / f"runtime-{VICTIM}", shared / f"runtime-{VICTIM}/vx-token"):
            assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) == (0o700, VICTIM)
        take = "import os, sys\ntry:\n os.rename(sys.argv[1], sys.argv[1] + '-taken')\nexcept OSError: print('no')"
        assert attack(take, str(shared / f"runtime-{VICTIM}")) == "no"


RACE = textwrap.dedent("""
    import os, signal, sys
    name, own, home = sys.argv[1:]
    os.mkdir(own); os.chmod(own, 0o777)
    going = [True]
    signal.signal(signal.SIGTERM, lambda *_: going.clear())
    rounds = 0
    while going:
        for make in (lambda: os.mkdir(name), lambda: os.symlink(own, name), lambda: os.symlink(home, name)):
            try: make()
            except OSError: pass
            for end in (os.rmdir, os.unlink):
                try: end(name)
                except OSError: pass
        rounds += 1
    print(rounds)
""")


def test_a_fallback_folder_that_changes_all_the_time_leaks_nothing(
    record_property: Callable[[str, object], None],
) -> None:
    """The attacker exchanges the folder for a link and back while the victim prepares its own."""
    if Path(f"/run/user/{VICTIM}").is_dir():
        pytest.skip("this user has a folder in /run/user, which comes first")
    with public_folder() as shared:
        home = shared / "home"
        home.mkdir(mode=0o700)
        os.chown(home, VICTIM, VICTIM)
        name, own = shared / f"runtime-{VICTIM}", shared / "own"
        argv = [BASE_PYTHON, "-c", RACE, str(name), str(own), str(home)]
        with as_user(ATTACKER, argv, cwd="/", stdout=subprocess.PIPE) as racer:
            until(own.exists)
            try:
                results = [fallback(shared) for _ in range(15)]
            finally:
                racer.send_signal(signal.SIGTERM)
            out, _ = racer.communicate(timeout=60)
        assert [each for each in results if not each.startswith(("refused ", f"used {name}/vx-token"))] == []
        assert list(own.iterdir()) == list(home.iterdir()) == []
        if any(each.startswith("used") for each in results):
            assert (name.lstat().st_uid, stat.S_IMODE(name.lstat().st_mode)) == (VICTIM, 0o700)
        record_property("exchanges of the folder", int(out))


def test_a_hard_link_to_a_token_file_keeps_only_the_old_token(signed_in: Box, google: Emulator) -> None:
    signed_in.vx("refresh")
    folder = signed_in.runtime / "gemini"
    for name in ("token", "header", "env.sh", "env.fish", "state.json", "peek"):
        os.link(folder / name, signed_in.root / f"linked-{name}")
    assert signed_in.vx("refresh").returncode == 0
    new = google.issued[-1].value
    for path in signed_in.root.glob("linked-*"):
        assert new not in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_another_user_has_put_into_a_folder_is_replaced_and_not_written_into(signed_in: Box) -> None:
    signed_in.vx("refresh")
    folder = signed_in.runtime / "gemini"
    for name in ("token", "header", "env.sh", "env.fish", "state.json", "peek"):
        (folder / name).unlink()
        (folder / name).write_text("planted")
        os.chown(folder / name, ATTACKER, ATTACKER)
    with (folder / "token").open() as held:
        assert signed_in.vx("refresh").returncode == 0
        assert held.read() == "planted"
    for name in ("token", "header", "env.sh", "env.fish", "state.json", "peek"):
        assert ((folder / name).stat().st_uid, stat.S_IMODE((folder / name).stat().st_mode)) == (0, 0o600)


@pytest.mark.parametrize("kind", ["sh", "bash", "zsh", "fish"])
def test_root_sources_nothing_that_another_user_wrote(kind: str, tmp_path: Path, require: Callable[[str], str]) -> None:
    """Root, with the user's variables (su, sudo -E), loads the hook: the user's file executes nothing as root."""
    from shells import HOOKS, Runtime, environment

    require(kind)
    runtime = Runtime(tmp_path / "run")
    runtime.write("tok-1", extra={"A_KEY": "$(touch CANARY)"})
    belongs_to(ATTACKER, runtime.root)
    hook = HOOKS["bash" if kind == "sh" else kind]
    show = "printenv OPENAI_API_KEY; true"
    argv = [kind, *(["--no-config"] if kind == "fish" else []), "-c", f". {hook}; {show}" if kind != "sh" else show]
    done = subprocess.run(
        argv, env=environment(tmp_path, runtime), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("", 0)
    assert not (tmp_path / "CANARY").exists()


def test_a_crash_leaves_no_core_although_the_limit_allows_one(signed_in: Box) -> None:
    signed_in.executed = True
    limit = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (limit[1], limit[1]))
    try:
        for words in (["run"], ["gateway", "--port", "0"]):
            with signed_in.start(*words, stderr=subprocess.DEVNULL) as process:
                until(lambda: psutil.Process(process.pid).rlimit(psutil.RLIMIT_CORE)[0] == 0)
                os.kill(process.pid, signal.SIGSEGV)
                assert process.wait(30) == -signal.SIGSEGV
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limit)
    assert not list(signed_in.root.rglob("core*"))
