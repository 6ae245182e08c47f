"""Coinbase Exchange feed (not Advanced Trade).

Channels: matches, ticker, heartbeat, level2_batch. REST: the answers of /products/{id}/trades and candles, as repair
and backfill publish them.
Source: docs.cdp.coinbase.com/exchange/websocket-feed and its REST reference (read 2026).
Quirks: `side` of a match names the MAKER, so the aggressor's is the opposite, in REST too; numbers are text, times RFC
3339; a ticker comes only with a trade, and in captures before 2022 it has no sizes; the product may be anywhere in a
frame.
Ids: `trade_id` is contiguous per product. `sequence` counts the product's whole order feed: it rises, but with holes.
`last_match`, once after each subscription, is the last trade before it: a point to resume from.
Books: level2_batch sends a snapshot after each subscription, then the changes every 50 ms: absolute sizes, "0" for a
removed level. An l2update has no sequence number: a lost one shows only when the book becomes inconsistent, and
recovery takes the snapshot of the next connection. Quotes are the book's top; without a book, the ticker's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from mdstream import instruments
from mdstream.errors import FrameError
from mdstream.events import Side
from mdstream.ticks import (
    NO_ID,
    BarTick,
    BookUpdate,
    Control,
    LevelSize,
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
    OTHER,
    QUOTE,
    TRADE,
    Channel,
    Head,
    Id,
    Name,
    Parser,
    Provider,
    Remembered,
    Request,
    RestAnswer,
    Route,
)
from mdstream.venues.parsing import price_levels, recovered, side_of_book
from mdstream.venues.symbols import separated
from mdstream.venues.times import SECOND_NS, Seconds, rfc3339_ns

QUOTES = (*instruments.QUOTES, "CAD", "INR")
AGGRESSOR: dict[str, Side] = {"buy": "sell", "sell": "buy"}
"""The aggressor's side by the maker's."""
REST_CHANNELS = ("trades", "candles")
ALIASES = {"level2_50": "level2_batch"}
"""Channels that the venue acknowledges by another name."""
UNUSED = ("status", "auction", "received", "open", "done", "change", "activate", "rfq_match")
"""The messages of other channels, which a capture may hold."""

_PRODUCT = rb"(?P<symbol>[A-Za-z0-9_-]{1,60})"
_TYPE = re.compile(rb'\{\s*"type"\s*:\s*"(?P<channel>[a-z0-9_]{1,40})".*?"product_id"\s*:\s*"%s"' % _PRODUCT, re.DOTALL)
_REST = re.compile(rb'\{"request":"/products/%s/(?P<channel>trades|candles)\?' % _PRODUCT)
_TYPE_MARK = b'{"type":"'
_PRODUCT_MARK = b'"product_id":"'


class _Match(msgspec.Struct, gc=False):
    trade_id: Id
    side: Literal["buy", "sell"]
    size: Number
    price: Number
    time: str
    product_id: Name = ""
    channels: list[_Subscribed] = []


class _Ticker(msgspec.Struct, gc=False):
    product_id: Name = ""
    best_bid: str | None = None
    best_ask: str | None = None
    best_bid_size: str = ""
    best_ask_size: str = ""
    time: str = ""
    sequence: Id = NO_ID


class _Snapshot(msgspec.Struct):
    product_id: Name
    bids: list[tuple[str, LevelSize]]
    asks: list[tuple[str, LevelSize]]
    time: str = ""


class _L2Update(msgspec.Struct, gc=False):
    product_id: Name
    changes: list[tuple[Literal["buy", "sell"], str, LevelSize]]
    time: str = ""


_Candle = tuple[Seconds, Number, Number, Number, Number, Size]


class _Subscribed(msgspec.Struct):
    name: str
    product_ids: list[str] | None = None


class _Other(msgspec.Struct):
    """Acks, errors, and data whose fields have another order; every field but the type may be missing."""

    type: str
    message: str = ""
    reason: str = ""
    product_id: Name = ""
    channels: list[_Subscribed] = []


def _match(m: _Match, symbol: str) -> Sequence[TradeTick]:
    """{"type":"match","trade_id":912345678,"side":"sell","size":"0.012","price":"93741.20","product_id":"BTC-USD","time":..}"""
    trade_id = m.trade_id
    ts_exchange = rfc3339_ns(m.time)
    return (TradeTick(symbol, str(trade_id), m.price, m.size, AGGRESSOR[m.side], ts_exchange, trade_id, trade_id),)


def _last_match(m: _Match, symbol: str) -> Sequence[TradeTick]:
    """As match."""
    (trade,) = _match(m, symbol)
    trade.resume = True
    return (trade,)


def _ticker(m: _Ticker, symbol: str) -> Sequence[Tick]:
    """{"type":"ticker","sequence":118273645012,"product_id":"BTC-USD","best_bid":"93741.10","best_bid_size":"0.25",..}"""
    if m.best_bid is None and m.best_ask is None:
        return (Control("ignored", "a ticker without quotes"),)
    bid = side_of_book(m.best_bid or "", m.best_bid_size)
    ask = side_of_book(m.best_ask or "", m.best_ask_size)
    return (QuoteTick(symbol, *bid, *ask, rfc3339_ns(m.time) if m.time else None, m.sequence),)


def _snapshot(m: _Snapshot, symbol: str) -> Sequence[BookUpdate]:
    """{"type":"snapshot","product_id":"BTC-USD","bids":[["93741.10","0.25"],..],"asks":[..],"time":"2026-01-05T15:00:00.05Z"}"""
    ts_exchange = rfc3339_ns(m.time) if m.time else None
    return (BookUpdate(symbol, price_levels(m.bids), price_levels(m.asks), ts_exchange, whole=True),)


def _l2update(m: _L2Update, symbol: str) -> Sequence[BookUpdate]:
    """{"type":"l2update","product_id":"BTC-USD","changes":[["buy","93741.10","0.30"]],"time":"2026-01-05T15:00:00.1Z"}"""
    bids: list[PriceLevel] = []
    asks: list[PriceLevel] = []
    for side, price, size in m.changes:
        (bids if side == "buy" else asks).append((price_units(price), size))
    return (BookUpdate(symbol, bids, asks, rfc3339_ns(m.time) if m.time else None),)


def _heartbeat(_message: _Other, _symbol: str) -> Sequence[Control]:
    """{"type":"heartbeat","sequence":118273645013,"last_trade_id":912345678,"product_id":"BTC-USD","time":..}"""
    return (Control("heartbeat"),)


def _trades(m: RestAnswer[list[_Match]], symbol: str) -> Sequence[TradeTick]:
    """[{"trade_id":912345678,"side":"sell","size":"0.012","price":"93741.20","time":"2026-01-05T15:00:00.123456Z"},..]"""
    return recovered(trade for d in m.response for trade in _match(d, symbol))


def _candles(m: RestAnswer[list[_Candle]], symbol: str) -> Sequence[BarTick]:
    """[[1767625140,93690.0,93750.0,93700.0,93741.2,12.5],..]"""
    return [
        BarTick(symbol, m.id_space, s * SECOND_NS, opened, high, low, close, volume)
        for s, low, high, opened, close, volume in m.response
    ]


class Coinbase(Provider):
    name = "coinbase"
    market = "crypto"
    default_url = "wss://ws-feed.exchange.coinbase.com"
    sandbox_url = "wss://ws-feed-public.sandbox.exchange.coinbase.com"
    default_symbols = ("BTCUSD", "ETHUSD")
    symbols = separated("a pair like BTCUSD, or the venue's own form, BTC-USD", QUOTES)
    contiguous_ids = True
    max_symbols = 100
    subscribe_interval_s = 0.02  # the venue accepts a hundred messages per second
    silence_s = 15.0  # the heartbeat channel alone sends a frame per second and product
    channels = (
        Channel("match", TRADE, _Match, _match),
        Channel("last_match", TRADE, _Match, _last_match),
        Channel("ticker", QUOTE, _Ticker, _ticker),
        Channel("snapshot", BOOK, _Snapshot, _snapshot),
        Channel("l2update", BOOK, _L2Update, _l2update),
        Channel("heartbeat", OTHER, _Other, _heartbeat),
        Channel("trades", TRADE, RestAnswer[list[_Match]], _trades),
        Channel("candles", BAR, RestAnswer[list[_Candle]], _candles),
    )
    heads = (_TYPE, _REST)
    other = _Other

    def __init__(self) -> None:
        super().__init__()
        self._routes = Remembered(self._route)
        self._by_type = Remembered(self._typed)
        self._symbols = Remembered(self._symbol)

    def subscribe(self, symbols: Sequence[str]) -> list[Request]:
        # The venue rejects a whole request for one product or channel it does not offer: so one request each, and
        # level2 apart, which it has closed to anonymous readers before.
        products = [self.to_venue(symbol) for symbol in symbols]
        return [
            Request(
                json.dumps({"type": "subscribe", "product_ids": [product], "channels": channels}),
                tuple(f"{channel} {product}" for channel in channels),
            )
            for channels in (["matches", "ticker", "heartbeat"], ["level2_batch"])
            for product in products
        ]

    def route(self, frame: bytes) -> Route:
        # The product may be anywhere: found without a pattern in frames without white space, as the venue sends them.
        if frame.startswith(_TYPE_MARK):
            start = frame.find(_PRODUCT_MARK) + len(_PRODUCT_MARK)
            end = frame.find(b'"', start, start + 61)
            if start >= len(_PRODUCT_MARK) and end > start:
                return self._routes[frame[9:20], frame[start:end]]
        return self.by_pattern(frame).route

    def _route(self, marks: tuple[bytes, bytes]) -> Route:
        """By the bytes from the type on, which hold any name of a channel here and its quote, and by the product."""
        return self.parsers[marks[0].partition(b'"')[0], marks[1]].route

    def parser(self, frame: bytes) -> Parser:
        # By the type alone: the product is found faster in the message.
        return self._by_type[frame[:20]] or self.by_pattern(frame)

    def _typed(self, start: bytes) -> Parser | None:
        name = start.removeprefix(_TYPE_MARK).partition(b'"')[0].decode("ascii", "replace")
        if name not in self.table or name in REST_CHANNELS:
            return None
        kind, decode, ticks = self.table[name]
        return Parser(Route(b"", kind), decode, lambda message, _: ticks(message, self._symbols[message.product_id]))

    def _symbol(self, product: str) -> str:
        symbol = self.from_venue(product)
        if not symbol:
            raise FrameError(f"no instrument: {product!r}")
        return symbol

    def control(self, message: _Other) -> Control | Head:
        """{"type":"subscriptions","channels":[..]} or {"type":"error","message":"Failed to subscribe","reason":".."}"""
        m = message
        if m.type == "error":
            return Control("error", f"{m.message}: {m.reason}" if m.reason else m.message)
        if m.type == "subscriptions":
            names = (f"{ALIASES.get(c.name, c.name)} {product}" for c in m.channels for product in c.product_ids or ())
            return Control("ack", m.type, tuple(names))
        if m.type in UNUSED:
            return Control("ignored", m.type)
        if m.type in self.table and m.type not in REST_CHANNELS:
            return Head(m.type, m.product_id)
        raise FrameError(f"unknown type of message: {m.type[:40]!r}")
