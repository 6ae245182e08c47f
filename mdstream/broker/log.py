"""The log of one partition: batches in order, found by offset, dropped from the front.

start                                end
  |  batch 0-9 | batch 10 | batch 12-40 |        11 is missing: superseded in a compacted log

The content of batches lies in segments that all logs share (segments.py). A compacted log drops batches in any order,
and holds few: each of them is its own segment.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from mmap import mmap

from mdstream.broker import records

DAY_MS = 86_400_000
BATCH_OVERHEAD = 300
"""Bytes of Python's overhead per batch."""
SEQUENCES = 5
"""Batches remembered per producer to detect repeats: Kafka's number, and an idempotent producer's most in flight."""
MAX_PRODUCERS = 1_000
"""Producers remembered in a log, those that wrote last. Kafka forgets one after a day."""


@dataclass(frozen=True)
class Rules:
    """The settings of a topic that the broker honours, by Kafka's names and with Kafka's defaults."""

    compact: bool = False
    append_time: bool = False
    retention_ms: int = 7 * DAY_MS
    retention_bytes: int = -1
    max_message_bytes: int = 1_048_588
    compaction_lag_ms: int = 60_000
    """Kafka does not compact the active segment; here a batch may be compacted after a minute."""

    @classmethod
    def of(cls, config: Mapping[str, str]) -> Rules:
        """Raises ValueError if a number is invalid."""
        return cls(
            compact="compact" in config.get("cleanup.policy", "delete"),
            append_time=config.get("message.timestamp.type") == "LogAppendTime",
            retention_ms=int(config.get("retention.ms", cls.retention_ms)),
            retention_bytes=int(config.get("retention.bytes", cls.retention_bytes)),
            max_message_bytes=int(config.get("max.message.bytes", cls.max_message_bytes)),
            compaction_lag_ms=max(cls.compaction_lag_ms, int(config.get("min.compaction.lag.ms", 0))),
        )


@dataclass(slots=True, eq=False)
class Batch:
    """A batch as it is kept: it begins with the record `first` and ends with `last`; `taken_ms` by our clock."""

    first: int
    last: int
    last_ms: int
    taken_ms: int
    length: int
    segment: mmap | bytes
    start: int
    """Where its content begins in the segment."""
    live_keys: int = 0
    """The number of keys whose newest record it holds; counted in a compacted log only."""

    @property
    def content(self) -> bytes:
        return self.segment[self.start : self.start + self.length]

    @property
    def size(self) -> int:
        return self.length + BATCH_OVERHEAD


class RefusedError(Exception):
    """A refused batch; `code` is Kafka's error code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


CORRUPT, TOO_LARGE, OUT_OF_ORDER, STALE_EPOCH = 2, 10, 45, 47


Write = Callable[[bytes], tuple[mmap | bytes, int]]
"""Stores a batch; its segment, and where it begins there."""


def write_alone(content: bytes) -> tuple[bytes, int]:
    """The batch as its own segment."""
    return content, 0


class Log:
    """One partition. Time comes as an argument, in milliseconds."""

    def __init__(self, rules: Rules, write: Write = write_alone) -> None:
        self.rules, self._write = rules, write_alone if rules.compact else write
        self.start = self.end = 0
        self.size = 0
        self.batches: list[Batch] = []
        self._firsts: list[int] = []
        self._producers: dict[int, tuple[int, deque[tuple[int, int, int]]]] = {}
        self._newest: dict[bytes | None, Batch] = {}

    @property
    def heap_size(self) -> int:
        """Bytes that are not in segments of other logs: all of a compacted log, and Python's overhead."""
        return self.size if self.rules.compact else BATCH_OVERHEAD * len(self.batches)

    def append(self, content: bytes, now_ms: int) -> tuple[int, Batch | None]:
        """The offset of the batch's first record, and the batch; None if it repeats one that is already there.

        Raises RefusedError.
        """
        header = records.read(content)
        if header is None:
            raise RefusedError(CORRUPT)
        if len(content) > self.rules.max_message_bytes:
            raise RefusedError(TOO_LARGE)
        repeated = self._repeated(header)
        if repeated is not None:
            return repeated, None
        first = self.end
        append_ms = now_ms if self.rules.append_time else None
        stamped = records.stamp(content, first, append_ms=append_ms)
        segment, start = self._write(stamped)
        last = first + header.last_delta
        batch = Batch(first, last, append_ms or header.last_ms, now_ms, len(stamped), segment, start)
        self.batches.append(batch)
        self._firsts.append(first)
        self.end, self.size = batch.last + 1, self.size + batch.size
        self._remember(header, first)
        if self.rules.compact:
            self._supersede(batch)
        return first, batch

    def _repeated(self, header: records.Header) -> int | None:
        """The offset of the batch that this one repeats. Raises RefusedError if an idempotent producer skipped one.

        An unknown producer may begin anywhere, as with Kafka, which forgets producers too.
        """
        if header.producer_id < 0:
            return None
        epoch, sent = self._producers.get(header.producer_id, (header.epoch, None))
        if header.epoch < epoch:
            raise RefusedError(STALE_EPOCH)
        if sent is None or header.epoch > epoch:
            return None
        for sequence, count, offset in sent:
            if (sequence, count) == (header.sequence, header.records):
                return offset
        sequence, count, _ = sent[-1]
        if header.sequence != (sequence + count) % (1 << 31):
            raise RefusedError(OUT_OF_ORDER)
        return None

    def _remember(self, header: records.Header, first: int) -> None:
        if header.producer_id < 0:
            return
        epoch, sent = self._producers.pop(header.producer_id, (-1, None))
        if sent is None or epoch != header.epoch:
            sent = deque(maxlen=SEQUENCES)
        sent.append((header.sequence, header.records, first))
        self._producers[header.producer_id] = header.epoch, sent  # the last one
        if len(self._producers) > MAX_PRODUCERS:
            del self._producers[next(iter(self._producers))]

    def read(self, offset: int, max_bytes: int) -> bytes:
        """Whole batches from the one that holds `offset` on, at least one, at most `max_bytes`; empty at the end."""
        at = max(0, bisect_right(self._firsts, offset) - 1)
        found: list[bytes] = []
        for batch in self.batches[at : at + 1000]:
            if batch.last < offset:
                continue
            max_bytes -= batch.length
            if found and max_bytes < 0:
                break
            found.append(batch.content)
        return b"".join(found)

    def since(self, time_ms: int) -> tuple[int, int] | None:
        """Offset and time of the first record at `time_ms` or later; None if there is none."""
        found = next((batch for batch in self.batches if batch.last_ms >= time_ms), None)
        return None if found is None else records.first_at(found.content, time_ms)

    # -- forgetting

    def delete_before(self, offset: int) -> None:
        """Drop the batches that end before `offset`, and move the start there."""
        count = bisect_right(self._firsts, offset)
        if count and self.batches[count - 1].last >= offset:
            count -= 1
        self._drop(count)
        self.start = max(self.start, min(offset, self.end))

    def drop_segment(self, segment: mmap) -> int:
        """Drop the batches in a segment that is the oldest of all logs; how many there were."""
        count = next((at for at, b in enumerate(self.batches) if b.segment is not segment), len(self.batches))
        self._drop(count)
        return count

    def expire(self, now_ms: int) -> None:
        """Apply the topic's retention or compaction."""
        if self.rules.compact:
            self._compact(now_ms)
            return
        count, size = 0, self.size
        for batch in self.batches:
            young = self.rules.retention_ms < 0 or batch.taken_ms >= now_ms - self.rules.retention_ms
            if young and (self.rules.retention_bytes < 0 or size <= self.rules.retention_bytes):
                break
            count, size = count + 1, size - batch.size
        self._drop(count)

    def _drop(self, count: int) -> None:
        """Drop the oldest batches."""
        if count:
            self.size -= sum(batch.size for batch in self.batches[:count])
            self.start = self.batches[count - 1].last + 1
            del self.batches[:count], self._firsts[:count]

    def _supersede(self, batch: Batch) -> None:
        for key in records.keys(batch.content):
            if (before := self._newest.get(key)) is not None:
                before.live_keys -= 1
            self._newest[key] = batch
            batch.live_keys += 1

    def _compact(self, now_ms: int) -> None:
        """Drop batches whose keys all have a newer record; a batch is kept whole as long as one key needs it."""
        until = now_ms - self.rules.compaction_lag_ms
        kept = [batch for batch in self.batches if batch.live_keys or batch.taken_ms > until]
        if len(kept) < len(self.batches):
            self.batches, self._firsts = kept, [batch.first for batch in kept]
            self.size = sum(batch.size for batch in kept)
