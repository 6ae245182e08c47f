"""Is the ingestor alive, is it ready? A rule over what it knows of itself: progress, not just a process that runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

READY_STALL_S = 10.0
LIVE_STALL_S = 60.0


@dataclass(frozen=True)
class Health:
    """`live`: a restart would not help. `ready`: everything flows. `problems`: why not, for people."""

    live: bool
    ready: bool
    problems: tuple[str, ...]


def assess(*, feeds: Mapping[str, str | None], stalled_s: float) -> Health:
    """The health that follows from each feed's problem (None: it is connected) and from how long Kafka took nothing.

    A feed that is down makes the ingestor not ready, never dead: it reconnects by itself, a restart is no faster.
    """
    problems = [f"{name}: {problem}" for name, problem in feeds.items() if problem is not None]
    if stalled_s >= READY_STALL_S:
        problems.append(f"Kafka has taken nothing for {stalled_s:.0f} s")
    return Health(live=stalled_s < LIVE_STALL_S, ready=not problems, problems=tuple(problems))
