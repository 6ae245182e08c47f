"""Checkpoints of the canonical stream on md.state: written whole, read back to the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from mdstream.cluster import Brokers
from mdstream.core.state_log import StateLog
from mdstream.stream import checkpoint
from mdstream.stream.checkpoint import Restored
from mdstream.stream.output import Out
from mdstream.stream.state import Instrument, LogState
from mdstream.transport.batch import Partition


class StateStore:
    """The canonical state of raw partitions, in the partition of the same number of `topic`."""

    def __init__(self, bootstrap_servers: Brokers, topic: str) -> None:
        self._log = StateLog(bootstrap_servers, topic)

    async def start(self) -> None:
        await self._log.start()

    async def stop(self) -> None:
        await self._log.stop()

    async def restore(self, partitions: Iterable[Partition]) -> dict[Partition, Restored]:
        """The state of each raw partition, read to the end of the log, and claimed: later checkpoints have a new epoch.

        Raises as StateLog.read.
        """
        found: dict[int, dict[str, Restored]] = {}
        for partition in partitions:
            found.setdefault(partition.number, {})[partition.topic] = Restored()
        await self._log.read(found, lambda number, pairs: checkpoint.read(found[number], pairs))
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
        await self._log.write(partition.number, records)
