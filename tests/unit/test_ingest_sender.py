"""The sender when Kafka refuses: it repeats the batch until Kafka takes it, in order, with a new producer if one fails.

The refusals are made here: a broker gives them when a leader moves or a producer is fenced, not when a test asks it to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    NotEnoughReplicasError,
    NotLeaderForPartitionError,
    OutOfOrderSequenceNumber,
)

from mdstream.errors import BrokerError
from mdstream.ingest.backlog import Backlog
from mdstream.ingest.sender import Sender
from mdstream.kafka.publisher import Publisher
from mdstream.records import ProducerRecord

PARTITIONS = [("md.raw.crypto", 0), ("md.raw.crypto", 1)]


class Log:
    """What a broker would hold, and the refusals that it has in store for sending, acknowledging and starting."""

    def __init__(self) -> None:
        self.stored: dict[int, list[bytes]] = {0: [], 1: []}
        self.on_send: list[KafkaError] = []
        self.on_acknowledge: list[KafkaError] = []
        self.on_start: list[BrokerError] = []
        self.producers = 0

    def new_publisher(self) -> Publisher:
        self.producers += 1
        return Refusing(self)


class Refusing(Publisher):
    """A producer that writes to `log`, as far as it lets it."""

    def __init__(self, log: Log) -> None:
        super().__init__("nowhere", client_id="test")
        self._log = log

    async def start(self) -> None:
        if self._log.on_start:
            raise self._log.on_start.pop(0)

    async def stop(self) -> None:
        """There is nothing to disconnect."""

    async def send(self, topic: str, partition: int, records: Iterable[ProducerRecord]) -> list[asyncio.Future[object]]:
        if self._log.on_send:
            raise self._log.on_send.pop(0)
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if self._log.on_acknowledge:
            future.set_exception(self._log.on_acknowledge.pop(0))
        else:
            self._log.stored[partition] += [value or b"" for _, value, _, _ in records]
            future.set_result(None)
        return [future]


@asynccontextmanager
async def sending(log: Log, backlog: Backlog) -> AsyncIterator[Sender]:
    sender = Sender(backlog, PARTITIONS, log.new_publisher, retry_s=1e-6)
    await sender.start()
    task = asyncio.create_task(sender.run())
    try:
        yield sender
    finally:
        task.cancel()
        await asyncio.wait([task])


def add(backlog: Backlog, queue: int, values: range) -> None:
    for value in values:
        backlog.add(queue, (b"BTCUSDT", b"%d" % value, 0, []), 1)


async def sent_through(log: Log) -> Sender:
    """A sender that has sent 0..99 to each partition, in two portions."""
    backlog = Backlog(len(PARTITIONS))
    async with sending(log, backlog) as sender:
        for portion in (range(50), range(50, 100)):
            add(backlog, 0, portion)
            add(backlog, 1, portion)
            await asyncio.wait_for(backlog.empty.wait(), 30)
    assert log.stored == {partition: [b"%d" % i for i in range(100)] for partition in (0, 1)}
    assert (backlog.records, sender.counters.records) == (0, 200)
    return sender


async def test_sender_keeps_each_partition_in_order() -> None:
    """With nothing in its way: one delivery a partition and flush, no errors."""
    sender = await sent_through(Log())
    assert (sender.counters.deliveries, sender.counters.errors, sender.stalled_s) == (4, 0, 0.0)


@pytest.mark.parametrize("error", [KafkaTimeoutError(), NotLeaderForPartitionError()])
async def test_sender_repeats_what_was_not_taken(error: KafkaError) -> None:
    """Refused on sending and then on acknowledging: the same records again, before any later ones."""
    log = Log()
    log.on_send, log.on_acknowledge = [error] * 3, [NotLeaderForPartitionError()] * 3
    sender = await sent_through(log)
    assert sender.counters.errors == 6


async def test_sender_replaces_a_producer_that_is_lost_for_good() -> None:
    """After an error that no repetition helps, a new producer takes over; while no broker answers it tries again."""
    log = Log()
    log.on_acknowledge = [OutOfOrderSequenceNumber()]
    log.on_start = []
    backlog = Backlog(len(PARTITIONS))
    async with sending(log, backlog) as sender:
        log.on_start = [BrokerError("no Kafka broker answers")] * 2
        add(backlog, 0, range(10))
        await asyncio.wait_for(backlog.empty.wait(), 30)
    assert log.stored[0] == [b"%d" % i for i in range(10)]
    assert log.producers == 1 + 3
    assert (sender.counters.restarts, sender.counters.errors) == (1, 1)


async def test_sender_replaces_a_lost_producer_once_for_all_partitions() -> None:
    """Several partitions fail with it at the same time, and share the new one."""
    log = Log()
    log.on_acknowledge = [OutOfOrderSequenceNumber()] * 2
    sender = await sent_through(log)
    assert (sender.counters.errors, sender.counters.restarts, log.producers) == (2, 1, 2)


def progress_of(sender: Sender) -> list[tuple[int, int]]:
    """(acknowledged, acknowledged and waiting) of each partition, as the watchdog sees it."""
    return [(progress.done, progress.delivered) for progress in sender.state().partitions.values()]


async def test_state_reports_what_each_partition_has_done_and_what_waits() -> None:
    """Queued and under way both wait; acknowledged is done."""
    log, backlog = Log(), Backlog(len(PARTITIONS))
    async with sending(log, backlog) as sender:
        add(backlog, 0, range(10))
        assert progress_of(sender) == [(0, 10), (0, 0)]
        await asyncio.wait_for(backlog.empty.wait(), 30)
        await asyncio.sleep(0)
        assert progress_of(sender) == [(10, 10), (0, 0)]
        assert sender.state().holding is None


async def test_state_holds_while_the_broker_refuses() -> None:
    """The broker has refused: a restart would not help, and would lose what waits."""
    log, backlog = Log(), Backlog(len(PARTITIONS))
    log.on_acknowledge = [NotEnoughReplicasError()] * 1_000_000
    async with sending(log, backlog) as sender:
        add(backlog, 1, range(10))
        async with asyncio.timeout(30):
            while sender.counters.errors < 3:  # noqa: ASYNC110  a plain counter is all there is
                await asyncio.sleep(0.001)
        assert progress_of(sender) == [(0, 0), (0, 10)]
        holding = sender.state().holding or ""
        assert holding.startswith("Kafka refuses records for md.raw.crypto[1]: NotEnoughReplicasError")
        log.on_acknowledge.clear()
        await asyncio.wait_for(backlog.empty.wait(), 30)
        assert sender.state().holding is None


async def test_state_does_not_hold_for_a_time_limit() -> None:
    """A delivery that nobody answered may well be our own producer's fault."""
    log, backlog = Log(), Backlog(len(PARTITIONS))
    log.on_acknowledge = [KafkaTimeoutError()] * 1_000_000
    async with sending(log, backlog) as sender:
        add(backlog, 0, range(10))
        async with asyncio.timeout(30):
            while sender.counters.errors < 3:  # noqa: ASYNC110  a plain counter is all there is
                await asyncio.sleep(0.001)
        assert sender.state().holding is None
        log.on_acknowledge.clear()
        await asyncio.wait_for(backlog.empty.wait(), 30)
