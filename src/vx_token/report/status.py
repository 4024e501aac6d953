"""How things stand: gathered once, read only, and rendered as text or JSON."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vx_token import __version__
from vx_token.config.duration import clock_time, shown
from vx_token.config.model import Config, Profile
from vx_token.daemon.info import daemon
from vx_token.errors import ConfigError, failure_of
from vx_token.gateway import address as gateway_address
from vx_token.gateway import statusz
from vx_token.outputs.publisher import Publisher
from vx_token.tokens.model import State, condition
from vx_token.tokens.schedule import next_refresh
from vx_token.tokens.store import Store


@dataclass(frozen=True, slots=True)
class Row:
    """One profile; instants in epoch seconds, durations in seconds, 0 or "" for unknown."""

    profile: str
    status: str
    expires_at: float
    expires_in: float
    refreshed_at: float
    next_refresh_at: float
    failures: int
    error: str
    hint: str
    account: str
    credential: str
    base_url: str
    note: str
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """Everything `vx-token status` says; `schema` is the version of its JSON form."""

    version: str
    runtime_dir: str
    config: str
    config_error: str
    daemon: Mapping[str, Any] | None
    profiles: tuple[Row, ...]
    gateway: Mapping[str, Any] | None = None
    schema: int = 1


def gather(
    store: Store,
    now: float,
    config: Config | ConfigError,
    publisher: Publisher | None,
    path: Path,
    key: Callable[[], str] = str,
) -> Status:
    """Read how things stand; with a configuration that is wrong, from what the runtime folder knows."""
    running = daemon(store.root)
    told = (running or {}).get("problems", {})
    error = running.get("config_error", "") if running else ""
    if isinstance(config, ConfigError):
        error = f"{config.message} ({config.hint})"
        urls: Mapping[str, str] = dict.fromkeys(store.known(), "") | (running or {}).get("profiles", {})
        rows = tuple(_row(name, url, known(store, name, now), now, ()) for name, url in urls.items())
    else:
        rows = tuple(_checked(profile, store, now, publisher) for profile in config.profiles.values())
    rows = tuple(replace(row, problems=(*row.problems, *told.get(row.profile, ()))) for row in rows)
    problem = (running or {}).get("gateway_problem")
    address = _configured(config) if running is None or problem else str(running.get("gateway", ""))
    gateway: Mapping[str, Any] | None = None
    if problem:
        gateway = {"address": address, "problem": f"is not served: {problem[0]}", "hint": problem[1]}
    elif address:
        gateway = statusz.query(address, key)
    return Status(__version__, str(store.root), str(path), error, running, rows, gateway)


def _configured(config: Config | ConfigError) -> str:
    """Where a gateway without a daemon would be."""
    if isinstance(config, ConfigError) or not gateway_address.is_wanted(config):
        return ""
    return gateway_address.base_url(config, config.default_profile)


def known(store: Store, profile: str, now: float) -> State:
    """What is known of a profile; why nothing can be, as its last failure."""
    try:
        return store.read(profile)
    except ConfigError as error:
        return State(attempts=1, failure=failure_of(error, now))


def _checked(profile: Profile, store: Store, now: float, publisher: Publisher | None) -> Row:
    state = known(store, profile.name, now)
    wrong = publisher.problems(profile, state) if publisher else {}
    return _row(profile.name, profile.url, state, now, tuple(wrong.values()), profile.refresh_margin)


def _row(name: str, url: str, state: State, now: float, problems: tuple[str, ...], margin: float | None = None) -> Row:
    token, live, failure = state.token, state.live(now), state.failure
    return Row(
        profile=name,
        status=_word(state, now),
        expires_at=live.expires_at if live else 0.0,
        expires_in=round(live.remaining(now), 3) if live else 0.0,
        refreshed_at=token.issued_at if token else 0.0,
        next_refresh_at=next_refresh(now, state, 0.5, margin),
        failures=state.failures,
        error=failure.message if failure else "",
        hint=failure.hint if failure else "",
        account=token.account if token else "",
        credential=token.kind if token else "",
        base_url=url,
        note=token.note if token else "",
        problems=problems,
    )


def _word(state: State, now: float) -> str:
    if not state.attempts:
        return "unknown"
    word = condition(state, now)
    return "no token" if word == "expired" and state.token is None else word


def wrong(status: Status, *, installed: bool) -> bool:
    """Whether a login is needed, or what the user set up does not run: the service, the gateway."""
    silent = status.gateway is not None and "requests" not in status.gateway
    return installed or silent or any(row.status == "login" for row in status.profiles)


def as_json(status: Status) -> str:
    """The JSON form."""
    return json.dumps(asdict(status), indent=2) + "\n"


def as_text(status: Status, now: float, *, installed: bool = False) -> str:
    """The form for people: a table, and below it what needs doing; `installed` is a service that does not run."""
    rows = [("PROFILE", "STATUS", "LEFT", "LAST REFRESH", "NEXT REFRESH", "IDENTITY")]
    for row in status.profiles:
        left = shown(row.expires_in) if row.expires_in else "-"
        last = clock_time(row.refreshed_at) if row.refreshed_at else "-"
        following = clock_time(row.next_refresh_at) if status.daemon is not None else "-"
        rows.append((row.profile, row.status, left, last, following, row.account or row.credential or "-"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", *_remarks(status, now, installed=installed)]) + "\n"


def _remarks(status: Status, now: float, *, installed: bool) -> list[str]:
    found = []
    for row in status.profiles:
        if row.error:
            found += [f"{row.profile}: {row.error}", f"  hint: {row.hint}"]
        found += [f"{row.profile}: {text}" for text in (*row.problems, row.note) if text]
    if status.config_error:
        found.append(f"configuration: {status.config_error}")
        if status.daemon is not None:
            found.append("  the running daemon goes on with the last good configuration")
    if status.daemon is None and installed:
        found.append("daemon: not running, though the service is installed")
        found.append("  hint: run: vx-token service start, or see: vx-token service logs")
    elif status.daemon is None:
        found.append("daemon: not running; tokens are refreshed when asked for (start one: vx-token service install)")
    else:
        since = shown(now - float(status.daemon.get("started_at", now)))
        version = status.daemon.get("version", "?")
        found.append(f"daemon: running for {since}, pid {status.daemon.get('pid', '?')}, version {version}")
    if status.gateway is not None:
        found.append(_gateway_line(status.gateway))
        found += [f"  hint: {status.gateway['hint']}"] if status.gateway.get("hint") else []
    return found


def _gateway_line(gateway: Mapping[str, Any]) -> str:
    if "requests" not in gateway:
        return f"gateway: {gateway['address']} {gateway['problem']}"
    counts = "{requests} requests, {errors} errors, {in_flight} under way, {tokens_per_minute} tokens/min"
    unverified = "" if gateway["verified"] else "; not verified to be yours"
    return f"gateway: {gateway['address']}, {counts.format(**gateway)}{unverified}"


def wait(seconds: float) -> None:
    """Pause between two looks of `--watch`."""
    time.sleep(seconds)
