"""The raw frames, the same for every contender, and the expected trades.

Binance trades of a hundred instruments in turn, ids without a gap; every hundredth frame repeats the previous one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NamedTuple

import msgspec
from aiokafka import ConsumerRecord

from benchmarks.measure import BenchmarkError
from mdstream import kafka
from mdstream.cli.progress import Progress
from mdstream.kafka.publisher import Partitioner, Publisher
from mdstream.records import WS, ProducerRecord, RawEncoder
from mdstream.venues.feed import TRADE


def symbols_of(count: int) -> tuple[str, ...]:
    """So many instruments."""
    return tuple(f"S{number}USDT" for number in range(count))


SYMBOLS = symbols_of(100)
REPEAT_EVERY = 100
CHUNK = 20_000
START_NS = 1_767_625_200_000_000_000
SPACING_NS = 100_000
MS = 1_000_000
FIRST_ID = 5_680_000_000

_MASK = (1 << 64) - 1


class Raw(NamedTuple):
    """A record as the transport hands it over."""

    offset: int
    value: bytes
    headers: list[tuple[str, bytes]]
    key: bytes | None
    timestamp: int


class Trade(msgspec.Struct, frozen=True, gc=False):
    """The fields by which the contenders' trades are compared."""

    symbol: str
    trade_id: str
    price: float
    size: float
    side: str
    ts_exchange: int
    ts_recv: int


class Expected(NamedTuple):
    """How many different trades there are, and the sum of their hashes, which is the same in any order."""

    trades: int
    digest: int


def unique(frames: int) -> int:
    """How many different trades the first `frames` frames hold."""
    return frames - frames // REPEAT_EVERY


def frame(number: int, symbols: Sequence[str] = SYMBOLS) -> tuple[bytes, bytes, int]:
    """Frame `number` (from 0): instrument, the venue's text, receive time in ns."""
    symbol, trade_id, cents, units, received_ns, maker = _facts(number, symbols)
    ms = received_ns // MS
    text = (
        f'{{"stream":"{symbol.lower()}@trade","data":{{"e":"trade","E":{ms},"s":"{symbol}","t":{trade_id},'
        f'"p":"{cents // 100}.{cents % 100:02}000000","q":"0.{units:05}000","T":{ms},"m":{maker},"M":true}}}}'
    )
    return symbol.encode(), text.encode(), received_ns


def trade(number: int) -> Trade:
    """The trade that frame `number` reports, without parsing its text."""
    symbol, trade_id, cents, units, received_ns, maker = _facts(number)
    side = "sell" if maker == "true" else "buy"
    return Trade(symbol, str(trade_id), cents / 100, units / 100_000, side, received_ns // MS * MS, received_ns)


def _facts(number: int, symbols: Sequence[str] = SYMBOLS) -> tuple[str, int, int, int, int, str]:
    """Symbol, trade id, price in cents, size in 1/100,000, receive time in ns, whether the buyer was the maker."""
    if number % REPEAT_EVERY == REPEAT_EVERY - 1:
        number -= 1
    at = number - number // REPEAT_EVERY
    round_, turn = divmod(at, len(symbols))
    cents, units = 9_000_000 + at * 7919 % 1_000_000, 1 + at * 31 % 9999
    return symbols[turn], FIRST_ID + round_, cents, units, START_NS + at * SPACING_NS, "true" if at % 3 else "false"


def expected(frames: int) -> Expected:
    """The expected output for the first `frames` frames."""
    numbers = (number for number in range(frames) if number % REPEAT_EVERY != REPEAT_EVERY - 1)
    return Expected(unique(frames), sum(hash(trade(number)) for number in numbers) & _MASK)


async def fill(bootstrap: str, topic: str, *, frames: int, partitions: int) -> None:
    """Write the first `frames` frames to a raw topic, as an ingestor does. Raises BrokerError without a broker."""
    publisher = Publisher(bootstrap, client_id="mdstream-bench")
    await publisher.start()
    try:
        with Progress("filling the raw topic", "frames") as progress:
            for first in range(0, frames, CHUNK):
                futures = []
                for partition, records in _by_partition(range(first, min(first + CHUNK, frames)), partitions):
                    futures += await publisher.send(topic, partition, records)
                for future in futures:
                    await future
                progress.show(first + CHUNK, first / frames)
    finally:
        await publisher.stop()


def _by_partition(numbers: range, partitions: int) -> Iterator[tuple[int, list[ProducerRecord]]]:
    encode = RawEncoder("binance", WS).encode
    partition_of, found = Partitioner(partitions), defaultdict[int, list[ProducerRecord]](list)
    for number in numbers:
        key, text, received_ns = frame(number)
        found[partition_of(key)].append(encode(key, text, TRADE, received_ns))
    yield from found.items()


async def verify(bootstrap: str, topic: str, wanted: Expected) -> None:
    """Raises BenchmarkError unless the trades in `topic` are those expected, each once and under its symbol."""
    count, digest, decode = 0, 0, msgspec.json.Decoder(Trade).decode
    async for record in records(bootstrap, topic):
        found = decode(record.value)
        if found.symbol.encode() != record.key:
            raise BenchmarkError(f"wrong output: a trade of {found.symbol} under the key {record.key!r}")
        count, digest = count + 1, digest + hash(found)
    if count != wanted.trades:
        raise BenchmarkError(f"wrong output: {count:,} trades, expected {wanted.trades:,}")
    if digest & _MASK != wanted.digest:
        raise BenchmarkError("wrong output: not the trades of the frames")


async def records(bootstrap: str, topic: str) -> AsyncIterator[ConsumerRecord[bytes, bytes]]:
    """Every record of a topic."""
    partitions = await kafka.partitions_of(bootstrap, topic)
    async with kafka.reader(bootstrap) as consumer:
        consumer.assign(partitions)
        async for chunk in kafka.read_to_end(consumer, partitions):
            for record in chunk:
                yield record
