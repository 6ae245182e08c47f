"""Binance spot as the simulator serves it: combined streams at /stream, raw ones at /ws.

Channels: trade, aggTrade, bookTicker, depth5|10|20 at 1000 or 100 ms. Any other stream is acknowledged and stays
silent, as with names the venue does not know (kline and diff depth among them: they are not simulated).
Source: binance/binance-spot-api-docs, web-socket-streams.md (read 2026-07). Our choices where it is silent: close
code 1008 for too many messages and for a client that does not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qs

from mdstream import instruments
from mdstream.simulator.actions import POLICY_VIOLATION, Action, Close, Ping
from mdstream.simulator.exchange import Exchange, Session
from mdstream.simulator.listing import MS, Channel, Kind, Listing, Topic
from mdstream.simulator.market import SECOND_NS, Book, Instrument, Order, Top
from mdstream.simulator.requests import RefusedError, are_texts, read_object, send_json
from mdstream.simulator.text import Writer, fixed

LONGEST_CONNECTION_NS = 24 * 3600 * SECOND_NS
LONGEST_ID = 36
DECIMALS = 8
QUOTES = ("FDUSD", "TUSD", *instruments.QUOTES, "BNB", "JPY")
"""Quote currencies; a symbol that ends in none of them is priced as in USDT."""

_STREAM = re.compile(r"([a-z0-9_]{2,30})@([A-Za-z0-9@_]{1,40})")
_PATH = re.compile(r"(?P<entry>/public|/market|)/(stream|ws(?P<streams>/.*|))")
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


class Entry(NamedTuple):
    """What an address serves: at its paths /ws and /stream."""

    raw: Mapping[str, Channel]
    combined: Mapping[str, Channel]


def entry(channels: Mapping[str, Channel]) -> Entry:
    """The entry of these channels."""
    return Entry(channels, {name: _combined(name, channel) for name, channel in channels.items()})


RAW = {
    "trade": Channel(Kind.TRADE, _trade, lambda order: order.fills, resolution_ns=MS),
    "aggTrade": Channel(Kind.TRADE, _agg_trade, lambda order: order.aggregates, "aggTrade", resolution_ns=MS),
    "bookTicker": Channel(Kind.QUOTE, _book_ticker),
} | {
    f"depth{levels}{speed}": _depth(levels, every)
    for levels in (5, 10, 20)
    for speed, every in (("", 10), ("@1000ms", 10), ("@100ms", 1))
}
SPOT = entry(RAW)
COMBINED = SPOT.combined


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
    max_streams: ClassVar[int] = 1024
    ping_interval_ns: ClassVar[int] = 20 * SECOND_NS
    pong_timeout_ns: ClassVar[int] = 60 * SECOND_NS

    def __init__(self, exchange: Exchange, now_ns: int, entry: Entry, streams: Sequence[str], combined: bool) -> None:
        super().__init__(exchange, now_ns)
        self._entry, self._asked_by_url = entry, streams[: self.max_streams]
        self.channels = entry.combined if combined else entry.raw
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
        if now_ns - self._ponged_ns >= self.ping_interval_ns + self.pong_timeout_ns:
            return [Close(POLICY_VIOLATION, "Pong timeout")]
        if now_ns - self._pinged_ns < self.ping_interval_ns:
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
        if len(self.topics.keys() | set(params)) > self.max_streams:
            raise _refused(2, f"Invalid request: more than {self.max_streams} streams", request_id)
        return None, self._subscribe(params, now_ns)

    def _property(self, method: str, params: Any, request_id: Any, now_ns: int) -> tuple[Any, list[Action]]:
        name, *values = params if isinstance(params, list) and params else [None]
        if name != "combined":
            raise _refused(0, "Unknown property", request_id)
        if method == "GET_PROPERTY":
            return self.channels is self._entry.combined, []
        if len(values) != 1 or not isinstance(values[0], bool):
            raise _refused(1, "Invalid value type: expected Boolean", request_id)
        names = list(self.topics)
        leave = self.unsubscribe(names)
        self.channels = self._entry.combined if values[0] else self._entry.raw
        return None, [*leave, *self._subscribe(names, now_ns)]

    def _subscribe(self, names: Sequence[str], now_ns: int) -> list[Action]:
        return self.subscribe({name: self._topic(name, now_ns) for name in names}, now_ns)

    def _topic(self, name: str, now_ns: int) -> Topic | None:
        match = _STREAM.fullmatch(name)
        return self.topic(match[2], match[1].upper(), now_ns) if match else None


class Binance(Exchange):
    name = "binance"
    path = "/stream"
    sessions: ClassVar[type[BinanceSession]] = BinanceSession
    entries: ClassVar[Mapping[str, Entry]] = {"": SPOT}
    """By the beginning of the path."""
    fewest_decimals = 2
    channels = COMBINED
    separator = ""
    quotes: ClassVar[Sequence[str]] = QUOTES
    shutdown_notice = '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1767625260000}}'

    def session(self, path: str, query: str, now_ns: int) -> Session | None:
        match = _PATH.fullmatch(path)
        found = self.entries.get(match["entry"]) if match else None
        if match is None or found is None:
            return None
        raw = match["streams"]
        asked = "/".join(parse_qs(query).get("streams", [])) if raw is None else raw
        streams = [name for name in asked.split("/") if name]
        return self.sessions(self, now_ns, found, streams, raw is None)

    def split(self, symbol: str) -> tuple[str, str] | None:
        return super().split(symbol) or super().split(f"{symbol}USDT")

    def writers(self, instrument: Instrument) -> tuple[Writer, Writer]:
        return fixed(instrument.price_decimals, DECIMALS), fixed(instrument.size_decimals, DECIMALS)
