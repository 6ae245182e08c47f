"""The state of a raw partition's stream. All but buffers (lines.py) and books (books.py) is in the checkpoint.

It is bounded per instrument and source.

    LogState    the log's clock, and per source: whether it is connected, how late and how faulty it is
    Instrument  the next sequence numbers, the source in use, and a Feed per source: what was seen of it

The states of the log and of its sources are written for every record. They are slotted dataclasses, because setting a
field of a struct takes two to three times as long; the others are structs, which the checkpoint stores without names.

Log time is the highest receive time read so far, ns (clock.py); it stops while the log does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from mdstream.stream.dedupe import TradeDedupe
from mdstream.stream.quote_dedupe import QuoteDedupe, UpdateIds
from mdstream.venues.spans import Span

NOT_BUFFERED = NOT_KEPT = -1


@dataclass(slots=True)
class SourceState:
    """One provider as the whole partition sees it. Times are log time in ns, 0 for never."""

    offset_ns: int = 0
    """Added to its receive times to give log time, when its clock is wrong or the log stood still."""
    beat_ns: int = 0
    """Its ingestor's last heartbeat."""
    down_ns: int = 0
    """When its connection was lost, 0 while connected."""
    down_reason: str = ""
    latency_ns: int | None = None
    """Of its newest live trade, from the venue's time to ours; None if none came since the last evaluation."""
    least_ns: int | None = None
    """The lowest median latency in the current window, and in the one before: it contains the difference between the
    venue's clock and ours."""
    least_before_ns: int | None = None
    window_ns: int = 0
    """When the current window began."""
    late_since_ns: int = 0
    faults: float = 0.0
    """Frames of about the last minute that could not be understood."""
    silence_reported_ns: int = 0
    recent_ns: list[int] = field(default_factory=list)
    """Latencies at the last evaluations that found a new trade, oldest first."""
    late_to_ns: int = 0
    """The last evaluation at which it was late."""
    linked_ns: int = 0
    """When its ingestor last reported a connection made or lost."""

    @property
    def recent_latency_ns(self) -> int | None:
        """The median of its last latencies, unmoved by one or two trades with an odd time. None if there are none."""
        return sorted(self.recent_ns)[len(self.recent_ns) // 2] if self.recent_ns else self.latency_ns

    @property
    def newest_latency_ns(self) -> int | None:
        """The latency of its newest live trade."""
        return self.recent_ns[-1] if self.latency_ns is None and self.recent_ns else self.latency_ns

    @property
    def usual_latency_ns(self) -> int:
        """The lowest recent latency; it contains the difference between the venue's clock and ours."""
        known = [latency for latency in (self.least_ns, self.least_before_ns) if latency is not None]
        return min(known) if known else self.recent_latency_ns or 0


@dataclass(slots=True)
class LogState:
    """The partition's clock and its sources by name."""

    now_ns: int = 0
    due_ns: int = 0
    sources: dict[str, SourceState] = field(default_factory=dict)
    appended_ms: int = 0
    """The timestamp of the record that was processed last."""


class Channel(msgspec.Struct, gc=False, array_like=True):
    """When one kind of data last came from one feed, and its expected interval. Log time in ns."""

    seen_ns: int = 0
    marked_ns: int = 0
    interval_ns: int = 0
    """Mean time between evaluations with new data."""
    samples: int = 0
    lacks_ns: int = 0
    """When another source first had data after its last, 0 if none has any."""


class OpenGap(msgspec.Struct, gc=False, array_like=True):
    """A reported gap that is neither closed nor lost. `opened_ns`: log time."""

    first: int
    last: int
    opened_ns: int


class KeptBook(msgspec.Struct, gc=False, array_like=True):
    """What a restart needs for a kept book (books.py), apart from its levels. Log time in ns."""

    kept_from: int = NOT_KEPT
    """The offset of the first raw record needed to rebuild it: of its snapshot, or the first one after its image."""
    has_image: bool = False
    kept_ns: int = 0
    """When its snapshot was applied or its image made."""
    published_ns: int = 0
    """When a book was last published."""
    due: bool = False
    """Whether its best levels have changed since."""
    missed_ns: int = 0
    """When it was last reported as lost or missing."""


class TakenTrades(msgspec.Struct, array_like=True):
    """What was taken of a feed's past trades by time (timed.py). Times are the venue's, ns."""

    whole: list[Span] = []
    """The time of which everything was taken that the venue has: spans in order that do not touch."""
    ids: dict[str, int] = {}
    """Trades of other times that were taken, with these times."""
    early: dict[str, None] = {}
    """The last trades that were published, live or not, though they may come the other way, too; oldest first."""
    refused_ns: int = 0
    """The time of the first one that found no room, 0 for none."""


class Feed(msgspec.Struct, array_like=True):
    """What was seen of one instrument from one provider. Times are log time in ns."""

    trades: TradeDedupe = msgspec.field(default_factory=TradeDedupe)
    quotes: QuoteDedupe = msgspec.field(default_factory=QuoteDedupe)
    books: UpdateIds = msgspec.field(default_factory=UpdateIds)
    trade: Channel = msgspec.field(default_factory=Channel)
    quote: Channel = msgspec.field(default_factory=Channel)
    book: Channel = msgspec.field(default_factory=Channel)
    gaps: list[OpenGap] = []
    gap_rate: float = 0.0
    """Gaps of about the last minute."""
    healthy_since_ns: int = 0
    failures: int = 0
    """How often it was left for a fault; reset once it has been healthy for long."""
    buffered_from: int = NOT_BUFFERED
    """While it stands by: the offset of the first raw record in its buffer (canonical.py)."""
    kept: KeptBook = msgspec.field(default_factory=KeptBook)
    contract_size: str = ""
    """What one contract is worth, by the last record of live trades that said so."""
    past: TakenTrades = msgspec.field(default_factory=TakenTrades)

    @property
    def seen_ns(self) -> int:
        """When anything last came from it."""
        return max(self.trade.seen_ns, self.quote.seen_ns, self.book.seen_ns)


class Taken(msgspec.Struct, array_like=True):
    """What was taken of the bars of one interval (ranges.py): spans of ns, in order, that do not touch."""

    whole: list[Span] = []
    """The time of which everything was taken that the venue has."""
    bars: list[Span] = []
    """Bars that were published, of other times."""


class Instrument(msgspec.Struct, array_like=True):
    """The next number of each type of event (0: none yet), the source in use, and the feeds by provider.

    `since_ns`: receive time of the record at which that source was switched to; `reason`: why.
    """

    trade_seq: int = 0
    quote_seq: int = 0
    book_seq: int = 0
    active: str = ""
    since_ns: int = 0
    reason: str = ""
    silence_reported_ns: int = 0
    begun_ns: int = 0
    """Log time at which the first of its sources sent anything."""
    feeds: dict[str, Feed] = {}
    image: bytes = b""
    """A kept book with its levels, under its own key (books.py): written once, when it is made."""
    halted: bool = False
    bell_ns: int = 0
    """When it was last halted or resumed, by the venue's time."""
    begun_by: str = ""
    """Whose trade was published first; empty for none, or if it is not known."""
    begun_ts: int = 0
    """The time of that trade, by the venue."""
    history_of: str = ""
    """Whose history is taken (history.py); empty for none yet."""
    past: dict[str, Taken] = {}
    """What was taken of its history by time, by interval."""
