"""A deployment as seen from its broker: brokers, topics, consumer groups and feeds. For `mdstream status`.

Only the broker is queried; no worker or ingestor has to answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from mdstream import events, kafka
from mdstream.config import Settings
from mdstream.errors import FrameError
from mdstream.events import FeedStatus
from mdstream.records import HEARTBEAT, STATUS, decode_raw
from topics import Topics

TAILS = (1_000, 10_000, 100_000)
"""How far back to look for a heartbeat, in records. A heartbeat comes each second, to every partition."""
STATUS_TAIL = 1_000
SILENT_AFTER_NS = 5_000_000_000
"""Without a heartbeat for this long, a feed's ingestor has ended or cannot reach the broker."""


class Broker(msgspec.Struct, frozen=True):
    """One broker of the cluster."""

    id: int
    address: str


class TopicFacts(msgspec.Struct, frozen=True):
    """One topic of the settings. `records` spans the offsets kept; a compacted topic holds fewer."""

    name: str
    present: bool
    partitions: int
    records: int


class Lag(msgspec.Struct, frozen=True):
    """How many records of a topic a group has not committed; `uncommitted` counts its partitions without any offset."""

    topic: str
    records: int
    uncommitted: int


class Group(msgspec.Struct, frozen=True):
    """A consumer group of this deployment (PREFIX.ROLE), with its lag on each topic that it reads."""

    name: str
    lag: list[Lag]


class Feed(msgspec.Struct, frozen=True):
    """The last state of a provider's ingestor. Times in ns since 1970; null if nothing was found.

    `state`: connected, closed while it is and the markets of all its symbols are closed, disconnected, gave_up, silent
    without a recent heartbeat, or unknown.
    """

    provider: str
    market: str
    state: str
    reason: str | None
    symbols: int | None
    heartbeat_ns: int | None
    changed_ns: int | None


class Snapshot(msgspec.Struct, frozen=True):
    """The whole deployment at one time."""

    bootstrap_servers: str
    brokers: list[Broker]
    topics: list[TopicFacts]
    groups: list[Group]
    feeds: list[Feed]


async def snapshot(settings: Settings, *, now_ns: int) -> Snapshot:
    """The deployment as the broker shows it. Raises BrokerError if none answers."""
    topics = Topics(settings)
    async with kafka.admin(settings.bootstrap_servers) as client, kafka.reader(settings.bootstrap_servers) as consumer:
        counts = {t["topic"]: len(t["partitions"]) for t in await client.describe_topics()}
        there = {t.name: [TopicPartition(t.name, n) for n in range(counts.get(t.name, 0))] for t in topics}
        log = await Log.of(consumer, [tp for tps in there.values() for tp in tps])
        return Snapshot(
            str(settings.bootstrap_servers),
            [Broker(b["node_id"], f"{b['host']}:{b['port']}") for b in (await client.describe_cluster())["brokers"]],
            [TopicFacts(name, bool(tps), len(tps), sum(map(log.records, tps))) for name, tps in there.items()],
            await _groups(client, settings.topic_prefix, there, log),
            await _feeds(consumer, topics, there, log, now_ns),
        )


class Log:
    """First and next offset of partitions, as the broker reports them."""

    def __init__(self, first: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]) -> None:
        self.first, self.end = first, end

    @classmethod
    async def of(cls, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> Log:
        if not partitions:
            return cls({}, {})
        return cls(await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions))

    def records(self, tp: TopicPartition) -> int:
        return max(0, self.end[tp] - self.first[tp])

    def lag(self, tp: TopicPartition, committed: int) -> int:
        """Records behind; never negative, although the two are not read at the same time."""
        return max(0, self.end[tp] - max(committed, self.first[tp]))


async def _groups(
    client: AIOKafkaAdminClient, prefix: str, topics: Mapping[str, list[TopicPartition]], log: Log
) -> list[Group]:
    names = sorted({name for name, *_ in await client.list_consumer_groups() if name.startswith(f"{prefix}.")})
    return [Group(name, await _lag(client, name, topics, log)) for name in names]


async def _lag(
    client: AIOKafkaAdminClient, group: str, topics: Mapping[str, list[TopicPartition]], log: Log
) -> list[Lag]:
    wanted = [tp for tps in topics.values() for tp in tps]
    if not wanted:
        return []
    found = await client.list_consumer_group_offsets(group, partitions=wanted)
    committed = {tp: answer.offset for tp, answer in found.items() if answer.offset >= 0}
    lag = []
    for name, tps in topics.items():
        known = [tp for tp in tps if tp in committed]
        if known:
            behind = sum(log.lag(tp, committed.get(tp, 0)) for tp in tps)
            lag.append(Lag(name, behind, len(tps) - len(known)))
    return lag


# ---------------------------------------------------------------------------------------------------------------- feeds


class FeedRecord(msgspec.Struct):
    """A heartbeat or status record of an ingestor on a raw topic."""

    provider: str
    ts: int
    connected: bool | None = None
    closed: bool = False
    symbols: int | None = None
    state: str | None = None
    reason: str | None = None


_decode_feed_record = msgspec.json.Decoder(FeedRecord).decode


async def _feeds(
    consumer: AIOKafkaConsumer, topics: Topics, there: Mapping[str, list[TopicPartition]], log: Log, now_ns: int
) -> list[Feed]:
    changes: dict[str, FeedStatus] = {}
    for tp in there[topics.status.name]:
        for record in await _tail(consumer, tp, log, STATUS_TAIL):
            with suppress(msgspec.MsgspecError):  # another program's record says nothing about a feed
                event = events.decode(record.value)
                if isinstance(event, FeedStatus) and event.symbol == events.SYSTEM:
                    changes[event.provider] = event
    feeds = []
    for market, topic in topics.raw.items():
        # Every partition has every heartbeat: one is enough.
        records = await _last_feed_records(consumer, there[topic.name][0], log) if there[topic.name] else {}
        feeds += [
            feed_of(provider, market, records[provider], changes.get(provider), now_ns) for provider in sorted(records)
        ]
    named = {feed.provider for feed in feeds}
    return feeds + [feed_of(name, "", [], changes[name], now_ns) for name in sorted(set(changes) - named)]


async def _last_feed_records(consumer: AIOKafkaConsumer, tp: TopicPartition, log: Log) -> dict[str, list[FeedRecord]]:
    """The ingestors' recent records by provider, oldest first; reads further back until it finds some."""
    records: dict[str, list[FeedRecord]] = {}
    for count in TAILS:
        for record in await _tail(consumer, tp, log, count):
            with suppress(FrameError, msgspec.MsgspecError):
                if decode_raw(record)[2] in (HEARTBEAT, STATUS):
                    one = _decode_feed_record(record.value)
                    records.setdefault(one.provider, []).append(one)
        if records or count >= log.records(tp):
            break
    return records


def feed_of(provider: str, market: str, records: Iterable[FeedRecord], change: FeedStatus | None, now_ns: int) -> Feed:
    """The state of `provider`, from its ingestor's records, oldest first, and the last change on md.status."""
    state, reason, changed_ns = (change.state, change.reason, change.ts_recv) if change else ("unknown", None, None)
    heartbeat_ns = symbols = None
    closed = False
    for one in records:
        if one.connected is not None:
            heartbeat_ns, symbols, closed = one.ts, one.symbols, one.closed
            seen = "connected" if one.connected else "disconnected"
            if seen != state:
                state, reason = seen, None
        elif one.state is not None:
            state, reason, changed_ns = one.state, one.reason, one.ts
    if state == "connected" and (heartbeat_ns is None or now_ns - heartbeat_ns > SILENT_AFTER_NS):
        state, reason = "silent", "no heartbeat: its ingestor has ended, or cannot reach the broker"
    elif state == "connected" and closed:
        state = "closed"
    return Feed(provider, market, state, reason, symbols, heartbeat_ns, changed_ns)


async def _tail(
    consumer: AIOKafkaConsumer, tp: TopicPartition, log: Log, count: int
) -> list[ConsumerRecord[bytes, bytes]]:
    """The last records of a partition, about `count` of them, up to the end that the broker reports."""
    if not log.records(tp):
        return []
    consumer.assign([tp])
    consumer.seek(tp, max(log.first[tp], log.end[tp] - count))
    end = kafka.LogEnd(consumer, {tp: log.end[tp]}, quiet_s=0.0)
    records: list[ConsumerRecord[bytes, bytes]] = []
    while True:
        chunk = (await consumer.getmany(tp, timeout_ms=200)).get(tp, [])
        records += chunk
        if await end.reached(empty=not chunk):
            return records
