"""Records waiting for Kafka, one queue per partition, in order, with one limit for all.

Nothing is dropped. When the backlog is full its writers wait (`room`), so they stop reading their sockets, and TCP
makes the venue wait. Records count until Kafka has acknowledged them, not until they are taken.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from mdstream.records import ProducerRecord

RECORD_OVERHEAD_BYTES = 128
"""Size of a record in a batch besides its value: key, headers, lengths. A generous estimate."""


@dataclass(frozen=True)
class Limits:
    """Full at either `records` or `bytes` (of values). Below the share `resume` of both, writers continue."""

    records: int = 100_000
    bytes: int = 64 << 20
    resume: float = 0.75


class Backlog:
    """Queues of records, numbered 0..queues-1."""

    def __init__(self, queues: int, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._queues: list[list[ProducerRecord]] = [[] for _ in range(queues)]
        self._room = asyncio.Event()
        self._room.set()
        self.filled = asyncio.Event()
        """Set when a record is added; the sender clears it."""
        self.empty = asyncio.Event()
        """Set while there are no records, including taken ones."""
        self.empty.set()
        self.records = 0
        self.bytes = 0
        self.full = False
        self.times_full = 0

    def add(self, queue: int, record: ProducerRecord, size_bytes: int) -> None:
        """Queue a record whose value has `size_bytes`. Never refuses: check `full` afterwards."""
        self._queues[queue].append(record)
        if not self.records:
            self.empty.clear()
        self.records += 1
        self.bytes += size_bytes
        if self.records >= self._limits.records or self.bytes >= self._limits.bytes:
            self.times_full += not self.full
            self.full = True
            self._room.clear()
        if not self.filled.is_set():
            self.filled.set()

    async def room(self) -> None:
        """Return when there is room again."""
        await self._room.wait()

    def waiting(self) -> list[int]:
        """The queues that hold records."""
        return [queue for queue, records in enumerate(self._queues) if records]

    def queued(self, queue: int) -> int:
        """Records of a queue that are not taken yet."""
        return len(self._queues[queue])

    def take(self, queue: int, max_bytes: int) -> tuple[list[ProducerRecord], int, bool]:
        """The queue's first records, at least one, within `max_bytes` with overhead; their values' bytes; any left?

        They still count: call `release` once Kafka has them.
        """
        records = self._queues[queue]
        size_bytes = 0
        for count, record in enumerate(records):
            value_bytes = len(record[1] or b"")
            if count and size_bytes + value_bytes + (count + 1) * RECORD_OVERHEAD_BYTES > max_bytes:
                self._queues[queue] = records[count:]
                return records[:count], size_bytes, True
            size_bytes += value_bytes
        self._queues[queue] = []
        return records, size_bytes, False

    def release(self, records: int, size_bytes: int) -> None:
        """Stop counting taken records: Kafka has them."""
        self.records -= records
        self.bytes -= size_bytes
        limits = self._limits
        if self.full and self.records <= limits.records * limits.resume and self.bytes <= limits.bytes * limits.resume:
            self.full = False
            self._room.set()
        if not self.records:
            self.empty.set()
