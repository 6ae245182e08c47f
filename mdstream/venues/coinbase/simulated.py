"""Coinbase Exchange as the simulator serves it: the feed without authentication.

Channels: matches (`side` is the MAKER's), ticker (one per order, `side` is the taker's), heartbeat (1/s per product),
level2_batch and its alias level2_50 (snapshot, then l2update). status and ticker_batch are accepted and stay silent.
full, user, level2, level3 and rfq_matches need authentication, which is not simulated.
Source: docs.cdp.coinbase.com/exchange/websocket-feed, overview, channels and rate limits (read 2026). Our choices where
it is silent: close code 1008; l2updates come at most every 100 ms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from mdstream.simulator.actions import POLICY_VIOLATION, Action, Close, Send
from mdstream.simulator.exchange import Exchange, Session
from mdstream.simulator.listing import US, Channel, HeartbeatEvent, Kind, Listing, Topic, book_now
from mdstream.simulator.market import SECOND_NS, Book, Instrument, Order, Trade
from mdstream.simulator.requests import RefusedError, are_texts, read_object, send_json
from mdstream.simulator.text import Writer, fixed, rfc3339

FIRST_SUBSCRIBE_NS = 5 * SECOND_NS
MAX_SUBSCRIPTIONS = 10
"""To a product's channel."""
SIZE_DECIMALS = 8


def _matches(listing: Listing, order: Order) -> list[str]:
    first, time = order.fills[0].trade_id, rfc3339(order.ts_ns)
    return [_match("match", listing, fill, first, order.buy, order.update_id, time) for fill in order.fills]


def _match(kind: str, listing: Listing, fill: Trade, first_id: int, buy: bool, sequence: int, time: str) -> str:
    maker_side = "sell" if buy else "buy"
    return (
        f'{{"type":"{kind}","trade_id":{fill.trade_id},"maker_order_id":"{_order_id(1, fill.trade_id)}",'
        f'"taker_order_id":"{_order_id(2, first_id)}","side":"{maker_side}","size":"{listing.size(fill.lots)}",'
        f'"price":"{listing.price(fill.ticks)}","product_id":"{listing.symbol}","sequence":{sequence},"time":"{time}"}}'
    )


def _last_match(listing: Listing, now_ns: int) -> list[str]:  # noqa: ARG001  the signature is Channel.first's
    order, fill = listing.instrument.last_order, listing.instrument.last
    time = rfc3339(order.ts_ns)
    return [_match("last_match", listing, fill, order.fills[0].trade_id, order.buy, order.update_id, time)]


def _ticker(listing: Listing, order: Order) -> list[str]:
    i, price, size = listing.instrument, listing.price, listing.size
    top, last = i.top, order.fills[-1]
    opened, volume = price(i.open_ticks), size(i.volume_lots)
    text = (
        f'{{"type":"ticker","sequence":{order.update_id},"product_id":"{listing.symbol}","price":"{price(last.ticks)}",'
        f'"open_24h":"{opened}","volume_24h":"{volume}","low_24h":"{price(i.low_ticks)}",'
        f'"high_24h":"{price(i.high_ticks)}","volume_30d":"{volume}",'
        f'"best_bid":"{price(top.bid)}","best_bid_size":"{size(top.bid_lots)}",'
        f'"best_ask":"{price(top.ask)}","best_ask_size":"{size(top.ask_lots)}",'
        f'"side":"{"buy" if order.buy else "sell"}","time":"{rfc3339(order.ts_ns)}",'
        f'"trade_id":{last.trade_id},"last_size":"{size(last.lots)}"}}'
    )
    return [text]


def _heartbeat(listing: Listing, heartbeat: HeartbeatEvent) -> list[str]:
    i = listing.instrument
    text = (
        f'{{"type":"heartbeat","sequence":{i.top.update_id},"last_trade_id":{i.last.last_id},'
        f'"product_id":"{listing.symbol}","time":"{rfc3339(heartbeat.ts_ns)}"}}'
    )
    return [text]


def _snapshot(listing: Listing, book: Book) -> list[str]:
    text = (
        f'{{"type":"snapshot","product_id":"{listing.symbol}","bids":[{listing.levels(book.bids)}],'
        f'"asks":[{listing.levels(book.asks)}],"time":"{rfc3339(book.ts_ns)}"}}'
    )
    return [text]


def _l2update(listing: Listing, book: Book) -> list[str]:
    sides = ("buy", book.bid_changes), ("sell", book.ask_changes)
    changes = ",".join(filter(None, (listing.levels(levels, f'"{side}",') for side, levels in sides)))
    text = f'{{"type":"l2update","product_id":"{listing.symbol}","changes":[{changes}],"time":"{rfc3339(book.ts_ns)}"}}'
    return [text]


def _order_id(party: int, number: int) -> str:
    """An identifier in the form of a UUID, different for every order."""
    return f"{number & 0xFFFFFFFF:08x}-{number >> 32 & 0xFFFF:04x}-4000-8000-{party:04x}{number >> 48 & 0xFFFFFFFF:08x}"


CHANNELS = {
    "matches": Channel(Kind.TRADE, _matches, lambda order: order.fills, resolution_ns=US, first=_last_match),
    "ticker": Channel(Kind.TRADE, _ticker),
    "heartbeat": Channel(Kind.HEARTBEAT, _heartbeat),
    "level2_batch": Channel(Kind.BOOK, _l2update, first=book_now(_snapshot)),
    "level2_50": Channel(Kind.BOOK, _l2update, first=book_now(_snapshot)),
}
SILENT = frozenset({"status", "ticker_batch"})
AUTHENTICATED = frozenset({"full", "user", "level2", "level3", "rfq_matches"})


def _wanted(kind: str, request: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """(channel, products) of a request; a channel is a name or has its own products. Raises RefusedError."""
    common, channels = request.get("product_ids", []), request.get("channels")
    if not isinstance(channels, list) or not channels:
        raise _refused(kind, "channels has to be a list of channels")
    for channel in channels:
        own = channel if isinstance(channel, dict) else {"name": channel}
        name, products = own.get("name"), own.get("product_ids", common)
        if not isinstance(name, str):
            raise _refused(kind, "a channel has to be a name or an object with one")
        if not are_texts(products):
            raise _refused(kind, "product_ids has to be a list of products")
        yield name, products


def _refused(kind: str, reason: str) -> RefusedError:
    return RefusedError(_error(f"Failed to {kind}", reason))


def _error(message: str, reason: str = "") -> Send:
    return send_json({"type": "error", "message": message} | ({"reason": reason} if reason else {}))


class CoinbaseSession(Session):
    request_limit = (100, 1.0)
    too_many = (_error("Too many requests"), Close(POLICY_VIOLATION, "Too many requests"))
    too_slow = (_error("ErrSlowConsume"), Close(POLICY_VIOLATION, "ErrSlowConsume"))

    def __init__(self, exchange: Exchange, now_ns: int) -> None:
        super().__init__(exchange, now_ns)
        self._subscribed = False
        self._requested: Counter[tuple[str, str]] = Counter()
        """How often each (channel, product) was subscribed to."""

    def answer(self, text: str, now_ns: int) -> list[Action]:
        self.admit(now_ns)
        unknown = _refused("subscribe", "type has to be subscribe or unsubscribe")
        request = read_object(text, RefusedError(_error("Malformed JSON")), unknown)
        kind = request.get("type")
        if kind not in ("subscribe", "unsubscribe"):
            raise unknown
        wanted = list(_wanted(kind, request))
        return self._subscribe(wanted, now_ns) if kind == "subscribe" else self._unsubscribe(wanted)

    def tick(self, now_ns: int, sent_ns: int) -> list[Action]:  # noqa: ARG002
        if self._subscribed or now_ns - self.opened_ns < FIRST_SUBSCRIBE_NS:
            return []
        return [Close(POLICY_VIOLATION, "No subscribe message within 5 seconds")]

    def _subscribe(self, wanted: list[tuple[str, list[str]]], now_ns: int) -> list[Action]:
        """All of a request or none of it: one bad product makes the venue refuse it."""
        for channel, products in wanted:
            if not products and channel not in SILENT:
                raise _refused("subscribe", f"no product_ids for {channel}")
        pairs = [(channel, product) for channel, products in wanted for product in products]
        topics = {pair: self._topic(*pair, now_ns) for pair in pairs}
        requested = self._requested + Counter(pairs)
        for channel, product in pairs:
            if requested[channel, product] > MAX_SUBSCRIPTIONS:
                reason = f"more than {MAX_SUBSCRIPTIONS} subscriptions to {channel} of {product}"
                raise _refused("subscribe", reason)
        self._requested, self._subscribed = requested, True
        for pair in topics:
            self.topics.pop(pair, None)  # a repeated subscription begins with the present state again
        return [self._subscriptions(), *self.subscribe(topics, now_ns)]

    def _unsubscribe(self, wanted: list[tuple[str, list[str]]]) -> list[Action]:
        ended = [(c, p) for c, p in self._requested if any(c == name and (not of or p in of) for name, of in wanted)]
        for pair in ended:
            del self._requested[pair]
        return [*self.unsubscribe(ended), self._subscriptions()]

    def _topic(self, name: str, product: str, now_ns: int) -> Topic | None:
        """The topic of a channel and product; None for a channel that stays silent. Raises RefusedError."""
        if name in AUTHENTICATED:
            raise _refused("subscribe", f"{name} requires authentication")
        if name not in CHANNELS and name not in SILENT:
            raise _refused("subscribe", f"{name} is not a valid channel")
        if self.exchange.listing(product, now_ns) is None:
            raise _refused("subscribe", f"{product} is not a valid product")
        return self.topic(name, product, now_ns)

    def _subscriptions(self) -> Send:
        channels: dict[str, list[str]] = {}
        for channel, product in self._requested:
            channels.setdefault(channel, []).append(product)
        listed = [{"name": name, "product_ids": products} for name, products in channels.items()]
        return send_json({"type": "subscriptions", "channels": listed})


class Coinbase(Exchange):
    name = "coinbase"
    path = ""
    sessions = CoinbaseSession
    fewest_decimals = 2
    channels = CHANNELS

    def writers(self, instrument: Instrument) -> tuple[Writer, Writer]:
        price, size = instrument.price_decimals, instrument.size_decimals
        return fixed(price, price), fixed(size, SIZE_DECIMALS)
