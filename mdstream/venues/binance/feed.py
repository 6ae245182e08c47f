"""Binance spot, combined streams; also frames of the raw path (/ws/...), without the {"stream","data"} envelope.

Channels: trade or aggTrade, bookTicker, depth20@100ms; ignored: depth, kline and others. REST: the answers of
historicalTrades and aggTrades, as repair publishes them.
Source: binance/binance-spot-api-docs, web-socket-streams.md and rest-api.md (read 2026-07).
Quirks: numbers are text; times are milliseconds, or microseconds (timeUnit); bookTicker has no time; depth20 has
neither symbol nor time, only the stream's name has the symbol; `m` true means that the buyer was the maker, so the
aggressor sold. Futures have frames with the same names: their trade has `X`, their aggTrade no `M`, their bookTicker
`e`.
Ids: `t` (trade) and `a` (aggTrade) are contiguous per symbol, `u` and `lastUpdateId` rise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from mdstream import instruments
from mdstream.errors import FrameError, SymbolError
from mdstream.events import Side
from mdstream.repairs import REST_MARK
from mdstream.ticks import BOOK_DEPTH, BookTick, Control, Number, QuoteTick, Size, Tick, TradeTick
from mdstream.venues.feed import (
    BOOK,
    OTHER,
    QUOTE,
    TRADE,
    UNREADABLE,
    Id,
    Name,
    Provider,
    Remembered,
    Request,
    Route,
)
from mdstream.venues.times import Epoch, epoch_ns

FUTURES = "a frame of Binance futures, for which there is no provider: BINANCE_WS_URL has to lead to spot"
MAX_FILLS = 1_000_000
"""In one aggregate."""
STREAMS_PER_SYMBOL = 3
STREAMS_PER_CONNECTION = 1024
STREAMS_PER_REQUEST = 200
KINDS = {b"trade": TRADE, b"aggTrade": TRADE, b"bookTicker": QUOTE, b"depth20": BOOK, b"depth10": BOOK, b"depth5": BOOK}

_STREAM = re.compile(rb'\{\s*"stream"\s*:\s*"([^"@!]{1,60})@([A-Za-z0-9]{1,40})')
_RAW = re.compile(rb'\{\s*(?:"e"\s*:\s*"(\w{1,40})"\s*,\s*"E"\s*:\s*\d+|"u"\s*:\s*\d+)\s*,\s*"s"\s*:\s*"([^"]{1,60})"')
_REST = re.compile(rb'\{"request":"/api/v3/(historicalTrades|aggTrades)\?symbol=([^"&]{1,60})')
_SYMBOL = re.compile(r"[^\W_]{2,40}")  # a few of the venue's symbols are not ASCII


class _Trade(msgspec.Struct, gc=False):
    s: Name
    t: Id
    p: Number
    q: Number
    T: Epoch
    m: bool
    X: str = ""


class _RestTrade(msgspec.Struct, gc=False):
    id: Id
    price: Number
    qty: Number
    time: Epoch
    isBuyerMaker: bool  # noqa: N815  the venue's name


class _RestAggTrade(msgspec.Struct, gc=False):
    a: Id
    p: Number
    q: Number
    f: Id
    l: Id  # noqa: E741  the venue's name
    T: Epoch
    m: bool


class _AggTrade(_RestAggTrade, gc=False, kw_only=True):
    s: Name
    M: bool | None = None


class _BookTicker(msgspec.Struct, gc=False):
    u: Id
    s: Name
    b: Number
    B: Number
    a: Number
    A: Number
    e: str = ""


class _Depth(msgspec.Struct):
    lastUpdateId: Id  # noqa: N815  the venue's name
    bids: list[tuple[Number, Size]]
    asks: list[tuple[Number, Size]]


class _TradeMessage(msgspec.Struct, gc=False):
    data: _Trade


class _AggTradeMessage(msgspec.Struct, gc=False):
    data: _AggTrade


class _RestTradesMessage(msgspec.Struct, gc=False):
    response: list[_RestTrade]


class _RestAggTradesMessage(msgspec.Struct, gc=False):
    response: list[_RestAggTrade]


class _BookTickerMessage(msgspec.Struct, gc=False):
    data: _BookTicker


class _DepthMessage(msgspec.Struct):
    stream: Name
    data: _Depth


class _Other(msgspec.Struct):
    """Acks, errors, notices, ignored channels, and frames of the raw path; every field may be missing."""

    stream: str = ""
    id: int | str | None = None
    code: int | None = None
    msg: str = ""
    error: Any = None
    e: str = ""
    u: int | None = None
    B: Any = None
    result: Any = msgspec.UNSET


_decode_trade = msgspec.json.Decoder(_TradeMessage, strict=False).decode
_decode_agg_trade = msgspec.json.Decoder(_AggTradeMessage, strict=False).decode
_decode_book_ticker = msgspec.json.Decoder(_BookTickerMessage, strict=False).decode
_decode_depth = msgspec.json.Decoder(_DepthMessage, strict=False).decode
_decode_raw_trade = msgspec.json.Decoder(_Trade, strict=False).decode
_decode_raw_agg_trade = msgspec.json.Decoder(_AggTrade, strict=False).decode
_decode_raw_book_ticker = msgspec.json.Decoder(_BookTicker, strict=False).decode
_decode_rest_trades = msgspec.json.Decoder(_RestTradesMessage, strict=False).decode
_decode_rest_agg_trades = msgspec.json.Decoder(_RestAggTradesMessage, strict=False).decode
_decode_other = msgspec.json.Decoder(_Other).decode

_NOT_DATA = Route(b"binance", OTHER)


class Binance(Provider):
    name = "binance"
    market = "crypto"
    default_url = "wss://stream.binance.com:9443/stream"
    contiguous_ids = True
    max_symbols = STREAMS_PER_CONNECTION // STREAMS_PER_SYMBOL
    subscribe_interval_s = 0.25  # the venue takes five messages a second
    max_age_s = 23.5 * 3600  # the venue disconnects after 24 hours
    denying_statuses = frozenset({401})  # 403 is its firewall's, for too many requests

    def __init__(self) -> None:
        self._routes = Remembered(self._route)

    def to_venue(self, symbol: str) -> str:
        joined = instruments.from_dashed(symbol.replace("/", "-"))
        if not _SYMBOL.fullmatch(joined):
            raise SymbolError(self.name, symbol, "base and quote joined, like BTCUSDT")
        return joined

    def from_venue(self, symbol: str) -> str:
        return symbol.upper()

    def subscribe(self, symbols: Sequence[str]) -> list[Request]:
        names = [self.to_venue(symbol).lower() for symbol in symbols]
        streams = [f"{name}@{channel}" for name in names for channel in ("trade", "bookTicker", "depth20@100ms")]
        chunks = [streams[i : i + STREAMS_PER_REQUEST] for i in range(0, len(streams), STREAMS_PER_REQUEST)]
        return [
            Request(json.dumps({"method": "SUBSCRIBE", "params": chunk, "id": i}), tuple(chunk), str(i))
            for i, chunk in enumerate(chunks, 1)
        ]

    def route(self, frame: bytes) -> Route:
        match = _STREAM.match(frame)
        return self._route_raw(frame) if match is None else self._routes[match.groups()]

    def _route_raw(self, frame: bytes) -> Route:
        match = _RAW.match(frame)
        if match is None:
            rest = _REST.match(frame)
            return _NOT_DATA if rest is None else self._routes[rest[2], b"trade"]
        return self._routes[match[2], match[1] or b"bookTicker"]

    def _route(self, groups: tuple[bytes, ...]) -> Route:
        symbol, channel = groups
        return Route(self.from_venue(symbol.decode("utf-8", "replace")).encode(), KINDS.get(channel, OTHER))

    def decode(self, frame: bytes) -> Sequence[Tick]:
        try:
            if frame.startswith(b'{"stream":"'):
                at = frame.find(b"@", 11, 100)
                parse = _BY_CHANNEL.get(frame[at : at + 7])
                if parse is not None:
                    return (parse(frame),)
            elif frame.startswith(REST_MARK):
                return _parse_rest(frame)
            return (_parse_other(frame),)
        except UNREADABLE as error:
            raise FrameError(f"not JSON that can be read: {error}") from None


def _trade(d: _Trade) -> TradeTick:
    if d.X:
        raise FrameError(FUTURES)
    return TradeTick(d.s, str(d.t), d.p, d.q, "sell" if d.m else "buy", epoch_ns(d.T), d.t, d.t, 1, "trade")


def _agg_trade(symbol: str, d: _RestAggTrade, recovered: bool = False) -> TradeTick:
    count = d.l - d.f + 1
    if not 0 < count <= MAX_FILLS:
        raise FrameError(f"an aggregate of trades {d.f} to {d.l}")
    side: Side = "sell" if d.m else "buy"
    return TradeTick(symbol, str(d.a), d.p, d.q, side, epoch_ns(d.T), d.a, d.a, count, "aggTrade", False, recovered)


def _rest_trade(symbol: str, d: _RestTrade) -> TradeTick:
    side: Side = "sell" if d.isBuyerMaker else "buy"
    return TradeTick(symbol, str(d.id), d.price, d.qty, side, epoch_ns(d.time), d.id, d.id, 1, "trade", recovered=True)


def _book_ticker(d: _BookTicker) -> QuoteTick:
    if d.e:
        raise FrameError(FUTURES)
    bid, ask = d.b != 0, d.a != 0  # a side without orders has price and size 0 on the wire
    return QuoteTick(
        d.s, d.b if bid else None, d.B if bid else None, d.a if ask else None, d.A if ask else None, None, d.u
    )


def _parse_trade(frame: bytes) -> TradeTick:
    """{"stream":"btcusdt@trade","data":{"e":"trade","E":..,"s":"BTCUSDT","t":5680123456,"p":"93741.2","q":"0.0015",...}}"""
    return _trade(_decode_trade(frame).data)


def _parse_agg_trade(frame: bytes) -> TradeTick:
    """{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","s":"BTCUSDT","a":3712345678,"f":5680123454,"l":5680123456,...}}"""
    d = _decode_agg_trade(frame).data
    if d.M is None:
        raise FrameError(FUTURES)
    return _agg_trade(d.s, d)


def _parse_book_ticker(frame: bytes) -> QuoteTick:
    """{"stream":"btcusdt@bookTicker","data":{"u":83512345012,"s":"BTCUSDT","b":"93741.19","B":"0.5","a":"93741.2","A":"1.25"}}"""
    return _book_ticker(_decode_book_ticker(frame).data)


def _parse_depth(frame: bytes) -> BookTick:
    """{"stream":"btcusdt@depth20@100ms","data":{"lastUpdateId":83512345012,"bids":[["93741.19","0.5"]],"asks":[..]}}"""
    message = _decode_depth(frame)
    symbol, _, _ = message.stream.partition("@")
    d = message.data
    return BookTick(symbol.upper(), d.bids[:BOOK_DEPTH], d.asks[:BOOK_DEPTH], None, d.lastUpdateId)


def _parse_other(frame: bytes) -> Tick:
    """{"result":null,"id":1} or {"code":2,"msg":"Invalid request: ..","id":1} or {"stream":"btcusdt@kline_1m",..}"""
    m = _decode_other(frame)
    if m.stream == "!serverShutdown" or m.e == "serverShutdown":
        return Control("shutdown", "a restart")
    if m.stream:
        return _parse_stream(m.stream, frame)
    if m.e or m.u is not None:
        return _parse_raw(m, frame)
    if m.code is not None or m.error is not None:
        return Control("error", f"code {m.code}: {m.msg}" if m.error is None else str(m.error), (str(m.id),))
    if m.result is not msgspec.UNSET:
        return Control("ack", f"request {m.id}", (str(m.id),))
    raise FrameError("neither a stream's frame nor the answer to a request")


def _parse_stream(stream: str, frame: bytes) -> Tick:
    """A combined frame with another layout than the venue's current one."""
    named = f'{stream}"'.encode()
    at = named.find(b"@")
    parse = _BY_CHANNEL.get(named[at : at + 7])
    return Control("ignored", stream) if parse is None else parse(frame)


def _parse_raw(m: _Other, frame: bytes) -> Tick:
    """{"e":"trade","E":..,"s":"BTCUSDT","t":5680123456,..} or {"u":83512345012,"s":"BTCUSDT","b":"93741.19","B":..}"""
    if m.e == "trade":
        return _trade(_decode_raw_trade(frame))
    if m.e == "aggTrade":
        d = _decode_raw_agg_trade(frame)
        if d.M is None:
            raise FrameError(FUTURES)
        return _agg_trade(d.s, d)
    if m.e in ("", "bookTicker") and m.B is not None:
        return _book_ticker(_decode_raw_book_ticker(frame))
    return Control("ignored", m.e)


def _parse_rest(frame: bytes) -> Sequence[TradeTick]:
    """{"request":"/api/v3/historicalTrades?symbol=BTCUSDT&..","response":[{"id":5680123456,"price":"93741.2",..},..]}
    or {"request":"/api/v3/aggTrades?symbol=BTCUSDT&..","response":[{"a":3712345678,"p":"93741.2","q":"0.0042",..}]}
    """
    match = _REST.match(frame)
    if match is None:
        raise FrameError("the answer to a request that repair did not make")
    symbol = match[2].decode()
    if match[1] == b"aggTrades":
        return [_agg_trade(symbol, d, recovered=True) for d in _decode_rest_agg_trades(frame).response]
    return [_rest_trade(symbol, d) for d in _decode_rest_trades(frame).response]


# By the stream's name, with which every combined frame begins: cheaper than parsing twice. Seven bytes distinguish all
# names, depth updates (`@depth"`, `@depth@`) too.
_BY_CHANNEL: dict[bytes, Callable[[bytes], Tick]] = {
    b'@trade"': _parse_trade,
    b"@bookTi": _parse_book_ticker,
    b"@aggTra": _parse_agg_trade,
    b"@depth2": _parse_depth,
    b"@depth1": _parse_depth,
    b"@depth5": _parse_depth,
}
