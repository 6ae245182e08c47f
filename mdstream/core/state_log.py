"""md.state as a log: read to its end, written a checkpoint at a time. What stands in the records is their writers'."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from aiokafka import TopicPartition

from mdstream import kafka
from mdstream.cluster import Brokers
from mdstream.publisher import Publisher
from mdstream.stream.output import Out
from topics import MAX_BATCH_BYTES

RESTORE_LIMIT_S = 60.0

Pairs = Iterable[tuple[bytes | None, bytes | None]]


class StateLog:
    """The checkpoint topic; its partitions are those of the topics whose state is kept."""

    def __init__(self, bootstrap_servers: Brokers, topic: str) -> None:
        self._bootstrap_servers, self._topic = bootstrap_servers, topic
        # A checkpoint must be one batch, however much changed.
        self._publisher = Publisher(bootstrap_servers, client_id="mdstream-state", batch_bytes=MAX_BATCH_BYTES)

    async def start(self) -> None:
        await self._publisher.start()

    async def stop(self) -> None:
        await self._publisher.stop()

    async def read(self, numbers: Iterable[int], take: Callable[[int, Pairs], object]) -> None:
        """Give `take` the (key, value) pairs of each of these partitions, in log order, to the end of the log.

        Raises BrokerError or KafkaError; TimeoutError where the log was not read within RESTORE_LIMIT_S.
        """
        async with kafka.reader(self._bootstrap_servers, max_partition_fetch_bytes=MAX_BATCH_BYTES) as consumer:
            tps = [TopicPartition(self._topic, number) for number in numbers]
            consumer.assign(tps)
            async with asyncio.timeout(RESTORE_LIMIT_S):
                async for records in kafka.read_to_end(consumer, tps):
                    take(records[0].partition, ((r.key, r.value) for r in records))

    async def write(self, number: int, records: Out) -> None:
        """Write a checkpoint of one partition and wait until the broker has it. Raises KafkaError."""
        for future in await self._publisher.send(self._topic, number, records):
            await future
