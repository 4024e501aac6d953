"""Formats a profile's models as text or JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from vx_token.config.duration import shown
from vx_token.config.vertex import Place
from vx_token.report.endpoints import problem_record
from vx_token.vertex.discover import PROBE_TOKENS, Problem
from vx_token.vertex.endpoints import Endpoint
from vx_token.vertex.models import Model

SCHEMA = 1


def as_json(
    models: Sequence[Model], place: Place, profile: str, ages: dict[str, float], problems: Sequence[Problem]
) -> str:
    """Format as one JSON object; `ages` are seconds since each list was read."""
    content = {
        "schema": SCHEMA,
        "profile": profile,
        "project": place.project,
        "location": place.location,
        "models": [asdict(model) | {"answers": model.answers} for model in models],
        "ages": {name: round(age) for name, age in ages.items()},
        "problems": [problem_record(each) for each in problems],
    }
    return json.dumps(content, indent=2) + "\n"


def as_text(models: Sequence[Model], now: float) -> str:
    """Format as a table."""
    rows = [("MODEL", "KNOWN FROM", "STAGE", "PROBE")]
    rows += [(_name(each), ", ".join(each.marks), each.stage, _probe(each, now)) for each in models]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "".join(
        f"{name:<{widths[0]}}  {marks:<{widths[1]}}  {stage:<{widths[2]}}  {probe}".rstrip() + "\n"
        for name, marks, stage, probe in rows
    )


def _name(model: Model) -> str:
    return f"{model.id} -> {model.upstream}" if model.upstream else model.id


def _probe(model: Model, now: float) -> str:
    if model.probe is None:
        return "" if model.serverless else "must be deployed first"
    age = f"{shown(max(0.0, now - model.probe.at))} ago"
    return f"answered {age}" if model.probe.ok else f"refused {age}: {model.probe.detail}"


def notes(models: Sequence[Model], place: Place, ages: dict[str, float], others: Sequence[Endpoint]) -> list[str]:
    """Return what a reader of the table must know: how old the lists are, how they are wrong, what is elsewhere."""
    lines = []
    if any("listed" in each.marks for each in models):
        lines.append(
            f"Google's lists contain models that {place.location} does not serve, and omit previews that it serves; "
            "--probe asks each model."
        )
    if max(ages.values(), default=0.0) >= 60:
        lines.append(f"The oldest list is {shown(max(ages.values()))} old; --refresh reads all again.")
    lines += [
        f"{each.models[0].name} is deployed at an endpoint of its own; to use it: vx-token endpoints use {each.id}"
        for each in others
        if each.models
    ]
    return lines


def cost(count: int, place: Place) -> str:
    """Return what so many probes cost at most."""
    requests = f"{count} request{'s' * (count != 1)}"
    return (
        f"{requests} of at most {PROBE_TOKENS} tokens each ({count * PROBE_TOKENS:,} in all), billed to {place.project}"
    )
