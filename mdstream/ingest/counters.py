"""An ingestor's counters: plain integers, read by the HTTP endpoint on request."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from mdstream.venues.feed import BOOK, OTHER, QUOTE, TRADE, Route
from mdstream.venues.session import Report

Kind = bytes
MAX_ROUTES = 100_000


class RouteCounts(dict[Route, int]):
    """Frames by key and kind. Bounded, because keys come from the wire: beyond the bound only kinds are counted."""

    def __init__(self) -> None:
        super().__init__()
        self._folded: Counter[bytes] = Counter()

    def __missing__(self, route: Route) -> int:
        if len(self) >= MAX_ROUTES:
            self._folded = self._sums()
            self.clear()
        return 0

    def _sums(self) -> Counter[bytes]:
        sums = Counter(self._folded)
        for route, count in self.items():
            sums[route.kind] += count
        return sums

    def by_kind(self) -> dict[Kind, int]:
        """Frames by kind, as in the header `k`."""
        sums = self._sums()
        return {kind: sums[kind] for kind in (TRADE, QUOTE, BOOK, OTHER)}


@dataclass(slots=True)
class FeedCounters:
    """One provider's counters. Heartbeats and status records do not count as frames."""

    routes: RouteCounts = field(default_factory=RouteCounts)
    bytes: int = 0
    connections: int = 0
    disconnections: int = 0
    replacements: int = 0
    failed_attempts: int = 0
    silences: int = 0
    data_silences: int = 0
    oversized: int = 0
    venue_errors: int = 0
    venue_notices: int = 0
    not_understood: int = 0
    rejected_subscriptions: int = 0
    missing_subscriptions: int = 0
    frames_per_second: float = 0.0

    def count(self, report: Report) -> None:
        """Count what a session reports about its venue."""
        match report.what:
            case "error":
                self.venue_errors += 1
                self.rejected_subscriptions += len(report.names)
            case "notice":
                self.venue_notices += 1
            case "not_understood":
                self.not_understood += 1
            case "missing":
                self.missing_subscriptions += len(report.names)

    @property
    def frames(self) -> dict[Kind, int]:
        """By kind, as in the header `k`."""
        return self.routes.by_kind()

    @property
    def total(self) -> int:
        """Frames of any kind."""
        return sum(self.frames.values())


@dataclass(slots=True)
class BusCounters:
    """Counters of sending to Kafka. `records` and `bytes` were acknowledged; `errors` are repeated deliveries."""

    records: int = 0
    bytes: int = 0
    deliveries: int = 0
    errors: int = 0
    restarts: int = 0
    last_error: str | None = None
