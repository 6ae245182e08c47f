"""Topics and their logs, within a limit of memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping

from mdstream.broker.log import Log, Rules, Write
from mdstream.broker.segments import SHARE, Segments


class Topic:
    """A topic: its settings as given, and one log for each partition."""

    def __init__(self, partitions: int, config: Mapping[str, str], write: Write) -> None:
        self.config = dict(config)
        rules = Rules.of(config)
        self.logs = [Log(rules, write) for _ in range(partitions)]


class Store:
    """All topics. Beyond `limit_bytes` the oldest batches of all are dropped first, whatever their topics' settings.
    Compacted topics are left alone: their size is bounded by their keys.

    With `partitions`, a topic that a client asks for is created with that many, as Kafka does: after a restart, these
    are the topics that a worker created for itself.
    """

    def __init__(self, limit_bytes: int, *, partitions: int | None = None) -> None:
        self.limit_bytes, self._partitions = limit_bytes, partitions
        self.topics: dict[str, Topic] = {}
        self._segments = Segments(limit_bytes)
        self._since_check = 0
        self._waiting: dict[Log, set[asyncio.Future[None]]] = {}

    def create(self, name: str, partitions: int, config: Mapping[str, str]) -> None:
        """Raises ValueError for an invalid setting."""
        self.topics[name] = Topic(partitions, config, self._segments.write)

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
        """Bytes of all segments and of what is not in them, with Python's overhead."""
        return self._segments.size + sum(log.heap_size for log in self._logs())

    def _logs(self) -> Iterator[Log]:
        return (log for topic in self.topics.values() for log in topic.logs)

    def append(self, log: Log, content: bytes) -> int:
        """The offset of the batch's first record. Raises RefusedError."""
        first, batch = log.append(content, now_ms())
        if batch is not None:
            self._wake_waiters(log)
            self._since_check += batch.size
            if self._since_check > self.limit_bytes // SHARE:
                self._apply_limit()
        return first

    def expire(self) -> None:
        """Apply retention, compaction and the limit. Call about once a second."""
        for log in self._logs():
            log.expire(now_ms())
        self._apply_limit()

    def _apply_limit(self) -> None:
        """Memory would have no bound if this were done once a second only."""
        self._since_check = 0
        while self.size > self.limit_bytes and self._drop_oldest():
            pass

    def _drop_oldest(self) -> int:
        """Drop the oldest segment; the number of batches in it."""
        segment = self._segments.oldest
        return 0 if segment is None else sum(log.drop_segment(segment) for log in self._logs())

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
