"""Why an ingestor is not ready: a rule over its progress; a running process is not enough."""

from __future__ import annotations

from collections.abc import Mapping


def problems_of(
    *, feeds: Mapping[str, str | None], started: bool, stalled_s: float, ready_s: float, spool_error: str | None = None
) -> list[str]:
    """From each feed's problem (None: it has none), whether Kafka has ever answered, how long it has accepted nothing,
    and why the spool cannot be written."""
    problems = [f"{name}: {problem}" for name, problem in feeds.items() if problem is not None]
    if not started:
        problems.append("Kafka has not answered yet")
    if stalled_s >= ready_s:
        problems.append(f"Kafka has taken nothing for {stalled_s:.0f} s")
    if spool_error is not None:
        problems.append(spool_error)
    return problems
