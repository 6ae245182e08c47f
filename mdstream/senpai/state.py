"""What a running consumer knows about itself: for HTTP and metrics."""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from mdstream.senpai.engine import Engine
from mdstream.senpai.messages import Alert, Features, Message, Signal

log = logging.getLogger(__name__)

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass
class Histogram:
    """Durations in buckets of at most BUCKETS_S each, and the rest."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    sum_s: float = 0.0

    def add(self, duration_s: float) -> None:
        self.counts[bisect_left(BUCKETS_S, duration_s)] += 1
        self.sum_s += duration_s


@dataclass
class State:
    """`problem`: why it does not run, for people. `pending`: events that wait. `name`: of the durable consumer."""

    name: str
    mode: str
    engine: Engine = field(default_factory=Engine)
    started_ns: int = field(default_factory=time.time_ns)
    problem: str | None = "starting"
    pending: int = 0
    unstored: int = 0
    """Messages that are made, and not stored yet."""
    fill: float = 0.0
    received: int = 0
    replayed: int = 0
    features: int = 0
    signals: Counter[str] = field(default_factory=Counter)
    """By rule."""
    alerts: Counter[str] = field(default_factory=Counter)
    """Begun ones, by kind."""
    refused: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    """Of engines before the present one: see counts."""
    slow_consumers: int = 0
    reconnects: int = -1
    delays: Histogram = field(default_factory=Histogram)
    """From the arrival of the event that made a row to the row's publication."""
    heard_s: float = field(default_factory=time.monotonic)

    @property
    def counts(self) -> Counter[str]:
        """Events by what became of them, since the process started."""
        return self.events + self.engine.counts

    def new_engine(self, engine: Engine) -> None:
        """Go on with another engine."""
        self.events += self.engine.counts
        self.engine = engine

    def failed(self, place: str, reason: str, outcome: str) -> bool:
        """Show, and log once, why the connection to NATS at a place does not run, and what becomes of events.

        Returns whether it did not run before either.
        """
        before, self.problem = self.problem, f"NATS at {place}: {reason}"
        if before != self.problem:
            log.warning("%s; it is tried again, and %s", self.problem, outcome)
        self.slow_consumers += "slow consumer" in reason.lower()
        return before is not None

    def published(self, messages: Iterable[Message]) -> None:
        """Count what was published."""
        for message in messages:
            if isinstance(message, Features):
                self.features += 1
            elif isinstance(message, Signal):
                self.signals[message.rule] += 1
            elif isinstance(message, Alert) and message.state == "begin":
                self.alerts[message.kind] += 1

    def silent_s(self) -> float:
        """Seconds since the last event."""
        return time.monotonic() - self.heard_s
