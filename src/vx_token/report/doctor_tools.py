"""Doctor's check of the tools that `vx-token connect` has connected."""

from collections.abc import Iterator

from vx_token.report.doctor_facts import Check, DoctorFacts


def connections(facts: DoctorFacts) -> Iterator[Check]:
    """Check that each connected tool still has its settings and its key."""
    for tool, problem in facts.connections.items():
        if not tool:
            yield Check("connect", "warn", problem, "see: vx-token connect --list")
        elif problem:
            hint = f"run: vx-token connect {tool}\nor take it back: vx-token connect --undo {tool}"
            yield Check("connect", "warn", f"{tool}: {problem}", hint)
        else:
            yield Check("connect", "ok", f"{tool} has its settings")
