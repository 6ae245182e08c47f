"""Ticks to public events, numbered but for bars of history.

`seq` counts the events of one type and instrument without a hole. It starts at the first event's receive time in us, so
it rises even if the state is lost.
"""

from __future__ import annotations

from mdstream.events import HISTORY, Bar, BookL2, Quote, Trade, encode
from mdstream.records import MS
from mdstream.stream.lines import Line
from mdstream.stream.output import NO_HEADERS, Output
from mdstream.ticks import BarTick, BookTick, QuoteTick, TradeTick


def publish_trade(out: Output, line: Line, tick: TradeTick, recv_ns: int, *, backfilled: bool = False) -> None:
    instrument, source = line.instrument, line.source
    seq = instrument.trade_seq
    if not seq:
        seq = recv_ns // 1000
        instrument.begun_by = source.name
        instrument.begun_ts = recv_ns if tick.ts_exchange is None else tick.ts_exchange
    instrument.trade_seq = seq + 1
    event = Trade(
        line.symbol,
        seq,
        source.name,
        tick.trade_id,
        tick.price,
        tick.size,
        tick.side,
        tick.ts_exchange,
        recv_ns,
        tick.count,
        tick.recovered,
        tick.venue,
        tick.conditions,
        tick.correction,
        tick.corrects,
        tick.corrects_price,
        tick.corrects_size,
        backfilled,
    )
    out.trades.append((line.key, encode(event), recv_ns // MS, NO_HEADERS))
    source.trades += 1


def publish_quote(out: Output, line: Line, tick: QuoteTick, recv_ns: int) -> None:
    instrument, source = line.instrument, line.source
    seq = instrument.quote_seq or recv_ns // 1000
    instrument.quote_seq = seq + 1
    event = Quote(
        line.symbol, seq, source.name, tick.bid, tick.bid_size, tick.ask, tick.ask_size, tick.ts_exchange, recv_ns
    )
    out.quotes.append((line.key, encode(event), recv_ns // MS, NO_HEADERS))
    source.quotes += 1


def publish_book(out: Output, line: Line, tick: BookTick, recv_ns: int) -> None:
    instrument, source = line.instrument, line.source
    seq = instrument.book_seq or recv_ns // 1000
    instrument.book_seq = seq + 1
    event = BookL2(line.symbol, seq, source.name, tick.bids, tick.asks, tick.ts_exchange, recv_ns)
    out.books.append((line.key, encode(event), recv_ns // MS, NO_HEADERS))
    source.books += 1


def publish_bar(out: Output, provider: str, tick: BarTick, recv_ns: int) -> None:
    event = Bar(
        tick.symbol,
        tick.interval,
        tick.ts_open,
        tick.open,
        tick.high,
        tick.low,
        tick.close,
        tick.volume,
        tick.quote_volume,
        tick.trades,
        HISTORY,
        provider,
        backfilled=True,
    )
    out.bars.append((tick.symbol.encode(), encode(event), recv_ns // MS, NO_HEADERS))
    out.events["bar", provider] += 1
