"""What all roles do that keep a state per partition on md.state: claim, restore, checkpoint, release.

restore     claim ─> the state before the claim ─> first checkpoint ─> owned
process     batch ─> the role's step ─┬─> held until a checkpoint covers it
                                      └─> failed: drop the partition; the error ends the worker
checkpoint  snapshot ─> complete, in the role's order ─┬─> counts: acknowledge the batches
                                                       ├─> overtaken: drop the partition and report it
                                                       └─> failed: put the snapshot back
release     checkpoint ─> give up the partition
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from mdstream.config.cluster import Brokers
from mdstream.errors import OvertakenError
from mdstream.kafka.publisher import Publisher
from mdstream.records import Partition, Record
from mdstream.roles.state_log import StateLog, now_ms
from mdstream.stream.ledger import Ledger
from mdstream.stream.output import Out
from mdstream.transport.batch import Batch

log = logging.getLogger(__name__)


class Owned:
    """One partition while it is ours; a role adds its state machine. `read_from`: the offset to read from at first."""

    def __init__(self, partition: Partition, claim: int, read_from: int) -> None:
        self.partition, self.claim, self.read_from = partition, claim, read_from
        self.batches: list[Batch] = []  # processed, not yet covered by a checkpoint


OwnedT = TypeVar("OwnedT", bound=Owned)


@dataclass
class Snapshot(Generic[OwnedT]):
    """A checkpoint that is not written yet; a role adds what has to be put back with it."""

    owned: OwnedT
    records: Out
    batches: list[Batch]

    def put_back(self) -> None:
        """Leave it to the next checkpoint."""
        self.owned.batches[:0] = self.batches


SnapshotT = TypeVar("SnapshotT", bound=Snapshot[Any])


class StatefulRole(ABC, Generic[OwnedT, SnapshotT]):
    """Restores, processes, checkpoints and releases partitions of its input topics."""

    def __init__(
        self, servers: Brokers, state: StateLog, *, client_id: str, overtaken: Callable[[Partition], None]
    ) -> None:
        self._state, self._overtaken = state, overtaken
        self._publisher = Publisher(servers, client_id=client_id)
        self._owned: dict[Partition, OwnedT] = {}
        self._checkpointing = asyncio.Lock()

    async def start(self) -> None:
        await self._publisher.start()

    async def stop(self) -> None:
        await self._publisher.stop()

    # -- what a role defines

    _layout: ClassVar[str]
    """The layout of the role's state on md.state."""

    @abstractmethod
    async def _restored(
        self, starts: Mapping[Partition, int], ledgers: Mapping[Partition, Ledger], claims: Mapping[Partition, int]
    ) -> dict[Partition, OwnedT]:
        """The partitions in the state that the ledgers have read; without one they start at `starts`."""

    @abstractmethod
    async def _step(self, owned: OwnedT, batch: Batch, records: Sequence[Record]) -> None:
        """Process a batch's records, and hold the batch in `owned.batches`."""

    @abstractmethod
    async def _snapshot(self, owned: OwnedT) -> SnapshotT:
        """Move out everything that changed since the last snapshot, as of between two batches."""

    @abstractmethod
    async def _complete(self, snapshot: SnapshotT) -> None:
        """Write a checkpoint, with its output published before or after. Raises OvertakenError if it may not count."""

    async def _save(self, partitions: list[Partition]) -> None:
        """Checkpoint for the last time before these partitions are given up."""
        await self.checkpoint(lambda owned: owned.partition in partitions and bool(owned.batches))

    # -- what all roles do

    async def restore(self, starts: Mapping[Partition, int]) -> Mapping[Partition, int]:
        """Take over partitions, given with the offset to start at without a state; the offset to read each from."""
        ledgers = {partition: Ledger(partition.topic, self._layout) for partition in starts}
        claims = await self._state.take_over(ledgers)
        restored = await self._restored(starts, ledgers, claims)
        await asyncio.gather(*(self._open(owned, ledgers[partition]) for partition, owned in restored.items()))
        self._owned |= restored
        return {partition: owned.read_from for partition, owned in restored.items()}

    async def _open(self, owned: OwnedT, found: Ledger) -> None:
        """Write the first checkpoint under a claim: the position, and the values that late records have shadowed.

        Before any output: the next owner's start must not depend on where the log begins by then.
        """
        snapshot = await self._snapshot(owned)
        snapshot.records[:0] = found.repairs(owned.claim, now_ms())
        await self._complete(snapshot)

    async def process(self, batch: Batch) -> None:
        """Process a batch; one of a partition that is no longer ours is left to its next owner."""
        records = batch.take()
        owned = self._owned.get(batch.partition)
        if owned is None or not records:
            return
        try:
            await self._step(owned, batch, records)
        except BaseException:  # the state may hold half of the batch: no checkpoint may include it
            self._drop(owned)
            raise

    async def checkpoint(self, due: Callable[[OwnedT], bool] = lambda owned: bool(owned.batches)) -> None:
        """Checkpoint what was processed so far and acknowledge it. A partition that another worker has claimed is
        dropped and reported. Raises the error of failed output or of a failed checkpoint."""
        async with self._checkpointing:
            await _all_of([self._checkpoint(owned) for owned in self._owned.values() if due(owned)])

    async def _checkpoint(self, owned: OwnedT) -> None:
        snapshot = await self._snapshot(owned)
        if not self._owns(owned):  # a batch has failed meanwhile
            return
        try:
            await self._complete(snapshot)
        except OvertakenError as error:
            log.warning("%s: taking it over again if it is still assigned", error)
            if self._drop(owned):
                self._overtaken(owned.partition)
        except BaseException:  # a cancellation, too: the next checkpoint has to include these changes
            snapshot.put_back()
            raise
        else:
            for batch in snapshot.batches:
                batch.acknowledge()

    def _owns(self, owned: OwnedT) -> bool:
        return self._owned.get(owned.partition) is owned

    def _drop(self, owned: OwnedT) -> bool:
        """Own it no longer; False if it was given up, or taken over again, before."""
        return self._owns(owned) and self._owned.pop(owned.partition) is owned

    async def release(self, partitions: Iterable[Partition]) -> None:
        """Checkpoint what was processed and give up the partitions."""
        partitions = list(partitions)
        try:
            await self._save(partitions)
        finally:
            self._state.give_up(partitions)
            for partition in partitions:
                self._owned.pop(partition, None)


async def _all_of(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all of them to their ends, even if some fail. Raises the first error, in the order of `works`."""
    for result in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
