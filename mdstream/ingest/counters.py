"""What an ingestor counts: plain integers, read by the HTTP endpoint when somebody asks."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class FeedCounters:
    """One provider's. `frames` by kind, as in the header `k`; heartbeats and status records are not in it."""

    frames: dict[bytes, int] = field(default_factory=lambda: dict.fromkeys((b"trade", b"quote", b"book", b"other"), 0))
    bytes: int = 0
    connections: int = 0
    disconnections: int = 0
    failed_attempts: int = 0
    silences: int = 0
    oversized: int = 0
    venue_errors: int = 0
    venue_notices: int = 0
    not_understood: int = 0
    heartbeats_skipped: int = 0
    frames_per_second: float = 0.0

    @property
    def total(self) -> int:
        """Frames of any kind."""
        return sum(self.frames.values())


@dataclass(slots=True)
class BusCounters:
    """Of the way to Kafka. `records` and `bytes` were acknowledged; `errors` are deliveries that had to be repeated."""

    records: int = 0
    bytes: int = 0
    deliveries: int = 0
    errors: int = 0
    restarts: int = 0
    last_error: str | None = None
