"""Binance USD-M futures, combined streams: perpetuals and dated futures in USDT, USDC and BTC.

Channels: trade or aggTrade, bookTicker, depth20@100ms; ignored: depth, markPrice, forceOrder, kline and others, and
frames without the {"stream","data"} envelope. There is no history of trades: repair asks by the ids of aggTrade (see
below).
Source: developers.binance.com, derivatives, usds-margined-futures: websocket-market-streams and its notice of the
split base URL (read 2026-11).
Quirks: since 2026-04 the address decides what comes: /public has trade, bookTicker and depth, /market has aggTrade,
markPrice, forceOrder, kline; the rest is acknowledged and stays silent. So one connection has quotes and books
together with trade alone. Frames are those of spot, but trade has `X`, bookTicker and depth20 have times: `T`, the
matching engine's, is passed on, `E` is the sender's. depth20 is a whole book, of the type depthUpdate like a change:
only the stream's name tells them apart, and no snapshot has to be fetched. Sizes are units of base.
`X` is MARKET for a trade in the market. NA is no trade (price and size are 0); INSURANCE_FUND and ADL move positions
away from the market's price. These three are ignored; the venue leaves them out of aggTrade and of its history, too.
Names: BTCUSDT is the perpetual, BTCUSDT_260925 a future.
Ids: `t` rises; NA and the others use up numbers, so a number that does not come is no sign of a missed trade. `a`
(aggTrade) counts by one in practice; the venue does not promise it, nor that an aggregate's `f` follows the `l` before.
`count` of an aggregate is l-f+1, ignored numbers included. `u` rises.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from mdstream.errors import FrameError
from mdstream.events import Side
from mdstream.instruments import split_pair
from mdstream.ticks import BOOK_DEPTH, BookTick, Control, Number, QuoteTick, Size, Tick, TradeTick
from mdstream.venues.binance.feed import (
    STREAM,
    AggTrade,
    Binance,
    BookTicker,
    Kline,
    Stream,
    aggregate,
    klines,
    quote,
)
from mdstream.venues.feed import BAR, BOOK, QUOTE, TRADE, Channel, Id, Keepalive, RestAnswer
from mdstream.venues.symbols import Contract, Symbols, contracts
from mdstream.venues.times import MS, Millis

SPOT = "a frame of Binance spot, which binance reads: the address has to lead to futures"
QUOTES = ("USDT", "USDC", "USD1", "BUSD", "BTC")
MARKET = "MARKET"
NO_TRADES = ("NA", "INSURANCE_FUND", "ADL")
STREAMS_PER_CONNECTION = 200

_REST = re.compile(rb'\{"request":"/fapi/v1/(?P<channel>klines)\?symbol=(?P<symbol>[^"&]{1,60})')
_NAME = re.compile(r"(?P<pair>[^\W_]{2,40})(?:_(?P<suffix>PERP|[0-9]{6}))?")


class _Trade(msgspec.Struct, gc=False):
    t: Id
    p: Number
    q: Number
    T: Millis
    m: bool
    X: str = ""


class _BookTicker(BookTicker, gc=False):
    T: Millis = 0


class _Depth(msgspec.Struct):
    T: Millis
    u: Id
    b: list[tuple[Number, Size]]
    a: list[tuple[Number, Size]]


def named(form: str, quotes: Sequence[str], perpetual: str) -> Symbols:
    """Names like BTCUSDT_260925; those of perpetuals end in `perpetual`."""

    def write(contract: Contract) -> str:
        suffix = contract.expiry[2:] or perpetual
        return "_".join(filter(None, (contract.base + contract.quote, suffix)))

    def read(venue_id: str) -> Contract | None:
        match = _NAME.fullmatch(venue_id)
        pair = match and split_pair(match["pair"], quotes)
        if not match or not pair:
            return None
        suffix = match["suffix"] or ""
        if suffix.isdigit():
            return Contract(*pair, f"20{suffix}")
        return Contract(*pair) if suffix == perpetual else None

    return contracts(form, quotes, write, read)


def _trade(m: Stream[_Trade], symbol: str) -> Sequence[Tick]:
    """{"stream":"btcusdt@trade","data":{"e":"trade","E":..,"T":1767625200122,"s":"BTCUSDT","t":6980123456,"p":"93745.20","q":"0.002","X":"MARKET","m":true}}"""
    d = m.data
    if d.X in NO_TRADES:
        return (Control("ignored", f"a trade of the kind {d.X}"),)
    if d.X != MARKET:
        raise FrameError(f"a trade of the kind {d.X[:40]!r}" if d.X else SPOT)
    side: Side = "sell" if d.m else "buy"
    return (TradeTick(symbol, str(d.t), d.p, d.q, side, d.T * MS, d.t, d.t, 1, "trade"),)


def _agg_trade(m: Stream[AggTrade], symbol: str) -> Sequence[TradeTick]:
    """{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":..,"a":2812345678,"s":"BTCUSDT","p":"93745.20","q":"0.042","f":6980123454,"l":6980123456,..}}"""
    if m.data.M is not None:
        raise FrameError(SPOT)
    return (aggregate(m.data, symbol),)


def _book_ticker(m: Stream[_BookTicker], symbol: str) -> Sequence[QuoteTick]:
    """{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":9351234501,"E":..,"T":1767625200110,"s":"BTCUSDT","b":"93745.10","B":"2.105",..}}"""
    if not m.data.T:
        raise FrameError(SPOT)
    return (quote(m.data, symbol, m.data.T * MS),)


def _depth(m: Stream[_Depth], symbol: str) -> Sequence[BookTick]:
    """{"stream":"btcusdt@depth20@100ms","data":{"e":"depthUpdate","E":..,"T":1767625200119,"s":"BTCUSDT","U":..,"u":9351234512,"pu":..,"b":[["93745.10","2.105"]],"a":[..]}}"""
    d = m.data
    return (BookTick(symbol, d.b[:BOOK_DEPTH], d.a[:BOOK_DEPTH], d.T * MS, d.u),)


STREAMS = (
    Channel("trade", TRADE, Stream[_Trade], _trade),
    Channel("aggTrade", TRADE, Stream[AggTrade], _agg_trade),
    Channel("bookTicker", QUOTE, Stream[_BookTicker], _book_ticker),
    *(Channel(f"depth{levels}", BOOK, Stream[_Depth], _depth) for levels in (5, 10, 20)),
)


class BinanceUsdm(Binance):
    name = "binance_usdm"
    default_url = "wss://fstream.binance.com/public/stream"
    sandbox_url = None
    symbols = named(
        "a contract like BTCUSDT-PERP or BTCUSDT-20260925, or the venue's own form, like BTCUSDT_260925", QUOTES, ""
    )
    default_symbols = ("BTCUSDT-PERP", "ETHUSDT-PERP")
    contiguous_ids = False
    max_symbols = STREAMS_PER_CONNECTION // 3
    keepalive = Keepalive(20.0, '{"method":"LIST_SUBSCRIPTIONS","id":0}')  # the venue's ping comes every 3 minutes
    channels = (*STREAMS, Channel("klines", BAR, RestAnswer[list[Kline]], klines))
    heads: ClassVar[Sequence[re.Pattern[bytes]]] = (STREAM, _REST)
