"""Runs the raw log of a time range through the current code again, into topics with another prefix.

    live.raw.MARKET ─ no group, nothing committed ─> in range? ─> Canonical, from an empty state ─> PREFIX.trades ...

Each raw partition is read in log order into the partition of the same number, one market after the other. The output
depends only on the raw records and the settings: the same range gives the same bytes again.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from mdstream import kafka
from mdstream.config import Settings
from mdstream.errors import BrokerError, SettingsError
from mdstream.kafka import logs
from mdstream.kafka.publisher import Publisher
from mdstream.records import Partition, receive_ns
from mdstream.roles.canonical import factory, routed
from mdstream.stream.canonical import Canonical
from mdstream.stream.checkpoint import Restored
from mdstream.stream.output import Output
from topics import Topic, Topics

MAX_CHUNKS_UNDER_WAY = 16
FETCH_WAIT_MS = 25
"""A fetch that waits for a quiet partition delays partitions that have records."""
SLACK_MS = 10 * 60_000
"""A record is written after its frame was received, except for clock differences: reading begins this much earlier."""
MS = 1_000_000
END_NS = 1 << 63


@dataclass(frozen=True)
class Span:
    """Receive times [begin_ns, end_ns)."""

    begin_ns: int = 0
    end_ns: int = END_NS

    def of(self, records: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
        """The records whose frames were received in this span."""
        if self == EVERYTHING:
            return records
        return [record for record in records if self.begin_ns <= receive_ns(record) < self.end_ns]


EVERYTHING = Span()


@dataclass
class Totals:
    """Raw records read so far, of `expected` or a few more; those in the range (`taken`); records written, by topic."""

    expected: int = 0
    read: int = 0
    taken: int = 0
    written: Counter[str] = field(default_factory=Counter)

    @property
    def fraction(self) -> float:
        return min(1.0, self.read / self.expected) if self.expected else 1.0


Show = Callable[[Totals], None]


class Reprocess:
    """One run into the topics of `prefix`; `totals` is its progress, also after an error."""

    def __init__(self, settings: Settings, prefix: str, span: Span) -> None:
        if prefix == settings.topic_prefix:
            raise SettingsError(f"{prefix} is the live prefix (MDSTREAM_TOPIC_PREFIX): choose another one")
        self.totals = Totals()
        self._bootstrap_servers = settings.bootstrap_servers
        self._replication = settings.replication
        self._span = span
        self._raw = Topics(settings).raw.values()
        self._target = Topics(settings.model_copy(update={"topic_prefix": prefix}))
        self.outputs = [topic for topic, _ in routed(self._target, Output())]
        self._new = factory(settings)
        self._publisher = Publisher(settings.bootstrap_servers, client_id="mdstream-reprocess")

    async def prepare(self, *, replace: bool) -> None:
        """Create the output topics; with `replace` existing ones are deleted first.

        Raises SettingsError if they hold records and `replace` is not set, or if a deployment uses the prefix;
        BrokerError if a raw topic is missing or has another partition count.
        """
        await self._check_raw()
        own = [topic.name for topic in (*self._target.raw.values(), self._target.state)]
        if filled := await logs.topics_with_records(self._bootstrap_servers, own):
            raise SettingsError(f"{', '.join(filled)}: another deployment uses it, choose another prefix")
        names = [topic.name for topic in self.outputs]
        if replace:
            await kafka.delete_topics(self._bootstrap_servers, names)
        elif filled := await logs.topics_with_records(self._bootstrap_servers, names):
            raise SettingsError(
                f"there are records on {', '.join(filled)}: choose another prefix, or --force to delete what is there"
            )
        await kafka.create_topics(self._bootstrap_servers, self.outputs, replication=self._replication)

    async def _check_raw(self) -> None:
        counts = await kafka.partition_counts(self._bootstrap_servers)
        for topic in self._raw:
            found = counts.get(topic.name)
            if found != topic.partitions:
                what = "is not there" if found is None else f"has {found} partitions, not {topic.partitions}"
                raise BrokerError(
                    f"topic {topic.name} {what}: check MDSTREAM_TOPIC_PREFIX, MDSTREAM_MARKETS and MDSTREAM_PARTITIONS"
                )

    async def run(self, show: Show) -> Totals:
        """Read, process and publish; returns when the broker has everything. Raises BrokerError if that fails."""
        await self._publisher.start()
        under_way = UnderWay()
        try:
            async with kafka.reader(self._bootstrap_servers, fetch_max_wait_ms=FETCH_WAIT_MS) as consumer:
                self.totals.expected = sum([await self._records_of(consumer, topic) for topic in self._raw])
                for topic in self._raw:
                    await self._market(consumer, topic, under_way, show)
            await under_way.settle(0)
        except KafkaError as error:
            raise kafka.lost(self._bootstrap_servers, error) from error
        finally:
            await self._publisher.stop()
            await under_way.give_up()
        return self.totals

    async def _records_of(self, consumer: AIOKafkaConsumer, topic: Topic) -> int:
        partitions = await self._seek(consumer, topic)
        ends = await consumer.end_offsets(partitions)
        return sum([end - await consumer.position(tp) for tp, end in ends.items()])

    async def _seek(self, consumer: AIOKafkaConsumer, topic: Topic) -> list[TopicPartition]:
        """Assign a raw topic's partitions, each at the first record that may be in the range."""
        partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        consumer.assign(partitions)
        await logs.seek_to_time(consumer, partitions, self._span.begin_ns // MS - SLACK_MS)
        return partitions

    async def _market(self, consumer: AIOKafkaConsumer, topic: Topic, under_way: UnderWay, show: Show) -> None:
        streams = [self._new(Partition(topic.name, number), Restored()) for number in range(topic.partitions)]
        partitions = await self._seek(consumer, topic)
        async for records in logs.read_whole(consumer, partitions):
            self.totals.read += len(records)
            await under_way.add(await self._step(streams[records[0].partition], records))
            show(self.totals)

    async def _step(self, stream: Canonical, records: Sequence[ConsumerRecord]) -> list[asyncio.Future[object]]:
        taken = self._span.of(records)
        self.totals.taken += len(taken)
        futures: list[asyncio.Future[object]] = []
        for topic, events in routed(self._target, stream.step(taken)):
            if events:
                self.totals.written[topic.name] += len(events)
                futures += await self._publisher.send(topic.name, records[0].partition, events)
        return futures


class UnderWay:
    """Chunks that were sent and that the broker has not acknowledged yet: a bounded number."""

    def __init__(self) -> None:
        self._chunks: deque[asyncio.Future[list[object]]] = deque()

    async def add(self, futures: Iterable[asyncio.Future[object]]) -> None:
        """Add a chunk's futures; waits while too many chunks are under way. Raises the KafkaError of a failed one."""
        self._chunks.append(asyncio.gather(*futures))
        await self.settle(MAX_CHUNKS_UNDER_WAY)

    async def settle(self, limit: int) -> None:
        """Wait until no more than `limit` chunks are under way."""
        while len(self._chunks) > limit or (self._chunks and self._chunks[0].done()):
            await asyncio.wait([self._chunks[0]])  # unlike with a plain await, Ctrl-C cancels nothing that was sent
            self._chunks.popleft().result()

    async def give_up(self) -> None:
        """Wait for what is left after an error or Ctrl-C, and ignore its errors."""
        await asyncio.gather(*self._chunks, return_exceptions=True)
