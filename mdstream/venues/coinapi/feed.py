"""CoinAPI, websocket v1: the spot markets of many venues, as CoinAPI collects them.

Channels: trade, quote, book20; ignored: other books, ohlcv and others. There is no history: trades have no ids that
count.
Source: docs.coinapi.io, market data websocket (read 2026-09).
Quirks: numbers are JSON numbers, times have seven decimals; the first message is `hello` with the key. Nothing
acknowledges it, or a subscription; we ask for heartbeats, which come after each second without data, so the first one
shows that the key is accepted. A filter is a prefix unless it ends in $; without filters there is everything. A
heartbeat is spelt `hearbeat` in the documentation.
Ids: `uuid` is CoinAPI's own; two connections may get different ones. `sequence` counts per type and symbol of a
connection, and restarts with the next. A side that is an estimate is none.
Books: the twenty best levels, whole in each frame.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from mdstream.errors import FrameError
from mdstream.events import Level, Side
from mdstream.ticks import BookTick, Control, Number, QuoteTick, Size, TradeTick
from mdstream.venues.feed import BOOK, QUOTE, TRADE, Channel, Head, Name, Provider, Request
from mdstream.venues.symbols import Symbols
from mdstream.venues.times import rfc3339_ns

LOGIN = "hello"
TYPES = ("trade", "quote", "book20")
NOTHING = "NONE$"
"""A filter that no symbol matches."""
SYMBOLS_PER_REQUEST = 100
SIDES: dict[str, Side] = {"BUY": "buy", "SELL": "sell"}
UNUSED = ("book", "book5", "book50", "book_l3", "ohlcv", "volume", "exrate", "asset")

_HEAD = re.compile(
    rb'\{\s*"type"\s*:\s*"(?P<channel>[a-z0-9_]{1,20})"\s*,\s*"symbol_id"\s*:\s*"(?P<symbol>[A-Za-z0-9_]{1,60})"'
)
_ID = re.compile(r"(?P<venue>[A-Z]{2,8})_SPOT_(?P<pair>[A-Z0-9]{1,19}_[A-Z0-9]{1,10})")
_CANONICAL = re.compile(r"(?P<pair>[A-Z0-9]{1,19}_[A-Z0-9]{1,10})\.(?P<venue>[A-Z]{2,8})")

Uuid = Annotated[str, msgspec.Meta(min_length=1, max_length=40)]


class _Trade(msgspec.Struct, gc=False):
    uuid: Uuid
    price: Number
    size: Number
    time_exchange: str
    taker_side: Literal["BUY", "SELL", "BUY_ESTIMATED", "SELL_ESTIMATED", "UNKNOWN"] = "UNKNOWN"


class _Quote(msgspec.Struct, gc=False):
    time_exchange: str
    bid_price: Number = 0.0
    bid_size: Size = 0.0
    ask_price: Number = 0.0
    ask_size: Size = 0.0


class _Level(msgspec.Struct, gc=False):
    price: Number
    size: Size


class _Book(msgspec.Struct, gc=False):
    time_exchange: str
    bids: list[_Level]
    asks: list[_Level]


class _Other(msgspec.Struct):
    """Errors, notices, and data whose fields have another order; every field but the type may be missing."""

    type: str
    symbol_id: Name = ""
    message: str = ""
    within_seconds: int = 0


def _trade(m: _Trade, symbol: str) -> Sequence[TradeTick | Control]:
    """{"type":"trade","symbol_id":"BINANCE_SPOT_BTC_USDT","sequence":2323346,"time_exchange":"2026-01-05T15:00:00.1234560Z","time_coinapi":"2026-01-05T15:00:00.1434121Z","uuid":"770c7a3b-1d50-4b2f-9b3c-1f2f6d6a0001","price":93741.2,"size":0.0015,"taker_side":"SELL"}"""
    if not m.size:
        return (Control("ignored", "a marker, not a trade: its size is 0"),)
    return (TradeTick(symbol, m.uuid, m.price, m.size, SIDES.get(m.taker_side), rfc3339_ns(m.time_exchange)),)


def _quote(m: _Quote, symbol: str) -> Sequence[QuoteTick]:
    """{"type":"quote","symbol_id":"BINANCE_SPOT_BTC_USDT","sequence":990123,"time_exchange":"2026-01-05T15:00:00.1300000Z","ask_price":93741.3,"ask_size":0.4,"bid_price":93741.1,"bid_size":0.25,..}"""
    bid, ask = _order(m.bid_price, m.bid_size), _order(m.ask_price, m.ask_size)
    return (QuoteTick(symbol, *bid, *ask, rfc3339_ns(m.time_exchange)),)


def _order(price: float, size: float) -> tuple[float | None, float | None]:
    """The best order; its size is unknown if it is 0, and there is none without a price."""
    return (price, size or None) if price else (None, None)


def _book(m: _Book, symbol: str) -> Sequence[BookTick]:
    """{"type":"book20","symbol_id":"BINANCE_SPOT_BTC_USDT","sequence":5,"time_exchange":"2026-01-05T15:00:00.1300000Z","asks":[{"price":93741.3,"size":0.4},..],"bids":[{"price":93741.1,"size":0.25},..],..}"""
    return (BookTick(symbol, _levels(m.bids), _levels(m.asks), rfc3339_ns(m.time_exchange)),)


def _levels(levels: list[_Level]) -> list[Level]:
    return [(level.price, level.size) for level in levels]


def _to_venue(symbol: str) -> str | None:
    upper = symbol.upper()
    found = _CANONICAL.fullmatch(upper)
    return f"{found['venue']}_SPOT_{found['pair']}" if found else upper if _ID.fullmatch(upper) else None


def _from_venue(symbol_id: str) -> str:
    found = _ID.fullmatch(symbol_id.upper())
    return f"{found['pair']}.{found['venue']}" if found else ""


class CoinApi(Provider):
    name = "coinapi"
    market = "crypto"
    default_url = "wss://ws.coinapi.io/v1/"
    default_symbols = ("BTC_USDT.BINANCE", "ETH_USDT.BINANCE")
    symbols = Symbols(
        "a pair and its venue, like BTC_USDT.BINANCE, or CoinAPI's own form, BINANCE_SPOT_BTC_USDT",
        _to_venue,
        _from_venue,
    )
    max_symbols = 1_000  # the service names no limit, but for one connection
    subscribe_interval_s = 0.1
    silence_s = 10.0  # there is a heartbeat after each second without data
    credentials = ("COINAPI_KEY",)
    channels = (
        Channel("trade", TRADE, _Trade, _trade),
        Channel("quote", QUOTE, _Quote, _quote),
        Channel("book20", BOOK, _Book, _book),
    )
    heads = (_HEAD,)
    head_end = b',"sequence"'
    other = _Other

    def login(self, settings: Mapping[str, str]) -> Request | None:
        return Request(_scope("hello", [NOTHING], apikey=settings["COINAPI_KEY"], heartbeat=True), (LOGIN,))

    def subscribe(self, symbols: Sequence[str]) -> list[Request]:
        filters = [f"{self.to_venue(symbol)}$" for symbol in symbols]
        shares = [filters[i : i + SYMBOLS_PER_REQUEST] for i in range(0, len(filters), SYMBOLS_PER_REQUEST)]
        return [Request(_scope("subscribe", share, heartbeat=True)) for share in shares]

    def control(self, message: _Other) -> Control | Head:
        """{"type":"hearbeat"}, {"type":"error","message":"Invalid API key"} or
        {"type":"reconnect","within_seconds":10,"before_time":"2026-01-05T15:10:00.0000000Z"}"""
        m = message
        match m.type:
            case "hearbeat" | "heartbeat":
                return Control("ack", "heartbeat", (LOGIN,))
            case "reconnect":
                return Control("shutdown", f"the service ends this connection within {m.within_seconds} s")
            case "error":
                return Control("error", m.message, (LOGIN,) if "api key" in m.message.lower() else ())
        if m.type in UNUSED:
            return Control("ignored", m.type)
        if not m.symbol_id:
            raise FrameError("neither data nor a notice")
        return Head(m.type, m.symbol_id)


def _scope(kind: str, filters: Sequence[str], **fields: object) -> str:
    return json.dumps({"type": kind, **fields, "subscribe_data_type": TYPES, "subscribe_filter_symbol_id": filters})
