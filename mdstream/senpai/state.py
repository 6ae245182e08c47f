"""What a running consumer knows about itself: for HTTP and metrics."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from mdstream.senpai.engine import Engine
from mdstream.senpai.messages import Alert, Features, Message, Signal

RATE_S = 10
"""Rows a second are those of about so long."""
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
    marks: deque[tuple[float, int]] = field(default_factory=lambda: deque([(time.monotonic(), 0)], RATE_S + 1))
    """When there were how many rows: every second with rows."""

    @property
    def counts(self) -> Counter[str]:
        """Events by what became of them, since the process started."""
        return self.events + self.engine.counts

    def new_engine(self, engine: Engine) -> None:
        """Go on with another engine."""
        self.events += self.engine.counts
        self.engine = engine

    def published(self, messages: Iterable[Message]) -> None:
        """Count what was published."""
        for message in messages:
            if isinstance(message, Features):
                self.features += 1
            elif isinstance(message, Signal):
                self.signals[message.rule] += 1
            elif isinstance(message, Alert) and message.state == "begin":
                self.alerts[message.kind] += 1
        if (now_s := time.monotonic()) - self.marks[-1][0] >= 1:
            self.marks.append((now_s, self.features))

    def rows_per_s(self) -> float:
        """Rows a second of late."""
        since_s, before = self.marks[0]
        return (self.features - before) / max(1.0, time.monotonic() - since_s)

    def silent_s(self) -> float:
        """Seconds since the last event."""
        return time.monotonic() - self.heard_s
