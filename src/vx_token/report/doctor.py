"""The doctor: runs all checks for known problems, and formats their results as text or JSON."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict

from vx_token import __version__
from vx_token.errors import printable
from vx_token.report import doctor_shell, doctor_token, doctor_tools
from vx_token.report.color import Paint, plain
from vx_token.report.doctor_facts import Check, DoctorFacts

SCHEMA = 1

CHECKS: tuple[Callable[[DoctorFacts], Iterable[Check]], ...] = (
    doctor_token.configuration,
    doctor_token.credentials,
    doctor_token.urls,
    doctor_token.runtime,
    doctor_token.tokens,
    doctor_token.service,
    doctor_shell.hook,
    doctor_shell.variables,
    doctor_shell.key_files,
    doctor_shell.cursor,
    doctor_shell.proxies,
    doctor_shell.gateway,
    doctor_tools.connections,
)
"""The checks, each of which gives any number of results; none makes a request."""


def examine(facts: DoctorFacts) -> list[Check]:
    """Run every check, in order."""
    return [result for check in CHECKS for result in check(facts)]


def failed(checks: Iterable[Check]) -> bool:
    """Whether a check failed; a warning is not a failure."""
    return any(check.ok == "fail" for check in checks)


def as_json(checks: list[Check]) -> str:
    """Format as one JSON object; `schema` is the version of its form."""
    content = {
        "schema": SCHEMA,
        "version": __version__,
        "ok": not failed(checks),
        "checks": [{key: value for key, value in asdict(check).items() if key != "fix"} for check in checks],
    }
    return json.dumps(content, indent=2) + "\n"


def as_text(checks: list[Check], paint: Paint = plain, *, quiet: bool = False) -> str:
    """Format as one line for each check, with its hint below it, and the number of failures and warnings.

    Args:
        checks: the results.
        paint: colours the states.
        quiet: whether to omit what is in order.
    """
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        if quiet and check.ok == "ok":
            continue
        rest = printable(f"{check.name:<{width}}  {check.detail}")
        lines.append(f"{paint(check.ok, f'{check.ok:<4}')}  {rest}")
        lines += [f"{'':<{width + 8}}hint: {printable(line)}" for line in check.hint.splitlines()]
    numbers = {ok: sum(check.ok == ok for check in checks) for ok in _NOUNS}
    if quiet and not any(numbers.values()):
        return ""
    total = ", ".join(paint(ok if number else "", _count(number, _NOUNS[ok])) for ok, number in numbers.items())
    return "\n".join([*lines, "", total, ""])


_NOUNS = {"fail": "failure", "warn": "warning"}


def _count(number: int, noun: str) -> str:
    """Format a number with its noun: `1 warning`, `2 failures`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
