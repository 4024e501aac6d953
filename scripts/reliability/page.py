"""The sections of docs/reliability.md: a table each, with the command, the date and the number of cases."""

from dataclasses import dataclass, field

import blocks


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
        fell = f"{len(self.short)} fell short" if self.short else "none fell short"
        command = f"scripts/prove-reliability {self.name}"
        lines = [blocks.table(self.head, *self.rows), ""]
        lines += [f"{blocks.made(command)}, in {self.seconds / 60:.0f} minutes:", f"{self.cases}; {fell}."]
        lines += ["", *(f"* fell short: {each}" for each in self.short)] if self.short else []
        lines += ["", *(f"* not run: {each}" for each in self.skipped)] if self.skipped else []
        return "\n".join(lines)

    def write(self) -> None:
        """Replace the section's text in the page."""
        blocks.write("reliability.md", self.name, self.text())
