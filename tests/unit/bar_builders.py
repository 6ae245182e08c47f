"""Builders of the tests on bars: trades as on md.trades, and bars computed in the plain way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from math import fsum
from typing import NamedTuple

from mdstream.bars.rules import SECOND_NS, Rules, interval
from mdstream.events import Bar, Trade, encode

T0 = 1_767_625_200 * SECOND_NS
"""A full hour."""
MS = 1_000_000
RULES = Rules(("1s", "1m", "5m", "1h"), lateness_ns=SECOND_NS)

Key = tuple[str, str, int]


class Raw(NamedTuple):
    """A record as the transport hands it over."""

    offset: int
    value: bytes | None
    key: bytes | None = b"BTCUSDT"
    timestamp: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


def trade(
    seq: int,
    at_ms: float,
    price: float = 100.0,
    size: float = 1.0,
    *,
    symbol: str = "BTCUSDT",
    provider: str = "binance",
    trade_id: str | None = None,
    count: int = 1,
    received_ms: float | None = None,
) -> Trade:
    """A trade `at_ms` after T0, received at once unless `received_ms` says when."""
    at, received = T0 + int(at_ms * MS), T0 + int((at_ms if received_ms is None else received_ms) * MS)
    identity = str(seq) if trade_id is None else trade_id
    return Trade(symbol, seq, provider, identity, price, size, "buy", at, received, count)


def records(trades: Iterable[Trade], first: int = 0) -> list[Raw]:
    return [Raw(first + n, encode(each), each.symbol.encode()) for n, each in enumerate(trades)]


def naive(trades: Iterable[Trade], names: Iterable[str]) -> dict[Key, Bar]:
    """The bars of a set of trades, by definition; all with revision 0."""
    trades, groups = list(trades), defaultdict(list)
    for name in names:
        ns = interval(name).ns
        for each in trades:
            at = each.ts_recv if each.ts_exchange is None else each.ts_exchange
            groups[each.symbol, name, at // ns * ns].append((at, each))
    return {key: _bar(key, found) for key, found in groups.items()}


def _bar(key: Key, found: list[tuple[int, Trade]]) -> Bar:
    found = sorted(found, key=lambda pair: (pair[0], pair[1].provider, _number(pair[1].trade_id), pair[1].price))
    trades = [each for _, each in found]
    prices = [each.price for each in trades]
    return Bar(
        *key,
        open=prices[0],
        high=max(prices),
        low=min(prices),
        close=prices[-1],
        volume=fsum(each.size for each in trades),
        quote_volume=fsum(each.price * each.size for each in trades),
        trades=sum(each.count for each in trades),
        revision=0,
    )


def _number(trade_id: str) -> int:
    return int(trade_id) if trade_id else -1
