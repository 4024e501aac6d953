"""Answers `print` and `gateway key` from one small file each, before anything heavier is imported.

Tools call `vx-token print`, or in gateway mode `vx-token gateway key`, at every request. click, json and dataclasses
together cost more than the interpreter itself, so this module imports only what the interpreter has loaded anyway.
Whatever it is not sure of it leaves to the whole program: None is always a right answer. `tests/cli/test_fastpath.py`
holds the two ways to the same answers.
"""

import os
import stat
import sys
from _collections_abc import Mapping, Sequence  # as os does: collections.abc would load all of collections

from vx_token.outputs.print_cache import HEADER
from vx_token.system.config_path import config_path
from vx_token.system.runtime_path import runtime_path
from vx_token.system.safe_path import unsafe_part
from vx_token.system.stamps import joined, stamp

# The VX_TOKEN_* variables that are not settings; with any other one the whole program answers.
_NEUTRAL = {
    "VX_TOKEN_CONFIG",
    "VX_TOKEN_EXPIRES_AT",
    "VX_TOKEN_HOOK",
    "VX_TOKEN_PROFILE",
    "VX_TOKEN_RUNTIME_DIR",
    "VX_TOKEN_STATUS",
}


def answer(argv: Sequence[str], environ: Mapping[str, str], now: float) -> str | None:
    """Return the output of `vx-token print …` or `vx-token gateway key`; None when the whole program must answer."""
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
    """Return the gateway's local key and a newline; `gateway/key.py` writes the file and defines its rules."""
    from vx_token.gateway.key_file import LOCAL_KEY, LOCAL_KEY_PREFIX, MAX_BYTES

    folder = _state_folder(environ)
    if not folder:
        return None
    try:
        descriptor = os.open(f"{folder}/{LOCAL_KEY}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(descriptor)
        private = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
        key = os.read(descriptor, MAX_BYTES).decode("ascii", "replace").strip() if private else ""
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return f"{key}\n" if key.startswith(LOCAL_KEY_PREFIX) and key.isascii() and key.isprintable() else None


def _state_folder(environ: Mapping[str, str]) -> str:
    """Return `paths.state_dir` on Linux and for an absolute VX_TOKEN_CONFIG; "" otherwise."""
    if explicit := environ.get("VX_TOKEN_CONFIG"):
        folder, _, name = explicit.rpartition("/")
        return folder if folder.startswith("/") and name not in ("", ".", "..") else ""
    home = environ.get("HOME")
    base = environ.get("XDG_STATE_HOME") or (f"{home}/.local/state" if home else "")
    return f"{base}/vx-token" if sys.platform == "linux" and base.startswith("/") else ""


def _folder(environ: Mapping[str, str], profile: str) -> str | None:
    root = runtime_path(environ)
    if profile == "default":
        try:  # noqa: SIM105 - contextlib would load all of collections
            profile = os.readlink(f"{root}/default")
        except OSError:
            pass  # not a link
    if not root.startswith("/") or "/" in profile or profile.startswith("."):
        return None
    folder = f"{root}/{profile}"
    return folder if not unsafe_part(root)[0] and _ours(root) and _ours(folder) else None


def _ours(folder: str) -> bool:
    try:
        status = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _token(folder: str, environ: Mapping[str, str], now: float) -> str | None:
    try:
        descriptor = os.open(f"{folder}/peek", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
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
    _, config, config_stamp, credentials, credentials_stamp, login, first, last, token, *_ = lines
    files = credentials.split("\0")
    if config != config_path(environ) or config_stamp != stamp(config) or credentials_stamp != joined(files):
        return None
    if not config_stamp and not environ.get("GOOGLE_CLOUD_PROJECT"):
        return None  # without a configuration there must be a project
    if login != "named" and not _meant(login, files[0], folder, environ):
        return None
    try:
        return token if float(first) <= now <= float(last) else None
    except ValueError:
        return None


def _meant(login: str, credentials: str, folder: str, environ: Mapping[str, str]) -> bool:
    """Whether these are the credentials that the environment selects, or a daemon has selected them."""
    if login == "found" and (explicit := environ.get("GOOGLE_APPLICATION_CREDENTIALS")):
        return explicit == credentials
    if login == "active" and (environ.get("CLOUDSDK_CORE_ACCOUNT") or environ.get("CLOUDSDK_ACTIVE_CONFIG_NAME")):
        return False
    home = environ.get("HOME")
    gcloud = environ.get("CLOUDSDK_CONFIG") or (home and f"{home}/.config/gcloud")
    if not gcloud:
        return False  # without HOME, the whole program looks for the account's home folder
    path = f"{gcloud}/{'application_default_credentials.json' if login == 'found' else 'credentials.db'}"
    if path == credentials or not stamp(path):
        return True
    from vx_token.system.daemon_lock import attended

    return attended(folder.rpartition("/")[0])
