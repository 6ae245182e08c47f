"""Checkpoints on md.state: written whole, read back to the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from aiokafka import TopicPartition

from mdstream import kafka
from mdstream.publisher import Publisher
from mdstream.stream import checkpoint
from mdstream.stream.checkpoint import Restored
from mdstream.stream.output import Out
from mdstream.stream.state import Instrument, LogState
from mdstream.transport.batch import Partition
from topics import MAX_BATCH_BYTES

RESTORE_LIMIT_S = 60.0


class StateStore:
    """The canonical state of raw partitions, in the partition of the same number of `topic`."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._bootstrap_servers, self._topic = bootstrap_servers, topic
        # A checkpoint must be one batch, however many instruments changed.
        self._publisher = Publisher(bootstrap_servers, client_id="mdstream-state", batch_bytes=MAX_BATCH_BYTES)

    async def start(self) -> None:
        await self._publisher.start()

    async def stop(self) -> None:
        await self._publisher.stop()

    async def restore(self, partitions: Iterable[Partition]) -> dict[Partition, Restored]:
        """The state of each raw partition, read to the end of the log, and claimed: later checkpoints have a new epoch.

        Raises BrokerError or KafkaError; TimeoutError where the log was not read within RESTORE_LIMIT_S.
        """
        found: dict[int, dict[str, Restored]] = {}
        for partition in partitions:
            found.setdefault(partition.number, {})[partition.topic] = Restored()
        async with kafka.reader(self._bootstrap_servers, max_partition_fetch_bytes=MAX_BATCH_BYTES) as consumer:
            tps = [TopicPartition(self._topic, number) for number in found]
            consumer.assign(tps)
            async with asyncio.timeout(RESTORE_LIMIT_S):
                async for records in kafka.read_to_end(consumer, tps):
                    checkpoint.read(found[records[0].partition], ((r.key, r.value) for r in records))
        restored = {Partition(t, number): state for number, states in found.items() for t, state in states.items()}
        await asyncio.gather(*(self._claim(partition, state) for partition, state in restored.items()))
        return restored

    async def _claim(self, partition: Partition, state: Restored) -> None:
        """Open a new epoch before anything is processed, so that two owners never write the same one."""
        state.epoch += 1
        if state.position is not None:
            await self.write(partition, self.encode(partition, state.epoch, (), state.position, state.log))

    @staticmethod
    def encode(
        partition: Partition, epoch: int, changed: Iterable[tuple[str, Instrument]], position: int, log: LogState
    ) -> Out:
        """The records of a checkpoint, as the state stands now."""
        return checkpoint.write(partition.topic, epoch, changed, position, log, time.time_ns() // 1_000_000)

    async def write(self, partition: Partition, records: Out) -> None:
        """Write a checkpoint and wait until the broker has it. Raises KafkaError."""
        for future in await self._publisher.send(self._topic, partition.number, records):
            await future
