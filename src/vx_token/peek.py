"""Answers `print` and `gateway key` from one small file each, before anything heavier is imported.

Tools call `vx-token print`, or in gateway mode `vx-token gateway key`, at every request. click, json and dataclasses
together cost more than the interpreter itself, so this module imports only what the interpreter has loaded anyway.
Whatever it is not sure of it leaves to the whole program: None is always a right answer. `tests/test_peek.py` holds the
two ways to the same answers.
"""

import os
import stat
import sys
from _collections_abc import Mapping, Sequence  # as os does: collections.abc would load all of collections

HEADER = "vx-token peek 2"
DAEMON_LOCK = ".daemon.lock"
LOCAL_KEY = "gateway.key"
LOCAL_KEY_PREFIX = "vx-local-"
DEFAULT_MIN_TTL = 300.0
# Variables of ours that do not change what `print` answers; any other VX_TOKEN_* is a setting and goes the long way.
_NEUTRAL = {
    "VX_TOKEN_CONFIG",
    "VX_TOKEN_EXPIRES_AT",
    "VX_TOKEN_HOOK",
    "VX_TOKEN_PROFILE",
    "VX_TOKEN_RUNTIME_DIR",
    "VX_TOKEN_STATUS",
}


def stamp(path: str | os.PathLike[str]) -> str:
    """The identity of the file behind `path` (links followed): it changes when the content is replaced; "" for none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{found.st_ino}:{found.st_mtime_ns}:{found.st_size}"


def required_life(min_ttl: float, lifetime: float) -> float:
    """Seconds of life a token must have left to be handed out without asking Google first.

    A source whose tokens never live as long as `min_ttl` is asked at half of what it gives, not at every call.
    """
    return min_ttl if min_ttl <= 0.9 * lifetime else 0.5 * lifetime


def render(
    config: tuple[str, str], credentials: tuple[str, str], named: bool, life: tuple[float, float], token: str
) -> str:
    """The file that `answer` reads: path and stamp of what the token was made from, its life, and the token.

    `named` tells that the configuration names the credentials, so that no variable can mean others.
    """
    return "\n".join([HEADER, *config, *credentials, "named" if named else "found", *map(repr, life), token, "end\n"])


def attended(root: str | os.PathLike[str]) -> bool:
    """Whether a daemon, another process or this one, serves the runtime folder."""
    import fcntl

    try:
        descriptor = os.open(f"{os.fspath(root)}/{DAEMON_LOCK}", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def answer(argv: Sequence[str], environ: Mapping[str, str], now: float) -> str | None:
    """What `vx-token print …` or `vx-token gateway key` writes to stdout; None when the whole program must decide."""
    if list(argv[1:]) == ["gateway", "key"]:
        return _local_key(environ)
    if len(argv) < 2 or argv[1] != "print" or any(n.startswith("VX_TOKEN_") and n not in _NEUTRAL for n in environ):
        return None
    profile, strict, form = environ.get("VX_TOKEN_PROFILE") or "default", False, "token"
    options = list(argv[2:])
    while options:
        name = options.pop(0)
        if name == "--profile" and options:
            profile = options.pop(0)
        elif name == "--format" and options and options[0] in ("token", "header"):
            form = options.pop(0)
        else:
            strict = True
    folder = _folder(environ, profile)
    if strict or folder is None:
        return None
    token = _token(folder, environ, now)
    if token is None:
        return None
    return f"Authorization: Bearer {token}\n" if form == "header" else f"{token}\n"


def _local_key(environ: Mapping[str, str]) -> str | None:
    """The gateway's local key and a newline; `gateway.key` in the gateway's package makes the file and its rules."""
    folder = _state_folder(environ)
    if not folder:
        return None
    try:
        descriptor = os.open(f"{folder}/{LOCAL_KEY}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    try:
        found = os.fstat(descriptor)
        private = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
        key = os.read(descriptor, 1024).decode("ascii", "replace").strip() if private else ""
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return f"{key}\n" if key.startswith(LOCAL_KEY_PREFIX) and key.isascii() and key.isprintable() else None


def _state_folder(environ: Mapping[str, str]) -> str:
    """`paths.state_dir` where that is certain, else ""."""
    if explicit := environ.get("VX_TOKEN_CONFIG"):
        folder, _, name = explicit.rpartition("/")
        return folder if folder.startswith("/") and name not in ("", ".", "..") else ""
    state, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    base = state or (f"{home}/.local/state" if home else "")
    return f"{base}/vx-token" if sys.platform == "linux" and base.startswith("/") else ""


def _folder(environ: Mapping[str, str], profile: str) -> str | None:
    root = environ.get("VX_TOKEN_RUNTIME_DIR")
    if not root:
        base = environ.get("XDG_RUNTIME_DIR", "")
        known = sys.platform == "linux" and base.startswith("/") and belongs_to_us(base)
        root = f"{base}/vx-token" if known else ""
    if not root.startswith("/") or "/" in profile or profile.startswith("."):
        return None
    folder = f"{root}/{profile}"
    if profile == "default":
        try:
            target = os.readlink(folder)
        except OSError:
            pass  # it is no link
        else:
            folder = f"{root}/{target}" if "/" not in target else ""
    return folder if not unsafe_part(root)[0] and _ours(root) and _ours(folder) else None


def belongs_to_us(folder: str) -> bool:
    """Whether it is a folder, or a link to one, and this user's: the hooks' `-d` and `-O`."""
    try:
        found = os.stat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def unsafe_part(folder: str) -> tuple[str, str]:
    """The first part of the way to `folder` that other users control, and why; two empty strings for none.

    Each folder from `/` down to `folder`, and each symbolic link among them, must belong to us or to root, and others
    may write to it only when it is sticky. The walk goes down from `/`: after a part has passed, no other user can
    replace it, so the check stays true for a file that is opened afterwards. A part that does not exist ends the walk.
    """
    parts, path, links = folder.split("/")[::-1], "", 0
    while True:
        try:
            part = os.lstat(path or "/")
            target = os.readlink(path) if stat.S_ISLNK(part.st_mode) else None
        except OSError:
            return "", ""
        if part.st_uid not in (0, os.geteuid()) and not (part.st_uid == _OVERFLOW_UID and _root_is_unmapped()):
            return path or "/", "belongs to another user"
        if target is not None:
            links += 1
            parts += target.split("/")[::-1]
            path = "" if target.startswith("/") else path.rpartition("/")[0]
        elif part.st_mode & 0o022 and not part.st_mode & stat.S_ISVTX:
            return path or "/", "can be written by others"
        while parts and parts[-1] in ("", ".", ".."):
            if parts.pop() == "..":
                path = path.rpartition("/")[0]
        if not parts or links > _MOST_LINKS:
            return "", ""
        path += f"/{parts.pop()}"


_MOST_LINKS = 40  # with more the kernel opens nothing
_OVERFLOW_UID = 65534  # proc(5): what the owner of a file is shown as in a user namespace that has no number for them


def _root_is_unmapped() -> bool:
    """Whether root is only a stranger's number here, as in the sandbox of a user's systemd service."""
    try:
        with open("/proc/self/uid_map", "rb") as file:
            return all(line.split()[1] != b"0" for line in file)
    except OSError:
        return False


def _ours(folder: str) -> bool:
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _token(folder: str, environ: Mapping[str, str], now: float) -> str | None:
    try:
        descriptor = os.open(f"{folder}/peek", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        opened = os.fstat(descriptor)
        if not stat.S_ISREG(opened.st_mode) or opened.st_uid != os.geteuid():
            return None
        text = os.read(descriptor, 65536).decode("utf-8", "replace")
    except OSError:
        return None
    finally:
        os.close(descriptor)
    lines = text.split("\n")
    if len(lines) != 11 or lines[0] != HEADER or lines[9] != "end":
        return None
    _, config, config_stamp, credentials, credentials_stamp, named, issued_at, expires_at, token, *_ = lines
    if config != config_path(environ) or config_stamp != stamp(config) or credentials_stamp != stamp(credentials):
        return None
    if not config_stamp and not environ.get("GOOGLE_CLOUD_PROJECT"):
        return None  # without a configuration there must be a project
    if named != "named" and not _meant(credentials, folder, environ):
        return None
    try:
        start, end = float(issued_at), float(expires_at)
    except ValueError:
        return None
    enough = required_life(DEFAULT_MIN_TTL, end - start)
    return token if start - 60 <= now and end - now >= enough else None


def _meant(credentials: str, folder: str, environ: Mapping[str, str]) -> bool:
    """Whether the environment leads to these credentials, or leaves the choice to a daemon."""
    if explicit := environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return explicit == credentials
    gcloud = environ.get("CLOUDSDK_CONFIG") or environ.get("HOME", "") + "/.config/gcloud"
    found = f"{gcloud}/application_default_credentials.json"
    return found == credentials or not stamp(found) or attended(folder.rpartition("/")[0])


def config_path(environ: Mapping[str, str]) -> str:
    """Where the configuration is looked for on Linux; "" where only platformdirs can tell."""
    if explicit := environ.get("VX_TOKEN_CONFIG"):
        return os.path.abspath(explicit)
    if sys.platform != "linux":
        return ""
    base = environ.get("XDG_CONFIG_HOME") or environ.get("HOME", "") + "/.config"
    return f"{base}/vx-token/config.toml" if base.startswith("/") and base != "/.config" else ""
