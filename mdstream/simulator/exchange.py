"""The base of simulated venues: requests in, replies out, market events to text. Pure: no socket, no clock.

Exchange   one venue: which symbols and channels there are; opens sessions
Listing    one instrument at it, and the topics that clients have asked for
Channel    a kind of market event, and how the venue writes it
Topic      a channel of a listing, and its subscribers
Session    one connection: its subscriptions, its limits, its keepalive
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, NamedTuple

from mdstream.simulator.market import SECOND_NS, Instrument, Levels, Market, Order, Trade
from mdstream.simulator.text import Writer
from mdstream.venues.declared import Declared

MAX_LISTINGS = 5_000
"""Most instruments that a venue opens: every symbol is tradable, but memory is bounded."""

MS, US = 1_000_000, 1_000
"""Nanoseconds in a milli- and a microsecond."""

_PAIR = re.compile(r"([A-Z0-9]{1,20})-([A-Z0-9]{2,10})")


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
    if the venue has several. `first(listing, now_ns)` returns what a new subscriber gets at once. `every`: only each
    n-th event is sent.
    """

    kind: Kind
    encode: Callable[[Listing, Any], list[str]]
    trades: Callable[[Order], Sequence[Trade]] | None = None
    id_space: str = ""
    resolution_ns: int = 1
    """Times on the wire are truncated to this."""
    first: Callable[[Listing, int], list[str]] | None = None
    every: int = 1


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

    def __init__(self, exchange: str, symbol: str, instrument: Instrument, price: Writer, size: Writer) -> None:
        self.exchange, self.symbol, self.instrument = exchange, symbol, instrument
        self.canonical = canonical(symbol)
        self.price, self.size = price, size
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


class Send(NamedTuple):
    """A text frame. `of`: the topic whose current state it gives a new subscriber; None for an answer."""

    text: str
    of: Topic | None = None


class Ping(NamedTuple):
    payload: bytes


class Subscribe(NamedTuple):
    topic: Topic


class Unsubscribe(NamedTuple):
    topic: Topic


class Close(NamedTuple):
    code: int
    reason: str


Action = Send | Ping | Subscribe | Unsubscribe | Close
"""Actions of a session, in the order given."""

POLICY_VIOLATION = 1008


def send_json(content: Any) -> Send:
    """An answer in compact JSON, as the venues write it."""
    return Send(json.dumps(content, separators=(",", ":")))


class RefusedError(Exception):
    """A request that the venue refuses with `reply`."""

    def __init__(self, reply: Any) -> None:
        super().__init__(reply)
        self.reply = reply


class Allowance:
    """At most `count` of something in any `per_s` seconds."""

    def __init__(self, count: int, per_s: float) -> None:
        self._window_ns = int(per_s * SECOND_NS)
        self._taken: deque[int] = deque(maxlen=count)

    def take(self, now_ns: int) -> bool:
        """Take one; False if that is one too many (which then does not count)."""
        taken = self._taken
        if len(taken) == taken.maxlen and now_ns - taken[0] < self._window_ns:
            return False
        taken.append(now_ns)
        return True


class Session(Declared, ABC):
    """One connection. Each method returns what to do now; the shell does it, in order.

    `topics`: what it is subscribed to, by the venue's name for it; None where nothing is ever sent.
    """

    request_limit: ClassVar[tuple[int, float]]
    """Most requests, in so many seconds."""

    def __init__(self, exchange: Exchange, now_ns: int) -> None:
        self.exchange, self.opened_ns = exchange, now_ns
        self.allowance = Allowance(*self.request_limit)
        self.topics: dict[Any, Topic | None] = {}

    def subscribe(self, name: Any, topic: Topic | None, now_ns: int) -> list[Action]:
        """The present state of a topic, then its events; nothing if it is subscribed to already."""
        known = name in self.topics
        self.topics[name] = topic
        if known or topic is None:
            return []
        first = topic.channel.first
        return [*(Send(text, topic) for text in (first(topic.listing, now_ns) if first else ())), Subscribe(topic)]

    def unsubscribe(self, name: Any) -> list[Action]:
        """The end of a subscription; nothing if there is none."""
        topic = self.topics.pop(name, None)
        return [] if topic is None else [Unsubscribe(topic)]

    def opened(self, now_ns: int) -> list[Action]:  # noqa: ARG002  a hook: the default has no use for the time
        """Called once, after the handshake."""
        return []

    def received(self, text: str, now_ns: int) -> list[Action]:
        """Handle a text message."""
        try:
            return self.answer(text, now_ns)
        except RefusedError as refused:
            return [refused.reply]

    @abstractmethod
    def answer(self, text: str, now_ns: int) -> list[Action]:
        """What follows a text message. Raises RefusedError."""

    def ping_received(self, now_ns: int) -> list[Action]:  # noqa: ARG002
        """Handle a ping frame; the shell sends the pong."""
        return []

    def pong_received(self, payload: bytes, now_ns: int) -> list[Action]:  # noqa: ARG002
        """Handle a pong frame."""
        return []

    def tick(self, now_ns: int, sent_ns: int) -> list[Action]:  # noqa: ARG002
        """Called a few times a second; `sent_ns` is when the client was last sent anything."""
        return []

    @abstractmethod
    def too_slow(self) -> list[Action]:
        """How the venue cuts off a client that does not read. Ends with a Close."""


class Exchange(Declared, ABC):
    """One venue."""

    name: ClassVar[str]
    path: ClassVar[str]
    """Path of the websocket for the ingestor, below /NAME."""
    sessions: ClassVar[type[Session]]
    fewest_decimals: ClassVar[int]
    """Fewest decimals of a price."""
    channels: ClassVar[Mapping[str, Channel]]
    """Every channel that it sends, by the venue's name for it."""

    def __init__(self, market: Market, symbols: Iterable[str] | None = None) -> None:
        """`symbols`: canonical names of all tradable pairs; None: every symbol of the right form."""
        self._market = market
        self._symbols = None if symbols is None else frozenset(symbols)
        self.listings: dict[str, Listing] = {}
        self.on_opened: Callable[[Listing], None] = lambda listing: None  # noqa: ARG005  what it is called with
        """Called for each new listing."""

    def session(self, path: str, query: str, now_ns: int) -> Session | None:  # noqa: ARG002  most venues have none
        """A session for a websocket at `path` (below /NAME); None if the venue has no such path."""
        return self.sessions(self, now_ns) if path.rstrip("/") == self.path else None

    def split(self, symbol: str) -> tuple[str, str] | None:
        """Base and quote of the venue's symbol, by default BASE-QUOTE; None if it does not have the right form."""
        match = _PAIR.fullmatch(symbol)
        return (match[1], match[2]) if match else None

    @abstractmethod
    def writers(self, instrument: Instrument) -> tuple[Writer, Writer]:
        """How the venue writes this instrument's prices and sizes."""

    def listing(self, symbol: str, now_ns: int) -> Listing | None:
        """The listing of the venue's symbol, opened on first use; None if it is not tradable."""
        found = self.listings.get(symbol)
        if found is not None:
            return found
        pair = self.split(symbol)
        if pair is None or len(self.listings) >= MAX_LISTINGS:
            return None
        if self._symbols is not None and canonical(symbol) not in self._symbols:
            return None
        instrument = self._market.instrument(self.name, *pair, fewest_decimals=self.fewest_decimals, now_ns=now_ns)
        found = self.listings[symbol] = Listing(self.name, symbol, instrument, *self.writers(instrument))
        self.on_opened(found)
        return found


def canonical(symbol: str) -> str:
    """The name of a spot pair that all venues share: BTC-USDT is BTCUSDT."""
    return symbol.replace("-", "").replace("/", "").replace("_", "").upper()
