"""Kraken as the simulator serves it: WebSocket API v2, spot.

Channels: trade (without its snapshot), ticker (by either trigger), book (depth 25 or 100, both with the market's 20
levels, where a level that falls out is removed; other depths are refused).
Source: docs.kraken.com, spot-websocket-v2 and its guide to the book's checksum (read 2026-11). Our choices where it is
silent: at most 20 requests a second; the wording of what is refused but for an unknown pair, an unknown depth and a
second subscription; the close codes; a connection is idle if it has no subscription and says nothing for a minute.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

from mdstream.simulator.actions import POLICY_VIOLATION, Action, Close, Send
from mdstream.simulator.exchange import Exchange, Session
from mdstream.simulator.listing import US, Channel, Kind, Listing
from mdstream.simulator.market import SECOND_NS, Book, Instrument, Levels, Order
from mdstream.simulator.requests import RefusedError, are_texts, read_object, send_json
from mdstream.simulator.text import Writer, fixed, rfc3339

DEPTHS = (25, 100)
CHECKED_LEVELS = 10
SIZE_DECIMALS = 8
IDLE_NS = 60 * SECOND_NS
HEARTBEAT = "heartbeat"

FIRST_CONNECTION = 0xC000_0000_0000_0000  # above 2**63, as the venue's are


def _head(channel: str, listing: Listing, kind: str = "update") -> str:
    return f'{{"channel":"{channel}","type":"{kind}","data":[{{"symbol":"{listing.symbol}",'


def _trades(listing: Listing, order: Order) -> list[str]:
    side, time = "buy" if order.buy else "sell", rfc3339(order.ts_ns)
    rows = f'}},{{"symbol":"{listing.symbol}",'.join(
        f'"side":"{side}","price":{listing.price(t.ticks)},"qty":{listing.size(t.lots)},"ord_type":"market",'
        f'"trade_id":{t.trade_id},"timestamp":"{time}"'
        for t in order.fills
    )
    return [f"{_head('trade', listing)}{rows}}}]}}"]


def _ticker(listing: Listing, kind: str = "update") -> list[str]:
    i, price, size = listing.instrument, listing.price, listing.size
    text = (
        f'{_head("ticker", listing, kind)}"bid":{price(i.top.bid)},"bid_qty":{size(i.top.bid_lots)},'
        f'"ask":{price(i.top.ask)},"ask_qty":{size(i.top.ask_lots)},"last":{price(i.last.ticks)},'
        f'"volume":{size(i.volume_lots)},"vwap":{price(i.open_ticks)},"low":{price(i.low_ticks)},'
        f'"high":{price(i.high_ticks)},"change":0.0,"change_pct":0.00,"timestamp":"{rfc3339(i.top.ts_ns)}"}}]}}'
    )
    return [text]


def _snapshot(listing: Listing, now_ns: int) -> list[str]:
    book = listing.instrument.last_book(now_ns)
    return [_book(listing, book, book.bids, book.asks, "snapshot")]


def _update(listing: Listing, book: Book) -> list[str]:
    return [_book(listing, book, book.bid_changes, book.ask_changes)] if book.bid_changes or book.ask_changes else []


def _book(listing: Listing, book: Book, bids: Levels, asks: Levels, kind: str = "update") -> str:
    return (
        f'{_head("book", listing, kind)}"bids":[{_levels(listing, bids)}],"asks":[{_levels(listing, asks)}],'
        f'"checksum":{checksum(listing, book)},"timestamp":"{rfc3339(book.ts_ns)}"}}]}}'
    )


def _levels(listing: Listing, levels: Levels) -> str:
    return ",".join([f'{{"price":{listing.price(ticks)},"qty":{listing.size(lots)}}}' for ticks, lots in levels])


def checksum(listing: Listing, book: Book) -> int:
    """That of a whole book."""
    best = (*book.asks[:CHECKED_LEVELS], *book.bids[:CHECKED_LEVELS])
    numbers = (number for ticks, lots in best for number in (listing.price(ticks), listing.size(lots)))
    return crc32("".join(number.replace(".", "").lstrip("0") for number in numbers).encode())


CHANNELS = {
    "trade": Channel(Kind.TRADE, _trades, lambda order: order.fills, resolution_ns=US),
    "ticker bbo": Channel(
        Kind.QUOTE, lambda listing, _: _ticker(listing), first=lambda listing, _: _ticker(listing, "snapshot")
    ),
    "ticker trades": Channel(
        Kind.TRADE, lambda listing, _: _ticker(listing), first=lambda listing, _: _ticker(listing, "snapshot")
    ),
    "book": Channel(Kind.BOOK, _update, first=_snapshot),
    HEARTBEAT: Channel(Kind.HEARTBEAT, lambda _listing, _event: ['{"channel":"heartbeat"}']),
}


class KrakenSession(Session):
    request_limit = (20, 1.0)

    def opened(self, now_ns: int) -> list[Action]:  # noqa: ARG002
        status = {
            "version": "2.0.10",
            "system": "online",
            "api_version": "v2",
            "connection_id": FIRST_CONNECTION + self.number,
        }
        return [send_json({"channel": "status", "type": "update", "data": [status]})]

    def answer(self, text: str, now_ns: int) -> list[Action]:
        request = read_object(text, RefusedError(_reply({}, now_ns, error="Malformed request")))
        self.admit(now_ns, RefusedError(_reply(request, now_ns, error="Exceeded msg rate")))
        method, params = request.get("method"), request.get("params")
        if method == "ping":
            return [_reply(request | {"method": "pong"}, now_ns)]
        if method not in ("subscribe", "unsubscribe"):
            raise RefusedError(_reply(request, now_ns, error="Unsupported method"))
        symbols = params.get("symbol") if isinstance(params, dict) else None
        if not are_texts(symbols) or not symbols:
            raise RefusedError(_reply(request, now_ns, error="Symbol(s) missing"))
        channel = _channel(request, now_ns)
        return [action for symbol in symbols for action in self._one(request, channel, symbol, now_ns)]

    def tick(self, now_ns: int, sent_ns: int) -> list[Action]:  # noqa: ARG002
        return [] if self.topics or now_ns - self.heard_ns < IDLE_NS else [Close(POLICY_VIOLATION, "idle")]

    def _one(self, request: dict[str, Any], channel: str, symbol: str, now_ns: int) -> list[Action]:
        """What one symbol of a request leads to; an error stops no other."""
        listing, params = self.exchange.listing(symbol, now_ns), request["params"]
        if listing is None:
            return [_reply(request, now_ns, error=f"Currency pair not supported {symbol}", symbol=symbol)]
        name = (params["channel"], symbol)
        ack = _reply(request, now_ns, result=params | {"symbol": symbol})
        if request["method"] == "unsubscribe":
            if name not in self.topics:
                return [_reply(request, now_ns, error="Subscription not found", symbol=symbol)]
            ended = self.unsubscribe([name])
            if self.topics.keys() == {HEARTBEAT}:
                ended += self.unsubscribe([HEARTBEAT])
            return [*ended, ack]
        if name in self.topics:
            return [_reply(request, now_ns, error="Already subscribed", symbol=symbol)]
        heartbeat = self.topics.get(HEARTBEAT) or listing.topic(CHANNELS[HEARTBEAT])
        return [ack, *self.subscribe({name: listing.topic(CHANNELS[channel]), HEARTBEAT: heartbeat}, now_ns)]


class Kraken(Exchange):
    name = "kraken"
    path = "/v2"
    sessions = KrakenSession
    fewest_decimals = 1
    channels = CHANNELS
    separator = "/"

    def writers(self, instrument: Instrument) -> tuple[Writer, Writer]:
        price, size = instrument.price_decimals, instrument.size_decimals
        return fixed(price, price), fixed(size, SIZE_DECIMALS)


def _channel(request: dict[str, Any], now_ns: int) -> str:
    """The name here of the channel that a request is about. Raises RefusedError."""
    params = request["params"]
    match params.get("channel"):
        case "trade":
            return "trade"
        case "ticker" if params.get("event_trigger", "trades") in ("bbo", "trades"):
            return f"ticker {params.get('event_trigger', 'trades')}"
        case "book" if request["method"] == "unsubscribe" or params.get("depth", 10) in DEPTHS:
            return "book"
        case "book":
            raise RefusedError(_reply(request, now_ns, error="Subscription depth not supported"))
        case name:
            raise RefusedError(_reply(request, now_ns, error=f"Channel not supported {name}"))


def _reply(request: dict[str, Any], now_ns: int, **fields: Any) -> Send:
    """An answer: an `error`, a `result`, or neither (a pong)."""
    known = {
        name: request[name] for name, kind in (("method", str), ("req_id", int)) if isinstance(request.get(name), kind)
    }
    outcome = {"success": "error" not in fields} if fields else {}
    return send_json(known | fields | outcome | {"time_in": rfc3339(now_ns), "time_out": rfc3339(now_ns)})
