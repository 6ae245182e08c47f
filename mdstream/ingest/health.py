"""Is the ingestor live, is it ready? A rule over its progress: a running process is not enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mdstream.watchdog.rule import Status, Verdict


@dataclass(frozen=True)
class Health:
    """`live`: a restart would not help. `ready`: everything flows. `problems`: why not, for people."""

    live: bool
    ready: bool
    status: Status | str
    problems: tuple[str, ...]


def assess(*, feeds: Mapping[str, str | None], stalled_s: float, ready_s: float, verdict: Verdict) -> Health:
    """The ingestor's health, from each feed's problem (None: it has none), how long Kafka has accepted nothing, and the
    watchdog's verdict on the way to Kafka.

    A feed that is down or stale makes the ingestor not ready, never dead: it reconnects by itself, and a restart would
    not be faster. `status`: ok; degraded, when only feeds have problems; else the watchdog's.
    """
    problems = [f"{name}: {problem}" for name, problem in feeds.items() if problem is not None]
    if stalled_s >= ready_s:
        problems.append(f"Kafka has taken nothing for {stalled_s:.0f} s")
    problems += verdict.problems
    status = verdict.status if verdict.status != "ok" or not problems else "degraded"
    return Health(verdict.live, verdict.live and not problems, status, tuple(problems))
