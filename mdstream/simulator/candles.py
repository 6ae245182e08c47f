"""Candles of what a simulated venue traded, summed when they are asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, takewhile

from mdstream.simulator.history import Tape


@dataclass(frozen=True, slots=True)
class Candle:
    """The fills of the interval that begins at `ts_open_ns`; `turnover` is in ticks * lots."""

    ts_open_ns: int
    open: int
    high: int
    low: int
    close: int
    lots: int
    turnover: int
    count: int


def candles(tape: Tape, interval_ns: int, begin_ns: int, end_ns: int) -> Iterator[Candle]:
    """The candles that begin from `begin_ns` on and before `end_ns`, oldest first, without empty intervals.

    The last one may be open still.
    """
    begin, end = (-(-ns // interval_ns) * interval_ns for ns in (begin_ns, end_ns))
    fills = takewhile(lambda fill: fill.ts_ns < end, tape.fills(tape.id_at(begin), tape.next_id))
    for number, group in groupby(fills, lambda fill: fill.ts_ns // interval_ns):
        each = list(group)
        prices = [fill.ticks for fill in each]
        lots, turnover = sum(fill.lots for fill in each), sum(fill.ticks * fill.lots for fill in each)
        ends = prices[0], max(prices), min(prices), prices[-1]
        yield Candle(number * interval_ns, *ends, lots, turnover, len(each))
