"""Alerts on their way to Kafka: those that come while a write is under way go together in the next one.

Waiting alerts are bounded. One is written for as long as that takes, also when its sender has given up.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

from mdstream.config import Settings
from mdstream.kafka.publisher import Partitioner
from mdstream.kafka.writer import Writer
from mdstream.records import HOOK, ProducerRecord, RawEncoder
from mdstream.venues.feed import TRADE
from mdstream.venues.tradingview.feed import TradingView
from topics import Topics

MAX_HELD, MAX_HELD_BYTES = 10_000, 64 << 20


class _Waiting(NamedTuple):
    record: ProducerRecord
    partition: int
    size: int
    accept: Callable[[], None]
    written: asyncio.Future[None]


class Outbox:
    """`problem`: why Kafka currently takes nothing."""

    def __init__(self, settings: Settings) -> None:
        self._topic = Topics(settings).raw_of(TradingView.market).name
        self._partition = Partitioner(settings.partitions)
        self._encode = RawEncoder(TradingView.name, HOOK).encode
        self._writer = Writer(settings.bootstrap_servers, client_id="mdstream-api")
        self._waiting: list[_Waiting] = []
        self._held = self._held_bytes = 0
        self._more = asyncio.Event()

    @property
    def problem(self) -> str | None:
        return self._writer.problem

    @property
    def held(self) -> int:
        """Alerts that Kafka has not acknowledged."""
        return self._held

    @property
    def full(self) -> bool:
        """Whether further alerts have to be refused."""
        return self._held >= MAX_HELD or self._held_bytes >= MAX_HELD_BYTES

    async def start(self) -> None:
        """Connect. Raises BrokerError if no broker answers."""
        await self._writer.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._writer.stop()

    def add(self, symbol: str, body: bytes, received_ns: int, accept: Callable[[], None]) -> asyncio.Future[None]:
        """Queue an alert. When all replicas have it, `accept` is called and the future done; cancelling that changes
        nothing."""
        key, future = symbol.encode(), asyncio.get_running_loop().create_future()
        record = self._encode(key, body, TRADE, received_ns)
        self._waiting.append(_Waiting(record, self._partition(key), len(body), accept, future))
        self._held += 1
        self._held_bytes += len(body)
        self._more.set()
        return future

    async def run(self) -> None:
        """Write what is queued, until cancelled."""
        while True:
            await self._more.wait()
            self._more.clear()
            waiting, self._waiting = self._waiting, []
            by_partition: dict[int, list[_Waiting]] = defaultdict(list)
            for each in waiting:
                by_partition[each.partition].append(each)
            async with asyncio.TaskGroup() as writes:
                for partition, some in by_partition.items():
                    writes.create_task(self._write(partition, some))

    async def _write(self, partition: int, some: list[_Waiting]) -> None:
        await self._writer.write(self._topic, partition, [each.record for each in some])
        for each in some:
            self._held -= 1
            self._held_bytes -= each.size
            each.accept()
            if not each.written.done():
                each.written.set_result(None)
