"""Topics and their logs, within a limit of memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from itertools import repeat

from mdstream.broker.log import Batch, Log, Rules


class Topic:
    """A topic: its settings as given, and one log for each partition."""

    def __init__(self, partitions: int, config: Mapping[str, str]) -> None:
        self.config = dict(config)
        rules = Rules.of(config)
        self.logs = [Log(rules) for _ in range(partitions)]


class Store:
    """All topics. Beyond `limit_bytes` the oldest batch of all is dropped first, whatever its topic's settings.
    Compacted topics are left alone: their size is bounded by their keys.

    With `partitions`, a topic that a client asks for is created with that many, as Kafka does: after a restart, these
    are the topics that a worker created for itself.
    """

    def __init__(self, limit_bytes: int, *, partitions: int | None = None) -> None:
        self.limit_bytes, self._partitions = limit_bytes, partitions
        self.topics: dict[str, Topic] = {}
        self._waiting: dict[Log, set[asyncio.Future[None]]] = {}

    def create(self, name: str, partitions: int, config: Mapping[str, str]) -> None:
        """Raises ValueError for an invalid setting."""
        self.topics[name] = Topic(partitions, config)

    def find_or_create(self, name: str) -> Topic | None:
        """The topic, created if that is allowed."""
        if name not in self.topics and self._partitions is not None:
            self.create(name, self._partitions, {})
        return self.topics.get(name)

    def delete(self, name: str) -> None:
        for log in self.topics.pop(name).logs:
            log.delete_before(log.end)
            self._wake_waiters(log)

    def log(self, topic: str, partition: int) -> Log | None:
        """The log of a partition, or None."""
        found = self.topics.get(topic)
        return found.logs[partition] if found is not None and 0 <= partition < len(found.logs) else None

    @property
    def size(self) -> int:
        """Bytes of all logs, with Python's overhead."""
        return sum(log.size for topic in self.topics.values() for log in topic.logs)

    def append(self, log: Log, content: bytes) -> int:
        """The offset of the batch's first record. Raises RefusedError."""
        first, batch = log.append(content, now_ms())
        if batch is not None:
            self._wake_waiters(log)
        return first

    def expire(self) -> None:
        """Apply retention, compaction and the limit. Call about once a second."""
        for topic in self.topics.values():
            for log in topic.logs:
                log.expire(now_ms())
        over = self.size - self.limit_bytes
        last: dict[Log, Batch] = {}
        oldest = self._oldest_first()
        while over > 0 and (found := next(oldest, None)):
            log, batch = found
            over -= batch.size
            last[log] = batch
        for log, batch in last.items():
            log.delete_before(batch.last + 1)

    def _oldest_first(self) -> Iterator[tuple[Log, Batch]]:
        """The batches that the limit may drop."""
        logs = [log for topic in self.topics.values() for log in topic.logs if not log.rules.compact]
        return merge(*(zip(repeat(log), log.batches) for log in logs), key=lambda found: found[1].taken_ms)

    # -- waiting for records

    async def wait_for_records(self, logs: Iterable[Log], limit_s: float) -> None:
        """Return when one of the logs is written to or deleted, or after `limit_s`."""
        waiter = asyncio.get_running_loop().create_future()
        logs = list(logs)
        for log in logs:
            self._waiting.setdefault(log, set()).add(waiter)
        try:
            await asyncio.wait([waiter], timeout=limit_s)
        finally:
            for log in logs:
                waiting = self._waiting[log]
                waiting.discard(waiter)
                if not waiting:
                    del self._waiting[log]

    def _wake_waiters(self, log: Log) -> None:
        for waiter in self._waiting.get(log, ()):
            if not waiter.done():
                waiter.set_result(None)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
