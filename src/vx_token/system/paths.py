"""Where things are kept, and whether a folder is safe to keep a secret in."""

import contextlib
import errno
import os
import shutil
import stat
import sys
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

from vx_token.errors import ConfigError
from vx_token.system import config_path, safe_path

APP = "vx-token"

ASIDE = ".aside"
"""In the runtime folder: what was made with other settings than the configuration's."""

STALE = 24 * 3600.0
"""Seconds after which no token lives in a folder there."""


def config_file(environ: Mapping[str, str]) -> Path:
    """The configuration file: VX_TOKEN_CONFIG, else `vx-token/config.toml` in the user's config folder."""
    known = config_path.config_path(environ)
    if known:
        return Path(known)
    import platformdirs

    return platformdirs.user_config_path(APP) / "config.toml"


def runtime_dir(environ: Mapping[str, str]) -> Path:
    """The runtime folder: VX_TOKEN_RUNTIME_DIR, else `vx-token` in the user's runtime folder.

    The rule is one that a shell can follow without starting a program, for the hooks follow it at each prompt: of
    XDG_RUNTIME_DIR and /run/user/UID the first that is a folder of ours, else one in the folder for temporary files.

    Raises:
        ConfigError: other users control the one that the rule finds, or a folder on the way to it.
    """
    if explicit := environ.get("VX_TOKEN_RUNTIME_DIR"):
        return Path(explicit).absolute()
    candidates = [environ.get("XDG_RUNTIME_DIR", "")]
    if sys.platform == "darwin":
        fallback = Path(environ.get("HOME") or Path.home()) / "Library" / "Caches" / "TemporaryItems"
    else:
        candidates.append(f"/run/user/{os.geteuid()}")
        fallback = _temporary(environ) / f"runtime-{os.geteuid()}"
    base = next((Path(each) for each in candidates if each.startswith("/") and safe_path.belongs_to_us(each)), fallback)
    if base == fallback and (base.is_symlink() or (base.exists() and not safe_path.belongs_to_us(str(base)))):
        raise ConfigError(f"no safe runtime folder: {base} is no folder of ours", _OTHER_FOLDER)
    _check_way(base, "no safe runtime folder: ")
    return base / APP


_OTHER_FOLDER = "set XDG_RUNTIME_DIR or VX_TOKEN_RUNTIME_DIR to a folder of your own"


def _check_way(folder: Path, context: str) -> None:
    part, problem = safe_path.unsafe_part(str(folder))
    if part:
        remedy = f"make it yours alone: chmod go-w {part}; or " if safe_path.belongs_to_us(part) else ""
        raise ConfigError(f"{context}{part} {problem}", remedy + _OTHER_FOLDER)


def _temporary(environ: Mapping[str, str]) -> Path:
    for name in ("TMPDIR", "TEMP", "TMP"):
        folder = environ.get(name, "")
        if folder.startswith("/") and Path(folder).is_dir() and os.access(folder, os.W_OK):
            return Path(folder)
    return Path("/tmp")  # noqa: S108 - what lies below is checked to be ours


def aside(root: Path, settings: Mapping[str, str]) -> Path:
    """A runtime folder of its own, inside `root`, for tokens made with other settings than the configuration's.

    Raises:
        ConfigError: `root` is not safe.
    """
    secure_folder(root)
    secure_folder(root / ASIDE)
    content = "\0".join(f"{key}={value}" for key, value in sorted(settings.items()))
    own = root / ASIDE / f"{zlib.crc32(content.encode(errors='surrogateescape')):08x}-{len(content)}"
    for other in (root / ASIDE).iterdir():
        if other != own and _untouched(other) > STALE:
            shutil.rmtree(other, ignore_errors=True)
    return own


def _untouched(folder: Path) -> float:
    """Seconds since something was last replaced in one of the folder's own."""
    with contextlib.suppress(OSError):
        return time.time() - max(path.lstat().st_mtime for path in (folder, *folder.iterdir()))
    return 0.0


def state_dir(environ: Mapping[str, str]) -> Path:
    """Where what must survive a reboot is kept: beside the configuration when that was named, else the state folder."""
    if explicit := environ.get("VX_TOKEN_CONFIG"):
        return Path(explicit).absolute().parent
    import platformdirs

    return platformdirs.user_state_path(APP)


def working_folder(environ: Mapping[str, str]) -> Path:
    """The working folder; one that somebody has removed goes by the name that the shell still has for it."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path(environ.get("PWD") or "/")


def gcloud_dir(environ: Mapping[str, str]) -> Path:
    """Gcloud's configuration folder: CLOUDSDK_CONFIG, else ~/.config/gcloud."""
    if explicit := environ.get("CLOUDSDK_CONFIG"):
        return Path(explicit).absolute()
    return Path(environ.get("HOME") or Path.home()) / ".config" / "gcloud"


def gcloud_credentials(environ: Mapping[str, str]) -> Path:
    """What `gcloud auth application-default login` writes."""
    return gcloud_dir(environ) / "application_default_credentials.json"


def content(path: Path) -> bytes:
    """What a file of the user's holds, links followed.

    Raises:
        OSError: it cannot be read; nor is anything else than a regular file, which may have no end, or no beginning.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        kind = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(kind):
            number = errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL
            raise OSError(number, os.strerror(number) if number == errno.EISDIR else "it is no regular file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def secure_folder(folder: Path) -> None:
    """Make sure that `folder` is there, ours alone (0700), and no link.

    Raises:
        ConfigError: it belongs to someone else, others may write it, it is a link or no folder.
    """
    try:
        _make(folder)
        check_folder(folder)
        if stat.S_IMODE(folder.lstat().st_mode) != 0o700:
            folder.chmod(0o700)
    except FileExistsError:
        raise ConfigError(f"{folder} is not a folder", "set VX_TOKEN_RUNTIME_DIR to a folder of your own") from None
    except OSError as error:
        raise _unusable(folder, error) from None


def safe_folder(folder: Path) -> bool:
    """Whether `folder` is there; what somebody else could have put into it is not to be believed.

    Raises:
        ConfigError: see `secure_folder`.
    """
    try:
        check_folder(folder)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unusable(folder, error) from None
    return True


def _unusable(folder: Path, error: OSError) -> ConfigError:
    hint = "make it writable, or set VX_TOKEN_RUNTIME_DIR to a folder of your own"
    return ConfigError(f"cannot use the folder {folder}: {error.strerror}", hint)


def _make(folder: Path) -> None:
    if not folder.parent.exists():
        _make(folder.parent)  # also for us alone: `parents=True` would leave that to the umask
        folder.parent.chmod(0o700)
    folder.mkdir(mode=0o700, exist_ok=True)


def check_folder(folder: Path) -> None:
    """Refuse a folder in which other users could read our files, or which they could replace (`peek.unsafe_part`).

    Raises:
        ConfigError: see `secure_folder`.
        OSError: it cannot be looked at.
    """
    _check_way(folder.parent, f"{folder} is not safe: ")
    found = folder.lstat()
    hint = "remove it, or set VX_TOKEN_RUNTIME_DIR to a folder of your own"
    if stat.S_ISLNK(found.st_mode):
        raise ConfigError(f"{folder} is a symbolic link; tokens are not written through links", hint)
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{folder} is not a folder", hint)
    if found.st_uid != os.geteuid():
        raise ConfigError(f"{folder} belongs to another user", hint)
    if found.st_mode & 0o022:
        raise ConfigError(f"{folder} can be written by others", f"make it yours alone: chmod 700 {folder}")
