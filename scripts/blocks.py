"""The parts of the documentation that scripts write: between `<!-- NAME: … -->` and `<!-- end of NAME -->`."""

import re
import statistics
import subprocess
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"


def read(page: str, name: str) -> str:
    """Return the text of a block; SystemExit if the page has none of that name."""
    return _search(page, name)[2]


def write(page: str, name: str, text: str) -> None:
    """Replace the text of a block; SystemExit if the page has none of that name."""
    match = _search(page, name)
    wrapped = "\n".join(map(_wrapped, text.strip().splitlines()))
    new = f"{match[1]}\n{wrapped}\n\n{match[3]}"
    (DOCS / page).write_text(match.string.replace(match[0], new), encoding="utf-8")


def _wrapped(line: str) -> str:
    """Break a line of prose; a row of a table stays as it is."""
    if line.startswith("|"):
        return line
    indent = "  " if line.startswith("* ") else ""
    return textwrap.fill(line, 118, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _search(page: str, name: str) -> re.Match[str]:
    begin, end = rf"(<!-- {re.escape(name)}: .*? -->\n)", rf"(<!-- end of {re.escape(name)} -->)"
    match = re.search(f"{begin}(.*?){end}", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    if not match:
        raise SystemExit(f"docs/{page} has no place for {name}")
    return match


def table(head: Sequence[object], *rows: Sequence[object]) -> str:
    """Return a Markdown table."""
    return "\n".join(map(_line, [head, ["---"] * len(head), *rows]))


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def spread(values: Sequence[float], form: str) -> str:
    """Return the median, with the least and the most."""
    return "{} ({} to {})".format(*map(form.format, (statistics.median(values), min(values), max(values))))


def made(command: str) -> str:
    """Return the sentence below a table: the date, the command, and the program's last change."""
    git = ("git", "log", "-1", "--format=%h", "--", "src", "shell")
    done = subprocess.run(git, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return f"Made on {datetime.now(UTC):%Y-%m-%d} by `{command}` on commit {done.stdout.strip() or 'unknown'}"
