"""The loop of every sink role: batches in, groups to the sinks, acknowledgements out.

    put ─ decode ─> queue ─ all that waits ─┬─> sink A ─┬─> refusals to md.dead ─> acknowledge
                                            └─> sink B ─┘

While a group is written, the next one collects, already decoded, so groups grow with the load: one transaction each,
however small the batches. A failing sink is retried with the same group for as long as it takes; the other sinks wait,
and nothing is acknowledged. Memory: the group being written and the one being collected.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

from aiokafka.errors import KafkaError

from mdstream import events
from mdstream.errors import MdstreamError
from mdstream.net.backoff import delays_s
from mdstream.sinks.base import Chunk, Decoder, Refusal, Sink, decode
from mdstream.transport.batch import Batch

log = logging.getLogger(__name__)

GROUP_RECORDS = 20_000
"""`put` blocks once this many records wait. A group is all that waits when the previous one is stored."""
MIN_GROUP_RECORDS = 1_000
LINGER_S = 0.05
"""A group smaller than MIN_GROUP_RECORDS waits this long for more: in a quiet market this limits disk syncs."""
MIN_RETRY_S, MAX_RETRY_S = 0.2, 10.0

T = TypeVar("T")
DeadLetter = Callable[[Sequence[Refusal]], Awaitable[None]]
"""Dead-letters refused records; on return md.dead has them. May raise KafkaError."""


class Taken(NamedTuple):
    """A batch, its number of records, their events, and the records that are not events."""

    batch: Batch
    records: int
    chunk: Chunk
    refused: Sequence[Refusal]


class Health:
    """Whether one target works. Logs a reason once, when it appears, and the recovery once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reason: str | None = None
        self.failures = 0
        self._since_s = 0.0

    def failed(self, error: BaseException) -> None:
        self.failures += 1
        reason = str(error) or type(error).__name__
        if self.reason is None:
            self._since_s = time.monotonic()
        if reason != self.reason:
            log.error("%s; it is tried again, and nothing is acknowledged until it works", reason)
        self.reason = reason

    def worked(self) -> None:
        if self.reason is not None:
            log.warning("%s works again after %.1f s", self.name, time.monotonic() - self._since_s)
        self.reason = None


class SinkLoop:
    """Stores what is `put` in every sink, while `run` runs."""

    def __init__(
        self,
        sinks: Sequence[Sink],
        dead_letter: DeadLetter,
        *,
        event_of: Decoder = events.decode,
        group_records: int = GROUP_RECORDS,
        linger_s: float = LINGER_S,
    ) -> None:
        self._sinks = sinks
        self._dead_letter = dead_letter
        self._event_of = event_of
        self._group_records = group_records
        self._linger_s = linger_s
        self._queue: asyncio.Queue[Taken] = asyncio.Queue()
        self._queued = 0  # records in the queue: `put` keeps it bounded
        self._room, self._enough = asyncio.Event(), asyncio.Event()
        self._rng = random.Random()
        self.health = {name: Health(name) for name in (*(sink.name for sink in sinks), "dead letters")}
        self.records = self.groups = self.refused = 0
        self._writing = 0  # records in the group being written

    @property
    def held(self) -> int:
        """Records taken but not acknowledged."""
        return self._queued + self._writing

    def holding(self) -> str | None:
        """Why taken records cannot be stored right now; None while everything works."""
        return next((health.reason for health in self.health.values() if health.reason is not None), None)

    async def put(self, batch: Batch) -> None:
        """Take a batch; it is acknowledged once stored. Waits while a whole group is already waiting."""
        while self._queued >= self._group_records:
            self._room.clear()
            await self._room.wait()
        records = batch.take()
        if records:
            self._queued += len(records)
            self._queue.put_nowait(Taken(batch, len(records), *decode(batch.partition, records, self._event_of)))
            if self._queued >= MIN_GROUP_RECORDS:
                self._enough.set()

    async def settled(self) -> None:
        """Return once all that was put is acknowledged."""
        await self._queue.join()

    async def run(self) -> None:
        """Store groups forever. Raises only programming errors."""
        while True:
            group = await self._gather()
            await self._store(group)
            for taken in group:
                taken.batch.acknowledge()
                self._queue.task_done()

    async def _gather(self) -> list[Taken]:
        group = [await self._queue.get()]
        if self._queued < MIN_GROUP_RECORDS:
            self._enough.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), self._linger_s)
        while not self._queue.empty():
            group.append(self._queue.get_nowait())
        self._queued = 0
        self._room.set()
        return group

    async def _store(self, group: Sequence[Taken]) -> None:
        self._writing = sum(taken.records for taken in group)
        chunks = [taken.chunk for taken in group if taken.chunk.records]
        refused = [refusal for taken in group for refusal in taken.refused]
        if chunks:
            for refusals in await asyncio.gather(*(self._write(sink, chunks) for sink in self._sinks)):
                refused += refusals
        if refused:
            await self._until_done(self.health["dead letters"], lambda: self._dead_letter(refused))
        self.groups += 1
        self.records += self._writing
        self.refused += len(refused)
        self._writing = 0

    async def _write(self, sink: Sink, chunks: Sequence[Chunk]) -> Sequence[Refusal]:
        return await self._until_done(self.health[sink.name], lambda: sink.write(chunks))

    async def _until_done(self, health: Health, attempt: Callable[[], Awaitable[T]]) -> T:
        waits = delays_s(self._rng, min_s=MIN_RETRY_S, max_s=MAX_RETRY_S)
        while True:
            try:
                done = await attempt()
            except (MdstreamError, KafkaError) as error:
                health.failed(error)
                await asyncio.sleep(next(waits))
            else:
                health.worked()
                return done
