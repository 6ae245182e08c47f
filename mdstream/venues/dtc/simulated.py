"""A DTC server as the simulator serves it: its port for streaming, version 8, JSON and binary.

Messages: logon, heartbeats, logoff, the encoding, requests for market data with snapshot, trades and quotes, rejects.
In JSON these are the plain ones (107, 108), in binary those with microseconds (146, 144).
Source: the protocol's header, version 8, and Sierra Chart's pages on its server (read 2026-11). Our choices where they
are silent: any user but `wrong`; without an encoding request the encoding is binary; 500 requests a second; a symbol id
that is taken is rejected; a client that is silent for twice its heartbeats is logged off, to come back.
Not simulated: depth, history, trading, daily values, TLS, a lost feed.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Sequence
from typing import Any

from mdstream.errors import FrameError
from mdstream.simulator.actions import Action, Close
from mdstream.simulator.exchange import Exchange, Session
from mdstream.simulator.listing import US, Channel, Kind, Listing, top_now
from mdstream.simulator.market import SECOND_NS, Order, Top, Trade
from mdstream.simulator.requests import RefusedError, send_json
from mdstream.venues.dtc import messages
from mdstream.venues.dtc.feed import Dtc as Feed
from mdstream.venues.dtc.messages import BINARY, JSON, Messages

COMPACT = {107: 146, 108: 144}
TRADES, QUOTES = "trades", "quotes"

_ID = re.compile(r'"SymbolID":"([^"]*)"')


def _message(kind: int, listing: Listing, ts_ns: int, **fields: object) -> str:
    """A message with the symbol in place of its number, which is each client's own."""
    time = {"BidAskDateTime" if kind == messages.SNAPSHOT else "DateTime": ts_ns // US / 1e6}
    return json.dumps({"Type": kind, "SymbolID": listing.symbol, **fields, **time}, separators=(",", ":"))


def _trades(listing: Listing, order: Order) -> list[str]:
    at, price = 2 if order.buy else 1, listing.price
    return [
        _message(107, listing, order.ts_ns, AtBidOrAsk=at, Price=float(price(fill.ticks)), Volume=fill.lots)
        for fill in order.fills
    ]


def _quote(kind: int, listing: Listing, top: Top) -> list[str]:
    bid, ask = float(listing.price(top.bid)), float(listing.price(top.ask))
    sides = {"BidPrice": bid, "BidQuantity": top.bid_lots, "AskPrice": ask, "AskQuantity": top.ask_lots}
    return [_message(kind, listing, top.ts_ns, **sides)]


def _quotes(listing: Listing, top: Top) -> list[str]:
    return _quote(108, listing, top)


def _snapshot(listing: Listing, top: Top) -> list[str]:
    return _quote(messages.SNAPSHOT, listing, top)


def _fills(order: Order) -> Sequence[Trade]:
    return order.fills


CHANNELS = {
    TRADES: Channel(Kind.TRADE, _trades, _fills, resolution_ns=US),
    QUOTES: Channel(Kind.QUOTE, _quotes, first=top_now(_snapshot)),
}


class DtcSession(Session):
    request_limit = (500, 1.0)
    too_many = (send_json({"Type": messages.LOGOFF, "Reason": "Too many requests"}), Close(0, "too many requests"))
    too_slow = (Close(0, "too slow"),)

    def __init__(self, exchange: Exchange, now_ns: int) -> None:
        super().__init__(exchange, now_ns)
        self._encoding, self._beat_ns, self._beaten_ns = BINARY, 0, now_ns
        self._numbers: dict[str, int] = {}

    def wire(self, text: str) -> bytes:
        text = _ID.sub(lambda found: f'"SymbolID":{self._numbers.get(found[1], 0)}', text)
        if self._encoding == JSON and not text.startswith('{"Type":7,'):
            return text.encode("latin-1") + b"\0"
        try:
            return _binary(json.loads(text))
        except (ValueError, TypeError, LookupError, FrameError):  # a fault has made it
            data = text.encode("latin-1", "replace")
            return (len(data) + 4).to_bytes(2, "little") + b"\xff\xff" + data

    def tick(self, now_ns: int, sent_ns: int) -> list[Action]:  # noqa: ARG002
        if not self._beat_ns:
            return []
        if now_ns - self.heard_ns > 2 * self._beat_ns:
            reason = {"Reason": "No heartbeats", "DoNotReconnect": 0}
            return [send_json({"Type": messages.LOGOFF, **reason}), Close(0, "no heartbeats")]
        if now_ns - self._beaten_ns < self._beat_ns:
            return []
        self._beaten_ns = now_ns
        beat = {"NumDroppedMessages": 0, "CurrentDateTime": now_ns // SECOND_NS}
        return [send_json({"Type": messages.HEARTBEAT, **beat})]

    def answer(self, text: str, now_ns: int) -> list[Action]:
        self.admit(now_ns)
        data = text.encode("latin-1")
        try:
            request: dict[str, Any] = json.loads(data) if messages.is_json(data) else messages.read(data)
            kind = request["Type"]
        except (ValueError, LookupError, TypeError, FrameError):
            raise RefusedError(Close(0, "no DTC message")) from None
        match kind:
            case messages.ENCODING_REQUEST:
                self._encoding = JSON if request.get("Encoding") == JSON else BINARY
                encoding = {"ProtocolVersion": messages.VERSION, "Encoding": self._encoding, "ProtocolType": "DTC"}
                return [send_json({"Type": messages.ENCODING_RESPONSE, **encoding})]
            case messages.LOGON_REQUEST:
                return self._logon(request)
            case messages.LOGOFF:
                return [Close(0, "logged off")]
            case messages.DATA_REQUEST:
                return self._market_data(request, now_ns)
        return []

    def _logon(self, request: dict[str, Any]) -> list[Action]:
        self._beat_ns = int(request.get("HeartbeatIntervalInSeconds") or 0) * SECOND_NS
        answer = {"Type": messages.LOGON_RESPONSE, "ProtocolVersion": messages.VERSION, "ServerName": "mdstream"}
        if request.get("Username") == "wrong":
            refused = {"Result": 3, "ResultText": "Username or Password is incorrect"}
            return [send_json({**answer, **refused}), Close(0, "wrong user")]
        return [send_json({**answer, "Result": 1, "ResultText": "", "MarketDataSupported": 1})]

    def _market_data(self, request: dict[str, Any], now_ns: int) -> list[Action]:
        names = str(request.get("Symbol", "")), str(request.get("Exchange", ""))
        symbol, number = ".".join(filter(None, names)), int(request.get("SymbolID", 0))
        if request.get("RequestAction") == 2:
            self._numbers.pop(symbol, None)
            return list(self.unsubscribe([(channel, symbol) for channel in CHANNELS]))
        topics = {(channel, symbol): self.topic(channel, symbol, now_ns) for channel in CHANNELS}
        if not self._beat_ns:
            raise RefusedError(Close(0, "no logon"))
        if None in topics.values() or number in self._numbers.values():
            text = "Unknown symbol" if None in topics.values() else "SymbolID is in use"
            raise RefusedError(send_json({"Type": messages.DATA_REJECT, "SymbolID": number, "RejectText": text}))
        self._numbers[symbol] = number
        return self.subscribe(topics, now_ns)


def _binary(message: dict[str, Any]) -> bytes:
    """The binary form of a message, where there are several the compact one."""
    kind = message["Type"]
    if kind in COMPACT:
        message = {**message, "Type": COMPACT[kind], "DateTime": round(message["DateTime"] * 1e6)}
    try:
        return messages.write(message)
    except struct.error as error:
        raise ValueError(str(error)) from None


class Dtc(Exchange):
    name = "dtc"
    framer = Messages()
    scheme = "dtc"
    sessions = DtcSession
    fewest_decimals = 2
    channels = CHANNELS
    whole_sizes = True

    def split(self, symbol: str) -> tuple[str, str] | None:
        return (symbol, "USD") if Feed.symbols.to_venue(self.canonical(symbol)) == symbol else None

    def canonical(self, symbol: str) -> str:
        return Feed.symbols.from_venue(symbol)
