"""CoinAPI as the simulator serves it: websocket v1, spot.

Channels: trade, quote, book20 (whole, every 100 ms). Other types are accepted and stay silent, as are unknown symbols.
Source: docs.coinapi.io, market data websocket (read 2026-09). Our choices where it is silent: any key will do but
`wrong`; the first heartbeat comes with `hello`; at most 20 requests a second; the wording of errors but for the
key's; the close codes; ten seconds for `hello`; `sequence` is that of the market.
Not simulated: filters by asset and exchange, and filters by prefix for symbols that nobody has asked for by their full
name; estimated sides; limits of updates.
"""

from __future__ import annotations

import re
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from mdstream.simulator.actions import POLICY_VIOLATION, Action, Close
from mdstream.simulator.exchange import Exchange, Session
from mdstream.simulator.listing import Channel, Kind, Listing, top_now
from mdstream.simulator.market import SECOND_NS, Book, Levels, Order, Top, Trade
from mdstream.simulator.requests import RefusedError, are_texts, read_object, send_json
from mdstream.simulator.text import rfc3339_nanos
from mdstream.venues.coinapi.feed import CoinApi as Feed

WRONG = "wrong"
HELLO_NS = 10 * SECOND_NS
HEARTBEAT = send_json({"type": "hearbeat"})

_ID = re.compile(r"[A-Z]{2,8}_SPOT_(?P<base>[A-Z0-9]{1,19})_(?P<quote>[A-Z0-9]{1,10})")


def _time(ns: int) -> str:
    return f"{rfc3339_nanos(ns)[:-3]}Z"


def _head(kind: str, listing: Listing, sequence: int, ts_ns: int) -> str:
    return (
        f'{{"type":"{kind}","symbol_id":"{listing.symbol}","sequence":{sequence},'
        f'"time_exchange":"{_time(ts_ns)}","time_coinapi":"{_time(ts_ns)}"'
    )


def _trades(listing: Listing, order: Order) -> list[str]:
    head, side = _head("trade", listing, order.update_id, order.ts_ns), "BUY" if order.buy else "SELL"
    return [
        f'{head},"uuid":"{_uuid(t)}","price":{listing.price(t.ticks)},"size":{listing.size(t.lots)},'
        f'"taker_side":"{side}"}}'
        for t in order.fills
    ]


def _uuid(trade: Trade) -> str:
    return str(uuid5(NAMESPACE_URL, str(trade.trade_id)))


def _quote(listing: Listing, top: Top) -> list[str]:
    price, size = listing.price, listing.size
    asks = f'"ask_price":{price(top.ask)},"ask_size":{size(top.ask_lots)}'
    bids = f'"bid_price":{price(top.bid)},"bid_size":{size(top.bid_lots)}'
    return [f"{_head('quote', listing, top.update_id, top.ts_ns)},{asks},{bids}}}"]


def _book(listing: Listing, book: Book) -> list[str]:
    head = _head("book20", listing, book.number, book.ts_ns)
    return [f'{head},"asks":[{_levels(listing, book.asks)}],"bids":[{_levels(listing, book.bids)}]}}']


def _levels(listing: Listing, levels: Levels) -> str:
    return ",".join([f'{{"price":{listing.price(ticks)},"size":{listing.size(lots)}}}' for ticks, lots in levels])


CHANNELS = {
    "trade": Channel(
        Kind.TRADE, _trades, lambda order: order.fills, resolution_ns=100, trade_id=lambda trade, _ts_ns: _uuid(trade)
    ),
    "quote": Channel(Kind.QUOTE, _quote, first=top_now(_quote)),
    "book20": Channel(Kind.BOOK, _book),
}


def _refused(message: str, *more: Action) -> RefusedError:
    return RefusedError(send_json({"type": "error", "message": message}), *more)


def _fatal(message: str) -> RefusedError:
    return _refused(message, Close(POLICY_VIOLATION, message))


class CoinApiSession(Session):
    request_limit = (20, 1.0)
    too_many = _fatal("too many requests").replies
    greeted = heartbeat = False

    def answer(self, text: str, now_ns: int) -> list[Action]:
        request = read_object(text, _refused("malformed message"))
        kind = request.get("type")
        if kind == "hello":
            return self._greet(request, now_ns)
        if not self.greeted:
            raise _fatal("the first message has to be hello")
        self.admit(now_ns)
        if kind not in ("subscribe", "unsubscribe"):
            raise _refused("unknown type of message")
        names = self._names(request, now_ns)
        if kind == "unsubscribe":
            return self.unsubscribe(names)
        return self.subscribe({name: self.topic(*name, now_ns) for name in names}, now_ns)

    def tick(self, now_ns: int, sent_ns: int) -> list[Action]:
        if not self.greeted:
            return [Close(POLICY_VIOLATION, "no hello")] if now_ns - self.opened_ns >= HELLO_NS else []
        return [HEARTBEAT] if self.heartbeat and now_ns - sent_ns >= SECOND_NS else []

    def _greet(self, request: dict[str, Any], now_ns: int) -> list[Action]:
        key = request.get("apikey")
        if not isinstance(key, str) or key in ("", WRONG):
            raise _fatal("Invalid API key")
        names = self._names(request, now_ns)
        self.greeted, self.heartbeat = True, request.get("heartbeat") is True
        first: list[Action] = [HEARTBEAT] if self.heartbeat else []
        ended = self.unsubscribe(list(self.topics))  # a scope replaces the one before
        return [*first, *ended, *self.subscribe({name: self.topic(*name, now_ns) for name in names}, now_ns)]

    def _names(self, request: dict[str, Any], now_ns: int) -> list[tuple[str, str]]:
        """Type and symbol of each subscription in a scope. Raises RefusedError."""
        kinds, filters = request.get("subscribe_data_type"), request.get("subscribe_filter_symbol_id", [""])
        if not are_texts(kinds) or not kinds or not are_texts(filters):
            raise _refused("malformed scope")
        symbols = {symbol: None for each in filters for symbol in self._matching(each, now_ns)}
        return [(kind, symbol) for symbol in symbols for kind in kinds]

    def _matching(self, wanted: str, now_ns: int) -> list[str]:
        exact = wanted.removesuffix("$")
        if exact != wanted:
            return [exact] if self.exchange.listing(exact, now_ns) else []
        return [symbol for symbol in self.exchange.listings if symbol.startswith(wanted)]


class CoinApi(Exchange):
    name = "coinapi"
    path = "/v1"
    sessions = CoinApiSession
    fewest_decimals = 1
    channels = CHANNELS
    shutdown_notice = '{"type":"reconnect","within_seconds":10,"before_time":"2026-01-05T15:10:00.0000000Z"}'

    def split(self, symbol: str) -> tuple[str, str] | None:
        found = _ID.fullmatch(symbol)
        return (found["base"], found["quote"]) if found else None

    def canonical(self, symbol: str) -> str:
        return Feed.symbols.from_venue(symbol)
