"""What a simulated venue lists: instruments, channels, and who subscribed to them. Pure.

Listing    one instrument at a venue, and the topics that clients have asked for
Channel    a kind of market event, and how the venue writes it
Topic      a channel of a listing, and its subscribers
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from mdstream.simulator.market import Book, Instrument, Levels, Order, Top, Trade
from mdstream.simulator.text import Writer

MS, US = 1_000_000, 1_000
"""Nanoseconds in a milli- and a microsecond."""

_CONTRACT = re.compile(r"[^\W_]{2,40}-(PERP|[0-9]{8})")


class Kind(Enum):
    """What triggers a channel: an event of the market, or the passing of time."""

    TRADE = "trade"
    QUOTE = "quote"
    BOOK = "book"
    HEARTBEAT = "heartbeat"


class HeartbeatEvent(NamedTuple):
    """The event of a HEARTBEAT channel."""

    ts_ns: int


@dataclass(frozen=True, eq=False)
class Channel:
    """How a venue writes one kind of event.

    `encode(listing, event)` returns the text frames; the event is an Order, Top, Book or HeartbeatEvent, by `kind`.
    `trades` returns the trades it reports by id, equally many per frame; None if it reports none. `id_space` is set
    if the venue has several; `trade_id(trade, ts_ns)` is the id as the reader composes it; `sided` is False if no
    aggressor is told. `first(listing, now_ns)` returns what a new subscriber gets at once. `every`: only each n-th
    event is sent.
    """

    kind: Kind
    encode: Callable[[Listing, Any], list[str]]
    trades: Callable[[Order], Sequence[Trade]] | None = None
    id_space: str = ""
    resolution_ns: int = 1
    """Times on the wire are truncated to this."""
    first: Callable[[Listing, int], list[str]] | None = None
    every: int = 1
    sided: bool = True
    trade_id: Callable[[Trade, int], str] = lambda trade, _ts_ns: str(trade.trade_id)


class Topic:
    """A channel of a listing; `subscribers` in order of arrival. `lingers`: it goes on without any."""

    __slots__ = ("channel", "lingers", "listing", "subscribers")

    def __init__(self, listing: Listing, channel: Channel) -> None:
        self.listing, self.channel = listing, channel
        self.subscribers: dict[Any, None] = {}
        self.lingers = False

    @property
    def is_live(self) -> bool:
        """Whether its events are produced."""
        return bool(self.subscribers) or self.lingers


class Listing:
    """An instrument as one venue names and writes it."""

    def __init__(
        self,
        exchange: str,
        symbol: str,
        instrument: Instrument,
        price: Writer,
        size: Writer,
        *,
        canonical: str,
        base_size: Writer | None = None,
    ) -> None:
        self.exchange, self.symbol, self.canonical, self.instrument = exchange, symbol, canonical, instrument
        self.price, self.size, self.base_size = price, size, base_size or size
        """How it writes prices and sizes, and how sizes are written in units of base, should it count contracts."""
        self.topics: dict[Channel, Topic] = {}
        self.reported: dict[str, int] = {}
        """By id space: the id of the last trade that went to a subscriber."""

    def topic(self, channel: Channel) -> Topic:
        """The topic of a channel, created on first use."""
        if channel not in self.topics:
            self.topics[channel] = Topic(self, channel)
        return self.topics[channel]

    def levels(self, levels: Levels, before: str = "") -> str:
        """Levels of a book as most venues write them: ["93741.1","0.5"],..; `before` comes first in each."""
        price, size = self.price, self.size
        return ",".join([f'[{before}"{price(ticks)}","{size(lots)}"]' for ticks, lots in levels])

    def live(self, kind: Kind) -> list[Topic]:
        """Topics of a kind with subscribers, or lingering ones."""
        return [topic for topic in self.topics.values() if topic.channel.kind is kind and topic.is_live]


def top_now(encode: Callable[[Listing, Top], list[str]]) -> Callable[[Listing, int], list[str]]:
    """For `Channel.first`: the present top, as `encode` writes it."""
    return lambda listing, _: encode(listing, listing.instrument.top)


def book_now(encode: Callable[[Listing, Book], list[str]]) -> Callable[[Listing, int], list[str]]:
    """For `Channel.first`: the book that the next changes apply to, as `encode` writes it."""
    return lambda listing, now_ns: encode(listing, listing.instrument.last_book(now_ns))


def canonical(symbol: str) -> str:
    """The name of a spot pair that all venues share: BTC-USDT is BTCUSDT. That of a contract stays as it is."""
    upper = symbol.upper()
    return upper if _CONTRACT.fullmatch(upper) else upper.replace("-", "").replace("/", "").replace("_", "")
