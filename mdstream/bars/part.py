"""The trades of one symbol and base slot, summed up: what bars of every interval are made from."""

from __future__ import annotations

from typing import Annotated

import msgspec

from mdstream.bars.memory import Event
from mdstream.bars.rules import Rules
from mdstream.bars.tally import UNPUBLISHED, Mark, Tally

# Within these limits every sum and product stays finite; no market has such prices.
_Amount = Annotated[float, msgspec.Meta(gt=-1e140, lt=1e140)]
_Time = Annotated[int, msgspec.Meta(ge=0, lt=9_000_000_000_000_000_000)]
_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]


class Trade(msgspec.Struct, gc=False, tag_field="type", tag="trade"):
    """The fields of a trade that a bar needs."""

    symbol: str
    seq: _Time
    provider: str
    trade_id: str
    price: _Amount
    size: _Amount
    ts_exchange: _Time | None
    ts_recv: _Time
    count: _Count = 1
    correction: str | None = None
    corrects: str | None = None
    backfilled: bool = False

    def event(self, ns: int) -> Event:
        """What is remembered of it."""
        changes = self.correction, self.corrects
        return Event(self.seq, ns, self.provider, self.trade_id, self.price, self.size, self.count, *changes)


decode = msgspec.json.Decoder(Trade).decode


class Part:
    """The trades of one symbol and base slot [start, end) since the last fold, summed up except for the volumes."""

    __slots__ = ("end", "expires_ns", "first", "first_ns", "high", "last", "last_ns", "low", "quotes", "sizes", "start",
                 "trades")  # fmt: skip

    def __init__(self, start: int, rules: Rules, trade: Trade, ns: int) -> None:
        self.start, self.end = start, start + rules.base_ns
        self.expires_ns = self.end + rules.window_ns
        self.first = self.last = trade
        self.first_ns = self.last_ns = ns
        self.high = self.low = trade.price
        self.trades = 0
        self.sizes: list[float] = []
        self.quotes: list[float] = []

    def add(self, trade: Trade, ns: int) -> None:
        price = trade.price
        if ns > self.last_ns:
            self.last, self.last_ns = trade, ns
        else:
            self._order(trade, ns)
        if price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        self.trades += trade.count
        self.sizes.append(trade.size)
        self.quotes.append(price * trade.size)

    def _order(self, trade: Trade, ns: int) -> None:
        """Update first and last for a trade that is not younger than all the others."""
        if ns == self.last_ns and _is_before(self.last, trade):
            self.last = trade
        if ns < self.first_ns or (ns == self.first_ns and _is_before(trade, self.first)):
            self.first, self.first_ns = trade, ns

    def tally(self, symbol: str) -> Tally:
        first, last = _mark(self.first, self.first_ns), _mark(self.last, self.last_ns)
        made = Tally(
            symbol, "", self.start, UNPUBLISHED, self.trades, self.high, self.low, first, last, self.sizes, self.quotes
        )
        if len(made.volume) > 8:  # fewer are cheaper to settle once, later
            made.settle()
        return made


def _mark(trade: Trade, ns: int) -> Mark:
    return ns, trade.provider, len(trade.trade_id), trade.trade_id, trade.price


def _is_before(trade: Trade, other: Trade) -> bool:
    """Whether `trade` comes before `other`, both having the same time."""
    return trade is not other and _mark(trade, 0) < _mark(other, 0)
