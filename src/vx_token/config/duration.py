"""Durations: strings such as `1h30m` parsed into seconds, and seconds formatted for people."""

import re
import time

_DURATION = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?")


def seconds(value: str) -> float | None:
    """Return the seconds of a duration such as `1h`, `90s` or `1h30m`; None for other strings."""
    match = _DURATION.fullmatch(value)
    if not value or not match:
        return None
    hours, minutes, rest = (int(part or 0) for part in match.groups())
    return float(hours * 3600 + minutes * 60 + rest)


def shown(amount: float) -> str:
    """Format seconds as a duration: `42s`, `17m`, `2h05m`."""
    whole = max(0, int(amount))
    if whole < 120:
        return f"{whole}s"
    return f"{whole // 60}m" if whole < 7200 else f"{whole // 3600}h{whole % 3600 // 60:02}m"


def clock_time(instant: float) -> str:
    """Format an instant (epoch seconds) as local time of day: `14:02:11`."""
    return time.strftime("%H:%M:%S", time.localtime(instant))
