"""Bybit V5, public spot.

Channels: publicTrade, orderbook.1, orderbook.50; ignored: other depths, kline, tickers (on spot without bid and ask).
REST: the answers of market/kline, as backfill publishes them. Trades have no history: recent-trade has the last 60, by
no id and no time.
Source: bybit-exchange/docs, docs/v5/ws/connect and docs/v5/websocket/public (read 2026-07).
Quirks: numbers are text, times are milliseconds; `cts` is the matching engine's time, like a trade's `T`, `ts` that of
the sender; a frame of trades has the type snapshot, but only new trades. Perpetuals have the same names and books at
another address (/v5/public/linear, the provider bybit_linear): only their trades show it, by `L`.
Ids: `i` is a number on spot, of which the venue promises no order: for us it is opaque. `u` rises per channel, and is 1
after a restart of the venue's service; orderbook.1 is sent again after 3 s without a change, with the same `u`.
Books: orderbook.50 sends a snapshot after each subscription (and whenever it has to), then the changes every 20 ms:
absolute sizes, "0" for a removed level. Not documented: whether a level that falls out of the best 50 is removed, too.
Quotes are the book's top; without a book, those of orderbook.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from mdstream.errors import FrameError
from mdstream.events import Side
from mdstream.ticks import BarTick, BookUpdate, Control, LevelSize, Number, QuoteTick, Size, TradeTick
from mdstream.venues.feed import (
    BAR,
    BOOK,
    QUOTE,
    TRADE,
    Channel,
    Head,
    Id,
    Keepalive,
    Name,
    Provider,
    Request,
    RestAnswer,
)
from mdstream.venues.parsing import price_levels
from mdstream.venues.symbols import joined
from mdstream.venues.times import MS, Millis

DERIVATIVE = "a trade of a Bybit derivative, which bybit_linear reads: BYBIT_WS_URL has to lead to spot"
CHANNELS = ("publicTrade", "orderbook.1", "orderbook.50")
SIDES: dict[str, Side] = {"Buy": "buy", "Sell": "sell"}

_TOPIC = re.compile(rb'\{\s*"topic"\s*:\s*"(?P<channel>[A-Za-z0-9._-]{1,40})\.(?P<symbol>[A-Z0-9]{1,40})"')


_REST = re.compile(rb'\{"request":"/v5/market/(?P<channel>kline)\?category=spot&symbol=(?P<symbol>[A-Z0-9]{1,40})&')


class _Trade(msgspec.Struct, gc=False):
    i: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
    T: Millis
    p: Number
    v: Number
    S: Literal["Buy", "Sell"]
    L: str = ""


class Trades(msgspec.Struct, gc=False):
    data: list[_Trade]

    @property
    def is_of_derivative(self) -> bool:
        return bool(self.data and self.data[0].L)


class _Top(msgspec.Struct, gc=False):
    b: list[tuple[Number, Size]]
    a: list[tuple[Number, Size]]
    u: Id


class _Quote(msgspec.Struct, gc=False):
    type: Literal["snapshot"]
    data: _Top
    cts: Millis


class _Levels(msgspec.Struct, gc=False):
    b: list[tuple[str, LevelSize]]
    a: list[tuple[str, LevelSize]]


class _Book(msgspec.Struct, gc=False):
    type: Literal["snapshot", "delta"]
    data: _Levels
    cts: Millis


_Kline = tuple[Millis, Number, Number, Number, Number, Size, Size]


class _Klines(msgspec.Struct):
    rows: list[_Kline] = msgspec.field(name="list")


class _Result(msgspec.Struct):
    result: _Klines


class _Other(msgspec.Struct):
    """Answers, and data whose fields have another order; every field may be missing."""

    topic: Name = ""
    op: str = ""
    success: bool | None = None
    ret_msg: str = ""
    req_id: str = ""


def _trades(m: Trades, symbol: str) -> Sequence[TradeTick]:
    if m.is_of_derivative:
        raise FrameError(DERIVATIVE)
    return trades(m, symbol)


def trades(m: Trades, symbol: str) -> Sequence[TradeTick]:
    """{"topic":..,"ts":..,"type":"snapshot","data":[{"i":"2290000000908760214","T":1767625200051,"p":"93741.2","v":"0.0015","S":"Sell",..}]}"""
    return [TradeTick(symbol, d.i, d.p, d.v, SIDES[d.S], d.T * MS) for d in m.data]


def _quote(m: _Quote, symbol: str) -> Sequence[QuoteTick]:
    """{"topic":..,"ts":..,"type":"snapshot","data":{"s":"BTCUSDT","b":[["93741.1","0.5"]],"a":[["93741.2","1.25"]],"u":18521288,..},"cts":1767625200058}"""
    d = m.data
    return (QuoteTick(symbol, *_best(d.b), *_best(d.a), m.cts * MS, d.u),)


def _best(levels: Sequence[tuple[float, float]]) -> tuple[float | None, float | None]:
    return levels[0] if levels else (None, None)


def _book(m: _Book, symbol: str) -> Sequence[BookUpdate]:
    """As orderbook.1 with up to 50 levels per side, or with "type":"delta" those that changed."""
    return (BookUpdate(symbol, price_levels(m.data.b), price_levels(m.data.a), m.cts * MS, m.type == "snapshot"),)


def _kline(m: RestAnswer[_Result], symbol: str) -> Sequence[BarTick]:
    """{"retCode":0,..,"result":{"symbol":"BTCUSDT","category":"spot","list":[["1767625140000","93700","93750","93690","93741.2","12.5","1171000.0"],..]},..}"""
    return [
        BarTick(symbol, m.id_space, ms * MS, opened, high, low, close, volume, turnover)
        for ms, opened, high, low, close, volume, turnover in m.response.result.rows
        if volume
    ]


class Bybit(Provider):
    name = "bybit"
    market = "crypto"
    default_url = "wss://stream.bybit.com/v5/public/spot"
    sandbox_url = "wss://stream-testnet.bybit.com/v5/public/spot"
    symbols = joined()
    max_symbols = 100  # the arguments of a connection may have 21,000 characters, those of a symbol at most 157
    subscribe_interval_s = 0.1
    keepalive = Keepalive(20.0, '{"op":"ping"}', always=True)
    denying_statuses = frozenset({401})  # 403 is for too many requests, and for addresses of some countries
    channels = (
        Channel("publicTrade", TRADE, Trades, _trades),
        Channel("orderbook.1", QUOTE, _Quote, _quote),
        Channel("orderbook.50", BOOK, _Book, _book),
        Channel("kline", BAR, RestAnswer[_Result], _kline),
    )
    heads = (_TOPIC, _REST)
    head_end = b","
    other = _Other

    def subscribe(self, symbols: Sequence[str]) -> list[Request]:
        # The venue may reject a whole request for one bad topic: so one request per symbol, of at most ten topics.
        topics = [tuple(f"{channel}.{self.to_venue(symbol)}" for channel in CHANNELS) for symbol in symbols]
        return [
            Request(json.dumps({"req_id": str(i), "op": "subscribe", "args": args}), args, str(i))
            for i, args in enumerate(topics, 1)
        ]

    def control(self, message: _Other) -> Control | Head:
        """{"success":false,"ret_msg":"Invalid topic :[orderbook.7.BTCUSDT]","op":"subscribe","req_id":"1"} etc."""
        m = message
        channel, _, symbol = m.topic.rpartition(".")
        if channel:
            return Head(channel, symbol)
        names = (m.req_id,) if m.req_id else ()
        if m.success is False:
            return Control("error", m.ret_msg, names)
        if m.op in ("ping", "pong"):  # the public channels answer with ping
            return Control("pong")
        if not m.success:
            raise FrameError("neither a topic's frame nor the answer to a request")
        return Control("ack", f"request {m.req_id}", names)
