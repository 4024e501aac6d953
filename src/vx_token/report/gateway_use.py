"""Tables of the gateway's local keys and of its last requests."""

from collections.abc import Mapping, Sequence
from typing import Any

from vx_token.config.duration import clock_time
from vx_token.gateway.settings import DEFAULT_KEY, LocalKey

_REQUEST = "{:<8}  {:<10}  {:<26}  {:<26}  {:>6}  {:>8}  {:>8}  {:>11}"


def keys_table(keys: Sequence[LocalKey], gateway: Mapping[str, Any]) -> str:
    """Return the local keys and their use.

    Args:
        keys: the keys that have a name.
        gateway: what `statusz.query` returned.
    """
    usages = gateway.get("keys", {})
    rows: list[tuple[str, ...]] = [("NAME", "PROFILES", "REQUESTS", "ERRORS", "TOKENS", "LAST USE")]
    for key in [LocalKey(DEFAULT_KEY), *keys]:
        usage = usages.get(key.name, {})
        counts = [
            str(usage.get(name, 0)) if "requests" in gateway else "-" for name in ("requests", "errors", "tokens")
        ]
        last = clock_time(usage["last_used"]) if usage else "-"
        rows.append((key.name, ", ".join(sorted(key.profiles)) if key.profiles is not None else "all", *counts, last))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if "requests" in gateway:
        lines += ["", f"use since the gateway started at {clock_time(gateway['started_at'])}"]
    else:
        lines += ["", f"the use is unknown: the gateway at {gateway['address']} {gateway['problem']}"]
    return "\n".join(lines)


def requests_heading() -> str:
    """Return the heading of `request_line`."""
    return _REQUEST.format("TIME", "KEY", "ROUTE", "MODEL", "STATUS", "FIRST", "TOTAL", "TOKENS").rstrip()


def request_line(request: Mapping[str, Any]) -> str:
    """Return one request of `statusz.recent`, with the seconds to the first byte and to the end."""
    first = "-" if request["first_byte"] is None else f"{request['first_byte']:.2f}s"
    tokens = f"{request['prompt']}+{request['answer']}" if request["prompt"] or request["answer"] else "-"
    return _REQUEST.format(
        clock_time(request["time"]),
        request["key"] or "-",
        request["route"],
        request["model"] or "-",
        request["status"],
        first,
        f"{request['total']:.2f}s",
        tokens,
    ).rstrip()
