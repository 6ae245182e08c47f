"""Binance spot as the simulator serves it: combined streams at /stream, raw ones at /ws.

Channels: trade, aggTrade, bookTicker, depth5|10|20 at 1000 or 100 ms. Any other stream is acknowledged and stays
silent, as with names the venue does not know (kline and diff depth among them: they are not simulated).
Source: binance/binance-spot-api-docs, web-socket-streams.md (read 2026-07). Our choices where it is silent: close
code 1008 for too many messages and for a client that does not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

from mdstream import instruments
from mdstream.simulator.actions import POLICY_VIOLATION, Action, Close, Ping
from mdstream.simulator.exchange import Exchange, Session
from mdstream.simulator.listing import MS, Channel, Kind, Listing, Topic
from mdstream.simulator.market import SECOND_NS, Book, Instrument, Order, Top
from mdstream.simulator.requests import RefusedError, are_texts, read_object, send_json
from mdstream.simulator.text import Writer, fixed

PING_INTERVAL_NS = 20 * SECOND_NS
PONG_TIMEOUT_NS = 60 * SECOND_NS
LONGEST_CONNECTION_NS = 24 * 3600 * SECOND_NS
MAX_STREAMS = 1024
LONGEST_ID = 36
DECIMALS = 8
QUOTES = ("FDUSD", "TUSD", *instruments.QUOTES, "BNB", "JPY")
"""Quote currencies; a symbol that ends in none of them is priced as in USDT."""

_STREAM = re.compile(r"([a-z0-9]{2,30})@([A-Za-z0-9@_]{1,40})")
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")


def _trade(listing: Listing, order: Order) -> list[str]:
    ms, symbol, maker_buys = order.ts_ns // MS, listing.symbol, "false" if order.buy else "true"
    return [
        f'{{"e":"trade","E":{ms},"s":"{symbol}","t":{t.trade_id},"p":"{listing.price(t.ticks)}",'
        f'"q":"{listing.size(t.lots)}","T":{ms},"m":{maker_buys},"M":true}}'
        for t in order.fills
    ]


def _agg_trade(listing: Listing, order: Order) -> list[str]:
    ms, symbol, maker_buys = order.ts_ns // MS, listing.symbol, "false" if order.buy else "true"
    return [
        f'{{"e":"aggTrade","E":{ms},"s":"{symbol}","a":{t.trade_id},"p":"{listing.price(t.ticks)}",'
        f'"q":"{listing.size(t.lots)}","f":{t.first_id},"l":{t.last_id},"T":{ms},"m":{maker_buys},"M":true}}'
        for t in order.aggregates
    ]


def _book_ticker(listing: Listing, top: Top) -> list[str]:
    price, size = listing.price, listing.size
    text = (
        f'{{"u":{top.update_id},"s":"{listing.symbol}","b":"{price(top.bid)}","B":"{size(top.bid_lots)}",'
        f'"a":"{price(top.ask)}","A":"{size(top.ask_lots)}"}}'
    )
    return [text]


def _depth(levels: int, every: int) -> Channel:
    def encode(listing: Listing, book: Book) -> list[str]:
        bids, asks = (listing.levels(side[:levels]) for side in (book.bids, book.asks))
        return [f'{{"lastUpdateId":{book.update_id},"bids":[{bids}],"asks":[{asks}]}}']

    return Channel(Kind.BOOK, encode, every=every)


def _combined(name: str, channel: Channel) -> Channel:
    """The channel in the envelope of combined streams."""

    def encode(listing: Listing, event: Any) -> list[str]:
        head = f'{{"stream":"{listing.symbol.lower()}@{name}","data":'
        return [f"{head}{data}}}" for data in channel.encode(listing, event)]

    return replace(channel, encode=encode)


RAW = {
    "trade": Channel(Kind.TRADE, _trade, lambda order: order.fills, resolution_ns=MS),
    "aggTrade": Channel(Kind.TRADE, _agg_trade, lambda order: order.aggregates, "aggTrade", resolution_ns=MS),
    "bookTicker": Channel(Kind.QUOTE, _book_ticker),
} | {
    f"depth{levels}{speed}": _depth(levels, every)
    for levels in (5, 10, 20)
    for speed, every in (("", 10), ("@1000ms", 10), ("@100ms", 1))
}
COMBINED = {name: _combined(name, channel) for name, channel in RAW.items()}


def _refused(code: int, message: str, request_id: Any = None) -> RefusedError:
    known = {} if request_id is None else {"id": request_id}
    return RefusedError(send_json({"code": code, "msg": message} | known))


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST_ID and value.isalnum()
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63)


def _ping_payload(now_ns: int) -> bytes:
    return str(now_ns // MS).encode()


class BinanceSession(Session):
    request_limit = (5, 1.0)  # pings and pongs count, too
    too_many = (Close(POLICY_VIOLATION, "Too many requests"),)
    too_slow = (Close(POLICY_VIOLATION, "The client reads too slowly"),)

    def __init__(self, exchange: Exchange, now_ns: int, streams: Sequence[str] = (), combined: bool = True) -> None:
        super().__init__(exchange, now_ns)
        self.channels = COMBINED if combined else RAW
        self._asked_by_url = streams
        self._pinged_ns = self._ponged_ns = now_ns

    def opened(self, now_ns: int) -> list[Action]:
        return self._subscribe(self._asked_by_url, now_ns)

    def answer(self, text: str, now_ns: int) -> list[Action]:
        self.admit(now_ns)
        no_json = _refused(3, "Invalid JSON: expected value at line 1 column 1")
        request = read_object(text, no_json, _refused(2, "Invalid request: expected an object"))
        request_id, method = request.get("id"), request.get("method")
        if not _is_id(request_id):
            raise _refused(2, "Invalid request: request ID must be an integer, a short string or null")
        if method is None:
            raise _refused(2, "Invalid request: missing field `method`", request_id)
        if method not in _METHODS:
            expected = ", ".join(_METHODS)
            raise _refused(2, f"Invalid request: unknown variant {method}, expected one of {expected}", request_id)
        result, actions = self._do(method, request.get("params"), request_id, now_ns)
        return [send_json({"result": result, "id": request_id}), *actions]

    def ping_received(self, now_ns: int) -> list[Action]:
        return [] if self.allowance.take(now_ns) else list(self.too_many)

    def pong_received(self, payload: bytes, now_ns: int) -> list[Action]:
        if payload == _ping_payload(self._pinged_ns):  # an unsolicited pong keeps nothing alive
            self._ponged_ns = now_ns
        return self.ping_received(now_ns)

    def tick(self, now_ns: int, sent_ns: int) -> list[Action]:  # noqa: ARG002
        if now_ns - self.opened_ns >= LONGEST_CONNECTION_NS:
            return [Close(1001, "24 hours are over")]
        if now_ns - self._ponged_ns >= PING_INTERVAL_NS + PONG_TIMEOUT_NS:
            return [Close(POLICY_VIOLATION, "Pong timeout")]
        if now_ns - self._pinged_ns < PING_INTERVAL_NS:
            return []
        self._pinged_ns = now_ns
        return [Ping(_ping_payload(now_ns))]

    def _do(self, method: str, params: Any, request_id: Any, now_ns: int) -> tuple[Any, list[Action]]:
        """The result of a request, and what follows it."""
        if method == "LIST_SUBSCRIPTIONS":
            return list(self.topics), []
        if method.endswith("_PROPERTY"):
            return self._property(method, params, request_id, now_ns)
        if not are_texts(params):
            raise _refused(2, "Invalid request: params must be a list of stream names", request_id)
        if method == "UNSUBSCRIBE":
            return None, self.unsubscribe(params)
        if len(self.topics.keys() | set(params)) > MAX_STREAMS:
            raise _refused(2, f"Invalid request: more than {MAX_STREAMS} streams", request_id)
        return None, self._subscribe(params, now_ns)

    def _property(self, method: str, params: Any, request_id: Any, now_ns: int) -> tuple[Any, list[Action]]:
        name, *values = params if isinstance(params, list) and params else [None]
        if name != "combined":
            raise _refused(0, "Unknown property", request_id)
        if method == "GET_PROPERTY":
            return self.channels is COMBINED, []
        if len(values) != 1 or not isinstance(values[0], bool):
            raise _refused(1, "Invalid value type: expected Boolean", request_id)
        names = list(self.topics)
        leave = self.unsubscribe(names)
        self.channels = COMBINED if values[0] else RAW
        return None, [*leave, *self._subscribe(names, now_ns)]

    def _subscribe(self, names: Sequence[str], now_ns: int) -> list[Action]:
        return self.subscribe({name: self._topic(name, now_ns) for name in names}, now_ns)

    def _topic(self, name: str, now_ns: int) -> Topic | None:
        match = _STREAM.fullmatch(name)
        return self.topic(match[2], match[1].upper(), now_ns) if match else None


class Binance(Exchange):
    name = "binance"
    path = "/stream"
    sessions = BinanceSession
    fewest_decimals = 2
    channels = COMBINED
    separator = ""
    quotes = QUOTES
    shutdown_notice = '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1767625260000}}'

    def session(self, path: str, query: str, now_ns: int) -> Session | None:
        if path == "/stream":
            streams = [name for value in parse_qs(query).get("streams", []) for name in value.split("/")]
        elif path == "/ws" or path.startswith("/ws/"):
            streams = path.removeprefix("/ws").split("/")
        else:
            return None
        return BinanceSession(self, now_ns, [name for name in streams if name][:MAX_STREAMS], path == "/stream")

    def split(self, symbol: str) -> tuple[str, str] | None:
        return super().split(symbol) or super().split(f"{symbol}USDT")

    def writers(self, instrument: Instrument) -> tuple[Writer, Writer]:
        return fixed(instrument.price_decimals, DECIMALS), fixed(instrument.size_decimals, DECIMALS)
