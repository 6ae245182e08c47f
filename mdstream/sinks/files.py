"""The files role's machinery: which sinks there are, and where refused records go.

canonical topics ─> SinkLoop ─┬─> market_data.db
                              ├─> events.jsonl
                              └─> md.dead
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence

from aiokafka import TopicPartition

from mdstream import kafka
from mdstream.config import Settings
from mdstream.dead import dead_letter
from mdstream.errors import BrokerError, SettingsError, SinkError
from mdstream.publisher import Publisher
from mdstream.publisher import Record as Outgoing
from mdstream.sinks.base import Refusal, Sink
from mdstream.sinks.jsonl import JsonlSink
from mdstream.sinks.loop import SinkLoop
from mdstream.sinks.metrics import SinkMetrics
from mdstream.sinks.sqlite import SqliteSink
from mdstream.transport.batch import Batch, Partition
from topics import Topics

log = logging.getLogger(__name__)

MIB = 1 << 20
LOOK_LIMIT_MS = 2_000
"""How long to wait for one record that the broker should have at hand."""


class FilesRole:
    """Stores the batches that are put in, until stopped."""

    def __init__(self, settings: Settings) -> None:
        self._bootstrap_servers = settings.bootstrap_servers
        self._dead = Topics(settings).dead.name
        self._sinks = list(self._chosen(settings))
        if not self._sinks:
            raise SettingsError(
                "MDSTREAM_SQLITE and MDSTREAM_JSONL are both false: the files role has nothing to write"
            )
        self._publisher = Publisher(settings.bootstrap_servers, client_id="mdstream-files")
        self._loop = SinkLoop(self._sinks, self._bury)
        self.metrics = SinkMetrics(self._loop, self._sinks)

    def _chosen(self, settings: Settings) -> Iterator[Sink]:
        if settings.sqlite:
            yield SqliteSink(settings.data_dir)
        if settings.jsonl:
            yield JsonlSink(
                settings.data_dir,
                value_at=self._value_at,
                rotate_bytes=settings.jsonl_rotate_mb * MIB,
                compress=settings.jsonl_gzip,
            )

    async def start(self) -> None:
        """Open the sinks and connect. Raises SinkError where the settings are wrong, BrokerError."""
        for sink in self._sinks:
            try:
                await sink.open()
            except SinkError as error:
                if not error.retriable:
                    raise
                log.warning("%s; it is tried again with the first events", error)
        await self._publisher.start()

    async def run(self) -> None:
        """Store what is put in, for ever."""
        await self._loop.run()

    async def process(self, batch: Batch) -> None:
        """Take a batch; it is acknowledged once every sink has it. Waits while the sinks are behind."""
        await self._loop.put(batch)

    def holding(self) -> str | None:
        """Why nothing is acknowledged for now; None while every sink works."""
        return self._loop.holding()

    async def restore(self, partitions: Iterable[Partition]) -> dict[Partition, int | None]:
        """Where to begin: at the committed offsets, as nothing else is kept of a partition."""
        return dict.fromkeys(partitions)

    async def release(self, partitions: Iterable[Partition]) -> None:  # noqa: ARG002  all come at once
        """Return when everything that was taken is stored and acknowledged. With a sink that is down it never does."""
        await self._loop.settled()

    async def stop(self) -> None:
        """Close the sinks, after a write under way, and disconnect."""
        for sink in self._sinks:
            await sink.close()
        await self._publisher.stop()

    async def _bury(self, refused: Sequence[Refusal]) -> None:
        by_partition: dict[int, list[Refusal]] = {}
        for refusal in refused:
            by_partition.setdefault(refusal.partition.number, []).append(refusal)
        for number, some in by_partition.items():
            await asyncio.gather(*await self._publisher.send(self._dead, number, map(_letter, some)))

    async def _value_at(self, partition: Partition, offset: int) -> bytes | None:
        """The value of one record; None where the broker has no record at that offset (any more, or yet)."""
        tp = TopicPartition(partition.topic, partition.number)
        async with kafka.reader(self._bootstrap_servers) as consumer:
            consumer.assign([tp])
            consumer.seek(tp, offset)
            found = await consumer.getmany(tp, timeout_ms=LOOK_LIMIT_MS, max_records=1)
            for record in found.get(tp, ()):  # beyond the log the reader begins at its first record instead
                value: bytes | None = record.value
                return value if record.offset == offset else None
            if (await consumer.end_offsets([tp]))[tp] > offset:
                raise BrokerError(
                    f"{partition.topic}[{partition.number}]: no answer for offset {offset}, which is there"
                )
        return None


def _letter(refusal: Refusal) -> Outgoing:
    (topic, number), record = refusal.partition, refusal.record
    value = dead_letter(
        error=refusal.reason,
        topic=topic,
        partition=number,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=record.headers,
    )
    return topic.encode(), value, record.timestamp, []
