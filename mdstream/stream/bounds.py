"""Limits of a tick's values. A tick beyond them is refused: it is dead-lettered, and changes no event or state.

    times     0 <= t < LAST_NS: a checkpoint holds 64 bits, and no venue trades before 1970 or after 2255
    ids       NO_ID, or 0 <= first <= last <= MAX_ID
    sizes     0 or more
    prices    above 0 for a pair or a share; others (a spread, an oil future) may be negative
    quotes    of one venue: the bid is never above the ask
    books     best first: else the first level is not the best, and the top is not what it says
    bars      low <= open, close <= high; from a multiple of the interval on; not of contracts

These rules hold for every venue; a provider's types need not repeat them. publication.py checks a trade inline.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import isfinite
from operator import itemgetter
from typing import Any

from mdstream.bars.rules import BAR_INTERVAL, interval
from mdstream.errors import FrameError
from mdstream.instruments import has_base_units, is_cash
from mdstream.records import LAST_NS
from mdstream.ticks import NO_ID, BarTick, BookTick, BookUpdate, HaltTick, QuoteTick, TradeTick

MAX_ID = 2**62
"""A checkpoint holds 64 bits, also of what is computed from ids."""

_price = itemgetter(0)


def check_trade(tick: TradeTick) -> None:
    """Raises FrameError for an impossible trade."""
    ts_exchange = tick.ts_exchange
    if ts_exchange is not None and not 0 <= ts_exchange < LAST_NS:
        raise _no_time(ts_exchange)
    _check_price(tick.symbol, tick.price)
    _check_size(tick.size)
    if not NO_ID <= tick.first_id <= tick.last_id <= MAX_ID:
        raise FrameError(f"trade ids {tick.first_id} to {tick.last_id}: not from 0 to 2**62, first to last")


def check_quote(tick: QuoteTick) -> None:
    """Raises FrameError for an impossible top of one venue's book."""
    _check_place(tick)
    bid, ask, bid_size, ask_size = tick.bid, tick.ask, tick.bid_size, tick.ask_size
    if bid is None or ask is None or not 0 < bid <= ask:
        for price in (bid, ask):
            if price is not None:
                _check_price(tick.symbol, price)
        if bid is not None and ask is not None:
            _check_crossed(bid, ask)
    if bid_size is not None and not bid_size >= 0:
        _check_size(bid_size)
    if ask_size is not None and not ask_size >= 0:
        _check_size(ask_size)


def check_book(tick: BookTick) -> None:
    """Raises FrameError for an impossible book of one venue. The parser's types have to check sizes (ticks.Size)."""
    _check_place(tick)
    bids, asks = tick.bids, tick.asks
    if bids != sorted(bids, key=_price, reverse=True) or asks != sorted(asks, key=_price):
        raise FrameError(f"the levels of a book of {tick.symbol} that are not in the order of their prices")
    if not (bids and asks and bids[-1][0] > 0 < asks[0][0] >= bids[0][0]):
        for price, _ in (*bids, *asks):
            _check_price(tick.symbol, price)
        if bids and asks:
            _check_crossed(bids[0][0], asks[0][0])


def check_update(tick: BookUpdate) -> None:
    """Raises FrameError for an impossible update of one venue's book. The parser checks prices and sizes."""
    ts_exchange = tick.ts_exchange
    if ts_exchange is not None and not 0 <= ts_exchange < LAST_NS:
        raise _no_time(ts_exchange)
    for price, _ in (*tick.bids, *tick.asks):
        if not price:
            _check_price(tick.symbol, 0.0)


def check_halt(tick: HaltTick) -> None:
    """As for a trade: its time."""
    if not 0 <= tick.ts_exchange < LAST_NS:
        raise _no_time(tick.ts_exchange)


def check_interval(name: str) -> None:
    """Raises FrameError for what is no length of bars."""
    if not re.fullmatch(BAR_INTERVAL, name):
        raise FrameError(f"bars of {name[:20]!r}: expected a length like 1s, 5m, 1h or 1d")


def check_bar(tick: BarTick) -> None:
    """Raises FrameError for an impossible bar."""
    check_interval(tick.interval)
    if not has_base_units(tick.symbol):
        raise FrameError(f"a bar of {tick.symbol}, whose sizes are not in units of base")
    each_ns = interval(tick.interval).ns
    if not 0 <= tick.ts_open < LAST_NS or tick.ts_open % each_ns:
        raise FrameError(f"a bar of {tick.interval} from {tick.ts_open} ns since 1970 on: not a multiple of it")
    if not (tick.low <= tick.open <= tick.high and tick.low <= tick.close <= tick.high):
        prices = f"{tick.open:g} {tick.high:g} {tick.low:g} {tick.close:g}"
        raise FrameError(f"a bar with open, high, low and close {prices}")
    _check_price(tick.symbol, tick.low)
    _check_size(tick.volume)
    if tick.quote_volume is not None and not isfinite(tick.quote_volume):
        raise FrameError(f"a turnover of {tick.quote_volume:g}")
    if tick.trades is not None and not 0 < tick.trades <= MAX_ID:
        raise FrameError(f"a bar of {tick.trades} trades")


CHECKS: Mapping[type, Callable[[Any], None]] = {
    TradeTick: check_trade,
    QuoteTick: check_quote,
    BookTick: check_book,
    BookUpdate: check_update,
    HaltTick: check_halt,
}
"""By type of the ticks that a source sends live."""


def _check_place(tick: QuoteTick | BookTick) -> None:
    ts_exchange = tick.ts_exchange
    if ts_exchange is not None and not 0 <= ts_exchange < LAST_NS:
        raise _no_time(ts_exchange)
    if not NO_ID <= tick.update_id <= MAX_ID:
        raise FrameError(f"update id {tick.update_id}: not from 0 to 2**62")


def _no_time(ts_exchange: int) -> FrameError:
    return FrameError(f"not a valid time: {ts_exchange} ns since 1970, expected 0 to {LAST_NS}")


def _check_price(symbol: str, price: float) -> None:
    if not (price > 0 or (isfinite(price) and not is_cash(symbol))):
        raise FrameError(f"a price of {price:g} for {symbol}")


def _check_size(size: float) -> None:
    if not size >= 0:
        raise FrameError(f"a size of {size:g}")


def _check_crossed(bid: float, ask: float) -> None:
    if bid > ask:
        raise FrameError(f"a bid of {bid:.12g} above the ask of {ask:.12g}")
