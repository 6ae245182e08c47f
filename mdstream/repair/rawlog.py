"""What repair and backfill write: REST answers and losses to the raw topics, invalid requests to md.dead.

Each call returns when the broker has the records, however long that takes: the order of calls is the order in the log.
A record that the broker stored although it reported an error is written twice, which is harmless.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka import ConsumerRecord

from mdstream.config import Settings
from mdstream.kafka.publisher import Partitioner
from mdstream.kafka.writer import Writer
from mdstream.records import REPAIR, REST, ProducerRecord, RawEncoder
from mdstream.repairs import HistoryRequest, RangeRequest, Unrecoverable, encode
from mdstream.stream.dead import dead_letter
from mdstream.venues.providers import PROVIDERS
from topics import Topics


class RawLog:
    """A producer that retries forever."""

    def __init__(self, settings: Settings) -> None:
        self._topics = Topics(settings)
        self._partition = Partitioner(settings.partitions)
        self._providers = {name: new() for name, new in PROVIDERS.items()}
        self._writer = Writer(settings.bootstrap_servers, client_id="mdstream-repair")

    @property
    def problem(self) -> str | None:
        """Why the broker currently takes nothing."""
        return self._writer.problem

    async def start(self) -> None:
        """Connect. Raises BrokerError if no broker answers."""
        await self._writer.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._writer.stop()

    async def frame(
        self, provider: str, symbol: str, kind: bytes, frame: bytes, *, recv_ns: int, contract_size: str = ""
    ) -> None:
        """Write a REST frame with events of a kind to the partition of the instrument's live frames."""
        raw, key = RawEncoder(provider, REST), symbol.encode()
        if contract_size:
            record = raw.encode_contracts(key, frame, kind, recv_ns, contract_size.encode())
        else:
            record = raw.encode(key, frame, kind, recv_ns)
        await self._write_raw(provider, symbol, [record])

    async def lost(self, losses: Sequence[Unrecoverable], *, now_ns: int) -> None:
        """Write one instrument's trades that the venue no longer has, after the frames written before."""
        provider, symbol = losses[0].provider, losses[0].symbol
        raw = RawEncoder(provider, REST)
        records = [raw.encode(symbol.encode(), encode(loss), REPAIR, now_ns) for loss in losses]
        await self._write_raw(provider, symbol, records)

    async def question(self, request: HistoryRequest | RangeRequest, *, now_ns: int) -> int:
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
        await self._writer.write(topic, record.partition, [(record.topic.encode(), letter, record.timestamp, [])])

    async def _write_raw(self, provider: str, symbol: str, records: Sequence[ProducerRecord]) -> int:
        market = self._providers[provider].market_of(symbol)
        return await self._writer.write(self._topics.raw_of(market).name, self._partition(symbol.encode()), records)
