"""Bybit V5 as the simulator serves it: the public websocket, spot.

Channels: publicTrade, orderbook.1, orderbook.50 (20 levels).
Source: bybit-exchange/docs, docs/v5/ws/connect and docs/v5/websocket/public (read 2026-07). Our choices where it is
silent: one bad topic refuses its whole request; the wording of what is refused but for an unknown topic; at most 20
requests a second; the close codes; orderbook.1 is not sent again while nothing changes.
"""

from __future__ import annotations

import json
import re
from itertools import count
from typing import Any
from uuid import UUID

from mdstream import instruments
from mdstream.simulator.exchange import (
    MS,
    POLICY_VIOLATION,
    Action,
    Channel,
    Close,
    Exchange,
    Kind,
    Listing,
    RefusedError,
    Send,
    Session,
    Topic,
    send_json,
)
from mdstream.simulator.market import SECOND_NS, Book, Instrument, Levels, Order, Top
from mdstream.simulator.text import Writer, shortest

MAX_ARGS = 10
"""In one request, on spot."""
MAX_ARGS_CHARACTERS = 21_000
"""On one connection."""
IDLE_NS = 600 * SECOND_NS

_CONNECTIONS = count(0x2324D924)
_SYMBOL = re.compile(r"[A-Z0-9]{2,30}")


def _trades(listing: Listing, order: Order) -> list[str]:
    ms, symbol, side = order.ts_ns // MS, listing.symbol, "Buy" if order.buy else "Sell"
    rows = ",".join(
        f'{{"i":"{t.trade_id}","T":{ms},"p":"{listing.price(t.ticks)}","v":"{listing.size(t.lots)}","S":"{side}",'
        f'"seq":{order.update_id},"s":"{symbol}","BT":false,"RPI":false}}'
        for t in order.fills
    )
    return [f'{{"topic":"publicTrade.{symbol}","ts":{ms},"type":"snapshot","data":[{rows}]}}']


def _top(listing: Listing, top: Top) -> str:
    return _levels(listing, 1, [(top.bid, top.bid_lots)], [(top.ask, top.ask_lots)], top)


def _book(listing: Listing, book: Book, *, snapshot: bool) -> str:
    bids, asks = (book.bids, book.asks) if snapshot else (book.bid_changes, book.ask_changes)
    return _levels(listing, 50, bids, asks, book, "snapshot" if snapshot else "delta")


def _levels(listing: Listing, depth: int, bids: Levels, asks: Levels, of: Top | Book, type_: str = "snapshot") -> str:
    ms, symbol = of.ts_ns // MS, listing.symbol
    return (
        f'{{"topic":"orderbook.{depth}.{symbol}","ts":{ms},"type":"{type_}","data":{{"s":"{symbol}",'
        f'"b":[{listing.levels(bids)}],"a":[{listing.levels(asks)}],"u":{of.update_id},"seq":{of.update_id}}},"cts":{ms}}}'
    )


CHANNELS = {
    "publicTrade": Channel(Kind.TRADE, _trades, lambda order: order.fills, resolution_ns=MS),
    "orderbook.1": Channel(
        Kind.QUOTE,
        lambda listing, top: [_top(listing, top)],
        first=lambda listing, _: [_top(listing, listing.instrument.top)],
    ),
    "orderbook.50": Channel(
        Kind.BOOK,
        lambda listing, book: [_book(listing, book, snapshot=False)],
        first=lambda listing, now_ns: [_book(listing, listing.instrument.last_book(now_ns), snapshot=True)],
    ),
}


class BybitSession(Session):
    request_limit = (20, 1.0)

    def __init__(self, exchange: Exchange, now_ns: int) -> None:
        super().__init__(exchange, now_ns)
        self._connection_id = str(UUID(int=next(_CONNECTIONS)))
        self._heard_ns = now_ns

    def answer(self, text: str, now_ns: int) -> list[Action]:
        self._heard_ns = now_ns
        if not self.allowance.take(now_ns):
            raise RefusedError(Close(POLICY_VIOLATION, "too many requests"))
        try:
            request = json.loads(text)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            raise self._refused({}, "Params Error")
        if request.get("op") == "ping":
            return [self._reply(request, "pong")]
        if request.get("op") not in ("subscribe", "unsubscribe"):
            raise self._refused(request, "error:unknown op")
        return self._do(request, self._args(request), now_ns)

    def tick(self, now_ns: int, sent_ns: int) -> list[Action]:  # noqa: ARG002
        return [Close(POLICY_VIOLATION, "idle")] if now_ns - self._heard_ns >= IDLE_NS else []

    def too_slow(self) -> list[Action]:
        return [Close(POLICY_VIOLATION, "too slow")]

    def _args(self, request: dict[str, Any]) -> list[str]:
        """The topics of a request. Raises RefusedError."""
        args = request.get("args")
        if not isinstance(args, list) or not args or not all(isinstance(arg, str) for arg in args):
            raise self._refused(request, "Params Error")
        if len(args) > MAX_ARGS:
            raise self._refused(request, f"args size >{MAX_ARGS}")
        if sum(map(len, self.topics.keys() | set(args))) > MAX_ARGS_CHARACTERS:
            raise self._refused(request, f"args length >{MAX_ARGS_CHARACTERS}")
        return args

    def _do(self, request: dict[str, Any], args: list[str], now_ns: int) -> list[Action]:
        """The answer to a request, and what follows it. Raises RefusedError."""
        ack = self._reply(request, request["op"])
        if request["op"] == "unsubscribe":
            return [*(action for arg in args for action in self.unsubscribe(arg)), ack]
        topics = {arg: self._topic(request, arg, now_ns) for arg in args}
        return [ack, *(action for arg, topic in topics.items() for action in self.subscribe(arg, topic, now_ns))]

    def _topic(self, request: dict[str, Any], arg: str, now_ns: int) -> Topic:
        name, _, symbol = arg.rpartition(".")
        channel = CHANNELS.get(name)
        listing = self.exchange.listing(symbol, now_ns) if channel else None
        if channel is None or listing is None:
            raise self._refused(request, f"Invalid topic :[{arg}]")
        return listing.topic(channel)

    def _refused(self, request: dict[str, Any], message: str) -> RefusedError:
        return RefusedError(self._reply(request, message, success=False))

    def _reply(self, request: dict[str, Any], message: str, *, success: bool = True) -> Send:
        known = {name: request[name] for name in ("req_id", "op") if isinstance(request.get(name), str)}
        return send_json({"success": success, "ret_msg": message, "conn_id": self._connection_id} | known)


class Bybit(Exchange):
    name = "bybit"
    path = "/v5/public/spot"
    sessions = BybitSession
    fewest_decimals = 1
    channels = CHANNELS

    def split(self, symbol: str) -> tuple[str, str] | None:
        return instruments.split_pair(symbol, instruments.QUOTES) if _SYMBOL.fullmatch(symbol) else None

    def writers(self, instrument: Instrument) -> tuple[Writer, Writer]:
        return shortest(instrument.price_decimals), shortest(instrument.size_decimals)
