"""The status of profiles, daemon and gateway: read once, and formatted as text or JSON."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vx_token import __version__
from vx_token.config.duration import clock_time, shown
from vx_token.config.model import Config, Profile
from vx_token.daemon import info
from vx_token.errors import ConfigError, failure_of, printable
from vx_token.gateway import address as gateway_address
from vx_token.gateway import statusz
from vx_token.gateway.settings import DEFAULT_KEY
from vx_token.outputs.publisher import Publisher
from vx_token.report.color import Paint, plain
from vx_token.tokens.model import State, condition
from vx_token.tokens.schedule import next_refresh
from vx_token.tokens.store import Store


@dataclass(frozen=True, slots=True)
class Row:
    """The status of a profile; instants in epoch seconds, durations in seconds, 0 or "" for unknown."""

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
    """The content of `vx-token status`; `schema` is the version of its JSON form."""

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
    """Read the status; with an invalid configuration, that of the profiles in the runtime folder.

    Args:
        store: the runtime folder's states.
        now: epoch seconds.
        config: the configuration, or its error.
        publisher: finds problems of a profile's files; None with an invalid configuration.
        path: the configuration file.
        key: returns the gateway's local key.
    """
    running = info.read(store.root)
    reported = (running or {}).get("problems", {})
    error = running.get("config_error", "") if running else ""
    if isinstance(config, ConfigError):
        error = f"{config.message} ({config.hint})"
        urls: Mapping[str, str] = dict.fromkeys(store.known(), "") | (running or {}).get("profiles", {})
        rows = tuple(_row(name, url, known(store, name, now), now, ()) for name, url in urls.items())
    else:
        rows = tuple(_checked(profile, store, now, publisher) for profile in config.profiles.values())
    rows = tuple(replace(row, problems=(*row.problems, *reported.get(row.profile, ()))) for row in rows)
    problem = (running or {}).get("gateway_problem")
    address = _configured(config) if running is None or problem else str(running.get("gateway", ""))
    gateway: Mapping[str, Any] | None = None
    if problem:
        gateway = {"address": address, "problem": f"is not served: {problem[0]}", "hint": problem[1]}
    elif address:
        gateway = statusz.query(address, key)
    return Status(__version__, str(store.root), str(path), error, running, rows, gateway)


def _configured(config: Config | ConfigError) -> str:
    """Return the configured URL of the gateway, "" when it is not enabled."""
    if isinstance(config, ConfigError) or not gateway_address.is_wanted(config):
        return ""
    return gateway_address.base_url(config, config.default_profile)


def known(store: Store, profile: str, now: float) -> State:
    """Return a profile's recorded state; an unreadable one as a state whose last failure is the reason."""
    try:
        return store.read(profile)
    except ConfigError as error:
        return State(attempts=1, failure=failure_of(error, now))


def _checked(profile: Profile, store: Store, now: float, publisher: Publisher | None) -> Row:
    state = known(store, profile.name, now)
    problems = publisher.problems(profile, state) if publisher else {}
    return _row(profile.name, profile.url, state, now, tuple(problems.values()), profile.refresh_margin)


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


def failed(status: Status, *, down: bool) -> bool:
    """Whether a login is needed, or a refresh failed without a live token, or the gateway or service is `down`."""
    unserved = status.gateway is not None and "requests" not in status.gateway
    dead = any(row.status == "login" or (row.error and not row.expires_at) for row in status.profiles)
    return down or unserved or dead


def as_json(status: Status) -> str:
    """Format as JSON."""
    return json.dumps(asdict(status), indent=2) + "\n"


def as_text(status: Status, now: float, *, down: bool = False, paint: Paint = plain) -> str:
    """Format as a table, with problems and hints below it, all of it printable.

    Args:
        status: what `gather` returned.
        now: epoch seconds.
        down: whether the installed service is not running.
        paint: colours the states.
    """
    rows = [("PROFILE", "STATUS", "LEFT", "LAST REFRESH", "NEXT REFRESH", "IDENTITY")]
    for row in status.profiles:
        left = shown(row.expires_in) if row.expires_in else "-"
        last = clock_time(row.refreshed_at) if row.refreshed_at else "-"
        following = clock_time(row.next_refresh_at) if status.daemon is not None else "-"
        rows.append((row.profile, row.status, left, last, following, row.account or row.credential or "-"))
    table = [[printable(cell) for cell in cells] for cells in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for state, cells in zip(["heading", *(row.status for row in status.profiles)], table, strict=True):
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        padded[1] = paint(state, padded[1])
        lines.append("  ".join(padded).rstrip())
    return "\n".join([*lines, "", *_remarks(status, now, down=down, paint=paint)]) + "\n"


def _remarks(status: Status, now: float, *, down: bool, paint: Paint) -> list[str]:
    lines = []
    for row in status.profiles:
        if row.error:
            lines += [f"{row.profile}: {row.error}", f"  hint: {row.hint}"]
        lines += [f"{row.profile}: {text}" for text in (*row.problems, row.note) if text]
    if status.config_error:
        lines.append(f"configuration: {status.config_error}")
        if status.daemon is not None:
            lines.append("  the running daemon still uses the last good configuration")
    lines = [printable(line) for line in lines]
    return [*lines, *_daemon_lines(status, now, down=down, paint=paint), *_gateway_lines(status.gateway, paint)]


def _daemon_lines(status: Status, now: float, *, down: bool, paint: Paint) -> list[str]:
    if status.daemon is not None:
        return [f"daemon: {paint('running', 'running')} {printable(daemon_details(status, now))}"]
    if down:
        hint = "  hint: run: vx-token service start, or see: vx-token service logs"
        return [f"daemon: {paint('fail', 'not running')}, though the service is installed", hint]
    rest = "; commands refresh tokens when needed (start one: vx-token service install)"
    return [f"daemon: {paint('stopped', 'not running')}{rest}"]


def daemon_details(status: Status, now: float) -> str:
    """Return since when which daemon is running."""
    daemon = status.daemon or {}
    since = shown(now - float(daemon.get("started_at", now)))
    return f"for {since}, pid {daemon.get('pid', '?')}, version {daemon.get('version', '?')}"


def _gateway_lines(gateway: Mapping[str, Any] | None, paint: Paint) -> list[str]:
    if gateway is None:
        return []
    address = printable(str(gateway["address"]))
    if "requests" not in gateway:
        hint = [printable(f"  hint: {gateway['hint']}")] if gateway.get("hint") else []
        return [f"gateway: {address} {paint('fail', printable(str(gateway['problem'])))}", *hint]
    counts = "{requests} requests, {errors} errors, {in_flight} in flight, {tokens_per_minute} tokens/min"
    if any(value for name, value in gateway.items() if name.startswith("signatures_")):
        counts += "; thought signatures: {signatures_kept} kept"
        counts += ", {signatures_put_back} put back, {signatures_stood_in} stood in"
    unverified = "" if gateway["verified"] else "; not verified to be yours"
    return [f"gateway: {address}, {counts.format(**gateway)}{unverified}", *_key_lines(gateway["keys"])]


def _key_lines(keys: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a line per key if any tool has used a key of its own."""
    if not keys.keys() - {DEFAULT_KEY}:
        return []
    line = "  key {}: {requests} requests, {errors} errors, {tokens} tokens, last used {}"
    return [line.format(name, clock_time(usage["last_used"]), **usage) for name, usage in sorted(keys.items())]
