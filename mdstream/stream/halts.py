"""Halts of single stocks, as venues report them. Pure.

A halt is the instrument's, not a source's: whoever reports it first, it holds for all. Its end is the report of a
resumption or, should that be missed by a lost connection, trades that come after it.
"""

from __future__ import annotations

from collections.abc import Sequence

from mdstream.events import FeedStatus
from mdstream.stream.lines import Line
from mdstream.stream.output import Output
from mdstream.ticks import HaltTick

TRADES_AFTER_NS = 10_000_000_000
"""Trades of before a halt may be reported so long after it."""


def learn(out: Output, line: Line, tick: HaltTick, recv_ns: int) -> None:
    """A report of a source."""
    instrument, at_ns = line.instrument, min(tick.ts_exchange, recv_ns)
    if not line.allowed:
        out.counts["not a source of the instrument"] += 1
    elif at_ns <= instrument.bell_ns or tick.halted == instrument.halted:
        out.counts["halt, repeat"] += 1
    else:
        _change(out, line, tick.reason, at_ns, recv_ns, halted=tick.halted)


def notice_trades(out: Output, lines: Sequence[Line], now_ns: int, recv_ns: int) -> None:
    """End a halt after which trades came. `now_ns`: log time; `recv_ns`: the receive time that it stands for."""
    instrument = lines[0].instrument
    if not instrument.halted:
        return
    line = max(lines, key=lambda line: line.feed.trade.seen_ns)
    traded_ns = recv_ns - (now_ns - line.feed.trade.seen_ns)
    if traded_ns > instrument.bell_ns + TRADES_AFTER_NS:
        out.changed.add(line.symbol)
        _change(out, line, "it is traded again", traded_ns, recv_ns, halted=False)


def _change(out: Output, line: Line, reason: str, at_ns: int, recv_ns: int, *, halted: bool) -> None:
    line.instrument.halted, line.instrument.bell_ns = halted, at_ns
    state = "halted" if halted else "resumed"
    out.add_status(line.symbol, FeedStatus(line.symbol, line.source.name, state, reason, recv_ns))
