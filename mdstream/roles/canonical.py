"""Connects agents/canonical.py with the pure stream.

    batch ─> step ─> publish (several batches under way, order kept) ──┐
                                                                        v acknowledged by the broker
    once a second: snapshot ─> wait for the output ─> checkpoint ─> does it count? ─> acknowledge the input

Publish first, checkpoint second: a crash between any two arrows repeats work and loses none. An overtaken worker
publishes the same bytes as the new owner, until its next checkpoint is refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from aiokafka import TopicPartition

from mdstream import kafka
from mdstream.config import Settings
from mdstream.errors import OvertakenError
from mdstream.kafka.publisher import Partitioner, Publisher
from mdstream.roles.feeds import feeds
from mdstream.roles.metrics import CanonicalMetrics
from mdstream.roles.rules import rules_of
from mdstream.roles.state_log import StateLog, now_ms
from mdstream.roles.tasks import all_of
from mdstream.stream import checkpoint
from mdstream.stream.canonical import Canonical
from mdstream.stream.checkpoint import Restored
from mdstream.stream.ledger import Ledger
from mdstream.stream.output import Out, Output
from mdstream.transport.batch import Batch, Partition
from mdstream.venues.providers import PROVIDERS
from topics import Topic, Topics

log = logging.getLogger(__name__)


def factory(settings: Settings) -> Callable[[Partition, Restored], Canonical]:
    """A function that makes the stream of a raw partition from its restored state, or from an empty one."""
    venues = [provider() for provider in PROVIDERS.values()]
    partitioner = Partitioner(settings.partitions)
    rules, raw = rules_of(settings), Topics(settings).raw
    # Of the topics that a provider writes to, its own market's announces it.
    home = {venue.name: raw[venue.market].name for venue in venues if venue.market in raw}

    def new(partition: Partition, state: Restored) -> Canonical:
        return Canonical(
            partition.topic,
            partition.number,
            venues,
            rules=rules,
            announces=lambda key: (
                partitioner(key.encode()) == partition.number and home.get(key, partition.topic) == partition.topic
            ),
            instruments=state.instruments,
            log=state.log,
            position=state.position or 0,
        )

    return new


def routed(topics: Topics, output: Output) -> tuple[tuple[Topic, Out], ...]:
    """The topic of each list of records in an output."""
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

    def __init__(self, canonical: Canonical, claim: int) -> None:
        self.canonical, self.claim = canonical, claim
        self.batches: list[Batch] = []  # processed, not yet covered by a checkpoint
        self.output: list[asyncio.Future[object]] = []
        # Held from a batch's step until its output is queued: a snapshot in between would include changes whose output
        # it does not wait for.
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

    def __init__(self, settings: Settings, state: StateLog, *, overtaken: Callable[[Partition], None]) -> None:
        self._topics, self._bootstrap_servers = Topics(settings), settings.bootstrap_servers
        self._state, self._overtaken = state, overtaken
        self._interval_s = settings.checkpoint_interval_s
        self._publisher = Publisher(settings.bootstrap_servers, client_id="mdstream-canonical")
        self._new = factory(settings)
        self._owned: dict[Partition, _Owned] = {}
        self._checkpointing = asyncio.Lock()
        self.metrics = CanonicalMetrics()

    async def start(self) -> None:
        await self._publisher.start()

    async def stop(self) -> None:
        await self._publisher.stop()

    async def restore(self, starts: Mapping[Partition, int]) -> Mapping[Partition, int]:
        """Take over partitions, given with the offset to start at without a state; the offset to read each from."""
        ledgers = {partition: checkpoint.opened(partition.topic) for partition in starts}
        claims = await self._state.take_over(ledgers)
        restored = {partition: checkpoint.read(found) for partition, found in ledgers.items()}
        numbered = await self._numbered(partition for partition, state in restored.items() if state.position is None)
        owned: dict[Partition, _Owned] = {}
        for partition, state in restored.items():
            state.position = starts[partition] if state.position is None else state.position
            canonical = self._new(partition, state)
            canonical.numbers_from = numbered.get(partition)
            owned[partition] = _Owned(canonical, claims[partition])
        # Before any output: the next owner's start must not depend on where the log begins by then.
        await asyncio.gather(*(self._open(partition, owned[partition], found) for partition, found in ledgers.items()))
        self._owned |= owned
        return {partition: each.canonical.read_from for partition, each in owned.items()}

    async def _open(self, partition: Partition, owned: _Owned, found: Ledger) -> None:
        """Write the first checkpoint under a claim: the position, and the values that late records have shadowed."""
        repairs = found.repairs(owned.claim, now_ms())
        await self._state.write(partition, owned.claim, [*repairs, *self._records(partition, owned, ())])

    @staticmethod
    def _records(partition: Partition, owned: _Owned, changed: Iterable[str]) -> Out:
        """A checkpoint of these instruments in their current state."""
        canonical = owned.canonical
        pairs = ((symbol, canonical.instruments[symbol]) for symbol in changed)
        return checkpoint.write(partition.topic, owned.claim, pairs, canonical.position, canonical.log, now_ms())

    async def _numbered(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The beginning offsets of raw partitions whose canonical partition already holds trades: an owner killed
        before its first checkpoint started there, and so do we."""
        raw = {partition: TopicPartition(*partition) for partition in partitions}
        if not raw:
            return {}
        trades = {partition: TopicPartition(self._topics.trades.name, partition.number) for partition in raw}
        async with kafka.reader(self._bootstrap_servers) as consumer:
            ends = await consumer.end_offsets(list(trades.values()))
            begins = await consumer.beginning_offsets(list(raw.values()))
        return {partition: begins[tp] for partition, tp in raw.items() if ends[trades[partition]] > 0}

    async def process(self, batch: Batch) -> None:
        """Publish the output of a batch. Waits only while output of an earlier batch of the partition is not sent."""
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
        """The sources of each instrument we own, as /feeds shows them."""
        return feeds(owned.canonical for owned in self._owned.values())

    def _report(self, canonical: Canonical) -> None:
        self.metrics.take(canonical)
        for error in canonical.errors:
            log.warning("%s", error)
        canonical.errors.clear()

    async def run(self) -> None:
        """Checkpoint at the set interval, forever. Raises the error of failed output or of a failed checkpoint."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.checkpoint()

    async def checkpoint(self) -> None:
        """Checkpoint what was processed so far. A partition that another worker has claimed is dropped and reported."""
        async with self._checkpointing:
            due = {partition: owned for partition, owned in self._owned.items() if owned.batches}
            # Snapshots first: the stream continues while the output they depend on is being acknowledged.
            snapshots = [await self._snapshot(partition, owned) for partition, owned in due.items()]
            await all_of(self._complete(snapshot) for snapshot in snapshots)

    async def _snapshot(self, partition: Partition, owned: _Owned) -> _Snapshot:
        """Everything that changed since the last one, as of between two batches."""
        async with owned.stepping:
            changed, owned.canonical.changed = owned.canonical.changed, set()
            batches, owned.batches = owned.batches, []
            output, owned.output = owned.output, []
            records = self._records(partition, owned, sorted(changed))
        return _Snapshot(partition, owned, changed, batches, output, records)

    async def _complete(self, snapshot: _Snapshot) -> None:
        partition, owned = snapshot.partition, snapshot.owned
        done = False
        try:
            await asyncio.gather(*snapshot.output)
            await self._state.write(partition, owned.claim, snapshot.records)
            done = True
        except OvertakenError as error:
            log.warning("%s: taking it over again if it is still assigned", error)
            if self._owned.get(partition) is owned:
                del self._owned[partition]
                self._overtaken(partition)
        finally:
            if not done:  # whatever the reason: the next checkpoint has to include these changes
                snapshot.put_back()
        for batch in snapshot.batches if done else ():
            batch.acknowledge()

    async def release(self, partitions: Iterable[Partition]) -> None:
        """Checkpoint what was processed and give up the partitions."""
        partitions = list(partitions)
        try:
            await self.checkpoint()
        finally:
            self._state.let_go(partitions)
            for partition in partitions:
                self._owned.pop(partition, None)
