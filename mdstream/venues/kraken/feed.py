"""Kraken, WebSocket API v2, spot.

Channels: trade, ticker (triggered by the best bid and offer), book; ignored: ohlc, instrument and others.
There is no history: REST Trades is read by time, and ids do not show what is missing.
Source: docs.kraken.com, spot-websocket-v2 and its guide to the book's checksum (read 2026-11).
Quirks: prices and sizes are JSON numbers, with all decimals of the pair, zeros too (0.50000000); BTC, not XBT as in v1
and REST; tokenized stocks (AAPLx/USD) have to be asked for as such, and are not.
Ids: `trade_id` is a number that rises per pair; the venue does not promise that it counts by one.
Books: a snapshot after each subscription, then changes: absolute sizes, 0 for a removed level. A level that falls out
of the depth is not removed: the reader drops it. There is no sequence number; `checksum` in every message is the CRC32
of the ten best levels. Quotes are the book's top; without a book, those of the ticker, whose frames are whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Annotated, Generic, Literal, TypeVar

import msgspec

from mdstream import instruments
from mdstream.errors import FrameError
from mdstream.events import Side
from mdstream.ticks import (
    PRICE_UNIT,
    BookCheck,
    BookUpdate,
    Control,
    Number,
    PriceLevel,
    QuoteTick,
    Size,
    Tick,
    TradeTick,
    price_units,
)
from mdstream.venues.feed import (
    BOOK,
    MAX_HEAD_BYTES,
    QUOTE,
    TRADE,
    Channel,
    Head,
    Id,
    Keepalive,
    Name,
    Parser,
    Provider,
    Request,
)
from mdstream.venues.parsing import priced
from mdstream.venues.symbols import separated
from mdstream.venues.times import rfc3339_ns

QUOTES = (*instruments.QUOTES, "CAD", "JPY", "CHF")
DEPTH = 25
"""The least that holds the levels we publish; the venue has 10, 25, 100, 500 and 1000."""
CHANNELS: dict[str, dict[str, object]] = {
    "trade": {"snapshot": False},
    "ticker": {"event_trigger": "bbo"},
    "book": {"depth": DEPTH},
}
"""With the parameters of their subscriptions."""
NAMES = tuple(CHANNELS)

_HEAD = re.compile(
    rb'\{\s*"channel"\s*:\s*"(?P<channel>[a-z0-9_]{1,40})"\s*,\s*"type"\s*:\s*"[a-z]{1,20}"\s*,'
    rb'\s*"data"\s*:\s*\[\s*\{\s*"symbol"\s*:\s*"(?P<symbol>[A-Za-z0-9.]{1,30}/[A-Za-z0-9.]{1,20})"'
)

_SYMBOL_MARK = b'"symbol":"'

T = TypeVar("T", bound="_Named")


class _Named(msgspec.Struct, gc=False):
    symbol: Name


class _Data(msgspec.Struct, Generic[T], gc=False):
    type: Literal["snapshot", "update"]
    data: list[T]


class _Trade(_Named, gc=False):
    side: Side
    price: Number
    qty: Number
    trade_id: Id
    timestamp: str


class _Ticker(_Named, gc=False):
    bid: Number
    bid_qty: Size
    ask: Number
    ask_qty: Size
    timestamp: str = ""


class _Level(msgspec.Struct, gc=False):
    """The digits as they are sent: the checksum is theirs."""

    price: msgspec.Raw
    qty: msgspec.Raw


class _Book(_Named, gc=False):
    bids: list[_Level]
    asks: list[_Level]
    checksum: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    timestamp: str = ""


class _Status(msgspec.Struct):
    system: str


class _Result(msgspec.Struct):
    channel: str = ""
    symbol: str = ""


class _Other(msgspec.Struct):
    """Answers, notices, and data whose fields have another order; every field may be missing."""

    channel: str = ""
    data: msgspec.Raw = msgspec.Raw()
    method: str = ""
    success: bool | None = None
    error: str = ""
    Error: str = ""  # the limit of requests is reported by this name
    symbol: str = ""
    req_id: int = 0
    result: _Result | None = None


def _of_one(m: _Data[T]) -> list[T]:
    """The data of a frame, which is routed by the symbol of the first."""
    if len(m.data) > 1 and any(d.symbol != m.data[0].symbol for d in m.data):
        raise FrameError("a frame of several instruments")
    return m.data


def _trades(m: _Data[_Trade], symbol: str) -> Sequence[Tick]:
    """{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell","price":93741.2,"qty":0.00150000,"ord_type":"market","trade_id":93412345,"timestamp":"2026-01-05T15:00:00.123456Z"},..]}"""
    if m.type == "snapshot":
        return (Control("ignored", "trades from before the subscription"),)
    return [
        TradeTick(symbol, str(d.trade_id), d.price, d.qty, d.side, rfc3339_ns(d.timestamp), d.trade_id, d.trade_id)
        for d in _of_one(m)
    ]


def _ticker(m: _Data[_Ticker], symbol: str) -> Sequence[QuoteTick]:
    """{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":93741.9,"bid_qty":0.25000000,"ask":93742.0,"ask_qty":0.50000000,..}]}"""
    return [
        QuoteTick(symbol, *priced(d.bid, d.bid_qty), *priced(d.ask, d.ask_qty), _time_ns(d.timestamp))
        for d in _of_one(m)
    ]


def _time_ns(text: str) -> int | None:
    return rfc3339_ns(text) if text else None


def _books(m: _Data[_Book], symbol: str) -> Sequence[BookUpdate]:
    """{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[],"asks":[{"price":93742.0,"qty":0.50000000}],"checksum":1653876063,"timestamp":"2026-01-05T15:00:00.140000Z"}]}"""
    return [_update(d, symbol, whole=m.type == "snapshot") for d in _of_one(m)]


def _update(d: _Book, symbol: str, *, whole: bool) -> BookUpdate:
    bids, asks = ([(str(o.price, "latin-1"), str(o.qty, "latin-1")) for o in side] for side in (d.bids, d.asks))
    check = BookCheck(DEPTH, d.checksum, *map(_decimals, zip(*bids, *asks, strict=True))) if bids or asks else None
    return BookUpdate(symbol, _levels(bids), _levels(asks), _time_ns(d.timestamp), whole, check)


def _decimals(texts: tuple[str, ...]) -> int:
    # All have the same number; if one has more, it was damaged, and so no checksum agrees.
    return max([len(text.partition(".")[2]) for text in texts])


def _levels(levels: list[tuple[str, str]]) -> list[PriceLevel]:
    # Sizes are plain decimals like prices; the quotient of integers is the nearest float64.
    return [(price_units(price), price_units(size) / PRICE_UNIT) for price, size in levels]


class Kraken(Provider):
    name = "kraken"
    market = "crypto"
    default_url = "wss://ws.kraken.com/v2"
    default_symbols = ("BTCUSD", "ETHUSD")
    max_symbols = 100  # the venue names no limit
    silence_s = 10.0  # there is a heartbeat every second
    keepalive = Keepalive(30.0, '{"method":"ping"}', always=True)
    channels = (
        Channel("trade", TRADE, _Data[_Trade], _trades),
        Channel("ticker", QUOTE, _Data[_Ticker], _ticker),
        Channel("book", BOOK, _Data[_Book], _books),
    )
    heads = (_HEAD,)
    other = _Other
    symbols = separated("a pair like BTCUSD, or the venue's own form, BTC/USD", QUOTES, "/")

    def subscribe(self, symbols: Sequence[str]) -> list[Request]:
        # Each symbol is answered for itself; an error has the request's id for its channel.
        pairs = [self.to_venue(symbol) for symbol in symbols]
        requests = []
        for number, (channel, parameters) in enumerate(CHANNELS.items(), 1):
            params: dict[str, object] = {"channel": channel, "symbol": pairs, **parameters}
            frame = json.dumps({"method": "subscribe", "params": params, "req_id": number})
            requests.append(Request(frame, tuple(f"{channel} {pair}" for pair in pairs), str(number)))
        return requests

    def parser(self, frame: bytes) -> Parser:
        # As the base does with `head_end`: what follows the symbol differs between the channels.
        start = frame.find(_SYMBOL_MARK, 0, MAX_HEAD_BYTES)
        end = frame.find(b'"', start + len(_SYMBOL_MARK), MAX_HEAD_BYTES) + 1
        return self._by_start[frame[:end]] if 0 < start < end else self.by_pattern(frame)

    def control(self, message: _Other) -> Control | Head:
        """{"method":"subscribe","result":{"channel":"trade","symbol":"BTC/USD",..},"success":true,"req_id":1,..} or
        {"error":"Currency pair not supported BTC/XYZ","method":"subscribe","success":false,"symbol":"BTC/XYZ",..}"""
        m = message
        if m.channel:
            return self._of_channel(m)
        error = m.error or m.Error
        if error or m.success is False:
            return Control("error", error, self._refused(m))
        if m.method == "pong":
            return Control("pong")
        if m.result is None:
            raise FrameError("neither a channel's frame nor the answer to a request")
        name = f"{m.result.channel} {m.result.symbol}"
        return Control("ack", f"{m.method} {name}", (name,) if m.method == "subscribe" else ())

    def _of_channel(self, m: _Other) -> Control | Head:
        if m.channel == "heartbeat":
            return Control("heartbeat")
        if m.channel == "status":
            systems = [status.system for status in msgspec.json.decode(m.data, type=list[_Status])]
            quiet = systems == ["online"]
            return Control("ignored" if quiet else "notice", f"the system: {', '.join(systems)}")
        if m.channel not in self.table:
            return Control("ignored", m.channel)
        named = msgspec.json.decode(m.data, type=list[_Named])
        return Head(m.channel, named[0].symbol if named else "")

    def _refused(self, m: _Other) -> tuple[str, ...]:
        """The subscription that an error is about; all of its request if it names no symbol."""
        if m.symbol and 1 <= m.req_id <= len(NAMES):
            return (f"{NAMES[m.req_id - 1]} {m.symbol}",)
        return (str(m.req_id),) if m.req_id else ()
