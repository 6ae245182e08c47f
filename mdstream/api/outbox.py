"""Alerts on their way to Kafka: those that come while a write is under way go together in the next one.

Each partition is written for itself: one that takes nothing holds up no other. Waiting alerts are bounded. One is
written for as long as that takes, also when its sender has given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from mdstream import kafka
from mdstream.config import Settings
from mdstream.errors import BrokerError
from mdstream.kafka.publisher import Partitioner
from mdstream.kafka.writer import Writer
from mdstream.records import HOOK, ProducerRecord, RawEncoder
from mdstream.venues.feed import TRADE
from mdstream.venues.tradingview.feed import TradingView

MAX_HELD, MAX_HELD_BYTES = 10_000, 64 << 20


class _Waiting(NamedTuple):
    record: ProducerRecord
    size: int
    accept: Callable[[], None]
    written: asyncio.Future[None]


class Outbox:
    """The alerts of one process that Kafka has not acknowledged."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._brokers = settings.bootstrap_servers
        self._topic = topic
        self._partition = Partitioner(settings.partitions)
        self._encode = RawEncoder(TradingView.name, HOOK).encode
        self._writer = Writer(self._brokers, client_id="mdstream-api")
        self._waiting: dict[int, list[_Waiting]] = {}
        self._writing: set[int] = set()
        self._held = self._held_bytes = 0
        self._more = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    @property
    def held(self) -> int:
        """Alerts that Kafka has not acknowledged."""
        return self._held

    @property
    def full(self) -> bool:
        """Whether further alerts have to be refused."""
        return self._held >= MAX_HELD or self._held_bytes >= MAX_HELD_BYTES

    async def check(self) -> None:
        """Return if Kafka has the topic, and took the last records. Raises BrokerError."""
        await kafka.partitions_of(self._brokers, self._topic)
        if self._writer.problem:
            raise BrokerError(self._writer.problem)

    async def start(self) -> None:
        """Connect, and write what is queued from then on. Raises BrokerError if no broker answers."""
        await self._writer.start()
        self._running = asyncio.create_task(self._run())

    async def failed(self) -> None:
        """Wait for the error that ends the writing, and raise it; cancelling this does not end it."""
        assert self._running is not None  # it was started
        await asyncio.wait([self._running])
        self._running.result()

    async def stop(self) -> None:
        """End the writing and disconnect."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        await self._writer.stop()

    def add(self, symbol: str, body: bytes, received_ns: int, accept: Callable[[], None]) -> asyncio.Future[None]:
        """Queue an alert. When all replicas have it, `accept` is called and the future done; cancelling that changes
        nothing."""
        key, future = symbol.encode(), asyncio.get_running_loop().create_future()
        record = self._encode(key, body, TRADE, received_ns)
        self._waiting.setdefault(self._partition(key), []).append(_Waiting(record, len(body), accept, future))
        self._held += 1
        self._held_bytes += len(body)
        self._more.set()
        return future

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as writes:
            while True:
                await self._more.wait()
                self._more.clear()
                for partition in self._waiting.keys() - self._writing:
                    self._writing.add(partition)
                    writes.create_task(self._write(partition))

    async def _write(self, partition: int) -> None:
        """Write what waits for a partition, until nothing does."""
        while some := self._waiting.pop(partition, None):
            await self._writer.write(self._topic, partition, [each.record for each in some])
            for each in some:
                self._held -= 1
                self._held_bytes -= each.size
                each.accept()
                if not each.written.done():
                    each.written.set_result(None)
        self._writing.remove(partition)
