"""The output of a list of raw records, by topic."""

from __future__ import annotations

from mdstream import repairs
from mdstream.events import FeedStatus, Gap, Heartbeat, encode
from mdstream.records import MS, Headers, ProducerRecord

NO_HEADERS: Headers = []
Out = list[ProducerRecord]
"""Records to publish, without headers."""


class Output:
    """Records in publishing order, one list per topic."""

    __slots__ = ("books", "dead", "gaps", "quotes", "status", "trades")

    def __init__(self) -> None:
        self.trades: Out = []
        self.quotes: Out = []
        self.books: Out = []
        self.status: Out = []
        self.gaps: Out = []
        self.dead: Out = []

    def tell(self, key: str, event: FeedStatus | Heartbeat | Gap) -> None:
        """Add an event to md.status."""
        self.status.append((key.encode(), encode(event), event.ts_recv // MS, NO_HEADERS))

    def ask(self, request: repairs.RepairRequest, now_ms: int) -> None:
        """Add a request to md.gaps."""
        self.gaps.append((request.symbol.encode(), repairs.encode(request), now_ms, NO_HEADERS))
