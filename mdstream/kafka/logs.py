"""Whole logs for a command to read: from a timestamp on, without holes; and which topics hold records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from mdstream import kafka
from mdstream.config.cluster import Brokers

FOLLOW_MS, FOLLOW_RECORDS = 200, 5_000


async def read_whole(
    consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition], *, quiet_s: float = 0.5, follow: bool = False
) -> AsyncIterator[list[ConsumerRecord]]:
    """Like read_to_end, for logs in which every offset holds a record (neither compacted nor transactional).

    A broker may leave offsets out of an answer: they are requested once more, then count as gone. `follow`: go on at
    the end, for ever; while nothing comes, with an empty chunk every FOLLOW_MS.
    """
    partitions = list(partitions)
    due = {tp: await consumer.position(tp) for tp in partitions}
    asked_again: dict[TopicPartition, int] = {}
    read = _follow(consumer) if follow else kafka.read_to_end(consumer, partitions, quiet_s=quiet_s)
    async for records in read:
        if not records:
            yield records
            continue
        tp = TopicPartition(records[0].topic, records[0].partition)
        whole = before_hole(records, due[tp], forgiven=asked_again.get(tp))
        if whole:
            yield whole
            due[tp] = whole[-1].offset + 1
        if len(whole) < len(records):
            asked_again[tp] = due[tp]
            consumer.seek(tp, due[tp])


async def _follow(consumer: AIOKafkaConsumer) -> AsyncIterator[list[ConsumerRecord]]:
    """Chunks of records of all assigned partitions. While no broker answers they are empty."""
    while True:
        for records in (await consumer.getmany(timeout_ms=FOLLOW_MS, max_records=FOLLOW_RECORDS)).values() or [[]]:
            yield records


def before_hole(records: list[ConsumerRecord], due: int, *, forgiven: int | None) -> list[ConsumerRecord]:
    """The records from offset `due` up to the first that is missing; a hole at `forgiven` is ignored."""
    first = records[0].offset if due == forgiven else due
    if records[-1].offset - first + 1 == len(records):
        return records
    count = 0
    while records[count].offset == first + count:
        count += 1
    return records[:count]


async def seek_to_time(consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition], from_ms: int) -> None:
    """Seek to the first records written at `from_ms` or later; to the end of a partition without any."""
    partitions = list(partitions)
    await consumer.seek_to_beginning(*partitions)
    if from_ms <= 0:
        return
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, from_ms))
    for tp, at in found.items():
        if at is not None:
            consumer.seek(tp, at.offset)
        else:
            await consumer.seek_to_end(tp)


async def topics_with_records(bootstrap_servers: Brokers, names: Iterable[str]) -> list[str]:
    """Those of the named topics that exist and hold a record. Raises BrokerError if no broker answers."""
    counts = await kafka.partition_counts(bootstrap_servers)
    unknown = {
        name: [TopicPartition(name, number) for number in range(counts[name])] for name in names if name in counts
    }
    found: list[str] = []
    while unknown:
        async with kafka.reader(bootstrap_servers) as consumer:
            name = await _one_with_records(consumer, [tp for tps in unknown.values() for tp in tps])
        if name is None:
            break
        found.append(name)
        del unknown[name]
    return sorted(found)


async def _one_with_records(consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> str | None:
    """Reads instead of asking for the end offset, which may be too low."""
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    async for records in kafka.read_to_end(consumer, partitions):
        topic: str = records[0].topic
        return topic
    return None
