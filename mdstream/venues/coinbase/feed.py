"""Coinbase Exchange feed (not Advanced Trade).

Channels: matches, ticker, heartbeat, level2_batch. REST: the answers of /products/{id}/trades, as repair publishes
them.
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
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import msgspec

from mdstream import instruments
from mdstream.errors import FrameError, SymbolError
from mdstream.events import Side
from mdstream.repairs import REST_MARK
from mdstream.ticks import (
    NO_ID,
    BookUpdate,
    Control,
    LevelSize,
    Number,
    PriceLevel,
    QuoteTick,
    Tick,
    TradeTick,
    price_units,
)
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
    side_of_book,
)
from mdstream.venues.times import rfc3339_ns

QUOTES = (*instruments.QUOTES, "CAD", "INR")
KINDS = {b"match": TRADE, b"last_match": TRADE, b"ticker": QUOTE, b"snapshot": BOOK, b"l2update": BOOK}
ALIASES = {"level2_50": "level2_batch"}
"""Channels that the venue acknowledges by another name."""
AGGRESSOR: dict[str, Side] = {"buy": "sell", "sell": "buy"}
"""The aggressor's side by the maker's."""

_TYPE = re.compile(rb'\{\s*"type"\s*:\s*"([a-z0-9_]{1,40})"')
_PRODUCT = re.compile(rb'"product_id"\s*:\s*"([A-Za-z0-9_-]{1,60})"')
_REST = re.compile(rb'\{"request":"/products/([A-Za-z0-9_-]{1,60})/trades\?')
# The same without a regex, for frames without white space, as the venue sends them: takes half the time.
_TYPE_MARK = b'{"type":"'
_PRODUCT_MARK = b'"product_id":"'
_BY_START = {(name + b'","')[:8]: kind for name, kind in KINDS.items()}


class _Match(msgspec.Struct, gc=False):
    trade_id: Id
    side: Literal["buy", "sell"]
    size: Number
    price: Number
    product_id: Name
    time: str


class _RestTrade(msgspec.Struct, gc=False):
    trade_id: Id
    side: Literal["buy", "sell"]
    size: Number
    price: Number
    time: str


class _RestTradesMessage(msgspec.Struct, gc=False):
    response: list[_RestTrade]


class _Ticker(msgspec.Struct, gc=False):
    product_id: Name
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


class _Channel(msgspec.Struct):
    name: str
    product_ids: list[str] | None = None


class _Other(msgspec.Struct):
    type: str
    message: str = ""
    reason: str = ""
    channels: list[_Channel] = []


_decode_match = msgspec.json.Decoder(_Match, strict=False).decode
_decode_ticker = msgspec.json.Decoder(_Ticker, strict=False).decode
_decode_snapshot = msgspec.json.Decoder(_Snapshot, strict=False).decode
_decode_l2update = msgspec.json.Decoder(_L2Update, strict=False).decode
_decode_rest_trades = msgspec.json.Decoder(_RestTradesMessage, strict=False).decode
_decode_other = msgspec.json.Decoder(_Other).decode

_NOT_DATA = Route(b"coinbase", OTHER)


class Coinbase(Provider):
    name = "coinbase"
    market = "crypto"
    default_url = "wss://ws-feed.exchange.coinbase.com"
    contiguous_ids = True
    max_symbols = 100
    subscribe_interval_s = 0.02  # the venue accepts a hundred messages per second
    silence_s = 15.0  # the heartbeat channel alone sends a frame per second and product

    def __init__(self) -> None:
        self._routes = {kind: Remembered(partial(_route, kind)) for kind in (TRADE, QUOTE, BOOK, OTHER)}
        self._symbols = Remembered(instruments.from_dashed)

    def to_venue(self, symbol: str) -> str:
        product = instruments.to_dashed(symbol, QUOTES)
        if product is None or product.count("-") != 1:
            raise SymbolError(self.name, symbol, "a pair like BTCUSD, or the venue's own form, BTC-USD")
        return product

    def from_venue(self, symbol: str) -> str:
        return instruments.from_dashed(symbol)

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
        if frame.startswith(_TYPE_MARK):
            start = frame.find(_PRODUCT_MARK) + len(_PRODUCT_MARK)
            end = frame.find(b'"', start, start + 61)
            if start >= len(_PRODUCT_MARK) and end > start:
                return self._routes[_BY_START.get(frame[9:17], OTHER)][frame[start:end]]
        return self._route_slowly(frame)

    def _route_slowly(self, frame: bytes) -> Route:
        kind, product = _TYPE.match(frame), _PRODUCT.search(frame)
        if kind is None or product is None:
            rest = _REST.match(frame)
            return _NOT_DATA if rest is None else self._routes[TRADE][rest[1]]
        return self._routes[KINDS.get(kind[1], OTHER)][product[1]]

    def decode(self, frame: bytes) -> Sequence[Tick]:
        match = _TYPE.match(frame)
        try:
            if match is not None:
                named = match[1]
            elif frame.startswith(REST_MARK):
                return _parse_rest(self._symbols, frame)
            else:
                named = _decode_other(frame).type.encode()
            parse = PARSERS.get(named)
            if parse is None:
                raise FrameError(f"unknown type of message: {named.decode('utf-8', 'replace')[:40]!r}")
            return (parse(self._symbols, frame),)
        except UNREADABLE as error:
            raise FrameError(f"not JSON that can be read: {error}") from None


def _route(kind: bytes, product: bytes) -> Route:
    return Route(instruments.from_dashed(product.decode("utf-8", "replace")).encode(), kind)


Symbols = Remembered[str, str]


def _parse_match(symbols: Symbols, frame: bytes) -> TradeTick:
    """{"type":"match","trade_id":912345678,"side":"sell","size":"0.012","price":"93741.20","product_id":"BTC-USD","time":..}"""
    d = _decode_match(frame)
    trade_id = d.trade_id
    return TradeTick(
        symbols[d.product_id],
        str(trade_id),
        d.price,
        d.size,
        AGGRESSOR[d.side],
        rfc3339_ns(d.time),
        trade_id,
        trade_id,
    )


def _parse_last_match(symbols: Symbols, frame: bytes) -> TradeTick:
    """As match."""
    trade = _parse_match(symbols, frame)
    trade.resume = True
    return trade


def _parse_rest(symbols: Symbols, frame: bytes) -> Sequence[TradeTick]:
    """{"request":"/products/BTC-USD/trades?..","response":[{"trade_id":912345678,"side":"sell","size":"0.012","price":..},..]}"""
    match = _REST.match(frame)
    if match is None:
        raise FrameError("the answer to a request that repair did not make")
    symbol = symbols[match[1].decode()]
    return [_rest_trade(symbol, d) for d in _decode_rest_trades(frame).response]


def _rest_trade(symbol: str, d: _RestTrade) -> TradeTick:
    trade_id, side, ts_exchange = d.trade_id, AGGRESSOR[d.side], rfc3339_ns(d.time)
    return TradeTick(symbol, str(trade_id), d.price, d.size, side, ts_exchange, trade_id, trade_id, recovered=True)


def _parse_ticker(symbols: Symbols, frame: bytes) -> QuoteTick | Control:
    """{"type":"ticker","sequence":118273645012,"product_id":"BTC-USD","best_bid":"93741.10","best_bid_size":"0.25",..}"""
    d = _decode_ticker(frame)
    if d.best_bid is None and d.best_ask is None:
        return Control("ignored", "a ticker without quotes")
    return QuoteTick(
        symbols[d.product_id],
        *side_of_book(d.best_bid or "", d.best_bid_size),
        *side_of_book(d.best_ask or "", d.best_ask_size),
        rfc3339_ns(d.time) if d.time else None,
        d.sequence,
    )


def _parse_snapshot(symbols: Symbols, frame: bytes) -> BookUpdate:
    """{"type":"snapshot","product_id":"BTC-USD","bids":[["93741.10","0.25"],..],"asks":[..],"time":"2026-01-05T15:00:00.05Z"}"""
    d = _decode_snapshot(frame)
    bids, asks = ([(price_units(price), size) for price, size in side] for side in (d.bids, d.asks))
    return BookUpdate(symbols[d.product_id], bids, asks, rfc3339_ns(d.time) if d.time else None, whole=True)


def _parse_l2update(symbols: Symbols, frame: bytes) -> BookUpdate:
    """{"type":"l2update","product_id":"BTC-USD","changes":[["buy","93741.10","0.30"]],"time":"2026-01-05T15:00:00.1Z"}"""
    d = _decode_l2update(frame)
    bids: list[PriceLevel] = []
    asks: list[PriceLevel] = []
    for side, price, size in d.changes:
        (bids if side == "buy" else asks).append((price_units(price), size))
    return BookUpdate(symbols[d.product_id], bids, asks, rfc3339_ns(d.time) if d.time else None)


def _parse_control(_symbols: Symbols, frame: bytes) -> Control:
    """{"type":"subscriptions","channels":[..]} or {"type":"error","message":"Failed to subscribe","reason":".."}"""
    m = _decode_other(frame)
    if m.type == "error":
        return Control("error", f"{m.message}: {m.reason}" if m.reason else m.message)
    if m.type == "heartbeat":
        return Control("heartbeat")
    names = (f"{ALIASES.get(c.name, c.name)} {product}" for c in m.channels for product in c.product_ids or ())
    return Control("ack", m.type, tuple(names))


def _skip(_symbols: Symbols, frame: bytes) -> Control:
    return Control("ignored", _decode_other(frame).type)


PARSERS: dict[bytes, Callable[[Symbols, bytes], Tick]] = {
    b"match": _parse_match,
    b"last_match": _parse_last_match,
    b"ticker": _parse_ticker,
    b"l2update": _parse_l2update,
    b"snapshot": _parse_snapshot,
    b"heartbeat": _parse_control,
    b"subscriptions": _parse_control,
    b"error": _parse_control,
    # The other channels' messages, which a capture may hold.
    **dict.fromkeys(
        (b"status", b"auction", b"received", b"open", b"done", b"change", b"activate", b"rfq_match"), _skip
    ),
}
