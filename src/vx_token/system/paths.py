"""Paths of the configuration, the runtime folder and gcloud's files; the check that a folder is safe for secrets."""

import contextlib
import errno
import os
import shutil
import stat
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

from vx_token.errors import ConfigError
from vx_token.system import config_path, runtime_path, safe_path

APP = "vx-token"

ASIDE = ".aside"
"""The folder in the runtime folder that keeps tokens made with other settings than the configuration's."""

STALE = 24 * 3600.0
"""Seconds after which each token in a folder there has expired."""


def config_file(environ: Mapping[str, str]) -> Path:
    """Return the configuration file: VX_TOKEN_CONFIG, else `vx-token/config.toml` in the user's config folder."""
    if path := config_path.config_path(environ):
        return Path(path)
    import platformdirs

    return platformdirs.user_config_path(APP) / "config.toml"


def runtime_dir(environ: Mapping[str, str]) -> Path:
    """Return the runtime folder, by the rule of `runtime_path`.

    Raises:
        ConfigError: other users control this folder, or a folder on the way to it.
    """
    folder = Path(runtime_path.runtime_path(environ)).absolute()
    if environ.get("VX_TOKEN_RUNTIME_DIR"):
        return folder
    base = folder.parent
    if not runtime_path.user_folder(environ) and (base.is_symlink() or (base.exists() and not _belongs_to_us(base))):
        raise ConfigError(f"no safe runtime folder: {base} is not a folder that belongs to you", _OTHER_FOLDER)
    _check_way(base, "no safe runtime folder: ")
    return folder


_OTHER_FOLDER = "set XDG_RUNTIME_DIR or VX_TOKEN_RUNTIME_DIR to a folder of your own"


def _belongs_to_us(folder: Path) -> bool:
    return safe_path.belongs_to_us(str(folder))


def _check_way(folder: Path, context: str) -> None:
    part, problem = safe_path.unsafe_part(str(folder))
    if part:
        remedy = f"make it yours alone: chmod go-w {part}; or " if safe_path.belongs_to_us(part) else ""
        raise ConfigError(f"{context}{part} {problem}", remedy + _OTHER_FOLDER)


def aside(root: Path, settings: Mapping[str, str]) -> Path:
    """Return a folder inside `root` for tokens made with these settings instead of the configuration's.

    Removes such folders when all their tokens have expired.

    Raises:
        ConfigError: `root` is not safe.
    """
    secure_folder(root)
    secure_folder(root / ASIDE)
    content = "\0".join(f"{key}={value}" for key, value in sorted(settings.items()))
    own = root / ASIDE / f"{zlib.crc32(content.encode(errors='surrogateescape')):08x}-{len(content)}"
    for other in (root / ASIDE).iterdir():
        if other != own and _unchanged(other) > STALE:
            shutil.rmtree(other, ignore_errors=True)
    return own


def _unchanged(folder: Path) -> float:
    """Return the seconds since a file was last replaced in one of the folder's subfolders."""
    with contextlib.suppress(OSError):
        return time.time() - max(path.lstat().st_mtime for path in (folder, *folder.iterdir()))
    return 0.0


def state_dir(environ: Mapping[str, str]) -> Path:
    """Return the folder of files that outlive a reboot: VX_TOKEN_CONFIG's, else the user's state folder."""
    if explicit := environ.get("VX_TOKEN_CONFIG"):
        return Path(explicit).absolute().parent
    import platformdirs

    return platformdirs.user_state_path(APP)


def working_folder(environ: Mapping[str, str]) -> Path:
    """Return the working folder; when it has been deleted, its last path by PWD."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path(environ.get("PWD") or "/")


def home_dir(environ: Mapping[str, str]) -> Path:
    """Return the home folder: HOME, else that of the user's account."""
    return Path(environ.get("HOME") or Path.home())


def gcloud_dir(environ: Mapping[str, str]) -> Path:
    """Return gcloud's configuration folder: CLOUDSDK_CONFIG, else ~/.config/gcloud."""
    if explicit := environ.get("CLOUDSDK_CONFIG"):
        return Path(explicit).absolute()
    return home_dir(environ) / ".config" / "gcloud"


def gcloud_credentials(environ: Mapping[str, str]) -> Path:
    """Return the file that `gcloud auth application-default login` writes."""
    return gcloud_dir(environ) / "application_default_credentials.json"


def content(path: Path) -> bytes:
    """Return the content of a regular file; symbolic links are followed.

    Raises:
        OSError: it cannot be read, or is not a regular file: reading a pipe or a device may never end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
            raise OSError(number, os.strerror(number) if number == errno.EISDIR else "it is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def secure_folder(folder: Path) -> None:
    """Create `folder` for this user alone (0700), or check it and restrict it to 0700.

    Raises:
        ConfigError: it belongs to another user, others may write to it, or it is a symbolic link or not a folder.
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
    """Whether `folder` exists; it is refused when another user could have written to it.

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
        _make(folder.parent)  # not `parents=True`, because it gives parents the umask's mode instead of 0700
        folder.parent.chmod(0o700)
    folder.mkdir(mode=0o700, exist_ok=True)


def check_folder(folder: Path) -> None:
    """Refuse a folder that other users can write to or replace (`safe_path.unsafe_part`).

    Raises:
        ConfigError: see `secure_folder`.
        OSError: it is missing or cannot be examined.
    """
    _check_way(folder.parent, f"{folder} is not safe: ")
    status = folder.lstat()
    hint = "remove it, or set VX_TOKEN_RUNTIME_DIR to a folder of your own"
    if stat.S_ISLNK(status.st_mode):
        raise ConfigError(f"{folder} is a symbolic link; tokens are not written through links", hint)
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigError(f"{folder} is not a folder", hint)
    if status.st_uid != os.geteuid():
        raise ConfigError(f"{folder} belongs to another user", hint)
    if status.st_mode & 0o022:
        raise ConfigError(f"{folder} can be written by others", f"make it yours alone: chmod 700 {folder}")
