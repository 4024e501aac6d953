"""The file that describes a running daemon, and the one-line summary for systemd."""

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vx_token.config.duration import clock_time, shown
from vx_token.config.model import Profile
from vx_token.system import atomic, daemon_lock
from vx_token.system.private_file import private_text
from vx_token.tokens.model import State
from vx_token.tokens.schedule import next_refresh

DAEMON_FILE = ".daemon.json"


@dataclass(frozen=True, slots=True)
class DaemonInfo:
    """The content of the file.

    Attributes:
        version: the version of vx-token that is running.
        pid: its process ID.
        started_at: start time in epoch seconds.
        config_error: why the configuration on disk is not in use, "" when it is.
        profiles: base URL by profile name.
        gateway: the gateway's base URL, "" when it is not running.
        environment: checksums of environment variables, as `environment.checksums` computes them.
        gateway_problem: message and hint, empty without an error.
        problems: errors of the user's commands, by profile name.
    """

    version: str
    pid: int
    started_at: float
    config_error: str
    profiles: Mapping[str, str]
    gateway: str
    environment: Mapping[str, str]
    gateway_problem: Sequence[str]
    problems: Mapping[str, Sequence[str]]

    def write(self, root: Path) -> None:
        """Write the file into the runtime folder; on a full disk `status` lacks these facts."""
        with contextlib.suppress(OSError):
            atomic.write(root / DAEMON_FILE, json.dumps(asdict(self)).encode())


def read(root: Path) -> Mapping[str, Any] | None:
    """Read the running daemon's file: None when no daemon is running, empty when the file is missing or invalid."""
    if not daemon_lock.attended(root):
        return None
    try:
        content = json.loads(private_text(root / DAEMON_FILE))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def headline(
    states: Iterable[tuple[Profile, State]], now: float, config_error: str = "", gateway_problem: str = ""
) -> str:
    """Summarize all profiles in one line, for systemd's STATUS=."""
    parts = [f"{profile.name}: {_summary(state, now, profile.refresh_margin)}" for profile, state in states]
    if config_error:
        parts.append(f"configuration: {config_error}")
    if gateway_problem:
        parts.append(f"gateway: {gateway_problem}")
    return "; ".join(parts)


def state_message(state: State, now: float) -> tuple[str, str] | None:
    """Return log level and text for a profile's new state, None when there is nothing to log."""
    live = state.live(now)
    if state.failure is not None:
        return "warning" if live else "error", f"{state.failure.message}; {state.failure.hint}"
    if live is None:
        return None
    text = f"fresh token of {live.account or live.kind}, {shown(live.remaining(now))} left"
    return "info", f"{text}; {live.note}" if live.note else text


def _summary(state: State, now: float, margin: float | None) -> str:
    live = state.live(now)
    left = f"{live.remaining(now) / 60:.0f} min left" if live else "no token"
    if state.failure is not None:
        return f"{left}, {state.failure.message}; {state.failure.hint}"
    return f"{left}, next refresh {clock_time(next_refresh(now, state, 0.5, margin))}"
