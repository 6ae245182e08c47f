"""Why an ingestor is not ready: a rule over its progress; a running process is not enough."""

from __future__ import annotations

from collections.abc import Mapping


def problems_of(*, feeds: Mapping[str, str | None], stalled_s: float, ready_s: float) -> list[str]:
    """From each feed's problem (None: it has none), and how long Kafka has accepted nothing."""
    problems = [f"{name}: {problem}" for name, problem in feeds.items() if problem is not None]
    if stalled_s >= ready_s:
        problems.append(f"Kafka has taken nothing for {stalled_s:.0f} s")
    return problems
