"""Reading logs outside any consumer group: from any offset to an end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from mdstream.config.cluster import Brokers
from mdstream.errors import BrokerError
from mdstream.kafka.broker import REQUEST_TIMEOUT_MS, lost, unreachable
from mdstream.kafka.diagnosis import FAILURES
from mdstream.kafka.security import options

FETCH_BYTES = 1 << 19
STOP_LIMIT_S = 1.0
"""A TLS connection may wait half a minute for the peer's shutdown, although nothing is left to send."""
STALL_S = 30.0
"""A read that gets nothing for this long before the end of a log counts as stuck."""
TAIL_S = 3.0
"""How long to read past the reported end, which may be short by the last batch."""


@asynccontextmanager
async def reader(
    bootstrap_servers: Brokers, *, max_partition_fetch_bytes: int = FETCH_BYTES, fetch_max_wait_ms: int = 200
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer outside any group, to assign and seek by hand. Raises BrokerError if no broker answers."""
    consumer = AIOKafkaConsumer(
        **options(bootstrap_servers),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        fetch_max_wait_ms=fetch_max_wait_ms,
        max_partition_fetch_bytes=max_partition_fetch_bytes,
    )
    try:
        try:
            await consumer.start()
        except FAILURES as error:
            raise await unreachable(bootstrap_servers, error) from error
        try:
            yield consumer
        except KafkaError as error:
            raise lost(bootstrap_servers, error) from error
    finally:
        with suppress(TimeoutError):
            await asyncio.wait_for(_stop(consumer), STOP_LIMIT_S)


async def _stop(consumer: AIOKafkaConsumer) -> None:
    """Stop it, also where its own `stop` ends half-way: it cancels its fetches, and while a broker is away one of them
    may then cancel `stop` (aiokafka 0.14, Fetcher.close), which looked like a cancellation of ours."""
    stopping = asyncio.ensure_future(consumer.stop())
    try:
        await asyncio.wait([stopping])
    finally:
        stopping.cancel()
    if stopping.cancelled():
        await consumer._client.close()  # noqa: SLF001  what `stop` did not come to
    else:
        stopping.result()


class LogEnd:
    """Detects when a consumer has read partitions to the end they had when this was created.

    The reported end is not enough: a broker may report one that is too low, and a compacted or transactional log may
    end in offsets without a record. So a fetch must also come back empty; on a topic that is written to all the time,
    TAIL_S of reading past the reported end replaces that.
    """

    def __init__(self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int], *, quiet_s: float = 0.5) -> None:
        self._consumer, self._ends, self._quiet_s = consumer, ends, quiet_s
        self._passed_at: float | None = None
        self._empty_since: float | None = None

    async def reached(self, *, empty: bool) -> bool:
        """Call after each fetch, with whether it was empty. Raises BrokerError if STALL_S brought nothing."""
        now = time.monotonic()
        if not empty:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = now
        quiet_s = 0.0 if self._empty_since is None else now - self._empty_since
        if self._passed_at is None:
            behind = [tp for tp, end in self._ends.items() if await self._consumer.position(tp) < end]
            if behind and quiet_s >= STALL_S:
                where = ", ".join(f"{tp.topic}[{tp.partition}]" for tp in behind)
                raise BrokerError(f"the broker gave nothing for {STALL_S:.0f} s, but there is more to read: {where}")
            if behind:
                return False
            self._passed_at = now
        return quiet_s >= self._quiet_s or now - self._passed_at >= TAIL_S


async def read_to_end(
    consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition], *, quiet_s: float = 0.5
) -> AsyncIterator[list[ConsumerRecord]]:
    """Chunks of records from each partition's current position to its end (LogEnd).

    Raises BrokerError if nothing comes for STALL_S before the end.
    """
    partitions = list(partitions)
    if not partitions:  # getmany reads all partitions if given none
        return
    end = LogEnd(consumer, await consumer.end_offsets(partitions), quiet_s=quiet_s)
    while True:
        chunk = await consumer.getmany(*partitions, timeout_ms=200)
        for records in chunk.values():
            yield records
        if await end.reached(empty=not chunk):
            return


async def read_until(
    consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]
) -> AsyncIterator[list[ConsumerRecord]]:
    """Chunks of records from each partition's current position to its offset in `ends`. Needs a timeout: it waits for
    an end that the log does not have."""
    behind = set(ends)
    while behind := {tp for tp in behind if await consumer.position(tp) < ends[tp]}:
        for records in (await consumer.getmany(*behind, timeout_ms=200)).values():
            yield records
