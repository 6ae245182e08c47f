"""Coinbase Advanced Trade as the simulator serves it, without a token.

Channels: market_trades (`side` is the MAKER's; the newest first), ticker (one per order), level2 (snapshot, then
changes, as l2_data), heartbeats (1/s). status, candles and ticker_batch are accepted and stay silent. user and
futures_balance_summary need a token, which is not simulated.
Source: docs.cdp.coinbase.com, Advanced Trade WebSocket and its AsyncAPI (read 2026-11). Our choices where it is silent:
one bad product refuses the request; the wording of errors but for an unknown channel; the close codes; the snapshot of
market_trades holds the last order's.
Not simulated: batches of 250 ms, and frames of several products; `sequence_num` of a connection, which is 0 in an
acknowledgement, and else counts the product's updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mdstream.simulator.actions import POLICY_VIOLATION, Action, Close, Send
from mdstream.simulator.exchange import Exchange, Session
from mdstream.simulator.listing import US, Channel, HeartbeatEvent, Kind, Listing, Topic, book_now
from mdstream.simulator.market import SECOND_NS, Book, Instrument, Levels, Order
from mdstream.simulator.requests import RefusedError, are_texts, read_object, send_json
from mdstream.simulator.text import Writer, fixed, rfc3339, rfc3339_nanos, shortest

FIRST_SUBSCRIBE_NS = 5 * SECOND_NS
HEARTBEATS = "heartbeats"


def _frame(channel: str, ts_ns: int, number: int, event: str) -> str:
    return (
        f'{{"channel":"{channel}","timestamp":"{rfc3339_nanos(ts_ns)}","sequence_num":{number},"events":[{{{event}}}]}}'
    )


def _trades(listing: Listing, order: Order, kind: str = "update") -> list[str]:
    maker_side, time = "SELL" if order.buy else "BUY", rfc3339(order.ts_ns)
    rows = ",".join(
        f'{{"trade_id":"{t.trade_id}","product_id":"{listing.symbol}","price":"{listing.price(t.ticks)}",'
        f'"size":"{listing.size(t.lots)}","side":"{maker_side}","time":"{time}"}}'
        for t in reversed(order.fills)
    )
    return [_frame("market_trades", order.ts_ns, order.update_id, f'"type":"{kind}","trades":[{rows}]')]


def _ticker(listing: Listing, order: Order) -> list[str]:
    i, price, size = listing.instrument, listing.price, listing.size
    row = (
        f'"type":"ticker","product_id":"{listing.symbol}","price":"{price(order.fills[-1].ticks)}",'
        f'"volume_24_h":"{size(i.volume_lots)}","low_24_h":"{price(i.low_ticks)}","high_24_h":"{price(i.high_ticks)}",'
        f'"best_bid":"{price(i.top.bid)}","best_bid_quantity":"{size(i.top.bid_lots)}",'
        f'"best_ask":"{price(i.top.ask)}","best_ask_quantity":"{size(i.top.ask_lots)}"'
    )
    return [_frame("ticker", order.ts_ns, order.update_id, f'"type":"update","tickers":[{{{row}}}]')]


def _snapshot(listing: Listing, book: Book) -> list[str]:
    return [_book(listing, book, "snapshot", book.bids, book.asks)]


def _update(listing: Listing, book: Book) -> list[str]:
    return [_book(listing, book, "update", book.bid_changes, book.ask_changes)]


def _book(listing: Listing, book: Book, kind: str, bids: Levels, asks: Levels) -> str:
    time = rfc3339(book.ts_ns)
    rows = ",".join(
        f'{{"side":"{side}","event_time":"{time}","price_level":"{listing.price(ticks)}",'
        f'"new_quantity":"{listing.size(lots)}"}}'
        for side, levels in (("bid", bids), ("offer", asks))
        for ticks, lots in levels
    )
    event = f'"type":"{kind}","product_id":"{listing.symbol}","updates":[{rows}]'
    return _frame("l2_data", book.ts_ns, book.update_id, event)


def _heartbeat(_listing: Listing, heartbeat: HeartbeatEvent) -> list[str]:
    number, time = heartbeat.ts_ns // SECOND_NS, rfc3339(heartbeat.ts_ns)
    return [_frame(HEARTBEATS, heartbeat.ts_ns, number, f'"current_time":"{time}","heartbeat_counter":{number}')]


CHANNELS = {
    "market_trades": Channel(Kind.TRADE, _trades, lambda order: order.fills, resolution_ns=US),
    "ticker": Channel(Kind.TRADE, _ticker),
    "level2": Channel(Kind.BOOK, _update, first=book_now(_snapshot)),
    HEARTBEATS: Channel(Kind.HEARTBEAT, _heartbeat),
}
SILENT = frozenset({"status", "candles", "ticker_batch"})
AUTHENTICATED = frozenset({"user", "futures_balance_summary"})


def _error(message: str) -> Send:
    return send_json({"type": "error", "message": message})


def _refused(message: str) -> RefusedError:
    return RefusedError(_error(message))


class CoinbaseAdvancedSession(Session):
    request_limit = (8, 1.0)
    too_many = (_error("rate limit exceeded"), Close(POLICY_VIOLATION, "rate limit exceeded"))

    def answer(self, text: str, now_ns: int) -> list[Action]:
        self.admit(now_ns)
        request = read_object(text, _refused("malformed message"))
        kind, channel = request.get("type"), request.get("channel")
        if kind not in ("subscribe", "unsubscribe"):
            raise _refused("type is invalid")
        if channel in AUTHENTICATED:
            raise _refused("authentication failure")
        if not isinstance(channel, str) or channel not in CHANNELS.keys() | SILENT:
            raise _refused("channel is invalid")
        names = [(channel, product) for product in _products(channel, request)]
        if kind == "unsubscribe":
            return [*self.unsubscribe(names), self._subscriptions(now_ns)]
        topics = {name: self._topic(*name, now_ns) for name in names}
        new = [topic for name, topic in topics.items() if topic and name not in self.topics]
        joined = self.subscribe(topics, now_ns)
        return [self._subscriptions(now_ns), *_recent(new), *joined]

    def tick(self, now_ns: int, sent_ns: int) -> list[Action]:  # noqa: ARG002
        if self.heard_ns > self.opened_ns or now_ns - self.opened_ns < FIRST_SUBSCRIBE_NS:
            return []
        return [Close(POLICY_VIOLATION, "no subscription within 5 seconds")]

    def _topic(self, channel: str, product: str, now_ns: int) -> Topic | None:
        """The topic of a subscription; None for a channel that stays silent. Raises RefusedError."""
        listed = self.exchange.listings.values()
        if channel == HEARTBEATS:  # those of no product: some listing's clock gives them
            some = next(iter(listed), None) or self.exchange.listing("BTC-USD", now_ns)
            return some.topic(CHANNELS[HEARTBEATS]) if some else None
        if self.exchange.listing(product, now_ns) is None:
            raise _refused(f"{product} is not a valid product")
        return self.topic(channel, product, now_ns)

    def _subscriptions(self, now_ns: int) -> Send:
        state: dict[str, list[str]] = {}
        for channel, product in self.topics:
            state.setdefault(channel, []).append(product)
        answer = {"channel": "subscriptions", "timestamp": rfc3339_nanos(now_ns), "sequence_num": 0}
        return send_json(answer | {"events": [{"subscriptions": state}]})


class CoinbaseAdvanced(Exchange):
    name = "coinbase_advanced"
    path = ""
    sessions = CoinbaseAdvancedSession
    fewest_decimals = 2
    channels = CHANNELS

    def writers(self, instrument: Instrument) -> tuple[Writer, Writer]:
        price = instrument.price_decimals
        return fixed(price, price), shortest(instrument.size_decimals)


def _products(channel: str, request: dict[str, Any]) -> list[str]:
    """The products of a request; heartbeats have none, and are listed by their own name. Raises RefusedError."""
    products = request.get("product_ids", [])
    if not are_texts(products) or (not products and channel in CHANNELS and channel != HEARTBEATS):
        raise _refused("product_ids is invalid")
    return [HEARTBEATS] if channel == HEARTBEATS else products


def _recent(topics: Sequence[Topic]) -> list[Send]:
    """What market_trades begin with. It is history, and no trade that the channel reports."""
    listings = [topic.listing for topic in topics if topic.channel is CHANNELS["market_trades"]]
    return [Send(text) for of in listings for text in _trades(of, of.instrument.last_order, "snapshot")]
