"""Kraken, WebSocket API v2, spot.

Channels: trade, ticker (triggered by the best bid and offer), book; ignored: ohlc, instrument and others.
REST: the answers of OHLC and Trades, as backfill publishes them.
Source: docs.kraken.com, spot-websocket-v2 and its guide to the book's checksum, and spot REST (read 2026-11).
Quirks: prices and sizes are JSON numbers, with all decimals of the pair, zeros too (0.50000000); BTC, not XBT as in v1
and REST, where a pair is XBTUSD; tokenized stocks (AAPLx/USD) have to be asked for as such, and are not.
Ids: `trade_id` is a number that rises per pair; the venue does not promise that it counts by one. In REST it is the
same, and was 0 for some trades until 2024.
Times: in microseconds here (cut off, we think: it is not documented), as a float64 of seconds there. That is read so
that it is no earlier: history ends before the first live trade, which would else be published twice.
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
from mdstream.repairs import REST_MARK
from mdstream.ticks import (
    PRICE_UNIT,
    BarTick,
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
    BAR,
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
    RestAnswer,
)
from mdstream.venues.parsing import priced, recovered
from mdstream.venues.symbols import separated
from mdstream.venues.times import SECOND_NS, Seconds, rfc3339_ns

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

OLD_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
"""What WebSocket v1 and REST call them."""
ROUNDED_NS = 200
"""By how much a time in REST may be less than the trade's: 119 ns by its float64, 50 ns by its seven decimals."""
SIDES: dict[str, Side] = {"b": "buy", "s": "sell"}

_HEAD = re.compile(
    rb'\{\s*"channel"\s*:\s*"(?P<channel>[a-z0-9_]{1,40})"\s*,\s*"type"\s*:\s*"[a-z]{1,20}"\s*,'
    rb'\s*"data"\s*:\s*\[\s*\{\s*"symbol"\s*:\s*"(?P<symbol>[A-Za-z0-9.]{1,30}/[A-Za-z0-9.]{1,20})"'
)

_REST = re.compile(rb'\{"request":"/0/public/(?P<channel>OHLC|Trades)\?pair=(?P<symbol>[A-Z0-9.]{2,40})&')
_TIME = re.compile(rb"([0-9]{1,10})(?:\.([0-9]{1,10}))?")
_SYMBOL_MARK = b'"symbol":"'

T = TypeVar("T", bound="_Named")
R = TypeVar("R")


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


class _PastTrade(msgspec.Struct, gc=False, array_like=True):
    price: Number
    volume: Number
    time: msgspec.Raw
    side: Literal["b", "s"]
    kind: str
    misc: str
    trade_id: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


_Candle = tuple[Seconds, Number, Number, Number, Number, Number, Size, Id]


class _OfPair(msgspec.Struct, Generic[R]):
    """By the venue's internal name of a pair, whatever name was asked for; and `last`, where to go on."""

    result: dict[str, list[R] | int]

    @property
    def rows(self) -> list[R]:
        found = [rows for rows in self.result.values() if not isinstance(rows, int)]
        if len(found) != 1:
            raise FrameError(f"an answer about {len(found)} pairs")
        return found[0]


PastTrades = _OfPair[_PastTrade]


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


def _past_trades(m: RestAnswer[PastTrades], symbol: str) -> Sequence[TradeTick]:
    """{"error":[],"result":{"XXBTZUSD":[["93741.20000","0.00150000",1767625200.1234567,"s","m","",93412345],..],"last":"1767625200123456789"}}"""
    return recovered(
        TradeTick(symbol, str(d.trade_id), d.price, d.volume, SIDES[d.side], _time_of(d), d.trade_id, d.trade_id)
        for d in m.response.rows
    )


def times_of(answer: PastTrades) -> list[int]:
    """The times of the trades in an answer of Trades, ns. Raises FrameError."""
    return [_time_of(trade) for trade in answer.rows]


def _time_of(trade: _PastTrade) -> int:
    match = _TIME.fullmatch(trade.time)
    if match is None:
        raise FrameError(f"not a time in seconds: {str(trade.time, 'latin-1')[:40]!r}")
    ns = int(match[1]) * SECOND_NS + int((match[2] or b"").ljust(9, b"0")[:9]) + ROUNDED_NS
    return ns - ns % 1_000


def _ohlc(m: RestAnswer[_OfPair[_Candle]], symbol: str) -> Sequence[BarTick]:
    """{"error":[],"result":{"XXBTZUSD":[[1767625140,"93700.0","93750.0","93690.0","93741.2","93720.0","12.50000000",345],..],"last":1767625140}}"""
    closed = m.response.rows[:-1]
    return [
        BarTick(symbol, m.id_space, s * SECOND_NS, opened, high, low, close, volume, None, count)
        for s, opened, high, low, close, _, volume, count in closed
        if count
    ]


def rest_name(pair: str) -> str:
    """BTC/USD as REST has it: XBTUSD."""
    return "".join(OLD_NAMES.get(name, name) for name in pair.split("/"))


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
        Channel("OHLC", BAR, RestAnswer[_OfPair[_Candle]], _ohlc),
        Channel("Trades", TRADE, RestAnswer[PastTrades], _past_trades),
    )
    heads = (_HEAD, _REST)
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

    def head(self, frame: bytes) -> tuple[bytes, bytes] | None:
        found = super().head(frame)
        return (found[0], self._pair_of(found[1])) if found and frame.startswith(REST_MARK) else found

    def _pair_of(self, name: bytes) -> bytes:
        """The pair with a name in REST; empty for what is none."""
        bitcoin = OLD_NAMES["BTC"].encode()
        joined = name.removesuffix(bitcoin) + b"BTC" if name.endswith(bitcoin) else name
        base, slash, quote = (self.symbols.to_venue(joined.decode()) or "").partition("/")
        return f"{next((new for new, old in OLD_NAMES.items() if old == base), base)}{slash}{quote}".encode()

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
