"""Massive as the simulator serves it: US stocks.

Channels: T (trades, of exchange 4 and tape 3), Q (quotes). A (aggregates) and the other ones are acknowledged and stay
silent, as are symbols that there are not.
Source: massive.com/docs, websocket quickstart (read 2026-09). Our choices where it is silent: any key will do but
`wrong`; of two connections the newer one is refused, after its first subscription; at most 20 requests a
second; the wording of errors but for the login's; the close codes.
Not simulated: the wildcard `*`, the delayed feed, facilities (`trfi`), fractions of a share (`ds`).
"""

from __future__ import annotations

import re
from typing import Any

from mdstream.simulator.actions import POLICY_VIOLATION, Action, Close, Send
from mdstream.simulator.exchange import Exchange, Session
from mdstream.simulator.listing import MS, Channel, Kind, Listing, top_now
from mdstream.simulator.market import Instrument, Order, Top, Trade
from mdstream.simulator.requests import RefusedError, read_object, send_json
from mdstream.simulator.text import Writer, shortest
from mdstream.venues.times import new_york_day

WRONG = "wrong"
EXCHANGE, TAPE = 4, 3

_TICKER = re.compile(r"[A-Z]{1,5}(\.[A-Z])?")


def _trades(listing: Listing, order: Order) -> list[str]:
    return [
        f'[{{"ev":"T","sym":"{listing.symbol}","x":{EXCHANGE},"i":"{t.trade_id}","z":{TAPE},'
        f'"p":{listing.price(t.ticks)},"s":{listing.size(t.lots)},"t":{order.ts_ns // MS},"q":{order.update_id}}}]'
        for t in order.fills
    ]


def _quote(listing: Listing, top: Top) -> list[str]:
    price, size = listing.price, listing.size
    text = (
        f'[{{"ev":"Q","sym":"{listing.symbol}","bx":{EXCHANGE},"bp":{price(top.bid)},"bs":{size(top.bid_lots)},'
        f'"ax":{EXCHANGE},"ap":{price(top.ask)},"as":{size(top.ask_lots)},"c":0,"t":{top.ts_ns // MS},'
        f'"q":{top.update_id},"z":{TAPE}}}]'
    )
    return [text]


def _trade_id(trade: Trade, ts_ns: int) -> str:
    return f"{EXCHANGE}-{trade.trade_id}-{new_york_day(ts_ns)}"


CHANNELS = {
    "T": Channel(Kind.TRADE, _trades, lambda order: order.fills, resolution_ns=MS, sided=False, trade_id=_trade_id),
    "Q": Channel(Kind.QUOTE, _quote, resolution_ns=MS, first=top_now(_quote)),
}


class MassiveSession(Session):
    request_limit = (20, 1.0)
    shares_frames = True
    key = ""

    def opened(self, now_ns: int) -> list[Action]:  # noqa: ARG002
        return [_status(("connected", "Connected Successfully"))]

    def answer(self, text: str, now_ns: int) -> list[Action]:
        request = read_object(text, RefusedError(_status(("error", "invalid message"))))
        action, params = request.get("action"), request.get("params")
        if not isinstance(params, str) or action not in ("auth", "subscribe", "unsubscribe"):
            raise RefusedError(_status(("error", "invalid action")))
        if action == "auth":
            return self._log_in(params)
        self.admit(now_ns)
        if not self.key:
            raise RefusedError(_status(("auth_required", "authentication required")))
        names = params.split(",")
        acks = _status(*(("success", f"{action}d to: {name}") for name in names))
        if self.exchange.logins.setdefault(self.key, self) is not self:
            text = "Maximum number of websocket connections exceeded."
            return [acks, _status(("max_connections", text)), Close(POLICY_VIOLATION, "max connections")]
        if action == "unsubscribe":
            return [*self.unsubscribe(names), acks]
        topics = {name: self.topic(*name.partition(".")[::2], now_ns) for name in names}
        return [acks, *self.subscribe(topics, now_ns)]

    def _log_in(self, key: str) -> list[Action]:
        if not key or key == WRONG:
            raise RefusedError(_status(("auth_failed", "authentication failed")))
        self.key = key
        return [_status(("auth_success", "authenticated"))]


class Massive(Exchange):
    name = "massive"
    path = "/stocks"
    sessions = MassiveSession
    fewest_decimals = 2
    channels = CHANNELS

    def split(self, symbol: str) -> tuple[str, str] | None:
        return (symbol, "USD") if _TICKER.fullmatch(symbol) else None

    def writers(self, instrument: Instrument) -> tuple[Writer, Writer]:
        instrument.size_decimals = 0  # a lot is a share
        return shortest(instrument.price_decimals), str


def _status(*messages: tuple[str, str]) -> Send:
    made: list[dict[str, Any]] = [{"ev": "status", "status": status, "message": text} for status, text in messages]
    return send_json(made)
