"""Alpaca as the simulator serves it: US stocks.

Channels: trades, quotes, statuses, and with trades their corrections and cancelErrors. bars and the other ones are
acknowledged and stay silent, as are symbols that there are not.
Feeds: iex, sip, delayed_sip (without its delay), and test with FAKEPACA alone.
Source: docs.alpaca.markets, streaming market data (read 2026-09). Our choices where it is silent: any keys will do,
but for the secret `wrong`; a key that begins with FREE has the free plan (30 symbols, no sip); the exchange is V, the
tape C; of twenty trades one is corrected and one is cancelled, each at once; of two hundred one is
followed by a halt that the next one ends; who does not log in within ten seconds is
closed after the error; at most 20 requests a second; the close codes.
Not simulated: late corrections, the wildcard `*`, MessagePack, a slot that is held after its connection's end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mdstream.simulator.actions import POLICY_VIOLATION, Action, Close, Send
from mdstream.simulator.exchange import Exchange, Session
from mdstream.simulator.listing import Channel, Kind, Listing, Topic, top_now
from mdstream.simulator.market import SECOND_NS, Instrument, Order, Top, Trade
from mdstream.simulator.requests import RefusedError, are_texts, read_object, send_json
from mdstream.simulator.text import Writer, rfc3339_nanos, shortest
from mdstream.venues.times import new_york_day

LOGIN_NS = 10 * SECOND_NS
FREE, FREE_SYMBOLS, WRONG = "FREE", 30, "wrong"
EXCHANGE, TAPE = "V", "C"
ONE_OF, CORRECTED = 20, 1 << 60
"""How many trades have one that is corrected and one that is cancelled; what the id of a corrected one has added."""
ONE_OF_HALTS, HALTED = 200, 77
HALT = '"sc":"H","sm":"Trading Halt","rc":"LUDP","rm":"Volatility Trading Pause"'
RESUMPTION = '"sc":"T","sm":"Trading Resumption","rc":"C11","rm":"Trade Halt Concluded By Other Regulatory Auth."'
FAKE = "FAKEPACA"
FEEDS = ("iex", "sip", "delayed_sip", "test")
ERRORS = {
    400: "invalid syntax",
    401: "not authenticated",
    402: "auth failed",
    403: "already authenticated",
    404: "auth timeout",
    405: "symbol limit exceeded",
    406: "connection limit exceeded",
    407: "slow client",
    409: "insufficient subscription",
}
SILENT = ("bars", "updatedBars", "dailyBars")
"""Channels that are acknowledged, and not simulated."""

_TICKER = re.compile(rf"[A-Z]{{1,5}}(\.[A-Z])?|{FAKE}")


def _trades(listing: Listing, order: Order) -> list[str]:
    time = rfc3339_nanos(order.ts_ns)
    return [
        f'[{{"T":"t","i":{t.trade_id},"S":"{listing.symbol}","x":"{EXCHANGE}","p":{listing.price(t.ticks)},'
        f'"s":{listing.size(t.lots)},"t":"{time}","c":["@"],"z":"{TAPE}"}}]'
        for t in order.fills
    ]


def _quote(listing: Listing, top: Top) -> list[str]:
    price, size = listing.price, listing.size
    text = (
        f'[{{"T":"q","S":"{listing.symbol}","bx":"{EXCHANGE}","bp":{price(top.bid)},"bs":{size(top.bid_lots)},'
        f'"ax":"{EXCHANGE}","ap":{price(top.ask)},"as":{size(top.ask_lots)},"t":"{rfc3339_nanos(top.ts_ns)}",'
        f'"c":["R"],"z":"{TAPE}"}}]'
    )
    return [text]


def _corrections(listing: Listing, order: Order) -> list[str]:
    """A corrected trade has one share more, and an id of its own."""
    price, size, time = listing.price, listing.size, rfc3339_nanos(order.ts_ns)
    return [
        f'[{{"T":"c","S":"{listing.symbol}","x":"{EXCHANGE}","oi":{t.trade_id},"op":{price(t.ticks)},'
        f'"os":{size(t.lots)},"oc":["@"],"ci":{CORRECTED + t.trade_id},"cp":{price(t.ticks)},"cs":{size(t.lots + 1)},'
        f'"cc":["@"],"z":"{TAPE}","t":"{time}"}}]'
        for t in order.fills
        if t.trade_id % ONE_OF == 0
    ]


def _cancels(listing: Listing, order: Order) -> list[str]:
    time = rfc3339_nanos(order.ts_ns)
    return [
        f'[{{"T":"x","S":"{listing.symbol}","i":{t.trade_id},"x":"{EXCHANGE}","p":{listing.price(t.ticks)},'
        f'"s":{listing.size(t.lots)},"a":"C","z":"{TAPE}","t":"{time}"}}]'
        for t in order.fills
        if t.trade_id % ONE_OF == ONE_OF // 2
    ]


def _statuses(listing: Listing, order: Order) -> list[str]:
    time = rfc3339_nanos(order.ts_ns)
    status = {HALTED: HALT, (HALTED + 1) % ONE_OF_HALTS: RESUMPTION}
    return [
        f'[{{"T":"s","S":"{listing.symbol}",{status[turn]},"t":"{time}","z":"{TAPE}"}}]'
        for t in order.fills
        if (turn := t.trade_id % ONE_OF_HALTS) in status
    ]


def _trade_id(trade: Trade, ts_ns: int) -> str:
    return f"{EXCHANGE}{TAPE}-{trade.trade_id}-{new_york_day(ts_ns)}"


CHANNELS = {
    "trades": Channel(Kind.TRADE, _trades, lambda order: order.fills, sided=False, trade_id=_trade_id),
    "quotes": Channel(Kind.QUOTE, _quote, first=top_now(_quote)),
    "statuses": Channel(Kind.TRADE, _statuses),
    "corrections": Channel(Kind.TRADE, _corrections),
    "cancelErrors": Channel(Kind.TRADE, _cancels),
}
FOLLOWERS = ("corrections", "cancelErrors")
"""Channels that a subscription of trades brings along, and that nobody subscribes to otherwise."""


def _send(message: dict[str, Any]) -> Send:
    return send_json([message])


def _error(code: int) -> Send:
    return _send({"T": "error", "code": code, "msg": ERRORS[code]})


def _refused(code: int) -> RefusedError:
    return RefusedError(_error(code))


class AlpacaSession(Session):
    request_limit = (20, 1.0)
    shares_frames = True
    too_slow = (_error(407), Close(POLICY_VIOLATION, "slow client"))
    silent: ClassVar[Sequence[str]] = (*SILENT, "lulds")
    followers: ClassVar[Sequence[str]] = FOLLOWERS
    feed = key = ""

    def opened(self, now_ns: int) -> list[Action]:  # noqa: ARG002
        return [_send({"T": "success", "msg": "connected"})]

    def answer(self, text: str, now_ns: int) -> list[Action]:
        request = read_object(text, _refused(400))
        action = request.get("action")
        if action == "auth":
            return self._log_in(request)
        self.admit(now_ns)
        if not self.key:
            raise _refused(401)
        if action not in ("subscribe", "unsubscribe"):
            raise _refused(400)
        names = self._names(request)
        names += [(kind, symbol) for of, symbol in names if of == "trades" for kind in self.followers]
        if action == "unsubscribe":
            return [*self.unsubscribe(names), self._subscription()]
        if self.key.startswith(FREE) and len({symbol for _, symbol in {*self.topics, *names}}) > FREE_SYMBOLS:
            raise _refused(405)
        joined = self.subscribe({(kind, symbol): self.topic(kind, symbol, now_ns) for kind, symbol in names}, now_ns)
        return [self._subscription(), *joined]

    def topic(self, channel: str, symbol: str, now_ns: int) -> Topic | None:
        return super().topic(channel, symbol, now_ns) if (symbol == FAKE) is (self.feed == "test") else None

    def tick(self, now_ns: int, sent_ns: int) -> list[Action]:  # noqa: ARG002
        if self.key or now_ns - self.opened_ns < LOGIN_NS:
            return []
        return [_error(404), Close(POLICY_VIOLATION, "auth timeout")]

    def _log_in(self, request: dict[str, Any]) -> list[Action]:
        key, secret = request.get("key"), request.get("secret")
        if self.key:
            raise _refused(403)
        if not are_texts([key, secret]) or not key or not secret or secret == WRONG:
            raise _refused(402)
        if self.feed == "sip" and str(key).startswith(FREE):
            raise _refused(409)
        if self.exchange.logins.setdefault(f"{key} {self.feed}", self) is not self:
            raise _refused(406)
        self.key = str(key)
        return [_send({"T": "success", "msg": "authenticated"})]

    def _names(self, request: dict[str, Any]) -> list[tuple[str, str]]:
        """Channel and symbol of each subscription that a request names. Raises RefusedError."""
        kinds = [kind for kind in (*self.channels, *self.silent) if kind in request and kind not in FOLLOWERS]
        if not kinds or not all(are_texts(request[kind]) for kind in kinds):
            raise _refused(400)
        return [(kind, symbol) for kind in kinds for symbol in request[kind]]

    def _subscription(self) -> Send:
        state = {kind: [s for k, s in self.topics if k == kind] for kind in (*self.channels, *self.silent)}
        return _send({"T": "subscription"} | state)


class Alpaca(Exchange):
    name = "alpaca"
    path = "/v2/iex"
    sessions = AlpacaSession
    fewest_decimals = 2
    channels: ClassVar[Mapping[str, Channel]] = CHANNELS

    def session(self, path: str, query: str, now_ns: int) -> Session | None:
        base, _, feed = path.rstrip("/").rpartition("/")
        found = super().session(self.path if f"{base}/" == "/v2/" and feed in FEEDS else path, query, now_ns)
        if isinstance(found, AlpacaSession):
            found.feed = feed
        return found

    def split(self, symbol: str) -> tuple[str, str] | None:
        return (symbol, "USD") if _TICKER.fullmatch(symbol) else None

    def writers(self, instrument: Instrument) -> tuple[Writer, Writer]:
        instrument.size_decimals = 0  # a lot is a share
        return shortest(instrument.price_decimals), str
