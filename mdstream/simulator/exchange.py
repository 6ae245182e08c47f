"""The base of simulated venues: requests in, replies out, market events to text. Pure: no socket, no clock.

Exchange   one venue: which symbols and channels there are; opens sessions
Session    one connection: its subscriptions, its limits, its keepalive
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any, ClassVar

from mdstream import instruments
from mdstream.simulator.actions import POLICY_VIOLATION, Action, Allowance, Close, Send, Subscribe, Unsubscribe
from mdstream.simulator.listing import Channel, Listing, Topic, canonical
from mdstream.simulator.market import LISTED, Instrument, Market
from mdstream.simulator.requests import RefusedError
from mdstream.simulator.text import Writer, shortest
from mdstream.venues.declared import Declared
from mdstream.venues.framer import Framer
from mdstream.venues.symbols import Symbols

MAX_LISTINGS = 5_000
"""Most instruments that a venue opens: every symbol is tradable, but memory is bounded."""

_BASE, _QUOTE, _JOINED = re.compile(r"[A-Z0-9]{1,20}"), re.compile(r"[A-Z0-9]{2,10}"), re.compile(r"[A-Z0-9]{2,30}")
_NUMBERS = count(1)


class Session(Declared, ABC):
    """One connection. Each method returns what to do now; the shell does it, in order.

    `topics`: what it is subscribed to, by the venue's name for it; None where nothing is ever sent. `channels`: those
    that it can subscribe to. `number` is its own in this process. `heard_ns`: when the client last sent a message.
    """

    request_limit: ClassVar[tuple[int, float]]
    """Most requests, in so many seconds."""
    too_many: ClassVar[Sequence[Action]] = (Close(POLICY_VIOLATION, "too many requests"),)
    """What follows a request beyond the limit."""
    shares_frames: ClassVar[bool] = False
    """Whether its frames are arrays, and those that a client gets at one time are one."""
    too_slow: ClassVar[Sequence[Action]] = (Close(POLICY_VIOLATION, "too slow"),)
    """How the venue cuts off a client that does not read."""

    def __init__(self, exchange: Exchange, now_ns: int) -> None:
        self.exchange, self.channels = exchange, exchange.channels
        self.number = next(_NUMBERS)
        self.opened_ns = self.heard_ns = now_ns
        self.allowance = Allowance(*self.request_limit)
        self.topics: dict[Any, Topic | None] = {}

    def admit(self, now_ns: int, refused: RefusedError | None = None) -> None:
        """Count a request. Raises `refused`, by default with `too_many`, beyond the limit."""
        if not self.allowance.take(now_ns):
            raise refused or RefusedError(*self.too_many)

    def topic(self, channel: str, symbol: str, now_ns: int) -> Topic | None:
        """The topic of a channel and a symbol, by their names at the venue; None if it lacks either."""
        found = self.channels.get(channel)
        listing = self.exchange.listing(symbol, now_ns) if found else None
        return listing.topic(found) if found and listing else None

    def subscribe(self, topics: Mapping[Any, Topic | None], now_ns: int) -> list[Action]:
        """Topics by the venue's name: the present state of each, then its events; nothing if that is subscribed to."""
        actions: list[Action] = []
        for name, topic in topics.items():
            if topic and name not in self.topics:
                actions += [*_present(topic, now_ns), Subscribe(topic)]
        self.topics.update(topics)
        return actions

    def unsubscribe(self, names: Iterable[Any]) -> list[Action]:
        """The end of the subscriptions among these."""
        ended = [self.topics.pop(name, None) for name in names]
        return [Unsubscribe(topic) for topic in ended if topic]

    def wire(self, text: str) -> bytes:
        """A text as a TCP venue sends it, with its length or its end. A websocket's frames are made elsewhere."""
        return text.encode()

    def opened(self, now_ns: int) -> list[Action]:  # noqa: ARG002  a hook: the default has no use for the time
        """Called once, after the handshake."""
        return []

    def received(self, text: str, now_ns: int) -> list[Action]:
        """Handle a text message."""
        self.heard_ns = now_ns
        try:
            return self.answer(text, now_ns)
        except RefusedError as refused:
            return list(refused.replies)

    def closed(self) -> None:
        """Called once, when the connection has ended: another may log in."""
        self.exchange.logins = {name: of for name, of in self.exchange.logins.items() if of is not self}

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


def _present(topic: Topic, now_ns: int) -> list[Send]:
    first = topic.channel.first
    return [Send(text, topic) for text in first(topic.listing, now_ns)] if first else []


class Exchange(Declared):
    """One venue."""

    name: ClassVar[str]
    path: ClassVar[str] = ""
    """Path of the websocket for the ingestor, below /NAME."""
    framer: ClassVar[Framer | None] = None
    """How the requests to a TCP venue are cut: their bytes come as text, a character each. None: it has a websocket."""
    scheme: ClassVar[str] = "tcp"
    """Of a TCP venue's address for the ingestor."""
    sessions: ClassVar[type[Session]]
    fewest_decimals: ClassVar[int]
    """Fewest decimals of a price."""
    channels: ClassVar[Mapping[str, Channel]]
    """Every channel that it sends, by the venue's name for it."""
    separator: ClassVar[str] = "-"
    """Between base and quote; if empty, a symbol ends in one of `quotes`."""
    quotes: ClassVar[Sequence[str]] = instruments.QUOTES
    contracts: ClassVar[Symbols | None] = None
    """How it names its instruments, if there are contracts on pairs in `quotes` among them."""
    endings: ClassVar[Sequence[str]] = ("",)
    """What follows the pair in the canonical names of those that it lists in any case."""
    whole_sizes: ClassVar[bool] = False
    """Whether sizes are whole numbers of contracts."""
    shutdown_notice: ClassVar[str] = ""
    """The frame that announces a restart; empty if the venue announces none."""

    def __init__(self, market: Market, symbols: Iterable[str] | None = None) -> None:
        """`symbols`: canonical names of all tradable pairs; None: every symbol of the right form."""
        self._market = market
        self._symbols = None if symbols is None else frozenset(symbols)
        self.listings: dict[str, Listing] = {}
        self.logins: dict[str, Session] = {}
        """By what they logged in with, where the venue allows one connection."""
        self.on_opened: Callable[[Listing], None] = lambda listing: None  # noqa: ARG005  what it is called with
        """Called for each new listing."""

    def counts(self) -> Mapping[str, int]:
        """What /status shows of it, besides that of every venue. A hook: most have nothing of their own."""
        return {}

    def session(self, path: str, query: str, now_ns: int) -> Session | None:  # noqa: ARG002  most venues have none
        """A session for a websocket at `path` (below /NAME), or for a TCP connection; None if there is no such path."""
        return self.sessions(self, now_ns) if path.rstrip("/") == self.path else None

    def split(self, symbol: str) -> tuple[str, str] | None:
        """Base and quote of the venue's symbol; None if it does not have the right form."""
        if self.contracts:
            name = self.canonical(symbol)
            known = name and self.contracts.to_venue(name) == symbol
            return instruments.split_pair(name.partition("-")[0], self.quotes) if known else None
        if not self.separator:
            return instruments.split_pair(symbol, self.quotes) if _JOINED.fullmatch(symbol) else None
        base, _, quote = symbol.partition(self.separator)
        return (base, quote) if _BASE.fullmatch(base) and _QUOTE.fullmatch(quote) else None

    def canonical(self, symbol: str) -> str:
        """The canonical name of the venue's symbol."""
        return self.contracts.from_venue(symbol) if self.contracts else canonical(symbol)

    def writers(self, instrument: Instrument) -> tuple[Writer, Writer]:
        """How the venue writes this instrument's prices and sizes, by default without trailing zeros."""
        return shortest(instrument.price_decimals), shortest(instrument.size_decimals)

    def contract_writer(self, name: str, instrument: Instrument) -> Writer | None:  # noqa: ARG002  a hook
        """How it writes the sizes of the instrument with this canonical name, if that is in contracts."""
        return None

    def symbol_of(self, name: str) -> str | None:
        """The venue's symbol of a canonical name; None if it does not have the form of the venue's instruments."""
        if self.contracts:
            return self.contracts.to_venue(name)
        pair = instruments.split_pair(name, self.quotes)
        return self.separator.join(pair) if pair else None

    def listed(self, now_ns: int) -> list[Listing]:
        """What the venue's list of instruments has, by symbol: those that are tradable; if every symbol is, those that
        were opened, and some more."""
        names = self._symbols
        if names is None:
            pairs = [base + quote for base in LISTED for quote in self.quotes if base != quote]
            names = frozenset(pair + ending for pair in pairs for ending in self.endings)
        for symbol in filter(None, map(self.symbol_of, sorted(names))):
            self.listing(symbol, now_ns)
        return sorted(self.listings.values(), key=lambda listing: listing.symbol)

    def listing(self, symbol: str, now_ns: int) -> Listing | None:
        """The listing of the venue's symbol, opened on first use; None if it is not tradable."""
        found = self.listings.get(symbol)
        if found is not None:
            return found
        pair = self.split(symbol)
        if pair is None or len(self.listings) >= MAX_LISTINGS:
            return None
        name = self.canonical(symbol)
        if self._symbols is not None and name not in self._symbols:
            return None
        instrument = self._market.instrument(
            self.name, *pair, fewest_decimals=self.fewest_decimals, whole_sizes=self.whole_sizes, now_ns=now_ns
        )
        price, size = self.writers(instrument)
        written = self.contract_writer(name, instrument) or size
        found = Listing(self.name, symbol, instrument, price, written, canonical=name, base_size=size)
        self.listings[symbol] = found
        self.on_opened(found)
        return found
