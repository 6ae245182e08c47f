"""What stands between agents/canonical.py and the pure stream.

    batch ─> step ─> publish (several batches under way, order kept) ──┐
                                                                        v acknowledged by the broker
    once a second: snapshot ─> wait for the output ─> still a member? ─> checkpoint ─> acknowledge the input

Emit first, remember second: a crash between any two arrows repeats work and loses none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple

from aiokafka import TopicPartition

from mdstream import kafka
from mdstream.config import Settings
from mdstream.core.feeds import feeds
from mdstream.core.metrics import CanonicalMetrics
from mdstream.core.rules import rules_of
from mdstream.core.state import StateStore
from mdstream.providers import PROVIDERS
from mdstream.publisher import Partitioner, Publisher
from mdstream.stream.canonical import Canonical
from mdstream.stream.checkpoint import Restored
from mdstream.stream.output import Out, Output
from mdstream.transport.batch import Batch, Partition
from topics import Topic, Topics

log = logging.getLogger(__name__)


def factory(settings: Settings) -> Callable[[Partition, Restored], Canonical]:
    """What makes the stream of a raw partition, by the settings, from its restored state (a new one to begin anew)."""
    venues = [provider() for provider in PROVIDERS.values()]
    partitioner = Partitioner(settings.partitions)
    rules = rules_of(settings)

    def new(partition: Partition, state: Restored) -> Canonical:
        return Canonical(
            partition.topic,
            partition.number,
            venues,
            rules=rules,
            announces=lambda provider: partitioner(provider.encode()) == partition.number,
            instruments=state.instruments,
            log=state.log,
            position=state.position or 0,
        )

    return new


def routed(topics: Topics, output: Output) -> tuple[tuple[Topic, Out], ...]:
    """Where the records of an output go."""
    return (
        (topics.trades, output.trades),
        (topics.quotes, output.quotes),
        (topics.books, output.books),
        (topics.status, output.status),
        (topics.gaps, output.gaps),
        (topics.dead, output.dead),
    )


class _Owned:
    """One raw partition while it is ours."""

    def __init__(self, canonical: Canonical, epoch: int) -> None:
        self.canonical, self.epoch = canonical, epoch
        self.batches: list[Batch] = []  # processed, not yet covered by a checkpoint
        self.output: list[asyncio.Future[object]] = []
        # Held from a batch's step until its output is queued: a snapshot in between would know of output that nobody
        # waits for.
        self.stepping = asyncio.Lock()


class _Snapshot(NamedTuple):
    """A checkpoint that is not written yet."""

    partition: Partition
    owned: _Owned
    changed: set[str]
    batches: list[Batch]
    output: list[asyncio.Future[object]]
    records: Out

    def put_back(self) -> None:
        """Leave it to the next checkpoint."""
        self.owned.canonical.changed |= self.changed
        self.owned.batches[:0] = self.batches
        self.owned.output[:0] = self.output


class CanonicalRole:
    """Restores, processes, checkpoints and releases raw partitions."""

    def __init__(self, settings: Settings, *, is_member: Callable[[], Awaitable[bool]]) -> None:
        self._topics, self._bootstrap_servers = Topics(settings), settings.bootstrap_servers
        self._is_member = is_member
        self._interval_s = settings.checkpoint_interval_s
        self._publisher = Publisher(settings.bootstrap_servers, client_id="mdstream-canonical")
        self._store = StateStore(settings.bootstrap_servers, self._topics.state.name)
        self._new = factory(settings)
        self._owned: dict[Partition, _Owned] = {}
        self._checkpointing = asyncio.Lock()
        self.metrics = CanonicalMetrics()

    async def start(self) -> None:
        await self._publisher.start()
        await self._store.start()

    async def stop(self) -> None:
        await self._publisher.stop()
        await self._store.stop()

    async def restore(self, partitions: Iterable[Partition]) -> Mapping[Partition, int | None]:
        """Take over partitions: the position to read each from, None where there is no checkpoint."""
        restored = await self._store.restore(partitions)
        numbered = await self._numbered(partition for partition, state in restored.items() if state.position is None)
        for partition, state in restored.items():
            canonical = self._new(partition, state)
            canonical.numbers_from = numbered.get(partition)
            self._owned[partition] = _Owned(canonical, state.epoch)
        return {
            partition: None if state.position is None else self._owned[partition].canonical.read_from
            for partition, state in restored.items()
        }

    async def _numbered(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The beginnings of those whose canonical partition holds trades already: an owner that was killed before its
        first checkpoint began there, and so will we."""
        raw = {partition: TopicPartition(*partition) for partition in partitions}
        if not raw:
            return {}
        trades = {partition: TopicPartition(self._topics.trades.name, partition.number) for partition in raw}
        async with kafka.reader(self._bootstrap_servers) as consumer:
            ends = await consumer.end_offsets(list(trades.values()))
            begins = await consumer.beginning_offsets(list(raw.values()))
        return {partition: begins[tp] for partition, tp in raw.items() if ends[trades[partition]] > 0}

    async def process(self, batch: Batch) -> None:
        """Publish what the batch comes to. Waits only where an earlier batch of the partition has not gone out."""
        records = batch.take()
        owned = self._owned.get(batch.partition)
        if owned is None or not records:
            return
        async with owned.stepping:
            output = owned.canonical.step(records)
            owned.batches.append(batch)
            await self._publish(batch.partition.number, owned, output)
        self._report(owned.canonical)

    async def _publish(self, number: int, owned: _Owned, output: Output) -> None:
        for topic, records in routed(self._topics, output):
            if records:
                owned.output += await self._publisher.send(topic.name, number, records)

    def feeds(self) -> dict[str, Any]:
        """The sources of each instrument that is ours, as /feeds shows them."""
        return feeds(owned.canonical for owned in self._owned.values())

    def _report(self, canonical: Canonical) -> None:
        self.metrics.take(canonical)
        for error in canonical.errors:
            log.warning("%s", error)
        canonical.errors.clear()

    async def run(self) -> None:
        """Checkpoint at the set interval, for ever. Raises what a broken output or checkpoint raised."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.checkpoint()

    async def checkpoint(self) -> bool:
        """Make safe all that was processed so far; False where we were no member of the group and nothing was
        written."""
        async with self._checkpointing:
            due = {partition: owned for partition, owned in self._owned.items() if owned.batches}
            if not due:
                return True
            return await self._checkpoint(due)

    async def _checkpoint(self, due: dict[Partition, _Owned]) -> bool:
        # The snapshots first: the stream goes on while the output that they rest on is being acknowledged.
        snapshots = [await self._snapshot(partition, owned) for partition, owned in due.items()]
        done = False
        try:
            for snapshot in snapshots:
                await asyncio.gather(*snapshot.output)
            if await self._is_member():
                await asyncio.gather(
                    *(self._store.write(snapshot.partition, snapshot.records) for snapshot in snapshots)
                )
                done = True
        finally:
            if not done:  # whatever the reason: no later checkpoint may pass over what this one was to hold
                for snapshot in snapshots:
                    snapshot.put_back()
        for batch in (batch for snapshot in snapshots for batch in snapshot.batches if done):
            batch.acknowledge()
        return done

    async def _snapshot(self, partition: Partition, owned: _Owned) -> _Snapshot:
        """Everything that changed since the last one, as it stands between two batches."""
        async with owned.stepping:
            changed, owned.canonical.changed = owned.canonical.changed, set()
            batches, owned.batches = owned.batches, []
            output, owned.output = owned.output, []
            instruments = owned.canonical.instruments
            pairs = ((symbol, instruments[symbol]) for symbol in sorted(changed))
            canonical = owned.canonical
            records = self._store.encode(partition, owned.epoch, pairs, canonical.position, canonical.log)
        return _Snapshot(partition, owned, changed, batches, output, records)

    async def release(self, partitions: Iterable[Partition]) -> None:
        """Make safe what was processed and let go of the partitions."""
        try:
            await self.checkpoint()
        finally:
            for partition in partitions:
                self._owned.pop(partition, None)
