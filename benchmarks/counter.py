"""Counts a topic's records, often and cheaply."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.measure import BenchmarkError, Count
from mdstream import kafka

ANSWER_LIMIT_S = 30


@asynccontextmanager
async def counting(bootstrap: str, topic: str, *, exact: bool) -> AsyncIterator[Count]:
    """A function that counts the records in `topic`, which is never cleaned and holds no transactions.

    `exact`: the broker's end offsets are exact (benchmarks/warmup.py finds out).
    """
    partitions = await kafka.partitions_of(bootstrap, topic)
    async with kafka.reader(bootstrap) as consumer:
        if exact:

            async def count() -> int:
                return sum((await consumer.end_offsets(partitions)).values())

            yield count
        else:
            yield _Tails(consumer, partitions).count


class _Tails:
    """Counts if the reported end is the first offset of the last batch plus one: reads that batch to its end."""

    def __init__(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
        self._consumer, self._partitions = consumer, partitions
        self._reported = dict.fromkeys(partitions, 0)
        self._true = dict.fromkeys(partitions, 0)

    async def count(self) -> int:
        ends = await self._consumer.end_offsets(self._partitions)
        grown = [tp for tp in self._partitions if ends[tp] > self._reported[tp]]
        if grown:
            self._reported = ends
            await self._read_tails(grown, ends)
        return sum(self._true.values())

    async def _read_tails(self, grown: list[TopicPartition], ends: dict[TopicPartition, int]) -> None:
        consumer, waiting = self._consumer, set(grown)
        consumer.assign(grown)
        for tp in grown:
            consumer.seek(tp, ends[tp] - 1)
        for _ in range(ANSWER_LIMIT_S):  # the record before the reported end is there, so each answers
            if not waiting:
                break
            for tp, records in (await consumer.getmany(*waiting, timeout_ms=1000)).items():
                self._true[tp] = records[-1].offset + 1
                waiting.discard(tp)
        else:
            raise BenchmarkError(f"the broker gave nothing of {sorted(waiting)} for {ANSWER_LIMIT_S} s")
        consumer.unsubscribe()
