"""The live view of `status --watch` as lines: bars, events and gateway traffic; pure."""

import itertools
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vx_token.config.duration import clock_time, shown
from vx_token.errors import printable
from vx_token.report.color import Paint, plain
from vx_token.report.status import Row, Status, daemon_details

Line = list[tuple[str, str]]
"""Parts of a line: a state, which gives the colour, and a text."""

_MAX_EVENTS = 200
_MINUTE = 60.0
_LEAST_BAR = 10  # columns below which the times beside a bar are omitted


@dataclass(frozen=True, slots=True)
class Signs:
    """The characters that draw bars and traffic."""

    left: str = "█"
    past: str = "░"
    refresh: str = "┃"
    levels: str = "▁▂▃▄▅▆▇█"


ASCII = Signs("=", ".", "|", "_.-~^")


@dataclass(frozen=True, slots=True)
class Style:
    """How the view is drawn.

    Attributes:
        paint: colours the parts.
        signs: the characters that draw.
        runnable: writes the commands of a hint as they work on this machine.
    """

    paint: Paint = plain
    signs: Signs = ASCII
    runnable: Callable[[str], str] = str


@dataclass(frozen=True, slots=True)
class History:
    """What has been observed so far.

    Attributes:
        status: the last status, None before the first one.
        events: time (epoch seconds) and text, oldest first.
        traffic: time and completed requests of the gateway, for the last minute.
    """

    status: Status | None = None
    events: tuple[tuple[float, str], ...] = ()
    traffic: tuple[tuple[float, int], ...] = ()

    def observe(self, status: Status, now: float) -> "History":
        """Return the history with this status, read at `now` (epoch seconds)."""
        new = _first_events(status) if self.status is None else [(now, text) for text in _changes(self.status, status)]
        requests = (status.gateway or {}).get("requests")
        traffic = [each for each in self.traffic if each[0] > now - _MINUTE and requests is not None]
        if requests is not None:
            traffic = [] if traffic and requests < traffic[-1][1] else traffic  # the gateway was restarted
            traffic.append((now, requests))
        return History(status, (*self.events, *new)[-_MAX_EVENTS:], tuple(traffic))


def _first_events(status: Status) -> list[tuple[float, str]]:
    """Return what the first status says about the past."""
    events = [(row.refreshed_at, f"{row.profile}: refreshed") for row in status.profiles if row.refreshed_at]
    if started_at := (status.daemon or {}).get("started_at"):
        events.append((float(started_at), "daemon: started"))
    return sorted(events)


def _changes(before: Status, after: Status) -> Iterator[str]:
    """Yield a line for each difference that a user may want to know."""
    old, new = ((status.daemon or {}).get("pid") for status in (before, after))
    if old != new:
        yield "daemon: " + ("stopped" if new is None else "started" if old is None else "restarted")
    if after.config_error != before.config_error:
        yield f"configuration: {after.config_error or 'is valid again'}"
    rows = {row.profile: row for row in before.profiles}
    for row in after.profiles:
        yield from _row_changes(rows.pop(row.profile, None), row)
    yield from (f"{name}: removed from the configuration" for name in rows)
    yield from _gateway_changes(before.gateway or {}, after.gateway or {})


def _row_changes(before: Row | None, after: Row) -> Iterator[str]:
    if before is None:
        yield f"{after.profile}: added to the configuration"
        return
    if after.refreshed_at != before.refreshed_at and after.expires_in:
        yield f"{after.profile}: refreshed, {shown(after.expires_in)} left"
    if after.status != before.status or after.error != before.error:
        yield f"{after.profile}: {after.status}" + (f": {after.error}" if after.error else "")
    yield from (f"{after.profile}: {text}" for text in after.problems if text not in before.problems)


def _gateway_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    if after.get("problem") != before.get("problem"):
        yield f"gateway: {after.get('problem') or 'is served'}"
    failed = after.get("errors", 0) - before.get("errors", 0)
    if failed > 0 and "errors" in before:
        yield f"gateway: {failed} {'request' if failed == 1 else 'requests'} failed"


# --- the picture ------------------------------------------------------------------------------------------------------


def frame(history: History, now: float, columns: int, rows: int, style: Style, *, down: bool) -> list[str]:
    """Return the lines of the screen, at most `rows`, each at most `columns` wide.

    Args:
        history: what `observe` returned.
        now: epoch seconds.
        columns: the screen's width.
        rows: the screen's height.
        style: how it is drawn.
        down: whether the installed service is not running.
    """
    status = history.status
    assert status is not None
    lines: list[Line] = [_head(status, now, columns, style, down=down), []]
    width = max((len(row.profile) for row in status.profiles), default=0)
    for row in status.profiles:
        lines += _profile(row, now, columns, min(width, columns // 3), style, daemon=status.daemon is not None)
    if status.config_error:
        lines += [*_wrapped("fail", f"configuration: {status.config_error}", "", columns), []]
    if status.gateway is not None:
        lines += [*_gateway(history, status.gateway, columns, style), []]
    foot: Line = [("past", "q or Ctrl-C ends")]
    room = rows - len(lines) - 2
    if room > 0 and history.events:
        lines += [[("heading", "events")], *_events(history.events, room)]
    lines = (lines + [[]] * rows)[: rows - 1]
    lines.append(foot)
    return ["".join(style.paint(state, text) for state, text in _cut(line, columns)) for line in lines]


def _head(status: Status, now: float, columns: int, style: Style, *, down: bool) -> Line:
    line: Line = [("heading", f"vx-token {status.version}"), ("", "   daemon ")]
    if status.daemon is not None:
        line += [("running", "running "), ("", daemon_details(status, now).rpartition(", ")[0])]
    else:
        line += [("fail" if down else "stopped", "not running")]
        line += [("", style.runnable("; run: vx-token service start"))] if down else []
    clock = clock_time(now)
    room = columns - sum(_width(text) for _, text in line) - len(clock)
    return [*line, ("past", f"{' ' * room}{clock}")] if room > 0 else line


def _profile(row: Row, now: float, columns: int, width: int, style: Style, *, daemon: bool) -> list[Line]:
    """Return a profile's bar, and below it its identity and its problems."""
    left = f"{shown(row.expires_in)} left" if row.expires_in else "no live token"
    line: Line = [("heading", row.profile.ljust(width)), ("", "  "), (row.status, row.status.ljust(9))]
    used = sum(_width(text) for _, text in line) + len(left) + 2
    times = (_minute(row.refreshed_at), _minute(row.expires_at)) if row.expires_at else ("     ", "     ")
    if columns - used - 12 >= _LEAST_BAR:
        used += 12
        line += [("past", f"{times[0]} "), *_bar(row, now, columns - used, style.signs), ("past", f" {times[1]}")]
    else:
        line += _bar(row, now, max(0, columns - used), style.signs)
    lines: list[Line] = [[*line, ("", f"  {left}")]]
    indent = " " * (width + 2)
    due = f", next refresh {clock_time(row.next_refresh_at)}" if daemon and row.expires_in else ""
    lines.append([("past", f"{indent}{row.account or row.credential or row.base_url}{due}")])
    if row.error:
        lines += [
            *_wrapped(row.status, row.error, indent, columns),
            *_wrapped("", style.runnable(f"hint: {row.hint}"), indent, columns),
        ]
    lines += [line for text in (*row.problems, row.note) for line in _wrapped("warn", text, indent, columns)]
    return [*lines, []]


def _wrapped(state: str, text: str, indent: str, columns: int) -> Iterator[Line]:
    """Yield the text in lines that fit; a command in it can be read to its end."""
    for line in textwrap.wrap(printable(text), max(20, columns - len(indent)), break_on_hyphens=False):
        yield [("", indent), (state, line)]


def _minute(at: float) -> str:
    return clock_time(at)[:5]


def _bar(row: Row, now: float, width: int, signs: Signs) -> Line:
    """Return the bar from the last refresh to the expiry: what has passed, what is left, and the next refresh."""
    total = row.expires_at - row.refreshed_at
    if not row.expires_in or total <= 0 or width <= 0:
        return [("past", signs.past * max(0, width))]
    past = min(width, max(0, round((now - row.refreshed_at) / total * width)))
    mark = round((row.next_refresh_at - row.refreshed_at) / total * width)
    if not past <= mark < width:
        return [("past", signs.past * past), (row.status, signs.left * (width - past))]
    return [
        ("past", signs.past * past),
        (row.status, signs.left * (mark - past)),
        ("heading", signs.refresh),
        (row.status, signs.left * (width - mark - 1)),
    ]


def _gateway(history: History, gateway: Mapping[str, Any], columns: int, style: Style) -> list[Line]:
    head: Line = [("heading", "gateway"), ("", f"  {gateway['address']}")]
    if "requests" not in gateway:
        hint = [*_wrapped("", style.runnable(f"hint: {gateway['hint']}"), "  ", columns)] if gateway.get("hint") else []
        return [[*head, ("fail", f" {gateway['problem']}")], *hint]
    recent = history.traffic[-1][1] - history.traffic[0][1] if history.traffic else 0
    numbers = "{requests} requests, {errors} errors, {in_flight} in flight, {tokens_per_minute} tokens/min"
    unverified: Line = [] if gateway["verified"] else [("warn", "  not verified to be yours")]
    return [
        [*head, *unverified],
        [("", f"  {numbers.format(**gateway)}")],
        [
            ("ok", f"  {_sparkline(history.traffic, min(_MAX_SPARK, columns - 30), style.signs)}"),
            ("past", f"  {recent} in the last minute"),
        ],
    ]


_MAX_SPARK = 60  # columns, one a second


def _sparkline(traffic: Sequence[tuple[float, int]], width: int, signs: Signs) -> str:
    """Return a column for each second with the requests completed in it, the newest at the right."""
    if width <= 0:
        return ""
    counts = [after[1] - before[1] for before, after in itertools.pairwise(traffic)][-width:]
    most = max(counts, default=0)
    top = len(signs.levels) - 1
    columns = [signs.levels[-(-count * top // most)] if count > 0 else signs.levels[0] for count in counts]
    return "".join(columns).rjust(width, signs.levels[0])


def _events(events: Sequence[tuple[float, str]], room: int) -> list[Line]:
    """Return the newest events, the newest first."""
    return [[("past", f"  {clock_time(at)}  "), ("", text)] for at, text in reversed(events[-room:])]


def _cut(line: Line, columns: int) -> Line:
    """Return the line without what is beyond the last column, all of it printable."""
    parts: Line = []
    for state, text in line:
        shown_part = printable(text)
        while shown_part and _width(shown_part) > columns:
            shown_part = shown_part[:-1]
        parts.append((state, shown_part))
        columns -= _width(shown_part)
    return parts


def _width(text: str) -> int:
    """Return the columns that a printable text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
