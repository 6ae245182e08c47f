"""The contents of one bar: a sum over its trades that does not depend on their order or grouping.

    trades a b c d e    tally(a b) + tally(c d e) == tally(e c) + tally(a d b), to the last bit

Open and close are the prices at the least and greatest Mark, high and low the extremes, the trade count an integer sum.
A float sum depends on its order, so volumes are kept unrounded, as a few floats that add up to them (`exact`).
"""

from __future__ import annotations

from math import fsum, inf

import msgspec

from mdstream.events import Bar, encode

Mark = tuple[int, str, int, str, float]
"""A trade's sort key within its bar: event time in ns, provider, length of its id, id, price.

Shorter ids come first, then alphabetical order: numeric order if the venue counts, else some fixed order. The price is
what the bar takes from the trade; it also orders trades with the same time, feed and id (or without ids).
"""

UNPUBLISHED = -1
MAX_TERMS = 64


def exact(values: list[float]) -> list[float]:
    """The unrounded sum of `values`: the first float is the sum rounded once, each further one the remainder.

    It depends on the sum alone. One to three floats for usual trades, never more than forty. `values` is consumed
    and must not be empty.
    """
    if len(values) == 1:
        return [values[0] + 0.0]  # no negative zero: fsum gives none either
    terms = [fsum(values)]
    while terms[-1]:
        values.append(-terms[-1])
        terms.append(fsum(values))
    return terms[:-1] or terms


class Tally(msgspec.Struct, array_like=True, tag="bar", eq=False, gc=False):
    """The state of a bar. `volume` and `quote_volume` add up to the sums; `revision`: the last one published."""

    symbol: str
    interval: str
    ts_open: int
    revision: int
    trades: int
    high: float
    low: float
    first: Mark
    last: Mark
    volume: list[float]
    quote_volume: list[float]

    @property
    def is_empty(self) -> bool:
        """Whether all of its trades were cancelled."""
        return self.high < self.low

    def within(self, interval: str, ts_open: int) -> Tally:
        """A longer bar with the trades of this one."""
        return Tally(
            self.symbol,
            interval,
            ts_open,
            UNPUBLISHED,
            self.trades,
            self.high,
            self.low,
            self.first,
            self.last,
            self.volume.copy(),
            self.quote_volume.copy(),
        )

    def add(self, other: Tally) -> None:
        """Add the trades of another part of this bar."""
        self.trades += other.trades
        if other.high > self.high:
            self.high = other.high
        if other.low < self.low:
            self.low = other.low
        if other.first < self.first:
            self.first = other.first
        if other.last > self.last:
            self.last = other.last
        self.volume += other.volume
        self.quote_volume += other.quote_volume
        if len(self.volume) > MAX_TERMS:
            self.settle()

    def settle(self) -> None:
        """Bring both sums into their shortest form, the rounded sum first."""
        self.volume = exact(self.volume)
        self.quote_volume = exact(self.quote_volume)

    def replace(self, other: Tally) -> bool:
        """Take the contents of a settled tally, and keep the revision. Returns whether they are others."""
        self.settle()
        contents = other.contents
        if contents == self.contents or (self.is_empty and other.is_empty):
            return False
        self.trades, self.high, self.low, self.first, self.last, self.volume, self.quote_volume = contents
        return True

    @property
    def contents(self) -> tuple[int, float, float, Mark, Mark, list[float], list[float]]:
        return self.trades, self.high, self.low, self.first, self.last, self.volume, self.quote_volume

    def public(self) -> bytes:
        """The settled bar as published on md.bars."""
        high, low = (self.first[-1], self.first[-1]) if self.is_empty else (self.high, self.low)
        return encode(
            Bar(
                self.symbol,
                self.interval,
                self.ts_open,
                self.first[-1],
                high,
                low,
                self.last[-1],
                self.volume[0],
                self.quote_volume[0],
                self.trades,
                self.revision,
            )
        )


def emptied(symbol: str, interval: str, ts_open: int, price: float) -> Tally:
    """A bar of which all trades were cancelled: added to another tally, it changes nothing. As published, it has the
    price of the last one cancelled."""
    first, last = (1 << 63, "", 0, "", price), (-1, "", 0, "", price)
    return Tally(symbol, interval, ts_open, UNPUBLISHED, 0, -inf, inf, first, last, [0.0], [0.0])


pack = msgspec.msgpack.Encoder().encode
"""A Tally as bytes: closed bars are kept this way, in a tenth of the memory of the objects."""
unpack = msgspec.msgpack.Decoder(Tally).decode
