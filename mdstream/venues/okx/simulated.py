"""OKX v5 as the simulator serves it: the public websocket, spot.

Channels: trades (fills of one order at one price merged, with `count`), tickers, bbo-tbt, books5, books. trades-all
and candles belong to the business endpoint and are refused with 60008.
Source: OKX API v5 documentation, public websocket and error codes (read 2026-08). Our choices where it is silent: the
wording of 60008, 60012 and 60013; a new subscriber gets the current state of every channel but trades.
"""

from __future__ import annotations

import json
import re
from itertools import count
from typing import Any

from mdstream.simulator.exchange import (
    MS,
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

IDLE_NS = 30 * SECOND_NS
LONGEST_REQUEST_BYTES = 64 * 1024
NO_DATA_CLOSE, FULL_BUFFER_CLOSE = 4004, 4005

_CONNECTIONS = count(0xA4D3AE55)
_ELSEWHERE = re.compile(r"trades-all|(index-|mark-price-)?candle.*")


def _arg(channel: str, listing: Listing) -> str:
    return f'{{"arg":{{"channel":"{channel}","instId":"{listing.symbol}"}},'


def _trades(listing: Listing, order: Order) -> list[str]:
    head = f'{_arg("trades", listing)}"data":[{{"instId":"{listing.symbol}","tradeId":"'
    side, ms = "buy" if order.buy else "sell", order.ts_ns // MS
    return [
        f'{head}{t.trade_id}","px":"{listing.price(t.ticks)}","sz":"{listing.size(t.lots)}","side":"{side}",'
        f'"ts":"{ms}","count":"{t.count}","source":"0","seqId":{order.update_id}}}]}}'
        for t in order.merged
    ]


def _tickers(listing: Listing, now_ns: int) -> str:
    i, price, size = listing.instrument, listing.price, listing.size
    top, opened = i.top, price(i.open_ticks)
    volume = size(i.volume_lots)
    return (
        f'{_arg("tickers", listing)}"data":[{{"instType":"SPOT","instId":"{listing.symbol}",'
        f'"last":"{price(i.last.ticks)}","lastSz":"{size(i.last.lots)}",'
        f'"askPx":"{price(top.ask)}","askSz":"{size(top.ask_lots)}",'
        f'"bidPx":"{price(top.bid)}","bidSz":"{size(top.bid_lots)}",'
        f'"open24h":"{opened}","high24h":"{price(i.high_ticks)}","low24h":"{price(i.low_ticks)}",'
        f'"sodUtc0":"{opened}","sodUtc8":"{opened}",'
        f'"volCcy24h":"{float(volume) * float(opened):.0f}","vol24h":"{volume}","ts":"{now_ns // MS}"}}]}}'
    )


def _bbo(listing: Listing, top: Top) -> str:
    asks, bids = _levels(listing, [(top.ask, top.ask_lots)]), _levels(listing, [(top.bid, top.bid_lots)])
    return (
        f'{_arg("bbo-tbt", listing)}"data":[{{"asks":[{asks}],"bids":[{bids}],'
        f'"ts":"{top.ts_ns // MS}","seqId":{top.update_id}}}]}}'
    )


def _books5(listing: Listing, book: Book) -> str:
    asks, bids = _levels(listing, book.asks[:5]), _levels(listing, book.bids[:5])
    return (
        f'{_arg("books5", listing)}"data":[{{"asks":[{asks}],"bids":[{bids}],"instId":"{listing.symbol}",'
        f'"ts":"{book.ts_ns // MS}","seqId":{book.update_id}}}]}}'
    )


def _books(listing: Listing, book: Book, *, snapshot: bool) -> str:
    """The checksum is always 0: the venue no longer fills it."""
    asks, bids = (book.asks, book.bids) if snapshot else (book.ask_changes, book.bid_changes)
    return (
        f'{_arg("books", listing)}"action":"{"snapshot" if snapshot else "update"}",'
        f'"data":[{{"asks":[{_levels(listing, asks)}],"bids":[{_levels(listing, bids)}],"ts":"{book.ts_ns // MS}",'
        f'"checksum":0,"seqId":{book.update_id},"prevSeqId":{-1 if snapshot else book.previous_id}}}]}}'
    )


def _levels(listing: Listing, levels: Levels) -> str:
    """Price, size, a dead field, orders."""
    price, size = listing.price, listing.size
    return ",".join(
        [f'["{price(ticks)}","{size(lots)}","0","{1 + lots % 7 if lots else 0}"]' for ticks, lots in levels]
    )


CHANNELS = {
    "trades": Channel(Kind.TRADE, _trades, lambda order: order.merged, resolution_ns=MS),
    "tickers": Channel(
        Kind.BOOK,  # by the clock, every 100 ms
        lambda listing, book: [_tickers(listing, book.ts_ns)],
        first=lambda listing, now_ns: [_tickers(listing, now_ns + listing.instrument.clock_off_ns)],
    ),
    "bbo-tbt": Channel(
        Kind.QUOTE,
        lambda listing, top: [_bbo(listing, top)],
        first=lambda listing, _: [_bbo(listing, listing.instrument.top)],
    ),
    "books5": Channel(
        Kind.BOOK,
        lambda listing, book: [_books5(listing, book)],
        first=lambda listing, now_ns: [_books5(listing, listing.instrument.last_book(now_ns))],
    ),
    "books": Channel(
        Kind.BOOK,
        lambda listing, book: [_books(listing, book, snapshot=False)],
        first=lambda listing, now_ns: [_books(listing, listing.instrument.last_book(now_ns), snapshot=True)],
    ),
}


class OkxSession(Session):
    request_limit = (480, 3600.0)

    def __init__(self, exchange: Exchange, now_ns: int) -> None:
        super().__init__(exchange, now_ns)
        self._connection_id = f"{next(_CONNECTIONS) & 0xFFFFFFFF:08x}"

    def answer(self, text: str, now_ns: int) -> list[Action]:
        if text == "ping":
            return [Send("pong")]
        try:
            request = json.loads(text)
        except ValueError:
            request = None
        op = request.get("op") if isinstance(request, dict) else None
        if op not in ("subscribe", "unsubscribe"):
            raise self._refused("60012", f"Illegal request: {text[:200]}", None)
        request_id, args = request.get("id"), request.get("args")
        if not self.allowance.take(now_ns):
            raise self._refused("60014", "Requests too frequent", request_id)
        if len(text.encode()) > LONGEST_REQUEST_BYTES or not isinstance(args, list) or not args:
            raise self._refused("60013", "Invalid args", request_id)
        return [action for arg in args for action in self._one(op, arg, request_id, now_ns)]

    def tick(self, now_ns: int, sent_ns: int) -> list[Action]:
        return [Close(NO_DATA_CLOSE, "No data received in 30s.")] if now_ns - sent_ns >= IDLE_NS else []

    def too_slow(self) -> list[Action]:
        return [Close(FULL_BUFFER_CLOSE, "Buffer is full, cannot write data")]

    def _one(self, op: str, arg: Any, request_id: Any, now_ns: int) -> list[Action]:
        """What one argument of a request leads to; an error stops no other."""
        try:
            topic = self._topic(arg, request_id, now_ns)
        except RefusedError as refused:
            return [refused.reply]
        ack = self._event({"event": op, "arg": arg}, request_id)
        if op == "subscribe":
            return [ack, *self.subscribe(topic, topic, now_ns)]
        return [*self.unsubscribe(topic), ack]

    def _topic(self, arg: Any, request_id: Any, now_ns: int) -> Topic:
        """The topic named by one argument of a request. Raises RefusedError."""
        if not isinstance(arg, dict) or not isinstance(arg.get("channel"), str):
            raise self._refused("60013", "Invalid args", request_id)
        name, symbol = arg["channel"], arg.get("instId")
        if _ELSEWHERE.fullmatch(name):
            message = f"The current WebSocket endpoint does not support the channel {name}."
            raise self._refused("60008", message, request_id)
        channel = CHANNELS.get(name)
        listing = self.exchange.listing(symbol, now_ns) if channel and isinstance(symbol, str) else None
        if channel is None or listing is None:
            raise self._refused("60018", f"Wrong URL or channel:{name},instId:{symbol} doesn't exist.", request_id)
        return listing.topic(channel)

    def _refused(self, code: str, message: str, request_id: Any) -> RefusedError:
        return RefusedError(self._event({"event": "error", "code": code, "msg": message}, request_id))

    def _event(self, fields: dict[str, Any], request_id: Any) -> Send:
        known = {"id": request_id} if isinstance(request_id, str) else {}
        return send_json(known | fields | {"connId": self._connection_id})


class Okx(Exchange):
    name = "okx"
    path = "/ws/v5/public"
    sessions = OkxSession
    fewest_decimals = 1
    channels = CHANNELS

    def writers(self, instrument: Instrument) -> tuple[Writer, Writer]:
        return shortest(instrument.price_decimals), shortest(instrument.size_decimals)
