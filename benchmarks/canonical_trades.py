"""Canonical trades for the benchmarks of sinks: those of benchmarks/frames.py, without the core worker."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from benchmarks import frames
from mdstream import events
from mdstream.events import Side, Trade
from mdstream.kafka.publisher import Partitioner, Publisher
from mdstream.records import ProducerRecord

CHUNK = 20_000
MS = 1_000_000


def message(number: int) -> tuple[Trade, bytes]:
    """Trade `number` (from 0) and its record's value; no two are the same."""
    said = frames.trade(number + number // (frames.REPEAT_EVERY - 1))  # frames repeat, canonical trades do not
    side: Side = "sell" if said.side == "sell" else "buy"
    trade = Trade(
        said.symbol,
        number,
        "binance",
        said.trade_id,
        said.price,
        said.size,
        side,
        said.ts_exchange,
        said.ts_recv,
    )
    return trade, events.encode(trade)


async def fill(bootstrap: str, topic: str, *, count: int, partitions: int) -> None:
    """Write the first `count` trades to a canonical topic. Raises BrokerError without a broker."""
    partition_of = Partitioner(partitions)
    publisher = Publisher(bootstrap, client_id="mdstream-bench")
    await publisher.start()
    try:
        for first in range(0, count, CHUNK):
            waiting: defaultdict[int, list[ProducerRecord]] = defaultdict(list)
            for trade, value in map(message, range(first, min(first + CHUNK, count))):
                key = trade.symbol.encode()
                waiting[partition_of(key)].append((key, value, trade.ts_recv // MS, []))
            for number, records in waiting.items():
                await asyncio.gather(*await publisher.send(topic, number, records))
    finally:
        await publisher.stop()
