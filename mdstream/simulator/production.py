"""What is sent when: market events at a steady rate, over all subscriptions. Pure: time is an argument.

Trades and quotes are drawn at random among the listings with subscribers; books come by the clock, each every 100 ms,
and less often if they would take more than a fifth of the rate; heartbeats come every second. A market without
subscribers stops, at once or after `linger_s`: its ids later continue where they were.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple

from mdstream.simulator.listing import HeartbeatEvent, Kind, Listing, Topic
from mdstream.simulator.market import MAX_FILLS, SECOND_NS, Order, Trade

BOOK_INTERVAL_NS = SECOND_NS // 10
HEARTBEAT_INTERVAL_NS = SECOND_NS
BOOK_SHARE = 0.2
"""At most this share of the rate."""
WEIGHTS = {Kind.TRADE: 1.0, Kind.QUOTE: 1.0}
"""Orders come as often as quotes, and fill nearly two trades each."""
MAX_BEHIND_S = 1.0
MAX_AT_ONCE_S = 0.05
MAX_DRAWS = 64


class Delivery(NamedTuple):
    """Text frames for the subscribers of a topic; `order` and `trades` if they report new trades."""

    topic: Topic
    frames: list[str]
    order: Order | None = None
    trades: Sequence[Trade] = ()


class Pacer:
    """How many frames are due. A backlog beyond MAX_BEHIND_S is given up, and counted."""

    def __init__(self, rate: float, now_ns: int) -> None:
        self._rate = rate
        self._at_ns = now_ns
        self._owed = 0.0
        self.given_up = 0.0

    def due(self, now_ns: int) -> int:
        """Frames to send now: what is owed, in portions of MAX_AT_ONCE_S so that the sockets get their turn."""
        self._owed += (now_ns - self._at_ns) / SECOND_NS * self._rate
        self._at_ns = now_ns
        most = max(1.0, self._rate * MAX_BEHIND_S)
        self.given_up += max(0.0, self._owed - most)
        self._owed = min(self._owed, most)
        return int(min(self._owed, max(1.0, self._rate * MAX_AT_ONCE_S)))

    def spend(self, frames: int) -> None:
        """Record sent frames; an excess over what was due is compensated later."""
        self._owed -= frames

    def skip(self, now_ns: int) -> None:
        """Let time pass without frames due."""
        self._at_ns, self._owed = now_ns, 0.0


class Timetable:
    """Listings that are due periodically, every `interval_ns`, evenly spread."""

    def __init__(self, interval_ns: int) -> None:
        self.interval_ns = interval_ns
        self._queue: deque[tuple[int, Listing]] = deque()

    def set(self, listings: Sequence[Listing], now_ns: int) -> None:
        """Replace the listings; those that were there before keep their time."""
        known = {listing: due for due, listing in self._queue}
        spread = self.interval_ns // max(1, len(listings))
        dues = [(known.get(listing, now_ns + i * spread), listing) for i, listing in enumerate(listings)]
        self._queue = deque(sorted(dues, key=lambda due: due[0]))

    def due(self, now_ns: int) -> Iterator[Listing]:
        """Each listing whose time has come, once."""
        for _ in range(len(self._queue)):
            at, listing = self._queue[0]
            if at > now_ns:
                return
            self._queue.popleft()
            self._queue.append((max(at + self.interval_ns, now_ns), listing))
            yield listing


class Production:
    """All that the venues send. `max_trades`: stop after this many reported trades.

    `linger_s`: how long a topic's events are still produced after its last subscriber left.
    """

    def __init__(
        self, rate: float, *, seed: int, now_ns: int, max_trades: int | None = None, linger_s: float = 0.0
    ) -> None:
        self._rate = rate
        self._rng = Random(f"{seed}:production")
        self._pacer = Pacer(rate, now_ns)
        self._made_ns = now_ns
        self._max_trades = max_trades
        self._linger_ns = int(linger_s * SECOND_NS)
        self._lingering: dict[Topic, int] = {}
        """Topics without subscribers, and when they end; in the order of these times."""
        self._listings: dict[Listing, None] = {}
        self._changed = False
        self._sources: list[tuple[Listing, Kind, list[Topic]]] = []
        self._weights: list[float] = []
        self._books = Timetable(BOOK_INTERVAL_NS)
        self._heartbeats = Timetable(HEARTBEAT_INTERVAL_NS)
        self.paused = False
        self.frames = 0
        self.trades: dict[str, int] = {}
        """Trades produced for subscriptions, by venue."""

    @property
    def finished(self) -> bool:
        """Whether `max_trades` were reported."""
        return self._max_trades is not None and sum(self.trades.values()) >= self._max_trades

    @property
    def given_up(self) -> int:
        """Frames of the rate that this machine could not produce in time."""
        return int(self._pacer.given_up)

    def subscribe(self, topic: Topic, subscriber: Any) -> None:
        """Add a subscriber; a repeat changes nothing."""
        topic.subscribers[subscriber] = None
        topic.lingers = False
        self._lingering.pop(topic, None)
        self._listings[topic.listing] = None
        self._changed = True

    def unsubscribe(self, topic: Topic, subscriber: Any) -> None:
        """Remove a subscriber, if it is one."""
        topic.subscribers.pop(subscriber, None)
        if self._linger_ns and not topic.subscribers and not topic.lingers:
            topic.lingers = True
            self._lingering[topic] = self._made_ns + self._linger_ns
        self._changed = True

    def restart(self, listing: Listing, first_id: int) -> None:
        """Restart an instrument's ids."""
        listing.instrument.restart(first_id)
        listing.reported.clear()

    def report_last(self, topic: Topic) -> Sequence[Trade]:
        """The topic's last trade, if it is new: a new subscriber gets it, and an earlier one was reported before.

        The first time it is history: it shows where the ids continue, and no consumer counts it as a trade.
        """
        if topic.channel.trades is None:
            return ()
        last = topic.channel.trades(topic.listing.instrument.last_order)[-1:]
        if topic.channel.id_space not in topic.listing.reported:
            topic.listing.reported[topic.channel.id_space] = last[0].trade_id
            return ()
        return self._report(topic, last)

    def produce(self, now_ns: int) -> Iterator[Delivery]:
        """What to send now. Subscriptions must not change until the iterator is exhausted."""
        if self._lingering:
            self._leave(now_ns)
        if self._changed:
            self._update_live(now_ns)
        for listing in self._heartbeats.due(now_ns):
            heartbeat = HeartbeatEvent(now_ns + listing.instrument.clock_off_ns)
            yield from self._deliver(listing.live(Kind.HEARTBEAT), heartbeat)
        if self.paused or self.finished:
            self._pacer.skip(now_ns)
            self._made_ns = now_ns
            return
        before, due = self.frames, self._pacer.due(now_ns)
        for listing in self._books.due(now_ns):
            book = listing.instrument.book(now_ns)
            topics = [topic for topic in listing.live(Kind.BOOK) if book.number % topic.channel.every == 0]
            yield from self._deliver(topics, book)
        if self._sources:
            yield from self._draw(before, due, now_ns)
            self._pacer.spend(self.frames - before)
        else:
            self._pacer.skip(now_ns)

    def _leave(self, now_ns: int) -> None:
        """Stop topics that have lingered long enough."""
        for topic in [topic for topic, until_ns in self._lingering.items() if until_ns <= now_ns]:
            del self._lingering[topic]
            topic.lingers = False
            self._changed = True

    def _update_live(self, now_ns: int) -> None:
        """Subscriptions changed: collect the live listings and topics."""
        self._changed = False
        self._listings = {
            listing: None for listing in self._listings if any(t.is_live for t in listing.topics.values())
        }
        listings = list(self._listings)
        self._sources = [(s, kind, topics) for s in listings for kind in WEIGHTS if (topics := s.live(kind))]
        self._weights = list(accumulate(WEIGHTS[kind] for _, kind, _ in self._sources))
        books = [listing for listing in listings if listing.live(Kind.BOOK)]
        frames = sum(len(listing.live(Kind.BOOK)) for listing in books)
        self._books.interval_ns = max(BOOK_INTERVAL_NS, int(frames / (self._rate * BOOK_SHARE) * SECOND_NS))
        self._books.set(books, now_ns)
        self._heartbeats.set([listing for listing in listings if listing.live(Kind.HEARTBEAT)], now_ns)

    def _draw(self, before: int, due: int, now_ns: int) -> Iterator[Delivery]:
        """Orders and quotes until `due` frames are produced since the count was `before`, their times spread evenly."""
        start_ns, self._made_ns = self._made_ns, now_ns
        while (missing := due - (self.frames - before)) > 0:
            draws = min(missing, MAX_DRAWS)
            for listing, kind, topics in self._rng.choices(self._sources, cum_weights=self._weights, k=draws):
                made = self.frames - before
                if made >= due or self.finished:
                    return
                at_ns = start_ns + (now_ns - start_ns) * made // due
                if kind is Kind.QUOTE:
                    yield from self._deliver(topics, listing.instrument.quote(at_ns))
                else:
                    yield from self._deliver(topics, listing.instrument.order(at_ns, self._max_fills()))

    def _max_fills(self) -> int:
        return MAX_FILLS if self._max_trades is None else self._max_trades - sum(self.trades.values())

    def _deliver(self, topics: Sequence[Topic], event: Any) -> Iterator[Delivery]:
        for topic in topics:
            channel = topic.channel
            frames = channel.encode(topic.listing, event)
            self.frames += len(frames)
            if channel.trades is None:
                yield Delivery(topic, frames)
            else:
                yield Delivery(topic, frames, event, self._report(topic, channel.trades(event)))

    def _report(self, topic: Topic, trades: Sequence[Trade]) -> Sequence[Trade]:
        """`trades`, or nothing if another topic reported them (one id space may have several forms)."""
        listing, id_space = topic.listing, topic.channel.id_space
        if listing.reported.get(id_space, -1) >= trades[0].trade_id:
            return ()
        listing.reported[id_space] = trades[-1].trade_id
        self.trades[listing.exchange] = self.trades.get(listing.exchange, 0) + len(trades)
        return trades
