"""What repair and backfill write: REST answers and losses to the raw topics, invalid requests to md.dead.

Each call returns when the broker has the records, however long that takes: the order of calls is the order in the log.
A record that the broker stored although it reported an error is written twice, which is harmless.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from mdstream.config import Settings
from mdstream.errors import BrokerError
from mdstream.kafka.publisher import Partitioner, Publisher
from mdstream.net.backoff import delays_s
from mdstream.records import REPAIR, REST, ProducerRecord, RawEncoder
from mdstream.repairs import HistoryRequest, RepairRequest, Unrecoverable, encode
from mdstream.stream.dead import dead_letter
from mdstream.venues.feed import TRADE
from mdstream.venues.providers import PROVIDERS
from topics import Topics

log = logging.getLogger(__name__)

MIN_RETRY_S, MAX_RETRY_S = 0.2, 10.0
DISCONNECT_LIMIT_S = 5.0


class RawLog:
    """A producer that retries forever. `problem`: why the broker currently takes nothing."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._topics = settings, Topics(settings)
        self._partition = Partitioner(settings.partitions)
        self._providers = {name: new() for name, new in PROVIDERS.items()}
        self._publisher = self._new_publisher()
        self._replacing = asyncio.Lock()
        self.problem: str | None = None

    def _new_publisher(self) -> Publisher:
        return Publisher(self._settings.bootstrap_servers, client_id="mdstream-repair")

    async def start(self) -> None:
        """Connect. Raises BrokerError if no broker answers."""
        await self._publisher.start()

    async def stop(self) -> None:
        """Disconnect within a limit: without its broker a producer waits forever."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._publisher.stop(), DISCONNECT_LIMIT_S)

    async def frame(self, request: RepairRequest, frame: bytes, *, recv_ns: int) -> None:
        """Write a REST frame to the partition of the instrument's live frames."""
        raw, key = RawEncoder(request.provider, REST), request.symbol.encode()
        if request.contract_size:
            record = raw.encode_contracts(key, frame, TRADE, recv_ns, request.contract_size.encode())
        else:
            record = raw.encode(key, frame, TRADE, recv_ns)
        await self._write_raw(request.provider, request.symbol, [record])

    async def lost(self, losses: Sequence[Unrecoverable], *, now_ns: int) -> None:
        """Write one instrument's trades that the venue no longer has, after the frames written before."""
        provider, symbol = losses[0].provider, losses[0].symbol
        raw = RawEncoder(provider, REST)
        records = [raw.encode(symbol.encode(), encode(loss), REPAIR, now_ns) for loss in losses]
        await self._write_raw(provider, symbol, records)

    async def history(self, request: HistoryRequest, *, now_ns: int) -> int:
        """Write a question to the stream; its offset in the partition."""
        key = request.symbol.encode()
        record = RawEncoder(request.provider, REST).encode(key, encode(request), REPAIR, now_ns)
        return await self._write_raw(request.provider, request.symbol, [record])

    async def dead(self, record: ConsumerRecord[bytes, bytes], error: str) -> None:
        """Dead-letter a record that is not a request, with the reason."""
        letter = dead_letter(
            error=error,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            key=record.key,
            value=record.value,
            headers=record.headers,
        )
        topic = self._topics.dead.name
        await self._write(topic, record.partition, [(record.topic.encode(), letter, record.timestamp, [])])

    async def _write_raw(self, provider: str, symbol: str, records: Sequence[ProducerRecord]) -> int:
        market = self._providers[provider].market_of(symbol)
        return await self._write(self._topics.raw_of(market).name, self._partition(symbol.encode()), records)

    async def _write(self, topic: str, partition: int, records: Sequence[ProducerRecord]) -> int:
        """The offset of the last batch."""
        delays = delays_s(random.Random(), min_s=MIN_RETRY_S, max_s=MAX_RETRY_S)
        while True:
            publisher = self._publisher
            try:
                written: list[Any] = [await future for future in await publisher.send(topic, partition, records)]
            except KafkaError as error:
                delay_s = next(delays)
                self.problem = f"Kafka does not take records for {topic}[{partition}]: {error!r}"
                log.warning("%s; again in %.1f s", self.problem, delay_s)
                await asyncio.sleep(delay_s)
                # After such an error an idempotent producer refuses all that follows: only a new one helps.
                if not error.retriable:
                    await self._replace(publisher)
            else:
                self.problem = None
                return int(written[-1].offset)

    async def _replace(self, failed: Publisher) -> None:
        async with self._replacing:
            if self._publisher is not failed:  # another desk has replaced it already
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(failed.stop(), DISCONNECT_LIMIT_S)
            delays = delays_s(random.Random(), min_s=MIN_RETRY_S, max_s=MAX_RETRY_S)
            while True:
                fresh = self._new_publisher()
                try:
                    await fresh.start()
                except BrokerError as error:
                    self.problem = str(error)
                    await asyncio.sleep(next(delays))
                else:
                    self._publisher = fresh
                    return
