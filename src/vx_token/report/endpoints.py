"""Formats deployed endpoints, and the lists that could not be read, as text or JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vx_token.config.vertex import Place
from vx_token.vertex.discover import Problem
from vx_token.vertex.endpoints import Endpoint

SCHEMA = 1
MOST_PROBLEMS = 3
"""Different problems that are shown."""


def as_json(
    endpoints: Sequence[Endpoint], place: Place, used_by: Mapping[str, str], problems: Sequence[Problem]
) -> str:
    """Format as one JSON object; `schema` is the version of its form."""
    content = {
        "schema": SCHEMA,
        "project": place.project,
        "endpoints": [_record(each, place, used_by) for each in endpoints],
        "problems": [problem_record(each) for each in problems],
    }
    return json.dumps(content, indent=2) + "\n"


def _record(endpoint: Endpoint, place: Place, used_by: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "display_name": endpoint.name,
        "location": endpoint.location,
        "deployed": bool(endpoint.models),
        "models": [asdict(model) for model in endpoint.models],
        "dedicated_dns": endpoint.host,
        "private": endpoint.private,
        "base_url": endpoint.url(place),
        "profile": used_by.get(endpoint.id, ""),
    }


def problem_record(problem: Problem) -> dict[str, str]:
    """Return a problem for JSON."""
    return {"list": problem.subject, "message": problem.error.message, "hint": problem.error.hint}


def as_text(endpoints: Sequence[Endpoint], place: Place, used_by: Mapping[str, str]) -> str:
    """Format as one block for each endpoint; `used_by` has the profile that uses an endpoint, by id."""
    return "\n".join(_block(each, place, used_by.get(each.id, "")) for each in endpoints)


def _block(endpoint: Endpoint, place: Place, profile: str) -> str:
    used = f", used by the profile {profile}" if profile else ""
    lines = [f"{endpoint.id}  {endpoint.name}  ({endpoint.location}{used})"]
    lines += [f"  model     {model.name} (deployed model {model.id})" for model in endpoint.models]
    if not endpoint.models:
        lines.append("  model     none, so it answers no request")
    if endpoint.host:
        lines.append(f"  DNS       {endpoint.host}")
    note = " (private: set base_url to its address in your network)" if endpoint.private else ""
    lines.append(f"  base URL  {endpoint.url(place)}{note}")
    return "\n".join(lines) + "\n"


def problem_lines(problems: Sequence[Problem]) -> list[str]:
    """Return a line for each different problem and one for its hint; the subjects with the same error are counted."""
    groups: dict[tuple[str, str], list[str]] = {}
    for each in problems:
        groups.setdefault((each.error.message, each.error.hint), []).append(each.subject)
    lines: list[str] = []
    for (message, hint), subjects in list(groups.items())[:MOST_PROBLEMS]:
        more = f" and {len(subjects) - 1} more" if len(subjects) > 1 else ""
        lines += [f"vx-token: {subjects[0]}{more}: {message}", f"hint: {hint}"]
    left = sum(map(len, list(groups.values())[MOST_PROBLEMS:]))
    return [*lines, f"vx-token: {left} more did not answer"] if left else lines
