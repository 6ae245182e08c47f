"""Trades, records and batches for the tests of the sinks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mdstream import events
from mdstream.events import Trade
from mdstream.records import Partition
from mdstream.sinks.base import Chunk, decode
from mdstream.transport.batch import Batch

TRADES = Partition("md.trades", 0)
T0 = 1767625200_000_000_000


class Rec(NamedTuple):
    """A Kafka record as the transport hands it over."""

    offset: int
    value: bytes | None
    key: bytes | None = b"BTCUSDT"
    timestamp: int = 1767625200_000
    headers: tuple[tuple[str, bytes], ...] = ()


def trade(n: int = 0, **fields: Any) -> Trade:
    """The n-th trade of BTCUSDT, with `fields` instead of its own."""
    own: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "seq": 1_000 + n,
        "provider": "binance",
        "trade_id": str(n),
        "price": 93741.2,
        "size": 0.0015,
        "side": "sell",
        "ts_exchange": T0 + n,
        "ts_recv": T0 + n + 5,
    }
    return Trade(**own | fields)


def records(*values: events.Event | bytes | None, first: int = 0) -> list[Rec]:
    """Records from offset `first` on: events are encoded, bytes stay as they are."""
    raw = [value if value is None or isinstance(value, bytes) else events.encode(value) for value in values]
    return [Rec(first + i, value) for i, value in enumerate(raw)]


def chunk(*values: events.Event, first: int = 0, partition: Partition = TRADES) -> Chunk:
    """What a sink is given for these events."""
    made, refused = decode(partition, records(*values, first=first))
    assert not refused
    return made


def batch(of: Sequence[Rec], *, acknowledged: list[int], own: Callable[[], bool] = lambda: True) -> Batch:
    """A batch that notes the offset it is acknowledged up to."""
    first, following = of[0].offset, of[-1].offset + 1
    return Batch(TRADES, of, first=first, next_offset=following, on_take=own, acknowledge=acknowledged.append)
