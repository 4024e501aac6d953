"""The file that describes a running daemon, and the one-line summary for systemd."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vx_token.config.duration import clock_time
from vx_token.config.model import Profile
from vx_token.system import daemon_lock
from vx_token.system.private_file import private_text
from vx_token.tokens.model import State
from vx_token.tokens.schedule import next_refresh

DAEMON_FILE = ".daemon.json"


def daemon(root: Path) -> Mapping[str, Any] | None:
    """What the running daemon says of itself, or None when none runs."""
    if not daemon_lock.attended(root):
        return None
    try:
        found = json.loads(private_text(root / DAEMON_FILE))
    except (OSError, ValueError):
        found = None
    return found if isinstance(found, dict) else {}


def headline(
    kept: Iterable[tuple[Profile, State]], now: float, config_error: str = "", gateway_problem: str = ""
) -> str:
    """All profiles in one line, for systemd's STATUS=."""
    parts = [f"{profile.name}: {_brief(state, now, profile.refresh_margin)}" for profile, state in kept]
    if config_error:
        parts.append(f"configuration: {config_error}")
    if gateway_problem:
        parts.append(f"gateway: {gateway_problem}")
    return "; ".join(parts)


def _brief(state: State, now: float, margin: float | None) -> str:
    live = state.live(now)
    left = f"{live.remaining(now) / 60:.0f} min left" if live else "no token"
    if state.failure is not None:
        return f"{left}, {state.failure.message}; {state.failure.hint}"
    return f"{left}, next refresh {clock_time(next_refresh(now, state, 0.5, margin))}"
