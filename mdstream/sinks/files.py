"""The files that the settings ask for: market_data.db, events.jsonl, or both."""

from __future__ import annotations

from functools import partial

from aiokafka import TopicPartition

from mdstream import kafka
from mdstream.config import Settings
from mdstream.config.cluster import Brokers
from mdstream.errors import BrokerError, SettingsError
from mdstream.records import Partition
from mdstream.sinks.base import Sink
from mdstream.sinks.jsonl import JsonlSink
from mdstream.sinks.sqlite import SqliteSink

MIB = 1 << 20
LOOK_LIMIT_MS = 2_000
"""How long to wait for one record that the broker should have."""


def sinks_of(settings: Settings) -> list[Sink]:
    """The files role's sinks. Raises SettingsError if there are none."""
    sinks: list[Sink] = []
    if settings.files.sqlite:
        sinks.append(SqliteSink(settings.data_dir))
    if settings.files.jsonl:
        sinks.append(
            JsonlSink(
                settings.data_dir,
                value_at=partial(_value_at, settings.bootstrap_servers),
                rotate_bytes=settings.files.jsonl_rotate_mb * MIB,
                compress=settings.files.jsonl_gzip,
            )
        )
    if not sinks:
        raise SettingsError("MDSTREAM_SQLITE and MDSTREAM_JSONL are both false: the files role has nothing to write")
    return sinks


async def _value_at(bootstrap_servers: Brokers, partition: Partition, offset: int) -> bytes | None:
    """The value of one record; None if the broker has no record at that offset (any more, or yet)."""
    tp = TopicPartition(partition.topic, partition.number)
    async with kafka.reader(bootstrap_servers) as consumer:
        consumer.assign([tp])
        consumer.seek(tp, offset)
        found = await consumer.getmany(tp, timeout_ms=LOOK_LIMIT_MS, max_records=1)
        for record in found.get(tp, ()):  # outside the log the reader starts at its first record instead
            value: bytes | None = record.value
            return value if record.offset == offset else None
        if (await consumer.end_offsets([tp]))[tp] > offset:
            raise BrokerError(f"{partition.topic}[{partition.number}]: no answer for offset {offset}, which exists")
    return None
