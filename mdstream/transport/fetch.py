"""Reads records from aiokafka's fetcher in whole Kafka batches, as its C extension made them.

aiokafka yields records one by one from a generator, each wrapped in a ConsumerRecord: 0.9 us per record, of the 8 us
that a frame may cost. Its buffer (one FetchResult per partition) can be read batch by batch for 0.1 us. A record made
by the C extension has offset, timestamp, key, value and headers too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from aiokafka.consumer.fetcher import Fetcher, FetchResult
from aiokafka.errors import CorruptRecordException

from mdstream.records import Record

CHUNK_RECORDS = 1500
"""A chunk ends with the Kafka batch that reaches this many: about 10 ms of an agent's work."""


class Chunk(NamedTuple):
    """Consecutive records of a partition: offsets [first, next). `requested`: the offset in the request to the broker;
    it is below `first` if the broker skipped the offsets between them."""

    records: list[Record]
    first: int
    next: int
    requested: int


Waiter = asyncio.Future[None]


async def chunks(
    fetcher: Fetcher,
    batched: Collection[Any],
    others: Collection[Any],
    *,
    timeout_s: float,
    max_others: int,
    may_take: Callable[[], bool],
    may_wait: Callable[[Waiter], bool],
) -> dict[Any, Any]:
    """The buffered records by partition: a Chunk for each in `batched`, a list of ConsumerRecord for each in `others`.

    If `may_wait` allows it, waits up to `timeout_s` for the first data, or until `end` is called with the waiter that
    `may_wait` was given. Nothing is taken once `may_take` forbids it. Raises the KafkaError of a failed fetch.
    """
    if not may_take():
        return {}
    found = await _buffered(fetcher, batched, others, max_others)
    if found or not timeout_s:
        return found
    waiter = fetcher._create_fetch_waiter()  # noqa: SLF001  the pinned version's own way to wait
    if may_wait(waiter):
        await asyncio.wait([waiter], timeout=timeout_s)
    if not waiter.done():
        waiter.cancel()
        return {}
    waiter.result()
    return await _buffered(fetcher, batched, others, max_others) if may_take() else {}


def end(waiter: Waiter) -> None:
    """End a wait for data. Call it on the loop that waits."""
    if not waiter.done():
        waiter.set_result(None)


async def _buffered(
    fetcher: Fetcher, batched: Collection[Any], others: Collection[Any], max_others: int
) -> dict[Any, Any]:
    buffer = fetcher._records  # noqa: SLF001
    found: dict[Any, Any] = {}
    for tp in [tp for tp in buffer if tp in batched]:
        result = buffer[tp]
        if not isinstance(result, FetchResult):  # an error: raise it once the records before it are handed over
            if found:
                return found
            del buffer[tp]
            fetcher._notify(fetcher._wait_consume_future)  # noqa: SLF001
            result.check_raise()
            continue
        chunk = _take(tp, result)
        if not result.has_more():
            del buffer[tp]
            fetcher._notify(fetcher._wait_consume_future)  # noqa: SLF001  room for the next fetch
        if chunk is not None:
            found[tp] = chunk
    waiting = [tp for tp in buffer if tp in others]
    if waiting:
        found.update(await fetcher.fetched_records(waiting, timeout=0, max_records=max_others))
    return found


def _take(tp: Any, result: FetchResult) -> Chunk | None:
    """The next chunk of one partition; None if its position moved since the fetch.

    A chunk has no hole. If the broker skipped offsets, the chunk ends before them and they are fetched again; if they
    are missing at its beginning, its `first` shows it, and the caller decides.
    """
    if not result.check_assignment(tp) or not result.has_more():
        return None
    partition = result._partition_records  # noqa: SLF001
    memory = partition._records  # noqa: SLF001
    first = requested = partition.next_fetch_offset
    records: list[Record] = []
    rest = True
    while rest and len(records) < CHUNK_RECORDS:
        batch = memory.next_batch()
        if partition._check_crcs and not batch.validate_crc():  # noqa: SLF001
            raise CorruptRecordException(f"wrong checksum in {tp} at offset {partition.next_fetch_offset}")
        if batch.base_offset > partition.next_fetch_offset:
            if records:
                rest = False
                break
            first = batch.base_offset
        if not batch.is_control_batch:
            records.extend(batch)
        partition.next_fetch_offset = batch.next_offset
        rest = memory.has_next()
    result._update_position()  # noqa: SLF001
    if not rest:
        result._partition_records = None  # noqa: SLF001
    skip = 0
    while skip < len(records) and records[skip].offset < first:  # a batch may begin before the requested position
        skip += 1
    return Chunk(records[skip:] if skip else records, first, partition.next_fetch_offset, requested)
