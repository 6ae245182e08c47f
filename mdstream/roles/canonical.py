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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition

from mdstream import kafka
from mdstream.config import Settings
from mdstream.kafka.publisher import Partitioner
from mdstream.records import Partition, Record
from mdstream.roles.feeds import feeds
from mdstream.roles.metrics import CanonicalMetrics
from mdstream.roles.rules import rules_of
from mdstream.roles.state_log import StateLog, now_ms
from mdstream.roles.stateful import Owned, Snapshot, StatefulRole
from mdstream.stream import checkpoint
from mdstream.stream.canonical import Canonical
from mdstream.stream.checkpoint import Restored
from mdstream.stream.ledger import Ledger
from mdstream.stream.output import Out, Output
from mdstream.transport.batch import Batch
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
        (topics.bars, output.bars),
        (topics.status, output.status),
        (topics.gaps, output.gaps),
        (topics.dead, output.dead),
    )


class _Owned(Owned):
    """One raw partition while it is ours."""

    def __init__(self, partition: Partition, claim: int, canonical: Canonical) -> None:
        super().__init__(partition, claim, canonical.read_from)
        self.canonical = canonical
        self.changed: set[str] = set()  # not yet covered by a checkpoint
        self.output: list[asyncio.Future[object]] = []
        # Held from a batch's step until its output is queued: a snapshot in between would include changes whose output
        # it does not wait for.
        self.stepping = asyncio.Lock()


@dataclass
class _Snapshot(Snapshot[_Owned]):
    changed: set[str]
    output: list[asyncio.Future[object]]

    def put_back(self) -> None:
        super().put_back()
        self.owned.changed |= self.changed
        self.owned.output[:0] = self.output


class CanonicalRole(StatefulRole[_Owned, _Snapshot]):
    """The raw partitions of this worker."""

    _layout = checkpoint.LAYOUT

    def __init__(self, settings: Settings, state: StateLog, *, overtaken: Callable[[Partition], None]) -> None:
        super().__init__(settings.bootstrap_servers, state, client_id="mdstream-canonical", overtaken=overtaken)
        self._topics, self._bootstrap_servers = Topics(settings), settings.bootstrap_servers
        self._interval_s = settings.checkpoint_interval_s
        self._new = factory(settings)
        self.metrics = CanonicalMetrics()

    async def _restored(
        self, starts: Mapping[Partition, int], ledgers: Mapping[Partition, Ledger], claims: Mapping[Partition, int]
    ) -> dict[Partition, _Owned]:
        restored = {partition: checkpoint.read(found) for partition, found in ledgers.items()}
        numbered = await self._numbered(partition for partition, state in restored.items() if state.position is None)
        owned: dict[Partition, _Owned] = {}
        for partition, state in restored.items():
            state.position = starts[partition] if state.position is None else state.position
            owned[partition] = _Owned(partition, claims[partition], self._new(partition, state))
            owned[partition].canonical.numbers_from = numbered.get(partition)
        return owned

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

    async def _step(self, owned: _Owned, batch: Batch, records: Sequence[Record]) -> None:
        """Publish the output of a batch. Waits only while output of an earlier batch of the partition is not sent."""
        async with owned.stepping:
            output = owned.canonical.step(records)
            owned.changed |= output.changed
            owned.batches.append(batch)
            await self._publish(owned, output)
        self.metrics.add(output)
        for error in output.errors:
            log.warning("%s", error)

    async def _publish(self, owned: _Owned, output: Output) -> None:
        for topic, records in routed(self._topics, output):
            if records:
                owned.output += await self._publisher.send(topic.name, owned.partition.number, records)

    def feeds(self) -> dict[str, Any]:
        """The sources of each instrument we own, as /feeds shows them."""
        return feeds(owned.canonical for owned in self._owned.values())

    async def run(self) -> None:
        """Checkpoint at the set interval, forever. Raises the error of failed output or of a failed checkpoint."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.checkpoint()

    async def _snapshot(self, owned: _Owned) -> _Snapshot:
        async with owned.stepping:
            canonical = owned.canonical
            changed, owned.changed = owned.changed, set()
            batches, owned.batches = owned.batches, []
            output, owned.output = owned.output, []
            states = ((symbol, canonical.instruments[symbol]) for symbol in sorted(changed))
            records = checkpoint.write(
                owned.partition.topic, owned.claim, states, canonical.position, canonical.log, now_ms()
            )
        return _Snapshot(owned, records, batches, changed, output)

    async def _complete(self, snapshot: _Snapshot) -> None:
        await asyncio.gather(*snapshot.output)
        await self._state.write(snapshot.owned.partition, snapshot.owned.claim, snapshot.records)
