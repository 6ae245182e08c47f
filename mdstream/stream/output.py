"""The result of a step: the records to publish by topic, what changed in the state, and what is counted."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mdstream import repairs
from mdstream.events import FeedStatus, Gap, Heartbeat, encode
from mdstream.records import MS, Headers, ProducerRecord

NO_HEADERS: Headers = []
Out = list[ProducerRecord]
"""Records to publish, without headers."""

_counter: partial[defaultdict[Any, int]] = partial(defaultdict, int)


@dataclass(slots=True)
class Output:
    """Records in publishing order, one list per topic; then what else the step hands over."""

    trades: Out = field(default_factory=list)
    quotes: Out = field(default_factory=list)
    books: Out = field(default_factory=list)
    bars: Out = field(default_factory=list)
    """Of history; those of the trades are made of md.trades."""
    status: Out = field(default_factory=list)
    gaps: Out = field(default_factory=list)
    dead: Out = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    """The keys of the instruments whose state changed."""
    events: defaultdict[tuple[str, str], int] = field(default_factory=_counter)
    """Canonical events by type and provider."""
    counts: defaultdict[str, int] = field(default_factory=_counter)
    """Raw records that became no event, by outcome."""
    gap_changes: defaultdict[tuple[str, str], int] = field(default_factory=_counter)
    """By provider and the gap's new state."""
    switches: defaultdict[tuple[str, str], int] = field(default_factory=_counter)
    """By the source left and the one switched to."""
    latencies_ns: dict[str, int] = field(default_factory=dict)
    """From the venue's time to ours, of the newest trade of each provider."""
    errors: list[str] = field(default_factory=list)
    """Error frames of venues, for the log."""

    def add_status(self, key: str, event: FeedStatus | Heartbeat | Gap) -> None:
        """Add an event to md.status."""
        self.status.append((key.encode(), encode(event), event.ts_recv // MS, NO_HEADERS))

    def add_gap(
        self, message: repairs.RepairRequest | repairs.HistoryAnswer | repairs.RangeAnswer, now_ms: int
    ) -> None:
        """Add a message to md.gaps."""
        self.gaps.append((message.symbol.encode(), repairs.encode(message), now_ms, NO_HEADERS))
