"""The picture of `status --watch`: bars, events and traffic, at every size of the screen."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vx_token.config.duration import clock_time
from vx_token.report import live_view
from vx_token.report.color import colored
from vx_token.report.live_view import History, Style
from vx_token.report.status import Row, Status

NOW = 1_000_000.0
ROW = Row(
    profile="gemini", status="fresh", expires_at=NOW + 1800, expires_in=1800.0, refreshed_at=NOW - 1800,
    next_refresh_at=NOW + 900, failures=0, error="", hint="", account="me@example.com", credential="authorized_user",
    base_url="https://x.example/v1", note="", problems=(),
)  # fmt: skip
DAEMON = {"pid": 7, "started_at": NOW - 7200, "version": "1"}
SERVED: dict[str, Any] = {
    "address": "http://127.0.0.1:8490/v1", "verified": True, "requests": 10, "errors": 1, "in_flight": 2,
    "tokens_per_minute": 30, "started_at": 1.0,
}  # fmt: skip
STATUS = Status("1.2", "/run", "/config", "", DAEMON, (ROW,), SERVED)


def drawn(history: History, columns: int = 80, rows: int = 24, *, now: float = NOW, down: bool = False) -> list[str]:
    return live_view.frame(history, now, columns, rows, Style(), down=down)


def watched(*statuses: Status) -> History:
    history = History()
    for second, status in enumerate(statuses):
        history = history.observe(status, NOW + second)
    return history


def test_the_bar_leads_from_the_refresh_to_the_expiry() -> None:
    [line] = [line for line in drawn(watched(STATUS)) if line.startswith("gemini")]
    start, bar, end = line.split()[2], line.split()[3], line.split()[4]
    assert (start, end) == (clock_time(NOW - 1800)[:5], clock_time(NOW + 1800)[:5])
    assert abs(bar.count(".") - len(bar) / 2) <= 1
    assert abs(bar.index("|") - len(bar) * 3 / 4) <= 1
    assert line.endswith("30m left")


def test_without_a_token_the_bar_is_empty_and_the_hint_is_complete() -> None:
    hint = "run: gcloud auth application-default login --scopes=https://www.googleapis.com/auth/cloud-platform"
    row = replace(ROW, status="login", expires_at=0.0, expires_in=0.0, error="the login expired", hint=hint)
    lines = drawn(watched(replace(STATUS, profiles=(row,))), columns=60)
    assert "=" not in lines[2]
    assert lines[2].endswith("no live token")
    assert hint.replace(" ", "") in "".join(line.replace(" ", "") for line in lines)


def test_the_events_are_the_changes() -> None:
    refreshed = replace(ROW, refreshed_at=NOW, expires_in=3600.0)
    refused = replace(refreshed, status="login", error="the login expired", hint="log in")
    history = watched(
        STATUS,
        replace(STATUS, profiles=(refreshed,), gateway={**SERVED, "errors": 3}),
        replace(STATUS, profiles=(refused,), daemon=None),
        replace(STATUS, profiles=(), daemon={**DAEMON, "pid": 8}, gateway={"address": "x", "problem": "is gone"}),
    )
    assert history.events == (
        (NOW - 7200, "daemon: started"),
        (NOW - 1800, "gemini: refreshed"),
        (NOW + 1, "gemini: refreshed, 60m left"),
        (NOW + 1, "gateway: 2 requests failed"),
        (NOW + 2, "daemon: stopped"),
        (NOW + 2, "gemini: login: the login expired"),
        (NOW + 3, "daemon: started"),
        (NOW + 3, "gemini: removed from the configuration"),
        (NOW + 3, "gateway: is gone"),
    )
    lines = drawn(history)
    assert lines[lines.index("events") + 1].endswith("gateway: is gone")


def test_the_traffic_of_the_last_minute_is_drawn() -> None:
    totals = [10, 10, 12, 12, 16]
    history = watched(*(replace(STATUS, gateway={**SERVED, "requests": total}) for total in totals))
    lines = drawn(history)
    assert "  10 requests, 1 errors" not in lines[6]
    assert lines[6] == "  16 requests, 1 errors, 2 in flight, 30 tokens/min"
    assert lines[7].endswith("__-_^  6 in the last minute".replace("__", "_"))
    restarted = history.observe(replace(STATUS, gateway={**SERVED, "requests": 1}), NOW + 5)
    assert restarted.traffic == ((NOW + 5, 1),)


def test_a_service_that_should_run_is_marked() -> None:
    history = watched(replace(STATUS, daemon=None))
    assert "not running; run: vx-token service start" in drawn(history, down=True)[0]
    style = Style(runnable=lambda hint: hint.replace("vx-token", "/bin/vx-token"))
    assert "run: /bin/vx-token service start" in live_view.frame(history, NOW, 80, 24, style, down=True)[0]


@given(
    st.integers(1, 200),
    st.integers(1, 60),
    st.text(max_size=30),
    st.builds(
        lambda age, left, due: replace(
            ROW, refreshed_at=NOW - age, expires_at=NOW + left, expires_in=max(0.0, left), next_refresh_at=NOW + due
        ),
        st.floats(0, 1e5),
        st.floats(-10, 1e5),
        st.floats(-1e5, 1e5),
    ),
)
def test_no_frame_is_larger_than_the_screen(columns: int, rows: int, text: str, row: Row) -> None:
    strange = replace(row, profile=text, account=text, error=text, hint=text, problems=(text,), note=text)
    status = replace(STATUS, profiles=(row, strange), config_error=text)
    lines = live_view.frame(watched(status, status), NOW, columns, rows, Style(signs=live_view.Signs()), down=False)
    assert len(lines) == rows
    assert all(live_view._width(line) <= columns and line.isprintable() for line in lines)


def test_colours_do_not_change_what_is_seen() -> None:
    history = watched(STATUS)
    colours = live_view.frame(history, NOW, 80, 24, Style(colored), down=False)
    assert "\x1b[32mfresh    \x1b[0m" in colours[2]
    assert [line.replace("\x1b[0m", "") for line in colours] != drawn(history)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_bar_fills_the_line(columns: int) -> None:
    assert len(drawn(watched(STATUS), columns)[2]) == columns
