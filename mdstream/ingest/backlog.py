"""Records waiting for Kafka, one queue per partition, in order, with one limit for all.

Records count until Kafka has acknowledged them, not until they are taken. When Kafka is away or slow the backlog is
diverted: what it holds and what is added goes to the overflow, and comes back through `put` (spooler.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mdstream.ingest.overflow import Limits, Overflow, Waiting
from mdstream.records import ProducerRecord

RECORD_OVERHEAD_BYTES = 128
"""Size of a record in a batch besides its value: key, headers, lengths. A generous estimate."""


class Backlog:
    """Queues of records, numbered 0..queues-1. At its limits it is diverted."""

    def __init__(self, queues: int, limits: Limits | None = None) -> None:
        self.limits, self.overflow = limits or Limits(), Overflow[Waiting]()
        self._queues: list[list[ProducerRecord]] = [[] for _ in range(queues)]
        self._taken: list[tuple[Sequence[ProducerRecord], int]] = [((), 0)] * queues
        self.filled = asyncio.Event()
        """Set when a record is added; the sender clears it."""
        self.empty = asyncio.Event()
        """Set while there are no records, including taken ones."""
        self.empty.set()
        self.records = 0
        self.bytes = 0
        self.diverted = False
        self.times_diverted = 0

    def add(self, queue: int, record: ProducerRecord, size_bytes: int) -> None:
        """Take a new record whose value has `size_bytes`; it never waits."""
        if self.diverted:
            self.overflow.add(Waiting(queue, record, size_bytes))
            return
        self.put(queue, record, size_bytes)
        if self.records >= self.limits.records or self.bytes >= self.limits.bytes:
            self.divert()

    def put(self, queue: int, record: ProducerRecord, size_bytes: int) -> None:
        """Queue a record, diverted or not."""
        self._queues[queue].append(record)
        if not self.records:
            self.empty.clear()
        self.records += 1
        self.bytes += size_bytes
        if not self.filled.is_set():
            self.filled.set()

    def divert(self) -> None:
        """Send what is added to the overflow from now on, after what is here.

        What is taken, its delivery under way, stays here, and a copy goes along: a death does not lose it.
        """
        self.diverted = True
        self.times_diverted += 1
        for queue, records in enumerate(self._queues):
            taken, _ = self._taken[queue]
            for record in taken:
                self.overflow.add(Waiting(queue, record, _size(record), copy=True))
            for record in records:
                size_bytes = _size(record)
                self.overflow.add(Waiting(queue, record, size_bytes))
                self.records -= 1
                self.bytes -= size_bytes
            self._queues[queue] = []
        if not self.records:
            self.empty.set()

    def waiting(self) -> list[int]:
        """The queues that hold records."""
        return [queue for queue, records in enumerate(self._queues) if records]

    def queued(self, queue: int) -> int:
        """Records of a queue that are not taken yet."""
        return len(self._queues[queue])

    def taken(self, queue: int) -> int:
        """Records of a queue that are taken and not released."""
        return len(self._taken[queue][0])

    def take(self, queue: int, max_bytes: int) -> tuple[Sequence[ProducerRecord], bool]:
        """The queue's first records, at least one, within `max_bytes` with overhead; are any left?

        They still count: call `release` once Kafka has them, and before the queue's next `take`.
        """
        records = self._queues[queue]
        size_bytes = 0
        for count, record in enumerate(records):
            value_bytes = _size(record)
            if count and size_bytes + value_bytes + (count + 1) * RECORD_OVERHEAD_BYTES > max_bytes:
                self._queues[queue], records = records[count:], records[:count]
                break
            size_bytes += value_bytes
        else:
            self._queues[queue] = []
        self._taken[queue] = records, size_bytes
        return records, bool(self._queues[queue])

    def release(self, queue: int) -> tuple[int, int]:
        """Stop counting what was taken last: Kafka has it. Returns its records and bytes."""
        records, size_bytes = self._taken[queue]
        self._taken[queue] = (), 0
        self.records -= len(records)
        self.bytes -= size_bytes
        if not self.records:
            self.empty.set()
        return len(records), size_bytes


def _size(record: ProducerRecord) -> int:
    return len(record[1] or b"")
