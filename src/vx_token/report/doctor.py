"""Looks for everything that is known to go wrong, and says what to do about each."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict

from vx_token import __version__
from vx_token.report import doctor_shell, doctor_token
from vx_token.report.doctor_facts import Check, Surroundings

SCHEMA = 1

CHECKS: tuple[Callable[[Surroundings], Iterable[Check]], ...] = (
    doctor_token.configuration,
    doctor_token.credentials,
    doctor_token.urls,
    doctor_token.runtime,
    doctor_token.tokens,
    doctor_token.service,
    doctor_shell.hook,
    doctor_shell.variables,
    doctor_shell.key_files,
    doctor_shell.proxies,
    doctor_shell.gateway,
)
"""Each finds nothing, one thing or several; none asks the network."""


def examine(around: Surroundings) -> list[Check]:
    """Every check, in order."""
    return [found for check in CHECKS for found in check(around)]


def wrong(found: Iterable[Check]) -> bool:
    """Whether something fails; a warning is no failure."""
    return any(check.ok == "fail" for check in found)


def as_json(found: list[Check]) -> str:
    """One JSON object, its form numbered by `schema`."""
    content = {
        "schema": SCHEMA,
        "version": __version__,
        "ok": not wrong(found),
        "checks": [asdict(check) for check in found],
    }
    return json.dumps(content, indent=2) + "\n"


def as_text(found: list[Check]) -> str:
    """A line for each check, a hint below it where there is something to do, and the sum."""
    width = max(len(check.name) for check in found)
    lines = []
    for check in found:
        lines.append(f"{check.ok:<4}  {check.name:<{width}}  {check.detail}")
        lines += [f"{'':<{width + 8}}hint: {line}" for line in check.hint.splitlines()]
    failures, warnings = (sum(check.ok == ok for check in found) for ok in ("fail", "warn"))
    return "\n".join([*lines, "", f"wrong: {failures}, worth a look: {warnings}", ""])
