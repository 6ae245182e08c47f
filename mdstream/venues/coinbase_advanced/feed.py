"""Coinbase Advanced Trade: the other public feed of Coinbase Exchange's markets.

Channels: market_trades, ticker, level2 (which answers as l2_data), heartbeats. There is no history: that REST trades
of Exchange have the same ids is not documented.
Source: docs.cdp.coinbase.com, Advanced Trade WebSocket and its AsyncAPI (read 2026-11).
Quirks: `side` names the MAKER by the documentation, so the aggressor's is the opposite; a frame may concern several
products; market_trades come in batches of 250 ms, which we sort by id; sides of a book are `bid` and `offer`; the
products in USDC are answered with the data of those in USD, and are refused here, but for two. One request has one
channel; a channel without updates is closed after a minute unless heartbeats are subscribed to.
Ids: `trade_id` is a number that rises per product; nothing says that it counts by one. `sequence_num` counts the frames
of a connection over all channels and products, so the frames of one product alone do not show a lost one.
Books: a snapshot after each subscription, then changes: absolute sizes, "0" for a removed level. Quotes are the book's
top; without a book, the ticker's, which comes only with a trade.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Generic, Literal, TypeVar

import msgspec

from mdstream.errors import FrameError
from mdstream.events import Side
from mdstream.ticks import BookUpdate, Control, LevelSize, Number, PriceLevel, QuoteTick, TradeTick, price_units
from mdstream.venues import arrays
from mdstream.venues.coinbase.feed import QUOTES
from mdstream.venues.feed import BOOK, QUOTE, TRADE, UNREADABLE, Channel, Head, Id, Name, Parser, Provider, Request
from mdstream.venues.parsing import side_of_book
from mdstream.venues.symbols import separated
from mdstream.venues.times import rfc3339_ns

AGGRESSOR: dict[str, Side] = {"BUY": "sell", "SELL": "buy"}
"""The aggressor's side by the maker's."""
SUBSCRIPTIONS = ("market_trades", "ticker", "level2")
UNUSED = ("status", "candles", "ticker_batch", "user", "futures_balance_summary")
IN_USDC = ("USDT-USDC", "EURC-USDC")
"""The products in USDC that have data of their own."""

_NAME = rb"(?P<symbol>[A-Za-z0-9_-]{1,60})"
_HEAD = re.compile(rb'\{\s*"channel"\s*:\s*"(?P<channel>[a-z0-9_]{1,40})".*?"product_id"\s*:\s*"%s"' % _NAME, re.DOTALL)
_PRODUCT = re.compile(rb'"product_id"\s*:\s*"([^"]{0,60})"')
_EMPTY = re.compile(rb'"(?:trades|tickers)"\s*:\s*\[\s*\]')
_PRODUCT_MARK = b'"product_id":"'
_START = len(b'{"channel":"market_trades"')
_FURTHEST = 300
"""The product's place in a frame of a channel here ends before it."""

T = TypeVar("T")
_pairs = separated("a pair like BTCUSD, or the venue's own form, BTC-USD; in USDC only USDTUSDC and EURCUSDC", QUOTES)


class _Frame(msgspec.Struct, Generic[T], gc=False):
    timestamp: str
    events: list[T]


class _Trade(msgspec.Struct, gc=False):
    trade_id: Id
    product_id: Name
    price: Number
    size: Number
    side: Literal["BUY", "SELL"]
    time: str


class _Trades(msgspec.Struct, gc=False):
    type: Literal["snapshot", "update"]
    trades: list[_Trade]


class _Ticker(msgspec.Struct, gc=False):
    product_id: Name
    best_bid: str
    best_ask: str
    best_bid_quantity: str = ""
    best_ask_quantity: str = ""


class _Tickers(msgspec.Struct, gc=False):
    tickers: list[_Ticker]


class _Level(msgspec.Struct, gc=False):
    side: Literal["bid", "offer"]
    price_level: str
    new_quantity: LevelSize


class _Book(msgspec.Struct, gc=False):
    type: Literal["snapshot", "update"]
    product_id: Name
    updates: list[_Level]


class _Other(msgspec.Struct):
    """Answers, heartbeats, and data whose fields have another order; every field may be missing."""

    type: str = ""
    message: str = ""
    channel: str = ""
    events: msgspec.Raw = msgspec.Raw(b"[]")


class _Subscribed(msgspec.Struct):
    subscriptions: dict[str, list[str]]


class _Named(msgspec.Struct):
    product_id: str


class _Event(msgspec.Struct):
    """One event of a frame of several products: of one itself, or with rows of each."""

    type: msgspec.Raw
    product_id: str = ""
    trades: list[msgspec.Raw] = []
    tickers: list[msgspec.Raw] = []


class _Shared(msgspec.Struct):
    channel: str
    timestamp: str
    sequence_num: int
    events: list[msgspec.Raw]


_shared = msgspec.json.Decoder(_Shared).decode
_event = msgspec.json.Decoder(_Event).decode
_named = msgspec.json.Decoder(_Named).decode


def _trades(m: _Frame[_Trades], symbol: str) -> Sequence[TradeTick]:
    """{"channel":"market_trades","timestamp":"2026-01-05T15:00:00.260123456Z","sequence_num":3,"events":[{"type":"update","trades":[{"trade_id":"912345678","product_id":"BTC-USD","price":"93741.20","size":"0.012","side":"SELL","time":"2026-01-05T15:00:00.123456Z"},..]}]}"""
    arrays.of_one([trade for event in m.events for trade in event.trades], lambda trade: trade.product_id)
    # A snapshot holds trades from before the subscription: nothing says which of them are news.
    trades = [trade for event in m.events if event.type == "update" for trade in event.trades]
    trades.sort(key=lambda trade: trade.trade_id)
    return [_trade(trade, symbol) for trade in trades]


def _trade(d: _Trade, symbol: str) -> TradeTick:
    side, ts_exchange = AGGRESSOR[d.side], rfc3339_ns(d.time)
    return TradeTick(symbol, str(d.trade_id), d.price, d.size, side, ts_exchange, d.trade_id, d.trade_id)


def _tickers(m: _Frame[_Tickers], symbol: str) -> Sequence[QuoteTick]:
    """{"channel":"ticker","timestamp":"2026-01-05T15:00:00.310123456Z","sequence_num":5,"events":[{"type":"update","tickers":[{"type":"ticker","product_id":"BTC-USD","best_bid":"93741.10","best_bid_quantity":"0.25",..}]}]}"""
    tickers = [ticker for event in m.events for ticker in event.tickers]
    ts_exchange = rfc3339_ns(m.timestamp)
    return [
        QuoteTick(
            symbol,
            *side_of_book(d.best_bid, d.best_bid_quantity),
            *side_of_book(d.best_ask, d.best_ask_quantity),
            ts_exchange,
        )
        for d in arrays.of_one(tickers, lambda ticker: ticker.product_id)
    ]


def _books(m: _Frame[_Book], symbol: str) -> Sequence[BookUpdate]:
    """{"channel":"l2_data","timestamp":"2026-01-05T15:00:00.300123456Z","sequence_num":4,"events":[{"type":"update","product_id":"BTC-USD","updates":[{"side":"offer","event_time":"2026-01-05T15:00:00.299Z","price_level":"93742.00","new_quantity":"0"}]}]}"""
    ts_exchange = rfc3339_ns(m.timestamp)
    return [_book(event, symbol, ts_exchange) for event in arrays.of_one(m.events, lambda event: event.product_id)]


def _book(d: _Book, symbol: str, ts_exchange: int) -> BookUpdate:
    bids: list[PriceLevel] = []
    asks: list[PriceLevel] = []
    for level in d.updates:
        (bids if level.side == "bid" else asks).append((price_units(level.price_level), level.new_quantity))
    return BookUpdate(symbol, bids, asks, ts_exchange, d.type == "snapshot")


def _to_venue(symbol: str) -> str | None:
    product = _pairs.to_venue(symbol)
    return None if product and product.endswith("-USDC") and product not in IN_USDC else product


class CoinbaseAdvanced(Provider):
    name = "coinbase_advanced"
    market = "crypto"
    default_url = "wss://advanced-trade-ws.coinbase.com"
    default_symbols = ("BTCUSD", "ETHUSD")
    symbols = _pairs._replace(to_venue=_to_venue)
    max_symbols = 50  # 23 s of requests
    subscribe_interval_s = 0.15  # the venue accepts eight messages per second from an address
    silence_s = 10.0  # there is a heartbeat every second
    shares_frames = True
    channels = (
        Channel("market_trades", TRADE, _Frame[_Trades], _trades),
        Channel("ticker", QUOTE, _Frame[_Tickers], _tickers),
        Channel("l2_data", BOOK, _Frame[_Book], _books),
    )
    heads = (_HEAD,)
    other = _Other

    def subscribe(self, symbols: Sequence[str]) -> list[Request]:
        # One product each: whether one that the venue does not offer takes a request's others with it is not said.
        products = [self.to_venue(symbol) for symbol in symbols]
        requests = [
            Request(
                json.dumps({"type": "subscribe", "product_ids": [product], "channel": channel}),
                (f"{channel} {product}",),
            )
            for channel in SUBSCRIPTIONS
            for product in products
        ]
        return [*requests, Request(json.dumps({"type": "subscribe", "channel": "heartbeats"}))]

    def unsubscribe(self, symbols: Sequence[str]) -> list[Request]:
        # All but the last: the heartbeats are those of the whole connection.
        return super().unsubscribe(symbols)[:-1]

    def split(self, frame: bytes) -> Sequence[bytes]:
        first = _PRODUCT.search(frame)
        if first is None or frame.count(b'"product_id"') == frame.count(first[0]):
            return (frame,)
        try:
            return _parts(_shared(frame)) or (frame,)
        except (msgspec.MsgspecError, *UNREADABLE):
            return (frame,)

    def parser(self, frame: bytes) -> Parser:
        # Time and number come before the product; without them all frames of a channel and product begin alike.
        begin = frame.find(_PRODUCT_MARK, _START, _FURTHEST)
        end = frame.find(b'"', begin + len(_PRODUCT_MARK), _FURTHEST) + 1
        return self._by_start[frame[:_START] + frame[begin:end]] if 0 < begin < end else self.by_pattern(frame)

    def control(self, message: _Other) -> Control | Head:
        """{"channel":"subscriptions",..,"events":[{"subscriptions":{"market_trades":["BTC-USD"]}}]},
        {"channel":"heartbeats",..} or {"type":"error","message":"channel is invalid"}"""
        m = message
        if m.type == "error":
            return Control("error", m.message)
        if m.channel == "subscriptions":
            state = msgspec.json.decode(m.events, type=list[_Subscribed])
            names = (f"{c} {p}" for event in state for c, products in event.subscriptions.items() for p in products)
            return Control("ack", m.channel, tuple(names))
        if m.channel == "heartbeats":
            return Control("heartbeat")
        if m.channel in UNUSED:
            return Control("ignored", m.channel)
        if m.channel in self.table:
            product = _PRODUCT.search(m.events)
            if product is None and _EMPTY.search(m.events):
                return Control("ignored", f"{m.channel} of nothing")
            return Head(m.channel, product[1].decode() if product else "")
        raise FrameError(f"unknown channel: {m.channel[:40]!r}")


def _parts(m: _Shared) -> list[bytes]:
    """A frame of each product, with all that concerns it, in the order of their first events."""
    events: dict[str, list[bytes]] = {}
    for raw in m.events:
        event = _event(raw)
        if event.product_id:
            events.setdefault(event.product_id, []).append(bytes(raw))
        for name, rows in (("trades", event.trades), ("tickers", event.tickers)):
            of: dict[str, list[bytes]] = {}
            for row in rows:
                of.setdefault(_named(row).product_id, []).append(bytes(row))
            for product, own in of.items():
                text = b'{"type":%b,"%b":[%b]}' % (bytes(event.type), name.encode(), b",".join(own))
                events.setdefault(product, []).append(text)
    head = json.dumps({"channel": m.channel, "timestamp": m.timestamp, "sequence_num": m.sequence_num})
    compact = head.replace(": ", ":").replace(", ", ",")[:-1].encode()
    return [b'%b,"events":[%b]}' % (compact, b",".join(own)) for own in events.values()]
