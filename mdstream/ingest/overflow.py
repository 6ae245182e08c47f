"""Records that the backlog does not take because Kafka is away or slow: on their way to the spool, or back.

While the spool can be written nearly nothing is here. When it is full, switched off or its disk is, this is what memory
there is, and records are dropped so that trades are kept longest:

    from 80% full   heartbeats: the next one is as good
    from 90%        quotes and books
    at 100%         the oldest records, trades last
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from mdstream.records import HEARTBEAT, STATUS, ProducerRecord
from mdstream.venues.feed import BOOK, OTHER, QUOTE, TRADE

NO_HEARTBEATS, NO_QUOTES = 0.8, 0.9
DROPPABLE = (HEARTBEAT, QUOTE, BOOK, OTHER, STATUS, TRADE)
"""Every kind of record."""
KEPT = frozenset({TRADE, STATUS})
"""Dropped only when there is nothing else to drop."""
PURGED = 0.05
"""The share of the limits that a purge frees at least: each one reads everything."""


@dataclass(frozen=True)
class Limits:
    """Full at either `records` or `bytes` (of values)."""

    records: int = 100_000
    bytes: int = 64 << 20

    def fill(self, records: int, size_bytes: int) -> float:
        """The share that is used: 1.0 at the first limit reached."""
        return max(records / self.records, size_bytes / self.bytes)


class Item(Protocol):
    """What can wait: its kind, one of DROPPABLE, and its size."""

    @property
    def kind(self) -> bytes: ...
    @property
    def size_bytes(self) -> int: ...


ItemT = TypeVar("ItemT", bound=Item)


class Waiting(NamedTuple):
    """A record on its way to a queue of the backlog; `copy`: of one whose delivery is under way, in case we die."""

    queue: int
    record: ProducerRecord
    size_bytes: int
    copy: bool = False

    @property
    def kind(self) -> bytes:
        """The record's header `k`."""
        return self.record[3][2][1]


class Overflow(Generic[ItemT]):
    """A bounded queue, oldest first."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.dropped: Counter[bytes] = Counter()
        """Records by kind."""
        self._waiting: list[ItemT] = []
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def fill(self) -> float:
        """The share of the limits that is used."""
        return self.limits.fill(len(self._waiting), self.bytes)

    def add(self, waiting: ItemT) -> None:
        """Take a record, or drop it, or drop older ones for it."""
        fill = self.fill
        if fill >= NO_HEARTBEATS and _is_refused(waiting.kind, fill):
            self.dropped[waiting.kind] += 1
            return
        self._waiting.append(waiting)
        self.bytes += waiting.size_bytes
        if self.fill >= 1.0:
            self._purge()

    def first(self, max_bytes: int) -> Sequence[ItemT]:
        """The oldest records, at least one if there are any, within `max_bytes`. They stay: see `remove`."""
        size_bytes = 0
        for count, waiting in enumerate(self._waiting):
            size_bytes += waiting.size_bytes
            if count and size_bytes > max_bytes:
                return self._waiting[:count]
        return self._waiting[:]

    def remove(self, first: Sequence[ItemT]) -> None:
        """Forget what `first` returned, but for what was dropped since."""
        known = set(map(id, first))
        self._keep([waiting for waiting in self._waiting if id(waiting) not in known])

    def _purge(self) -> None:
        """Drop the oldest records of the kinds that matter less; if that is too little, the oldest of all."""
        for kept_kinds in (KEPT, frozenset[bytes]()):
            excess_records = len(self._waiting) - int(self.limits.records * (1 - PURGED))
            excess_bytes = self.bytes - int(self.limits.bytes * (1 - PURGED))
            kept: list[ItemT] = []
            for waiting in self._waiting:
                if (excess_records > 0 or excess_bytes > 0) and waiting.kind not in kept_kinds:
                    self.dropped[waiting.kind] += 1
                    excess_records -= 1
                    excess_bytes -= waiting.size_bytes
                else:
                    kept.append(waiting)
            self._keep(kept)

    def _keep(self, waiting: list[ItemT]) -> None:
        self._waiting = waiting
        self.bytes = sum(each.size_bytes for each in waiting)


def _is_refused(kind: bytes, fill: float) -> bool:
    return kind == HEARTBEAT or (fill >= NO_QUOTES and kind in (QUOTE, BOOK))
