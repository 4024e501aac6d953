"""The sections of docs/reliability.md: a table each, with the command, the date and the number of cases."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PAGE = REPOSITORY / "docs/reliability.md"


@dataclass
class Section:
    """What a group found out.

    Attributes:
        name: the group's, which is also the marker in the page.
        head: the titles of the columns.
        rows: the cells of each fault.
        cases: how many runs the rows stand for, in words.
        skipped: what could not run here.
        short: what fell short of the promise; empty when all held.
        seconds: how long the group took.
    """

    name: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    cases: str = ""
    skipped: list[str] = field(default_factory=list)
    short: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def text(self) -> str:
        """The section in Markdown, without its heading."""
        lines = [_line(self.head), "|" + "---|" * len(self.head), *(_line(row) for row in self.rows), ""]
        fell = f"{len(self.short)} fell short" if self.short else "none fell short"
        made = f"Made on {datetime.now(UTC):%Y-%m-%d} by `scripts/prove-reliability {self.name}`"
        commit = _git("log", "-1", "--format=%h", "--", "src")
        lines += [f"{made} in {self.seconds / 60:.0f} minutes,", f"on commit {commit}: {self.cases}; {fell}."]
        lines += ["", *(f"* fell short: {each}" for each in self.short)] if self.short else []
        lines += ["", *(f"* not run: {each}" for each in self.skipped)] if self.skipped else []
        return "\n".join(lines) + "\n"


def write(section: Section) -> None:
    """Replace the section's text in the page."""
    begin, end = f"<!-- scripts/prove-reliability {section.name} -->\n", f"<!-- end of {section.name} -->"
    page = PAGE.read_text(encoding="utf-8")
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    new, count = re.subn(pattern, lambda _: f"{begin}\n{section.text()}\n{end}", page, count=1, flags=re.DOTALL)
    if not count:
        raise SystemExit(f"{PAGE} has no place for {section.name}")
    PAGE.write_text(new, encoding="utf-8")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
