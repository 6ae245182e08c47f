"""Binance spot, combined streams; also frames of the raw path (/ws/...), without the {"stream","data"} envelope.

Channels: trade or aggTrade, bookTicker, depth20@100ms; ignored: depth, kline and others. REST: the answers of
historicalTrades and aggTrades, as repair publishes them.
Source: binance/binance-spot-api-docs, web-socket-streams.md and rest-api.md (read 2026-07).
Quirks: numbers are text; times are milliseconds, or microseconds (timeUnit); bookTicker has no time; depth20 has
neither symbol nor time, only the stream's name has the symbol; `m` true means that the buyer was the maker, so the
aggressor sold. Futures (binance_usdm, binance_coinm) have frames with the same names: their trade has `X`, their
aggTrade no `M`, their bookTicker `e`.
Ids: `t` (trade) and `a` (aggTrade) are contiguous per symbol, `u` and `lastUpdateId` rise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from mdstream.errors import FrameError
from mdstream.events import Side
from mdstream.ticks import BOOK_DEPTH, BarTick, BookTick, Control, Number, QuoteTick, Size, Tick, TradeTick
from mdstream.venues.feed import BAR, BOOK, QUOTE, TRADE, Channel, Head, Id, Name, Provider, Request, RestAnswer
from mdstream.venues.parsing import recovered
from mdstream.venues.symbols import joined
from mdstream.venues.times import MS, Epoch, Millis, epoch_ns

FUTURES = "a frame of Binance futures, which binance_usdm and binance_coinm read: BINANCE_WS_URL has to lead to spot"
MAX_FILLS = 1_000_000
"""In one aggregate."""
STREAMS_PER_CONNECTION = 1024
STREAMS_PER_REQUEST = 200

STREAM = re.compile(rb'\{\s*"stream"\s*:\s*"(?P<symbol>[^\x00-\x20"@!\\]{1,60})@(?P<channel>[A-Za-z0-9]{1,40})')
_RAW = re.compile(rb'\{\s*(?:"e"\s*:\s*"(\w{1,40})"\s*,\s*"E"\s*:\s*\d+|"u"\s*:\s*\d+)\s*,\s*"s"\s*:\s*"([^"]{1,60})"')
_REST = re.compile(
    rb'\{"request":"/api/v3/(?P<channel>historicalTrades|aggTrades|klines)\?symbol=(?P<symbol>[^"&]{1,60})'
)

T = TypeVar("T")


class Stream(msgspec.Struct, Generic[T], gc=False):
    """The envelope of combined streams."""

    data: T


class _Trade(msgspec.Struct, gc=False):
    t: Id
    p: Number
    q: Number
    T: Epoch
    m: bool
    X: str = ""


class AggTrade(msgspec.Struct, gc=False):
    a: Id
    p: Number
    q: Number
    f: Id
    l: Id  # noqa: E741  the venue's name
    T: Epoch
    m: bool
    M: bool | None = None


class BookTicker(msgspec.Struct, gc=False):
    u: Id
    b: Number
    B: Number
    a: Number
    A: Number
    e: str = ""


class _Depth(msgspec.Struct):
    lastUpdateId: Id  # noqa: N815  the venue's name
    bids: list[tuple[Number, Size]]
    asks: list[tuple[Number, Size]]


class _RestTrade(_Trade, gc=False):
    t: Id = msgspec.field(name="id")
    p: Number = msgspec.field(name="price")
    q: Number = msgspec.field(name="qty")
    T: Epoch = msgspec.field(name="time")
    m: bool = msgspec.field(name="isBuyerMaker")


Kline = tuple[Millis, Number, Number, Number, Number, Size, Millis, Size, Id, Size, Size, Any]


class _Other(msgspec.Struct):
    """Acks, errors, notices, and data whose fields have another order; every field may be missing."""

    stream: Name = ""
    id: int | str | None = None
    code: int | None = None
    msg: str = ""
    error: Any = None
    e: str = ""
    s: Name = ""
    u: int | None = None
    result: Any = msgspec.UNSET


def _trade(m: Stream[_Trade], symbol: str) -> Sequence[TradeTick]:
    """{"stream":"btcusdt@trade","data":{"e":"trade","E":..,"s":"BTCUSDT","t":5680123456,"p":"93741.2","q":"0.0015",...}}"""
    d = m.data
    if d.X:
        raise FrameError(FUTURES)
    trade_id = d.t
    side: Side = "sell" if d.m else "buy"
    return (TradeTick(symbol, str(trade_id), d.p, d.q, side, epoch_ns(d.T), trade_id, trade_id, 1, "trade"),)


def _agg_trade(m: Stream[AggTrade], symbol: str) -> Sequence[TradeTick]:
    """{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","s":"BTCUSDT","a":3712345678,"f":5680123454,"l":5680123456,...}}"""
    if m.data.M is None:
        raise FrameError(FUTURES)
    return (aggregate(m.data, symbol),)


def aggregate(d: AggTrade, symbol: str) -> TradeTick:
    count = d.l - d.f + 1
    if not 0 < count <= MAX_FILLS:
        raise FrameError(f"an aggregate of trades {d.f} to {d.l}")
    trade_id, ts_exchange = d.a, epoch_ns(d.T)
    side: Side = "sell" if d.m else "buy"
    return TradeTick(symbol, str(trade_id), d.p, d.q, side, ts_exchange, trade_id, trade_id, count, "aggTrade")


def _book_ticker(m: Stream[BookTicker], symbol: str) -> Sequence[QuoteTick]:
    """{"stream":"btcusdt@bookTicker","data":{"u":83512345012,"s":"BTCUSDT","b":"93741.19","B":"0.5","a":"93741.2","A":"1.25"}}"""
    if m.data.e:
        raise FrameError(FUTURES)
    return (quote(m.data, symbol),)


def quote(d: BookTicker, symbol: str, ts_exchange: int | None = None) -> QuoteTick:
    bid, ask = d.b or None, d.a or None  # a side without orders has price and size 0 on the wire
    return QuoteTick(symbol, bid, d.B if bid else None, ask, d.A if ask else None, ts_exchange, d.u)


def _depth(m: Stream[_Depth], symbol: str) -> Sequence[BookTick]:
    """{"stream":"btcusdt@depth20@100ms","data":{"lastUpdateId":83512345012,"bids":[["93741.19","0.5"]],"asks":[..]}}"""
    d = m.data
    return (BookTick(symbol, d.bids[:BOOK_DEPTH], d.asks[:BOOK_DEPTH], None, d.lastUpdateId),)


def _historical_trades(m: RestAnswer[list[_RestTrade]], symbol: str) -> Sequence[TradeTick]:
    """[{"id":5680123456,"price":"93741.2","qty":"0.0015","time":1767625200122,"isBuyerMaker":true,..},..]"""
    return recovered(trade for d in m.response for trade in _trade(Stream(d), symbol))


def agg_trades(m: RestAnswer[list[AggTrade]], symbol: str) -> Sequence[TradeTick]:
    """[{"a":3712345678,"p":"93741.2","q":"0.0042","f":5680123454,"l":5680123456,"T":1767625200122,"m":true,"M":true},..]"""
    return recovered(aggregate(d, symbol) for d in m.response)


def klines(m: RestAnswer[list[Kline]], symbol: str) -> Sequence[BarTick]:
    """[[1767625140000,"93700.00","93750.00","93690.00","93741.20","12.5",1767625199999,"1171000.0",3453,"6.1","571000.0","0"],..]"""
    return [
        BarTick(symbol, m.id_space, ms * MS, opened, high, low, close, volume, turnover, trades)
        for ms, opened, high, low, close, volume, _, turnover, trades, *_ in m.response
        if trades
    ]


def _raw(ticks: Callable[[Any, str], Sequence[Tick]]) -> Callable[[Any, str], Sequence[Tick]]:
    """The same for the raw path, which sends the data without its envelope."""
    return lambda data, symbol: ticks(Stream(data), symbol)


class Binance(Provider):
    name = "binance"
    market = "crypto"
    default_url = "wss://stream.binance.com:9443/stream"
    sandbox_url: ClassVar[str | None] = "wss://stream.testnet.binance.vision/stream"
    symbols = joined(r"[^\W_]")  # a few of them are not ASCII
    contiguous_ids = True
    streams: ClassVar[Sequence[str]] = ("trade", "bookTicker", "depth20@100ms")
    """What is subscribed to for each symbol."""
    max_symbols = STREAMS_PER_CONNECTION // 3
    subscribe_interval_s = 0.25  # the venue takes five messages a second
    max_age_s = 23.5 * 3600  # the venue disconnects after 24 hours
    denying_statuses = frozenset({401})  # 403 is its firewall's, for too many requests
    channels = (
        Channel("trade", TRADE, Stream[_Trade], _trade),
        Channel("aggTrade", TRADE, Stream[AggTrade], _agg_trade),
        Channel("bookTicker", QUOTE, Stream[BookTicker], _book_ticker),
        *(Channel(f"depth{levels}", BOOK, Stream[_Depth], _depth) for levels in (5, 10, 20)),
        Channel("raw trade", TRADE, _Trade, _raw(_trade)),
        Channel("raw aggTrade", TRADE, AggTrade, _raw(_agg_trade)),
        Channel("raw bookTicker", QUOTE, BookTicker, _raw(_book_ticker)),
        Channel("historicalTrades", TRADE, RestAnswer[list[_RestTrade]], _historical_trades),
        Channel("aggTrades", TRADE, RestAnswer[list[AggTrade]], agg_trades),
        Channel("klines", BAR, RestAnswer[list[Kline]], klines),
    )
    heads: ClassVar[Sequence[re.Pattern[bytes]]] = (STREAM, _REST)
    head_end = b'","data"'
    other = _Other

    def subscribe(self, symbols: Sequence[str]) -> list[Request]:
        names = [self.to_venue(symbol).lower() for symbol in symbols]
        streams = [f"{name}@{channel}" for name in names for channel in self.streams]
        chunks = [streams[i : i + STREAMS_PER_REQUEST] for i in range(0, len(streams), STREAMS_PER_REQUEST)]
        return [
            Request(json.dumps({"method": "SUBSCRIBE", "params": chunk, "id": i}), tuple(chunk), str(i))
            for i, chunk in enumerate(chunks, 1)
        ]

    def head(self, frame: bytes) -> tuple[bytes, bytes] | None:
        raw = _RAW.match(frame)
        return super().head(frame) if raw is None else (b"raw " + (raw[1] or b"bookTicker"), raw[2])

    def control(self, message: _Other) -> Control | Head:
        """{"result":null,"id":1} or {"code":2,"msg":"Invalid request: ..","id":1} or {"e":"serverShutdown",..}"""
        m = message
        if m.stream == "!serverShutdown" or m.e == "serverShutdown":
            return Control("shutdown", "a restart")
        if m.stream:
            symbol, _, channel = m.stream.partition("@")
            if symbol.startswith("!"):
                return Control("ignored", m.stream)  # of all symbols
            return Head(channel.partition("@")[0], symbol)
        if m.e or m.u is not None:
            return Head(f"raw {m.e or 'bookTicker'}", m.s)
        if m.code is not None or m.error is not None:
            return Control("error", f"code {m.code}: {m.msg}" if m.error is None else str(m.error), (str(m.id),))
        if m.result is not msgspec.UNSET:
            return Control("ack", f"request {m.id}", (str(m.id),))
        raise FrameError("neither a stream's frame nor the answer to a request")
