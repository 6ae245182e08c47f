"""A simulated venue's books on a bad line, and the books that a partition publishes of them, compared at every frame.

    Instrument.book every STEP_NS ─ Channel.encode ─> frame ─ faults ─> raw record ─> Canonical.step ─> quotes, books
         │            Session <─ subscribe ─ book_lost <──────────────────────────────────┘                  │
         └─ what the book was after each frame ───────────────────────────────────────── has to be ──────────┘

Time is that of the events: ten minutes take seconds. The faults are those that a venue's books can show:

    numbered   each change names the one before (OKX): dropped, reordered and repeated ones, lost connections
    checked    each change has a checksum of the best levels (Kraken): the same
    whole      each frame is a book (Binance, CoinAPI): the same
    ordered    neither (Bybit, Coinbase, Alpaca): repeated ones, lost connections. TCP keeps the rest in order, and what
               is lost with a connection comes back with the snapshot of the next

The rule. Each quote and book published carries the receive time of a frame, and is the venue's book as it was after
that frame. After a change that does not follow the one before, nothing is published until a snapshot has come, and the
book is reported as lost, so that it is subscribed to again. A checksum covers ten levels a side: after a change of
others that did not come, those ten are right and the rest is not known, until the next snapshot.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from venue_symbols import SETTINGS

from mdstream.events import Level
from mdstream.ingest.resync import RESYNC_S
from mdstream.records import HEARTBEAT, STATUS, WS, RawEncoder
from mdstream.simulator.actions import Action, Close, Send, Subscribe
from mdstream.simulator.exchange import Session
from mdstream.simulator.listing import Kind, Listing, Topic
from mdstream.simulator.market import SECOND_NS, Book, Market
from mdstream.simulator.venues import EXCHANGES
from mdstream.stream.book import CHECKED_LEVELS
from mdstream.stream.canonical import Canonical
from mdstream.stream.output import Output
from mdstream.stream.rules import Policy, Rules
from mdstream.ticks import BookTick, BookUpdate, Tick
from mdstream.venues.feed import BOOK
from mdstream.venues.providers import provider

BEGIN_NS = 1_767_625_200_000_000_000
STEP_NS = 100_000_000
LATENCY_NS = 5_000_000
RESYNC_STEPS = 3
"""How long an ingestor takes to see that a book is lost."""
Sort = Literal["numbered", "checked", "whole", "ordered"]
Levels = tuple[list[Level], list[Level]]
SHARES = {"drop": 0.01, "repeat": 0.02, "reorder": 0.01, "resync": 0.003, "disconnect": 0.002}
"""Of the frames."""


@dataclass
class Raw:
    """A record as the transport hands it over."""

    value: bytes
    offset: int
    timestamp: int
    key: bytes | None
    headers: list[tuple[str, bytes]]


@dataclass(frozen=True)
class Frame:
    """A frame of a book. `change` counts the changes that the venue has sent: after it, the reader has all up to it."""

    parts: tuple[bytes, ...]
    change: int
    whole: bool


@dataclass
class BookMarket:
    """One venue's book of one instrument, kept by a partition that follows it."""

    venue: str
    random: Random
    counts: Counter[str] = field(default_factory=Counter)
    truth: list[Levels] = field(default_factory=list)
    """The venue's book after each change."""

    def __post_init__(self) -> None:
        self.provider = provider(self.venue)
        self.symbol = self.provider.default_symbols[0]
        self.exchange = EXCHANGES[self.venue](Market(self.random.randrange(1 << 30), 1_000))
        self.core = Canonical(
            "md.raw.any", 0, [self.provider], rules=Rules(Policy((self.venue,))), announces=lambda _: True
        )
        self.now_ns = BEGIN_NS
        self.asked_ns = self.resynced_ns = 0
        self.offset = 0
        self.at: int | None = None
        """The change up to which the reader has all, in order; None after a break."""
        self.told: dict[int, tuple[int, bool]] = {}
        """By receive time, for frames after which something may be published: the change, and whether all is known."""
        self.last_quote: list[Any] | None = None
        self.resync_in = 0
        self.down_for = 0
        self.late: list[tuple[int, Frame]] = []
        """Copies of a redundant connection, with the time at which each arrives."""
        self.held: Frame | None = None
        self.sort = self._connect()

    def run(self, seconds: int) -> None:
        """So much of the market. Raises AssertionError at the first wrong event."""
        for _ in range(seconds * SECOND_NS // STEP_NS):
            self.now_ns += STEP_NS
            if self.now_ns % SECOND_NS == 0:
                self._write(HEARTBEAT, b"{}", self.venue.encode())
            self._maintain()
            for frame in self._market():
                self._send(frame)
            for due_ns, frame in [late for late in self.late if late[0] <= self.now_ns]:
                self.late.remove((due_ns, frame))
                self._deliver(frame, self.redundant)

    # -- the venue

    def _market(self) -> Iterator[Frame]:
        """The frames of the next book; the truth goes on also while nobody listens."""
        book = self.listing.instrument.book(self.now_ns)
        texts = self.topic.channel.encode(self.listing, book)
        if texts:
            self.truth.append(self._levels(book))
        if not self.down_for:
            for text in texts:
                yield Frame(tuple(self.provider.split(text.encode())), len(self.truth) - 1, self.sort == "whole")

    def _levels(self, book: Book) -> Levels:
        price, size = (10**n for n in (self.listing.instrument.price_decimals, self.listing.instrument.size_decimals))
        return (
            [(ticks / price, lots / size) for ticks, lots in book.bids],
            [(ticks / price, lots / size) for ticks, lots in book.asks],
        )

    def _connect(self) -> Sort:
        """A new connection, subscribed; how its books show a lost change."""
        found = self.exchange.session(self.exchange.path, "", self.now_ns)
        assert found is not None
        self.session: Session = found
        self.encoder = RawEncoder(self.venue, WS, self.now_ns)
        self.redundant = RawEncoder(self.venue, WS, self.now_ns + 1)
        self.session.opened(self.now_ns)
        login = self.provider.login(SETTINGS)
        if login is not None:
            self.session.received(str(login.frame), self.now_ns)
        return self._subscribe()

    def _subscribe(self) -> Sort:
        """Subscribe, and read the snapshot if the venue has one."""
        ticks: list[Tick] = []
        for action in self._ask(subscribe=True):
            if isinstance(action, Subscribe) and action.topic.channel.kind is Kind.BOOK:
                self.topic: Topic = action.topic
                self.listing: Listing = action.topic.listing
                if not self.truth:
                    self.truth.append(self._levels(self.listing.instrument.last_book(self.now_ns)))
        for action in self._answers:
            parts = self.provider.split(action.text.encode())
            books = tuple(part for part in parts if self.provider.route(part).kind == BOOK)
            if books:
                ticks += [tick for part in books for tick in self.provider.decode(part)]
                self._deliver(Frame(books, len(self.truth) - 1, whole=True), self.encoder)
        return self._sort_of(ticks)

    def _sort_of(self, ticks: list[Tick]) -> Sort:
        for tick in ticks:
            if isinstance(tick, BookUpdate):
                numbered = "numbered" if tick.previous_id is not None else "ordered"
                return "checked" if tick.check is not None else numbered  # type: ignore[return-value]
        assert all(isinstance(tick, BookTick) for tick in ticks)
        return "whole"

    def _ask(self, *, subscribe: bool) -> list[Action]:
        """Send the provider's requests at its pace; all that follows."""
        make = self.provider.subscribe if subscribe else self.provider.unsubscribe
        actions: list[Action] = []
        for request in make([self.symbol]):
            self.asked_ns = max(self.now_ns, self.asked_ns + int(self.provider.subscribe_interval_s * SECOND_NS))
            actions += self.session.received(str(request.frame), self.asked_ns)
        assert not [action for action in actions if isinstance(action, Close)]
        self._answers = [action for action in actions if isinstance(action, Send)]
        return actions

    # -- the line

    def _maintain(self) -> None:
        """Reconnect, or subscribe again, when it is time for it."""
        if self.down_for:
            self.down_for -= 1
            if not self.down_for:
                self._status("connected")
                self._connect()
        elif self.resync_in > 1:
            self.resync_in -= 1
        elif self.resync_in and self.now_ns - self.resynced_ns >= RESYNC_S * SECOND_NS:
            self._subscribe_again()

    def _subscribe_again(self) -> None:
        self.counts["resynced"] += 1
        self.resync_in, self.resynced_ns = 0, self.now_ns
        self._ask(subscribe=False)
        self._subscribe()

    def _send(self, frame: Frame) -> None:
        """What the line makes of a frame."""
        fate = self._fate()
        if self.held is not None:
            held, self.held = self.held, None
            self._deliver(frame, self.encoder)
            self._deliver(held, self.encoder)
        elif fate == "drop":
            pass
        elif fate == "reorder":
            self.held = frame
        elif fate == "resync":
            self._deliver(frame, self.encoder)
            self.resync_in = self.resync_in or 1
        elif fate == "disconnect":
            self.late.clear()
            self.session.closed()
            self.resync_in, self.down_for, self.at = 0, self.random.randrange(2, 20), None
            self._status("disconnected")
        else:
            self._deliver(frame, self.encoder)
            if fate == "repeat":
                self.late.append((self.now_ns + self.random.randrange(5) * STEP_NS, frame))

    def _fate(self) -> str:
        """One of SHARES, or "": arrives as it was sent."""
        for fate, share in SHARES.items():
            if self.random.random() < share and not (self.sort == "ordered" and fate in ("drop", "reorder")):
                self.counts[fate] += 1
                return fate
        return ""

    def _status(self, state: str) -> None:
        self._write(STATUS, json.dumps({"provider": self.venue, "state": state}).encode(), self.venue.encode())

    def _write(self, kind: bytes, value: bytes, key: bytes, encoder: RawEncoder | None = None) -> Output:
        """A record of the raw log, and what the partition publishes of it."""
        recv_ns = self.now_ns + LATENCY_NS + self.offset % 1_000  # no two have the same
        _, _, timestamp, headers = (encoder or self.encoder).encode(key, value, kind, recv_ns)
        record = Raw(value, self.offset, timestamp, key, headers)
        self.offset += 1
        out = self.core.step([record])
        assert out.dead == []
        return out

    # -- what is published

    def _deliver(self, frame: Frame, encoder: RawEncoder) -> None:
        """A frame arrives: what the reader may know from then on, and whether it is what is published."""
        known = self._follow(frame)
        for part in frame.parts:
            if known:
                self.told[self.now_ns + LATENCY_NS + self.offset % 1_000] = frame.change, self.at is not None
            self._compare(self._write(BOOK, part, self.provider.route(part).key, encoder))
        if self.at is not None and self.last_quote is not None:
            assert self.last_quote == self._top(self.at), "the top changed and was not published"

    def _follow(self, frame: Frame) -> bool:
        """Move on to a frame; whether something may be published of it."""
        follows = frame.whole or (self.at is not None and frame.change == self.at + 1)
        if self.at is not None and frame.change <= self.at and not (frame.whole and self.sort != "whole"):
            return False
        if follows:
            self.at = frame.change
            return True
        if self.at is not None:
            self.counts["broken"] += 1
        self.at = None
        return self.sort == "checked"

    def _compare(self, out: Output) -> None:
        for event in (json.loads(value or b"") for _, value, _, _ in (*out.quotes, *out.books)):
            self.counts[event["type"]] += 1
            assert event["ts_recv"] in self.told, f"published of a frame after a break, or of a copy: {event}"
            change, complete = self.told[event["ts_recv"]]
            if event["type"] == "quote":
                self.last_quote = [event[name] for name in ("bid", "bid_size", "ask", "ask_size")]
                assert self.last_quote == self._top(change), event
                continue
            for side, true in zip(("bids", "asks"), self.truth[change], strict=True):
                levels = [tuple(level) for level in event[side]]
                depth = None if complete else CHECKED_LEVELS
                assert levels[:depth] == true[: len(levels)][:depth], (change, side, event)
        for event in (json.loads(value or b"") for _, value, _, _ in out.status):
            if event.get("state") == "book_lost":
                self.counts["reported"] += 1
                self.resync_in = self.resync_in or RESYNC_STEPS

    def _top(self, change: int) -> list[Any]:
        (bid, *_), (ask, *_) = self.truth[change]
        return [*bid, *ask]
