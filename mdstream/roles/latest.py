"""The last trade and quote of each instrument, in two Faust tables, conflated.

A table write costs as much as normalising thirty frames, so there is one per instrument and interval; in between, only
the newest event of each instrument is kept. The tables are caches of the canonical topics: after a takeover a partition
is filled from the table's changelog, read to its end within a time limit, or by the next events if that fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from mdstream import kafka
from mdstream.config import Settings
from mdstream.errors import BrokerError
from mdstream.kafka.publisher import Partitioner
from mdstream.records import Partition
from mdstream.sinks.numbers import Conflicts
from mdstream.transport.batch import Batch

log = logging.getLogger(__name__)

CONFLATION_S = 0.5
RESTORE_LIMIT_S = 10.0
MAX_INSTRUMENTS = 100_000
"""Per table and worker; some 50 MB. Symbols come from the wire: a faulty feed must not fill the memory."""

BACKFILLED = b'"backfilled":true'
"""What only trades of history have, as text in events is escaped. To decode each trade would take ten times as long."""

Table = Any
"""faust.Table from symbol to public event, both as bytes."""


class LatestRole(Collector):
    """Keeps `tables` (by canonical topic name) at the newest event of each instrument."""

    def __init__(self, settings: Settings, tables: Mapping[str, Table]) -> None:
        self._bootstrap_servers = settings.bootstrap_servers
        self._partitioner = Partitioner(settings.partitions)
        self._tables = tables
        self._pending: dict[str, dict[Any, Any]] = {name: {} for name in tables}
        self._batches: list[Batch] = []
        self._conflicts = Conflicts("latest")
        self._full: set[str] = set()  # tables whose overflow was logged

    def collect(self) -> Iterator[Metric]:
        """The counters for Prometheus."""
        conflicts = CounterMetricFamily(
            "mdstream_seq_conflicts", "numbers stored with another content", labels=["sink"]
        )
        conflicts.add_metric(["latest"], self._conflicts.total)
        yield conflicts

    def process(self, batch: Batch) -> None:
        """Remember the last value of each key; it is written at the next flush. History is no latest price."""
        newest = {r.key: r.value for r in batch.take() if BACKFILLED not in (r.value or b"")}
        self._pending[batch.partition.topic].update(newest)
        self._batches.append(batch)

    async def run(self) -> None:
        """Flush at the set interval, forever."""
        while True:
            await asyncio.sleep(CONFLATION_S)
            self.flush()

    def flush(self) -> None:
        """Write the new events since the last flush into the tables, and acknowledge them."""
        batches, self._batches = self._batches, []
        for name, pending in self._pending.items():
            table = self._tables[name]
            for key, value in pending.items():
                seq = _seq(value)
                if key is None or seq is None:  # not written by us: it must not block our own records
                    log.warning("%s: a record that is not an event is skipped, key %r", name, key)
                    continue
                known = table.get(key)
                shown = -1 if known is None else _seq(known) or 0
                if known is None and len(table) >= MAX_INSTRUMENTS:
                    self._leave_out(name, key)
                elif shown < seq:  # a repeat after a crash must not restore an older event
                    table[key] = value
                elif shown == seq and known != value:
                    self._conflicts.found([(key.decode("utf-8", "replace"), seq)])
            pending.clear()
        for batch in batches:
            batch.acknowledge()

    def _leave_out(self, name: str, key: bytes) -> None:
        if name not in self._full:
            self._full.add(name)
            log.error("%s: more than %d instruments, %r and others have no latest price", name, MAX_INSTRUMENTS, key)

    async def restore(self, starts: Mapping[Partition, int]) -> Mapping[Partition, int]:
        """Fill the tables of partitions taken over; reading continues at the group's offsets."""
        partitions = list(starts)
        self._forget(partitions)
        try:
            async with asyncio.timeout(RESTORE_LIMIT_S):
                await self._read_changelogs(partitions)
        except (TimeoutError, KafkaError, BrokerError) as error:
            log.warning("latest prices start empty, what comes next fills them: %r", error)
        return starts

    def _forget(self, partitions: Iterable[Partition]) -> None:
        """Drop entries of partitions we no longer own."""
        for name, table in self._tables.items():
            owned = {p.number for p in partitions if p.topic == name}
            for key in [key for key in table if self._partitioner(key) not in owned]:
                table.data.pop(key, None)  # the cache only: the changelog is the next owner's

    async def _read_changelogs(self, partitions: Iterable[Partition]) -> None:
        source = {
            TopicPartition(self._tables[p.topic].changelog_topic_name, p.number): self._tables[p.topic]
            for p in partitions
        }
        async with kafka.reader(self._bootstrap_servers) as consumer:
            consumer.assign(list(source))
            async for records in kafka.read_until(consumer, await consumer.end_offsets(list(source))):
                table = source[TopicPartition(records[0].topic, records[0].partition)]
                table.data.update({r.key: r.value for r in records})

    async def release(self, _partitions: Iterable[Partition]) -> None:
        """Write the pending events."""
        self.flush()


class _Numbered(msgspec.Struct):
    seq: int


_decode_seq = msgspec.json.Decoder(_Numbered).decode


def _seq(value: bytes | None) -> int | None:
    """An event's `seq`; None if the value is no event."""
    try:
        return None if value is None else _decode_seq(value).seq
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
