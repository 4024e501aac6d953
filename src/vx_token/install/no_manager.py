"""Keeps `vx-token run` going where no service manager does: in containers, WSL, and sessions of root, su and sudo."""

import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from vx_token.errors import VxTokenError

CONTAINER_FILES = ("run/.containerenv", ".dockerenv")
"""Files by which podman and docker mark a container."""


class Place(Enum):
    """Where this process runs, as far as it explains why there is no user manager."""

    CONTAINER = "in a container"
    WSL = "in WSL without systemd"
    ROOT = "in this session of root"
    SESSION = "in this session"
    OTHER = "on this machine"


def place(environ: Mapping[str, str], root: Path, release: str, uid: int) -> Place:
    """Return where this process runs.

    Args:
        environ: the environment.
        root: the root folder.
        release: the kernel's release; that of WSL names Microsoft.
        uid: the effective user ID.
    """
    inside = any((root / name).exists() for name in CONTAINER_FILES)
    if inside or environ.get("container") or environ.get("KUBERNETES_SERVICE_HOST"):
        return Place.CONTAINER
    if not (root / "run/systemd/system").exists():  # sd_booted(3)
        return Place.WSL if "microsoft" in release.lower() else Place.OTHER
    return Place.ROOT if uid == 0 else Place.SESSION


def this_place(environ: Mapping[str, str]) -> Place:
    """Return where this process runs, by the real system."""
    return place(environ, Path("/"), os.uname().release, os.geteuid())


RUN = "nohup vx-token run >/dev/null 2>&1 &"
"""The shell command that keeps the daemon going after the session has ended; `vx-token status` shows its problems."""

_INSTEAD = {
    Place.CONTAINER: "or start one program by: vx-token exec --gateway -- PROGRAM",
    Place.WSL: "or add systemd=true below [boot] in /etc/wsl.conf, and in Windows run: wsl --shutdown",
    Place.ROOT: "or log in as an ordinary user and run there: vx-token setup",
    Place.SESSION: "or log in directly instead of with su or sudo, and run: vx-token setup",
    Place.OTHER: "recipes for other supervisors: vx-token help service",
}


def missing(where: Place) -> VxTokenError:
    """Return the error for the lack of a user manager; its hint keeps tokens fresh all the same."""
    return VxTokenError(f"no systemd user manager is running {where.value}", f"run: {RUN} ({_INSTEAD[where]})")
