"""Canonical events of a span of receive time from Kafka, in its order: md.trades, md.quotes and md.status merged."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from mdstream import kafka
from mdstream.config import Settings
from mdstream.errors import BrokerError
from mdstream.kafka import logs
from mdstream.replay.capture import Merge
from mdstream.senpai.inputs import UNREADABLE
from mdstream.senpai.share import TIME, Share
from mdstream.sinks.subjects import encode_token
from topics import Topics

MS = 1_000_000
SLACK_NS = 10_000_000_000
"""Clocks of ingestors and the broker may differ by this much."""
FETCH_MS, STALL_S = 200, 30.0
ALL = Share()


class _Head(msgspec.Struct):
    ts_recv: int
    symbol: str
    type: str


_head = msgspec.json.Decoder(_Head).decode


class _Event(NamedTuple):
    value: bytes
    wanted: bool


async def read(settings: Settings, begin_ns: int, end_ns: int | None, share: Share = ALL) -> AsyncIterator[bytes]:
    """Events received in [begin_ns, end_ns), of a share of the symbols; None: up to what is there now.

    Raises BrokerError.
    """
    servers, topics = settings.bootstrap_servers, Topics(settings)
    names = [topics.trades.name, topics.quotes.name, topics.status.name]
    partitions = [each for name in names for each in await kafka.partitions_of(servers, name)]
    async with kafka.reader(servers) as consumer:
        consumer.assign(partitions)
        await logs.seek_to_time(consumer, partitions, max(0, begin_ns - SLACK_NS) // MS)
        async for value in _merged(consumer, partitions, begin_ns, end_ns, share):
            yield value


async def _merged(
    consumer: AIOKafkaConsumer, partitions: list[TopicPartition], begin_ns: int, end_ns: int | None, share: Share
) -> AsyncIterator[bytes]:
    merge: Merge[TopicPartition, _Event] = Merge(partitions)
    ends = await consumer.end_offsets(partitions)
    done: set[TopicPartition] = set()
    asked_s = time.monotonic()
    while True:
        for tp in set(merge.empty()) - done:
            if await consumer.position(tp) >= ends[tp]:
                done.add(tp)
        for event in merge.take(idle=done):
            if event.wanted:
                yield event.value
        due = [tp for tp in merge.empty() if tp not in done]
        if not due:
            return
        chunk = await consumer.getmany(*due, timeout_ms=FETCH_MS)
        asked_s = time.monotonic() if chunk else asked_s
        if time.monotonic() - asked_s > STALL_S:
            raise BrokerError(f"the broker gave nothing for {STALL_S:.0f} s, but there is more to read: {due[0].topic}")
        for tp, records in chunk.items():
            for record in records:
                at_ns, wanted = _judge(record.value or b"", record.timestamp * MS, share)
                if end_ns is not None and record.timestamp * MS > end_ns + SLACK_NS:
                    done.add(tp)  # written later than anything of the span
                    break
                inside = begin_ns <= at_ns and (end_ns is None or at_ns < end_ns)
                merge.add(tp, at_ns, _Event(record.value or b"", wanted and inside))


def received_ns(value: bytes) -> int:
    """When an event was received."""
    return _head(value).ts_recv


def _judge(value: bytes, written_ns: int, share: Share) -> tuple[int, bool]:
    """When an event was received, and whether it is of the share."""
    try:
        head = _head(value)
    except UNREADABLE:
        return written_ns, True  # the engine counts it
    everybody = head.type == TIME
    return head.ts_recv, everybody or share.has(head.type, encode_token(head.symbol))
