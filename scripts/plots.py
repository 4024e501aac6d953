"""Draws the plots of the documentation with matplotlib: see scripts/plots. The simulated day comes on stdin."""

import io
import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

DOCS = Path(__file__).resolve().parent.parent / "docs"
INK = "#123456"
"""Stands for the colour of text and axes, which follows the reader's light or dark page."""

STYLE = "<style>:root{--ink:#333}@media(prefers-color-scheme:dark){:root{--ink:#ddd}}</style>"
OURS, OTHERS, FAULT, SLEEP = "#4c8dff", "#9aa4b2", "#ff7b72", "#b48ead"
COLOURS = (OURS, "#f0a13c", "#3fb68b", OTHERS)

mpl.rcParams |= {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "vx-token",  # the same picture from the same data
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}
Row = dict[str, str]


def tables(page: str) -> list[list[Row]]:
    """Return the tables of a page, each as rows by column title; the first column's is ""."""
    found: list[list[Row]] = []
    for block in re.findall(r"(?:^\|.*\n)+", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE):
        head, _, *lines = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in block.splitlines()]
        found.append([dict(zip(["", *head[1:]], cells, strict=True)) for cells in lines])
    return found


def table(page: str, column: str, row: str) -> list[Row]:
    """Return the table of a page with that column and row."""
    return next(each for each in tables(page) if column in each[0] and any(line[""] == row for line in each))


def number(cell: str) -> float:
    """Return the first number of a cell."""
    match = re.search(r"[\d,]*\.?\d+", cell)
    assert match, cell
    return float(match[0].replace(",", ""))


def save(figure: Figure, name: str, title: str) -> None:
    """Write a picture whose text follows the colour of the page."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None, "Title": title})
    svg = re.sub(r"<\?xml.*?(?=<svg)", "", text.getvalue(), flags=re.DOTALL)
    svg = re.sub(r"(<svg[^>]*>)", lambda match: match[0] + STYLE, svg, count=1)
    (DOCS / "images" / f"plot-{name}.svg").write_text(svg.replace(INK, "var(--ink)"), encoding="utf-8")


def figure(height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure of the width of a page with panels side by side."""
    whole = Figure(figsize=(8, height), layout="constrained")
    return whole, [whole.add_subplot(1, panels, index + 1) for index in range(panels)]


def bars(axes: Axes, names: Sequence[str], values: Sequence[float], form: str, title: str) -> None:
    """Draw a bar for each name, from top to bottom, those of vx-token in its own colour."""
    colours = [OURS if name.startswith(("vx-token", "gateway")) else OTHERS for name in names]
    drawn = axes.barh(range(len(names)), values, color=colours)
    axes.bar_label(drawn, [form.format(value) for value in values], padding=4)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlim(0, 1.22 * max(values))
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


def prompts() -> None:
    """What a prompt costs in each shell."""
    rows = [row for row in table("benchmarks.md", "ours / fork", "bash 5.2") if number(row["token"]) == 222]
    whole, [axes] = figure(3.2)
    kinds = (
        ("empty hook", "empty hook", OTHERS),
        ("ours", "vx-token, nothing changed", OURS),
        ("a fork and a program", "a hook that starts a program", COLOURS[1]),
    )
    for place, (kind, label, colour) in enumerate(kinds):
        values, places = [number(row[kind]) for row in rows], [each + 0.27 * (place - 1) for each in range(len(rows))]
        drawn = axes.barh(places, values, 0.25, color=colour, label=label)
        axes.bar_label(drawn, [f"{value:,.0f} µs" for value in values], padding=4)
    axes.set_yticks(range(len(rows)), [row[""] for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.25 * max(number(row["a fork and a program"]) for row in rows))
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    save(whole, "prompts", "The cost of one prompt in bash, zsh and fish")


def prints() -> None:
    """`print` beside the bare interpreter and the google-auth recipe."""
    column = "of the bare interpreter in the same round"
    rows = table("benchmarks.md", column, "google-auth recipe")
    whole, [axes] = figure(1.8)
    title = "Time of a run, in starts of the bare interpreter"
    bars(axes, [row[""] for row in rows], [number(row[column]) for row in rows], "{:.3g}", title)
    save(whole, "prints", "vx-token print beside the google-auth recipe")


def peers() -> None:
    """The gateway beside other proxies."""
    others = ("upstream itself", "nginx", "bare aiohttp on uvloop")  # no peers: they would hide the differences
    rows = table("benchmarks-gateway.md", "requests/s at 32 connections", "gateway")
    rows = [row for row in rows if row[""] not in others]
    names = [row[""] for row in rows]
    whole, [left, right] = figure(2.0, panels=2)
    rates = [number(row["requests/s at 32 connections"]) for row in rows]
    bars(left, names, rates, "{:,.0f}", "Requests per second at 32 connections")
    bars(right, names, [number(row["added p50 at 1"]) for row in rows], "{:.2f} ms", "Added median latency")
    right.set_yticks([])
    save(whole, "peers", "The gateway beside other proxies")


def memory() -> None:
    """Memory after each thousand streams."""
    rows = table("benchmarks-gateway.md", "KiB per open stream", "gateway")
    whole, [axes] = figure(2.8)
    for row, colour in zip(rows, COLOURS, strict=True):
        sizes = [number(each) for each in row["MiB, and after each 1,000"].split(",")]
        axes.plot([1000 * index for index in range(len(sizes))], sizes, "o-", color=colour, label=row[""])
    axes.set_xlabel("streams served, a thousand at once each time")
    axes.set_ylabel("resident MiB")
    axes.set_ylim(0)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save(whole, "memory", "Memory of the gateway after each thousand streams")


def day(seen: dict[str, Any]) -> None:
    """A simulated day: what the token in the file has left, the faults, and the requests."""
    whole, [axes] = figure(3.0)
    for begin, end, name in seen["faults"]:
        axes.axvspan(begin, end, color=FAULT, alpha=0.45 if name == "login needed" else 0.25, linewidth=0)
        label = name.replace(" ", "\n", 1) if end - begin > 0.6 else ""  # a short fault has no room for its name
        axes.text((begin + end) / 2, 66, label, ha="center", fontsize=8)
    for begin, end in seen["suspends"]:
        axes.axvspan(begin, end, color=SLEEP, alpha=0.3, linewidth=0)
        axes.text((begin + end) / 2, 66, "suspended", ha="center", fontsize=8)
    label = "remaining lifetime of the token in the file, minutes"
    axes.plot(*zip(*seen["left"], strict=True), color=OURS, linewidth=1.3, label=label)
    ticks = [(each, height) for each in seen["requests"] for height in (-7, -3, math.nan)]  # one path is a small file
    axes.plot(*zip(*ticks, strict=True), color=INK, linewidth=1, label="attempt")
    axes.set_xlim(0, 24)
    axes.set_xticks(range(0, 25, 3))
    axes.set_ylim(-9, 75)
    axes.set_yticks(range(0, 61, 20))
    axes.set_xlabel("hours")
    axes.legend(loc="upper center", frameon=False, ncols=2, bbox_to_anchor=(0.5, -0.2))
    save(whole, "day", "A simulated day of refreshes with faults")


if __name__ == "__main__":
    prompts()
    prints()
    peers()
    memory()
    day(json.load(sys.stdin))
