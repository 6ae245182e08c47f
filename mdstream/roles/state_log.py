"""md.state as a log: taking over its partitions, and writing them a checkpoint at a time.

    take over   read to the end ─> write our claim ─> read up to it        later records under older claims do not count
    write       checkpoint ─> any records of others between it and our last record? ─> none: it counts

The offsets of our own records show whether there are any: they are consecutive as long as nobody else writes. All roles
of a worker share one StateLog, so that each knows the others' records as ours. The roles define the records' contents.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from math import inf
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from mdstream import kafka
from mdstream.config.cluster import Brokers
from mdstream.errors import BrokerError, OvertakenError
from mdstream.kafka.publisher import Publisher
from mdstream.records import Partition
from mdstream.stream import ledger
from mdstream.stream.ledger import Ledger, Tenure
from mdstream.stream.output import Out
from topics import MAX_BATCH_BYTES

READ_LIMIT_S = 60.0
"""Less than the topic's compaction lag: no valid record is deleted during a read."""


class StateLog:
    """The checkpoint topic; state of partition n of an input topic is in its partition n."""

    def __init__(self, bootstrap_servers: Brokers, topic: str) -> None:
        self._bootstrap_servers, self._topic = bootstrap_servers, topic
        # A checkpoint should be one batch, however much changed: then it costs one round trip.
        self._publisher = Publisher(bootstrap_servers, client_id="mdstream-state", batch_bytes=MAX_BATCH_BYTES)
        self._tenures: defaultdict[int, Tenure] = defaultdict(Tenure)
        self._writing: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def start(self) -> None:
        await self._publisher.start()

    async def stop(self) -> None:
        await self._publisher.stop()

    # -- taken over

    async def take_over(self, ledgers: Mapping[Partition, Ledger]) -> dict[Partition, int]:
        """Claim partitions, and have each one's ledger read everything written before the claim; the claims.

        Another worker's claim in between shows at the first `write`. Raises BrokerError, KafkaError, TimeoutError after
        READ_LIMIT_S.
        """
        tps = [TopicPartition(self._topic, number) for number in {partition.number for partition in ledgers}]
        async with asyncio.timeout(READ_LIMIT_S), self._reader() as consumer:
            consumer.assign(tps)
            async for records in kafka.read_until(consumer, await consumer.end_offsets(tps)):
                _feed_ledgers(records, ledgers, {})
            made = await asyncio.gather(*(self._claim(partition) for partition in ledgers))
            claims = dict(zip(ledgers, made, strict=True))
            ends = {tp: 1 + max(at for p, at in claims.items() if p.number == tp.partition) for tp in tps}
            async for records in kafka.read_until(consumer, ends):
                _feed_ledgers(records, ledgers, claims)
        return claims

    async def _claim(self, partition: Partition) -> int:
        async with self._writing[partition.number]:
            claim = await self._append(partition.number, ledger.claim_of(partition.topic, now_ms()))
            self._tenures[partition.number].claimed(partition.topic, claim)
            return claim

    def give_up(self, partitions: Iterable[Partition]) -> None:
        """Give up these partitions: others may write their state from now on."""
        for topic, number in partitions:
            self._tenures[number].give_up(topic)

    # -- written

    async def write(self, partition: Partition, claim: int, records: Out) -> None:
        """Write a checkpoint, and wait until the broker has it and it is known to count.

        Raises OvertakenError if another worker has written there since `claim`, as the checkpoint may not count then;
        BrokerError, KafkaError.
        """
        async with self._writing[partition.number]:
            self._check(partition, claim)
            await self._append(partition.number, records)
            self._check(partition, claim)

    def _check(self, partition: Partition, claim: int) -> None:
        if not self._tenures[partition.number].owns(partition.topic, claim):
            raise OvertakenError(partition.topic, partition.number)

    async def _append(self, number: int, records: Out) -> int:
        """Write records and check what others wrote before them; the offset of the first one."""
        sent: list[Any] = await asyncio.gather(*await self._publisher.send(self._topic, number, records))
        first, last = int(sent[0].offset), int(sent[-1].offset)
        if first < 0:  # sent twice, and the broker does not return the first one's offset
            raise BrokerError(f"the broker does not report at which offset of {self._topic}[{number}] it wrote")
        unseen = self._tenures[number].wrote(last, len(records) if len(sent) == 1 else 0)
        if unseen:
            await self._check_unseen(number, unseen)
        return first

    async def _check_unseen(self, number: int, unseen: range) -> None:
        tp = TopicPartition(self._topic, number)
        async with asyncio.timeout(READ_LIMIT_S), self._reader() as consumer:
            consumer.assign([tp])
            consumer.seek(tp, unseen.start)
            async for records in kafka.read_until(consumer, {tp: unseen.stop}):
                for record in records:
                    if record.offset in unseen:
                        self._tenures[number].check(record.offset, record.value)

    def _reader(self) -> AbstractAsyncContextManager[AIOKafkaConsumer]:
        return kafka.reader(self._bootstrap_servers, max_partition_fetch_bytes=MAX_BATCH_BYTES)


def _feed_ledgers(
    records: Sequence[ConsumerRecord], ledgers: Mapping[Partition, Ledger], claims: Mapping[Partition, int]
) -> None:
    """Pass records of one partition to its ledgers, each up to and including its claim."""
    for partition, found in ledgers.items():
        if partition.number == records[0].partition:
            last = claims.get(partition, inf)
            for record in records:
                if record.offset <= last:
                    found.take(record.offset, record.key, record.value)


def now_ms() -> int:
    """The timestamp of records written now."""
    return time.time_ns() // 1_000_000
