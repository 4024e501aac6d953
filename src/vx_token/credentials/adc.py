"""What a credential file says of itself; its secrets stay where they are."""

import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KINDS = (
    "authorized_user",
    "service_account",
    "impersonated_service_account",
    "external_account",
    "external_account_authorized_user",
    "gdch_service_account",
)


@dataclass(frozen=True, slots=True)
class Facts:
    """One credential file.

    Attributes:
        path: where it is.
        problem: why no token can come from it, or "".
        kind: its type, such as `authorized_user`.
        account: who it speaks for, as far as it says.
        project: the project it names, a user's quota project or a service account's own; or "".
        token_uri: where its tokens come from, "" for the usual place.
        mode: permission bits.
        modified_at: epoch seconds.
    """

    path: Path
    problem: str = ""
    kind: str = ""
    account: str = ""
    project: str = ""
    token_uri: str = ""
    mode: int = 0
    modified_at: float = 0.0


def look(path: Path) -> Facts:
    """Read the file; what is wrong with it is told in `problem`, never raised."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return Facts(path, "is no regular file")
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        return Facts(path, "does not exist")
    except OSError as error:
        return Facts(path, f"cannot be read: {error.strerror}")
    except (ValueError, RecursionError):
        return Facts(path, "is not JSON")
    if not isinstance(content, dict):
        return Facts(path, "holds no JSON object")
    kind = _text(content, "type")
    return Facts(
        path,
        "" if kind in KINDS else f"has an unknown type: {kind[:40]!r}",
        kind,
        _text(content, "client_email") or _text(content, "account"),
        _text(content, "quota_project_id") or _text(content, "project_id"),
        _token_uri(content),
        stat.S_IMODE(found.st_mode),
        found.st_mtime,
    )


def _token_uri(content: dict[str, Any]) -> str:
    inner = content.get("source_credentials")
    inner = inner if isinstance(inner, dict) else {}
    return _text(content, "token_uri") or _text(content, "token_url") or _text(inner, "token_uri")


def _text(content: dict[str, Any], key: str) -> str:
    value = content.get(key)
    return value if isinstance(value, str) and value.isprintable() else ""
