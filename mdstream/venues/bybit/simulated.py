"""Bybit V5 as the simulator serves it: the public websocket, spot.

Channels: publicTrade, orderbook.1, orderbook.50 (20 levels).
Source: bybit-exchange/docs, docs/v5/ws/connect and docs/v5/websocket/public (read 2026-07). Our choices where it is
silent: one bad topic refuses its whole request; the wording of what is refused but for an unknown topic; at most 20
requests a second; the close codes; orderbook.1 is not sent again while nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from mdstream.simulator.actions import POLICY_VIOLATION, Action, Close, Send
from mdstream.simulator.exchange import Exchange, Session
from mdstream.simulator.listing import MS, Channel, Kind, Listing, Topic, book_now, top_now
from mdstream.simulator.market import SECOND_NS, Book, Levels, Order, Top, Trade
from mdstream.simulator.requests import RefusedError, are_texts, read_object, send_json

MAX_ARGS_CHARACTERS = 21_000
"""On one connection."""
IDLE_NS = 600 * SECOND_NS

FIRST_CONNECTION = 0x2324D924


def trades(listing: Listing, order: Order, trade_id: Callable[[Trade], object], more: str) -> list[str]:
    """All fills of an order in a frame; `more`: further fields of each."""
    ms, symbol, side = order.ts_ns // MS, listing.symbol, "Buy" if order.buy else "Sell"
    rows = ",".join(
        f'{{"i":"{trade_id(t)}","T":{ms},"p":"{listing.price(t.ticks)}","v":"{listing.size(t.lots)}",'
        f'"S":"{side}",{more}"seq":{order.update_id},"s":"{symbol}","BT":false,"RPI":false}}'
        for t in order.fills
    )
    return [f'{{"topic":"publicTrade.{symbol}","ts":{ms},"type":"snapshot","data":[{rows}]}}']


def _trades(listing: Listing, order: Order) -> list[str]:
    return trades(listing, order, lambda trade: trade.trade_id, "")


def _top(listing: Listing, top: Top) -> list[str]:
    return _levels(listing, 1, [(top.bid, top.bid_lots)], [(top.ask, top.ask_lots)], top, "snapshot")


def _snapshot(listing: Listing, book: Book) -> list[str]:
    return _levels(listing, 50, book.bids, book.asks, book, "snapshot")


def _delta(listing: Listing, book: Book) -> list[str]:
    return _levels(listing, 50, book.bid_changes, book.ask_changes, book, "delta")


def _levels(listing: Listing, depth: int, bids: Levels, asks: Levels, of: Top | Book, kind: str) -> list[str]:
    ms, symbol = of.ts_ns // MS, listing.symbol
    text = (
        f'{{"topic":"orderbook.{depth}.{symbol}","ts":{ms},"type":"{kind}","data":{{"s":"{symbol}",'
        f'"b":[{listing.levels(bids)}],"a":[{listing.levels(asks)}],"u":{of.update_id},"seq":{of.update_id}}},"cts":{ms}}}'
    )
    return [text]


CHANNELS = {
    "publicTrade": Channel(Kind.TRADE, _trades, lambda order: order.fills, resolution_ns=MS),
    "orderbook.1": Channel(Kind.QUOTE, _top, first=top_now(_top)),
    "orderbook.50": Channel(Kind.BOOK, _delta, first=book_now(_snapshot)),
}


class BybitSession(Session):
    request_limit = (20, 1.0)
    max_args: ClassVar[int] = 10
    """In one request."""
    acknowledged: ClassVar[str | None] = None
    """The message of a success; None: the name of the request."""

    def answer(self, text: str, now_ns: int) -> list[Action]:
        self.admit(now_ns)
        request = read_object(text, self._refused({}, "Params Error"))
        op = request.get("op")
        if op == "ping":
            return [self._reply(request, "pong")]
        if op not in ("subscribe", "unsubscribe"):
            raise self._refused(request, "error:unknown op")
        args = self._args(request)
        ack = self._reply(request, op if self.acknowledged is None else self.acknowledged)
        if op == "unsubscribe":
            return [*self.unsubscribe(args), ack]
        return [ack, *self.subscribe({arg: self._topic(request, arg, now_ns) for arg in args}, now_ns)]

    def tick(self, now_ns: int, sent_ns: int) -> list[Action]:  # noqa: ARG002
        return [Close(POLICY_VIOLATION, "idle")] if now_ns - self.heard_ns >= IDLE_NS else []

    def _args(self, request: dict[str, Any]) -> list[str]:
        """The topics of a request. Raises RefusedError."""
        args = request.get("args")
        if not are_texts(args) or not args:
            raise self._refused(request, "Params Error")
        if len(args) > self.max_args:
            raise self._refused(request, f"args size >{self.max_args}")
        if sum(map(len, self.topics.keys() | set(args))) > MAX_ARGS_CHARACTERS:
            raise self._refused(request, f"args length >{MAX_ARGS_CHARACTERS}")
        return args

    def _topic(self, request: dict[str, Any], arg: str, now_ns: int) -> Topic:
        channel, _, symbol = arg.rpartition(".")
        topic = self.topic(channel, symbol, now_ns)
        if topic is None:
            raise self._refused(request, f"Invalid topic :[{arg}]")
        return topic

    def _refused(self, request: dict[str, Any], message: str) -> RefusedError:
        return RefusedError(self._reply(request, message, success=False))

    def _reply(self, request: dict[str, Any], message: str, *, success: bool = True) -> Send:
        known = {name: request[name] for name in ("req_id", "op") if isinstance(request.get(name), str)}
        connection = str(UUID(int=FIRST_CONNECTION + self.number))
        return send_json({"success": success, "ret_msg": message, "conn_id": connection} | known)


class Bybit(Exchange):
    name = "bybit"
    path = "/v5/public/spot"
    sessions = BybitSession
    fewest_decimals = 1
    channels = CHANNELS
    separator = ""
