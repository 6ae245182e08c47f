"""OKX v5 as the simulator serves it: the public websocket, spot and linear contracts.

Channels: trades (fills of one order at one price merged, with `count`), tickers, bbo-tbt, books5, books. trades-all
and candles belong to the business endpoint and are refused with 60008.
Source: OKX API v5 documentation, public websocket and error codes (read 2026-08). Our choices where it is silent: the
wording of 60008, 60012 and 60013; a new subscriber gets the current state of every channel but trades; a contract is
worth 50 of the least sizes of its pair (0.0005 BTC).
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from mdstream.instruments import is_linear
from mdstream.simulator.actions import Action, Close, Send
from mdstream.simulator.exchange import Exchange, Session
from mdstream.simulator.listing import MS, Channel, Kind, Listing, Topic, book_now, top_now
from mdstream.simulator.market import SECOND_NS, Book, Instrument, Levels, Order, Top
from mdstream.simulator.requests import RefusedError, read_object, send_json
from mdstream.simulator.text import Writer, shortest
from mdstream.venues.okx import feed

IDLE_NS = 30 * SECOND_NS
LONGEST_REQUEST_BYTES = 64 * 1024
LOTS_PER_CONTRACT = 50
NO_DATA_CLOSE, FULL_BUFFER_CLOSE = 4004, 4005
FIRST_CONNECTION = 0xA4D3AE55

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


def _tickers(listing: Listing, now_ns: int) -> list[str]:
    i, price, size = listing.instrument, listing.price, listing.size
    top, opened = i.top, price(i.open_ticks)
    volume = size(i.volume_lots)
    text = (
        f'{_arg("tickers", listing)}"data":[{{"instType":"{kind_of(listing)}","instId":"{listing.symbol}",'
        f'"last":"{price(i.last.ticks)}","lastSz":"{size(i.last.lots)}",'
        f'"askPx":"{price(top.ask)}","askSz":"{size(top.ask_lots)}",'
        f'"bidPx":"{price(top.bid)}","bidSz":"{size(top.bid_lots)}",'
        f'"open24h":"{opened}","high24h":"{price(i.high_ticks)}","low24h":"{price(i.low_ticks)}",'
        f'"sodUtc0":"{opened}","sodUtc8":"{opened}",'
        f'"volCcy24h":"{_traded(listing, i.volume_lots):.0f}","vol24h":"{volume}","ts":"{now_ns // MS}"}}]}}'
    )
    return [text]


def kind_of(listing: Listing) -> str:
    """The venue's type of an instrument."""
    _, dash, contract = listing.canonical.partition("-")
    return "SPOT" if not dash else "SWAP" if contract == "PERP" else "FUTURES"


def contract_size(instrument: Instrument) -> Decimal:
    """What one contract is worth, in units of base; never one."""
    return Decimal(LOTS_PER_CONTRACT).scaleb(-instrument.size_decimals)


def _traded(listing: Listing, lots: int) -> float:
    """In quote currency for a pair, in base for a contract."""
    volume = float(listing.base_size(lots))
    return volume * float(listing.price(listing.instrument.open_ticks)) if kind_of(listing) == "SPOT" else volume


def _bbo(listing: Listing, top: Top) -> list[str]:
    asks, bids = _levels(listing, [(top.ask, top.ask_lots)]), _levels(listing, [(top.bid, top.bid_lots)])
    head = f'{_arg("bbo-tbt", listing)}"data":[{{"asks":[{asks}],"bids":[{bids}],'
    return [f'{head}"ts":"{top.ts_ns // MS}","seqId":{top.update_id}}}]}}']


def _books5(listing: Listing, book: Book) -> list[str]:
    asks, bids = _levels(listing, book.asks[:5]), _levels(listing, book.bids[:5])
    head = f'{_arg("books5", listing)}"data":[{{"asks":[{asks}],"bids":[{bids}],"instId":"{listing.symbol}",'
    return [f'{head}"ts":"{book.ts_ns // MS}","seqId":{book.update_id}}}]}}']


def _snapshot(listing: Listing, book: Book) -> list[str]:
    return _books(listing, "snapshot", book.asks, book.bids, book, -1)


def _update(listing: Listing, book: Book) -> list[str]:
    return _books(listing, "update", book.ask_changes, book.bid_changes, book, book.previous_id)


def _books(listing: Listing, action: str, asks: Levels, bids: Levels, of: Book, previous_id: int) -> list[str]:
    """The checksum is always 0: the venue no longer fills it."""
    text = (
        f'{_arg("books", listing)}"action":"{action}",'
        f'"data":[{{"asks":[{_levels(listing, asks)}],"bids":[{_levels(listing, bids)}],"ts":"{of.ts_ns // MS}",'
        f'"checksum":0,"seqId":{of.update_id},"prevSeqId":{previous_id}}}]}}'
    )
    return [text]


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
        lambda listing, book: _tickers(listing, book.ts_ns),
        first=lambda listing, now_ns: _tickers(listing, now_ns + listing.instrument.clock_off_ns),
    ),
    "bbo-tbt": Channel(Kind.QUOTE, _bbo, first=top_now(_bbo)),
    "books5": Channel(Kind.BOOK, _books5, first=book_now(_books5)),
    "books": Channel(Kind.BOOK, _update, first=book_now(_snapshot)),
}


class OkxSession(Session):
    request_limit = (480, 3600.0)

    too_slow = (Close(FULL_BUFFER_CLOSE, "Buffer is full, cannot write data"),)

    def answer(self, text: str, now_ns: int) -> list[Action]:
        if text == "ping":
            return [Send("pong")]
        illegal = self._refused("60012", f"Illegal request: {text[:200]}")
        request = read_object(text, illegal)
        op, request_id, args = request.get("op"), request.get("id"), request.get("args")
        if op not in ("subscribe", "unsubscribe"):
            raise illegal
        self.admit(now_ns, self._refused("60014", "Requests too frequent", request_id))
        if len(text.encode()) > LONGEST_REQUEST_BYTES or not isinstance(args, list) or not args:
            raise self._refused("60013", "Invalid args", request_id)
        return [action for arg in args for action in self._one(op, arg, request_id, now_ns)]

    def tick(self, now_ns: int, sent_ns: int) -> list[Action]:
        return [Close(NO_DATA_CLOSE, "No data received in 30s.")] if now_ns - sent_ns >= IDLE_NS else []

    def _one(self, op: str, arg: Any, request_id: Any, now_ns: int) -> list[Action]:
        """What one argument of a request leads to; an error stops no other."""
        try:
            topic = self._topic(arg, request_id, now_ns)
        except RefusedError as refused:
            return list(refused.replies)
        ack = self._event({"event": op, "arg": arg}, request_id)
        if op == "subscribe":
            return [ack, *self.subscribe({topic: topic}, now_ns)]
        return [*self.unsubscribe([topic]), ack]

    def _topic(self, arg: Any, request_id: Any, now_ns: int) -> Topic:
        """The topic named by one argument of a request. Raises RefusedError."""
        if not isinstance(arg, dict) or not isinstance(arg.get("channel"), str):
            raise self._refused("60013", "Invalid args", request_id)
        name, symbol = arg["channel"], arg.get("instId")
        if _ELSEWHERE.fullmatch(name):
            message = f"The current WebSocket endpoint does not support the channel {name}."
            raise self._refused("60008", message, request_id)
        topic = self.topic(name, str(symbol), now_ns)
        if topic is None:
            raise self._refused("60018", f"Wrong URL or channel:{name},instId:{symbol} doesn't exist.", request_id)
        return topic

    def _refused(self, code: str, message: str, request_id: Any = None) -> RefusedError:
        return RefusedError(self._event({"event": "error", "code": code, "msg": message}, request_id))

    def _event(self, fields: dict[str, Any], request_id: Any) -> Send:
        known = {"id": request_id} if isinstance(request_id, str) else {}
        return send_json(known | fields | {"connId": f"{FIRST_CONNECTION + self.number & 0xFFFFFFFF:08x}"})


class Okx(Exchange):
    name = "okx"
    path = "/ws/v5/public"
    sessions = OkxSession
    fewest_decimals = 1
    channels = CHANNELS
    contracts = feed.Okx.symbols
    endings = ("", "-PERP")
    shutdown_notice = (
        '{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade.",'
        '"connId":"a4d3ae55"}'
    )

    def contract_writer(self, name: str, instrument: Instrument) -> Writer | None:  # noqa: ARG002  all count alike
        write = shortest(2)
        return (lambda lots: write(lots * 100 // LOTS_PER_CONTRACT)) if is_linear(name) else None
